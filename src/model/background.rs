//! Work beside the requests of a process that holds its interpreter lock.

use super::FrameId;
use crate::units::{Nanos, Pid, Tid};

/// Threads of one process that compute beside those that serve its requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Background {
    /// The process.
    pub pid: Pid,
    /// The threads; the one that held the lock longest first.
    pub threads: Vec<Tid>,
    /// The share of time in which any of them held the process's interpreter lock, 0 to 1.
    pub held: f64,
    /// Looks that saw one of them hold it.
    pub looks: u64,
    /// The line at which it was held longest.
    pub frame: FrameId,
    /// The application's line that the thread of that one runs, where it is another function's.
    pub runs: Option<FrameId>,
    /// The package that began that thread, `apscheduler`, where it is not the application.
    pub package: Option<String>,
    /// The share of the time of the process's requests in which they waited for the lock, 0 to 1; `None` where
    /// there were none.
    pub waited: Option<f64>,
}

/// What runs beside the requests of a server's workers, of all of them together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beside {
    /// The share of time in which it held the interpreter lock of a worker, over all workers, 0 to 1.
    pub held: f64,
    /// The CPU time that it used.
    pub cpu: Nanos,
}
