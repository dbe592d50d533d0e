pub mod layout;
pub mod model;
pub mod target;
pub mod units;
