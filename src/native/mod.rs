//! What a thread does below Python: system calls and what they wait for.

pub mod syscalls;
pub mod waits;

pub use waits::{Waiting, describe};
