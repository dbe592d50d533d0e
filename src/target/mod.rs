//! One process, as the kernel shows it: bytes and `/proc`, never an interpretation.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))] // the numbers are a stranger's
#![allow(clippy::disallowed_methods)] // reading files of `/proc` is what this part is for

pub mod capabilities;
mod cgroup;
pub mod children;
mod clock_steps;
pub mod container;
pub mod debug_files;
pub mod edges;
pub mod elf;
mod elf_bytes;
mod elf_functions;
mod elf_sections;
pub mod freeze;
pub mod image;
pub mod launch;
pub mod live;
pub mod memory;
pub mod modules;
pub mod net_tables;
pub mod peers;
pub mod prefetch;
pub mod procfs;
mod sock_diag;
mod sockets;
pub mod syscalls;
pub mod tee;
pub mod thread_files;
pub mod trials;
mod waits;

pub use capabilities::Capabilities;
pub use cgroup::{MemoryLimit, OomFile, QuotaFile, ThrottleCounts};
pub use children::{Descendants, NewestPid, descendants};
pub use clock_steps::coarse_step;
pub use container::{Container, Engine};
pub use edges::{Edges, EdgesError, Outing, PollCall, Tracepoints, Whereabouts};
pub use elf::{ElfError, ElfFile};
pub use elf_functions::Function;
pub use elf_sections::Section;
pub use freeze::{FreezeError, Freezer};
pub use image::ImageMemory;
pub use launch::{LaunchError, Launched};
pub use live::{LiveMemory, ReadCounts};
pub use memory::{Fields, ReadError, RemoteMemory, RemoteMemoryExt, Span, unless_over};
pub use modules::{Module, Modules};
pub use peers::{PeerText, Peers, Waiting};
pub use prefetch::Prefetch;
pub use procfs::{
    CpuTotals, Mapping, OpenDatabase, Perms, ProcError, ProcFs, Standing, Stat, ThreadTurns,
};
pub use tee::{Fault, FaultyMemory, TeeMemory};
pub use thread_files::{SyscallState, ThreadFiles};
pub use trials::{Gate, Trial};
