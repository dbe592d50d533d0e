//! How many workers, threads, tokens and connections: the arithmetic.
//!
//! Takes a [`Load`](crate::model::Load), gives numbers with what limited each of them and what they will
//! do. Refuses where there is too little to go by. Never words anything: that is
//! [`crate::diagnosis`]'s.

pub mod capacity;
pub mod gated;
pub mod hub;
pub mod queueing;
pub mod shape;

pub mod whatif;
