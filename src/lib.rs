pub mod layout;
pub mod model;
pub mod python;
pub mod target;
pub mod units;
