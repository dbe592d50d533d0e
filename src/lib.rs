pub mod attribution;
pub mod conclusion;
pub mod diagnosis;
pub mod layout;
pub mod model;
pub mod stall;
pub mod target;
pub mod units;
