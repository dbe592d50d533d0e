//! C stacks of threads that nobody stopped.
//!
//! Takes a thread's registers and a copy of its stack, gives the functions it is in: unwound by the
//! tables that exceptions use (`.eh_frame`), named by the symbols in the files. Knows nothing of
//! Python but the names of its interpreter's functions. Files and stacks are hostile input: every
//! walk, table and expression is bounded. Never stops a thread and never keeps its registers.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))] // the numbers are a stranger's

pub mod binaries;
pub mod binary;
pub mod call_site;
pub mod cold;
pub mod demangle;
pub mod expression;
pub mod lines;
pub mod merge;
pub mod registers;
pub mod role;
pub mod rules;
pub mod sleeper;
pub mod space;
pub mod symbols;
pub mod unwind;

pub use binaries::Binaries;
pub use merge::{Piece, is_shown, leaf, merge};
pub use registers::Registers;
pub use role::Role;
pub use sleeper::sleeper;
pub use space::{AddressSpace, NativeFrame};
pub use unwind::{CodeAddr, End, StackBytes, Trace, unwind};
