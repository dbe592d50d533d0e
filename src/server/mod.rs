//! Servers: who runs the application, and which request it serves.
//!
//! Takes what `/proc` and the main thread's stack show, gives a [`WorkerTopology`]. One file per
//! server; adding one is a file and a line in [`PROBES`].

pub mod asgi;
pub mod bare;
pub mod uvicorn;

use std::fmt;

use crate::model::WorkerTopology;
use crate::target::ProcFs;
use crate::units::Pid;

/// All servers stallspy knows, the most telling first.
pub const PROBES: &[&dyn Probe] = &[&uvicorn::Uvicorn];

/// What a probe may judge by.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The command line, argument by argument.
    pub command: &'a [String],
    /// Source files of the frames of all threads, as the target sees them.
    pub files: &'a [String],
    /// Where to ask for more.
    pub procfs: &'a ProcFs,
    /// The process.
    pub pid: Pid,
}

/// Knows how one server shows itself.
pub trait Probe: fmt::Debug + Sync {
    /// What the process is to this server; `None` if it is none of its.
    fn recognise(&self, facts: &Facts<'_>) -> Option<WorkerTopology>;
}

/// Which server runs the process; a program of its own where no probe knows better.
#[must_use]
pub fn recognise(facts: &Facts<'_>) -> WorkerTopology {
    PROBES.iter().find_map(|probe| probe.recognise(facts)).unwrap_or_else(bare::topology)
}
