//! Processes, threads and what serves requests in them.

use serde::{Deserialize, Serialize};

use super::GilTally;
use crate::units::{Nanos, Pid, Tid, Timestamp};

/// A process's part in a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Starts and watches workers; serves nothing itself.
    Master,
    /// Serves requests, started by a master.
    Worker,
    /// Serves requests on its own.
    Single,
}

/// How a worker runs requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerClass {
    /// uvicorn's own server, an ASGI application on one event loop.
    Uvicorn,
    /// No server we know: a program of its own.
    Bare,
}

/// What a server probe recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerTopology {
    /// The server's name, `uvicorn`.
    pub server: String,
    /// Its version, where its files tell.
    pub server_version: Option<String>,
    /// This process's part.
    pub role: Role,
    /// How it runs requests.
    pub class: WorkerClass,
}

/// One watched process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its pid, in stallspy's namespace.
    pub pid: Pid,
    /// Its parent's pid.
    pub ppid: Pid,
    /// The interpreter's version, `3.12.1`.
    pub python: String,
    /// Its command line, joined by spaces, as in `/proc/PID/cmdline`.
    pub command: String,
    /// What serves requests in it.
    pub topology: WorkerTopology,
    /// Where the standard library's files lie, as the target sees them; tells its frames from the
    /// application's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdlib: Option<String>,
    /// Another event loop's library that it has loaded, `uvloop`, where no loop was found that can
    /// be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread_loop: Option<String>,
    /// When stallspy attached to it.
    pub attached: Timestamp,
    /// When it ended, if it ended while it was watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// CPU time it used while it was watched.
    pub cpu: Nanos,
    /// Its resident memory at the last look, in bytes.
    pub rss_bytes: u64,
    /// CPUs it may run on.
    pub cpus: u32,
    /// How often its interpreter lock was held, and looked at.
    #[serde(default, skip_serializing_if = "GilTally::is_empty")]
    pub gil: GilTally,
    /// Its threads.
    pub threads: Vec<ThreadInfo>,
}

/// One thread of a watched process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadInfo {
    /// Its id, in stallspy's namespace.
    pub tid: Tid,
    /// Its name as the kernel has it (`comm`).
    pub name: String,
    /// Looks of [`ProcessInfo::gil`] that saw it hold the interpreter lock.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gil_held: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(count: &u64) -> bool {
    *count == 0
}
