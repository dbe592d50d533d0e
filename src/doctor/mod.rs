//! What this kernel, user and container allow, and what to type to be allowed more.
//!
//! `observe.rs` tries things and writes down [`Facts`]; `judge.rs` makes [`Tier`]s of them, by
//! asking `obstacle.rs` what is in the way and `remedy.rs` what would help, which `advice.rs` puts
//! into words. Only the first touches anything: all else is pure, so that made-up machines can be
//! judged, too. Nothing is changed, and the target is only read.

mod advice;
pub mod facts;
mod judge;
pub mod observe;
mod obstacle;
mod remedy;
mod wire;

pub use advice::Advice;
pub use facts::{Attach, Facts, Machine, Numbers, Target, USEFUL, Us};
pub use judge::{Diagnosis, State, Tier, judge};
