pub mod layout;
pub mod model;
pub mod printable;
pub mod target;
pub mod units;
pub mod values;
