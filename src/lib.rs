pub mod layout;
pub mod model;
pub mod native;
pub mod target;
pub mod units;
