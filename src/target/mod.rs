//! One process, as the kernel shows it: bytes and `/proc`, never an interpretation.

pub mod live;
pub mod memory;

pub use live::{LiveMemory, ReadCounts};
pub use memory::{Fields, ReadError, RemoteMemory, RemoteMemoryExt, Span};
