//! One process, as the kernel shows it: bytes and `/proc`, never an interpretation.

pub mod live;
pub mod memory;
pub mod procfs;
pub mod thread_files;

pub use live::{LiveMemory, ReadCounts};
pub use memory::{Fields, ReadError, RemoteMemory, RemoteMemoryExt, Span};
pub use procfs::{Mapping, Perms, ProcError, ProcFs, Stat};
pub use thread_files::{SyscallState, ThreadFiles};
