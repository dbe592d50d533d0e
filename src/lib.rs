pub mod gate;
pub mod layout;
pub mod model;
pub mod printable;
pub mod recording;
pub mod target;
pub mod units;
pub mod values;
