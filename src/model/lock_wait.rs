//! That a request waited for a lock: for what lets one of them through at a time.

use super::FrameId;
use crate::units::{Pid, Timestamp};

/// What lets one through at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockKind {
    /// A lock of the process's own, `threading.Lock`: each worker has another.
    Thread,
    /// The lock on a SQLite database, which all processes share.
    Sqlite,
}

/// One wait of a request's thread for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockWait {
    /// Its process.
    pub pid: Pid,
    /// What it waited for.
    pub kind: LockKind,
    /// The application's line.
    pub frame: FrameId,
    /// When it began to wait.
    pub from: Timestamp,
    /// When it had it, or observation ended.
    pub until: Timestamp,
}
