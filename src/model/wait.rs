//! What a thread waits for in the kernel: a system call and the file or peer behind it.

use serde::{Deserialize, Serialize};

use super::{FrameId, NameId, StackId, Tables};
use crate::units::Tid;

/// Index into [`Tables::waits`](super::Tables::waits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaitId(pub u32);

/// The other end of what a thread waits on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Peer {
    /// A connected socket's remote address, `10.0.0.7:443` or `[::1]:443`.
    Remote(NameId),
    /// A listening or unconnected socket's own address.
    Local(NameId),
    /// A file, pipe, eventfd or Unix socket by the name the kernel gives it.
    Path(NameId),
    /// A child process being waited for, by its pid (in the target's namespace).
    Child(i32),
    /// The interpreter's own global lock.
    Gil,
}

/// A blocking system call as seen in `/proc/PID/task/TID/syscall`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wait {
    /// The kernel's name of the call, `recvfrom`; `syscall_N` where the number is unknown.
    pub syscall: NameId,
    /// The descriptor it works on, where its first argument is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd: Option<i32>,
    /// What is behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
}

/// Calls that wait for nothing but time to pass: `time.sleep` from 3.11 on (`pysleep`, Modules/timemodule.c), and
/// glibc's `usleep` and `sleep`, by which C code waits.
const SLEEPS: [&str; 2] = ["clock_nanosleep", "nanosleep"];

impl Wait {
    /// The remote address of the connected socket it waits on, if it does.
    #[must_use]
    pub fn remote(&self) -> Option<NameId> {
        match self.peer {
            Some(Peer::Remote(name)) => Some(name),
            _ => None,
        }
    }

    /// Whether it waits for nothing but time to pass.
    #[must_use]
    pub fn is_sleep(&self, tables: &Tables) -> bool {
        SLEEPS.contains(&tables.text(self.syscall))
    }

    /// Whether it waits for its turn at a `SQLite` database, `native` being C frames of the call: `SQLite`'s own handler
    /// of one that somebody else writes to sleeps and tries again (`sqliteDefaultBusyCallback`, sqlite3 3.45
    /// `src/main.c`; Python's `timeout=5.0` sets it).
    #[must_use]
    pub fn is_for_sqlite(
        &self,
        tables: &Tables,
        native: impl IntoIterator<Item = FrameId>,
    ) -> bool {
        let is_its = |id| {
            tables.get_frame(id).map(|frame| tables.text(frame.function).starts_with("sqlite3_"))
        };
        self.is_sleep(tables) && native.into_iter().any(|id| is_its(id) == Some(true))
    }

    /// The call and what is behind it: `recvfrom() from 10.0.0.7:443`.
    #[must_use]
    pub fn in_words(&self, tables: &Tables) -> String {
        let syscall = tables.text(self.syscall);
        let behind = match &self.peer {
            Some(Peer::Remote(id)) if syscall.starts_with("recv") || syscall == "read" => {
                format!(" from {}", tables.text(*id))
            }
            Some(Peer::Remote(id)) => format!(" to {}", tables.text(*id)),
            Some(Peer::Local(id) | Peer::Path(id)) => format!(" on {}", tables.text(*id)),
            Some(Peer::Child(pid)) => format!(" for child {pid}"),
            Some(Peer::Gil) => " for the GIL".to_owned(),
            None => String::new(),
        };
        format!("{syscall}(){behind}")
    }
}

/// The thread that held the lock another one waited for, as it was seen then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LockHolder {
    /// The thread.
    pub tid: Tid,
    /// Its name in Python.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NameId>,
    /// Its Python stack.
    pub stack: StackId,
}

/// Who is to blame for a wait on a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockOwner {
    /// The thread that held it.
    pub tid: Tid,
    /// Its name in Python.
    pub name: Option<NameId>,
    /// The line it was at: of the application where there is one.
    pub frame: Option<FrameId>,
}
