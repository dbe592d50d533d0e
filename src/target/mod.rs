//! One process, as the kernel shows it: bytes and `/proc`, never an interpretation.

pub mod memory;

pub use memory::{Fields, ReadError, RemoteMemory, RemoteMemoryExt, Span};
