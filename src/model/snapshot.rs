//! One look at one process: what `stallspy dump` shows.

use serde::Serialize;

use super::WorkerTopology;
use crate::units::{Nanos, Pid, Tid, Timestamp};

/// Everything seen in one look.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// The JSON's name and major version.
    pub schema: &'static str,
    /// The process.
    pub pid: Pid,
    /// Its command line.
    pub command: String,
    /// The interpreter's version.
    pub python: String,
    /// What serves requests in it.
    #[serde(flatten)]
    pub topology: SnapshotServer,
    /// Its server's configuration in force.
    #[serde(skip_serializing_if = "super::ServerConfig::is_empty")]
    pub config: super::ServerConfig,
    /// Requests served since the process began; `null` where its server does not tell.
    pub requests: Option<u64>,
    /// Requests in flight.
    pub in_flight: Option<u64>,
    /// When the look was taken, on `CLOCK_MONOTONIC`.
    pub at_ns: Timestamp,
    /// Its pools.
    pub pools: Vec<SnapshotPool>,
    /// Its threads, in the interpreter's order.
    pub threads: Vec<SnapshotThread>,
    /// asyncio's and trio's tasks that are not over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<SnapshotTask>,
    /// Whether there are more than could be read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tasks_truncated: bool,
    /// What a library of greenlets has patched; `null` where there is none, or it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patches: Option<super::Patches>,
    /// Suspended greenlets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub greenlets: Vec<SnapshotGreenlet>,
    /// Why there may be more of them than are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub greenlets_note: Option<&'static str>,
}

/// The server part, as in the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SnapshotServer {
    /// Its name; `null` for a program of its own.
    pub server: Option<String>,
    /// Its version, where memory or its files tell.
    pub server_version: Option<String>,
    /// Its part: `master`, `worker`, `single`.
    pub role: super::Role,
    /// How requests are run, as in the report.
    pub worker_class: super::WorkerClass,
    /// The version of the library behind the class, where that is not the server's own.
    pub worker_class_version: Option<String>,
    /// Whether it is meant for development.
    pub development_server: bool,
}

impl From<WorkerTopology> for SnapshotServer {
    fn from(topology: WorkerTopology) -> SnapshotServer {
        SnapshotServer {
            role: topology.role,
            worker_class: topology.class,
            worker_class_version: topology.class_version.clone(),
            development_server: topology.development,
            server: topology.is_server().then_some(topology.server),
            server_version: topology.server_version,
        }
    }
}

/// One thread.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SnapshotThread {
    /// Its id.
    pub tid: Tid,
    /// Its name as Python has it, else as the kernel has it.
    pub name: String,
    /// `running`, `blocked`, `unknown`.
    pub state: &'static str,
    /// The system call it sleeps in.
    pub syscall: Option<String>,
    /// What is behind that call: an address, a file.
    pub peer: Option<String>,
    /// `holding`, `waiting`, `released`: what it has to do with the interpreter lock.
    pub gil: Option<&'static str>,
    /// The event loop it runs.
    #[serde(rename = "loop")]
    pub event_loop: Option<SnapshotLoop>,
    /// Its frames, leaf first: Python's, and C's if asked for.
    pub frames: Vec<SnapshotFrame>,
    /// Whether frames are missing at the root end.
    pub truncated: bool,
}

/// One pool, as it is now. `null` is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotPool {
    /// As in the report.
    pub kind: &'static str,
    /// Its kind for people.
    #[serde(skip)]
    pub title: &'static str,
    /// Its name; may be empty.
    pub name: String,
    /// How many there may be in use.
    pub limit: Option<u32>,
    /// How many are in use.
    pub busy: Option<u32>,
    /// How many wait for one.
    pub waiting: Option<u32>,
}

/// What a thread's event loop is doing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SnapshotLoop {
    /// Its family.
    pub kind: &'static str,
    /// `polling`, `running`, `unknown`.
    pub phase: &'static str,
    /// How long the running iteration has been running.
    #[serde(rename = "running_for_ns")]
    pub running_for: Option<Nanos>,
    /// Callbacks waiting in its ready queue.
    pub waiting_callbacks: Option<u32>,
    /// The task that runs.
    pub task: Option<String>,
    /// Its coroutine.
    pub coroutine: Option<String>,
    /// The request it serves.
    pub endpoint: Option<String>,
}

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Its coroutine was never run.
    NotStarted,
    /// Its coroutine is suspended: what it waits for may have come already.
    Waiting,
    /// A thread runs it.
    Running,
}

/// One task of asyncio or trio.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SnapshotTask {
    /// Whose it is: `asyncio`, `trio`.
    pub library: &'static str,
    /// Its address, `id(task)`, in hex.
    pub id: String,
    /// Its name, `Task-12`.
    pub name: Option<String>,
    /// Its coroutine's qualified name.
    pub coroutine: Option<String>,
    /// The thread whose loop it is of; `null` where that loop does not run.
    pub thread: Option<Tid>,
    /// What it does.
    pub state: TaskState,
    /// The class of the object at the end of its chain of awaits: `_asyncio.Future`. Of trio `null`: there
    /// a chain ends in a generator of its own.
    pub awaits: Option<String>,
    /// Ids of the tasks that it waits for.
    pub awaits_tasks: Vec<String>,
    /// Ids of the tasks that wait for it.
    pub awaited_by: Vec<String>,
    /// The id of the task in whose nursery it is (trio).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nursery_of: Option<String>,
    /// Where it waits: each coroutine of the chain, the innermost first. Empty while it runs.
    pub frames: Vec<SnapshotFrame>,
    /// Whether the chain was too long to be read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// One suspended greenlet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SnapshotGreenlet {
    /// Its address, `id(greenlet)`, in hex.
    pub id: String,
    /// Its class: `gevent._gevent_cgreenlet.Greenlet`.
    pub class: String,
    /// Where it was switched away from, innermost first.
    pub frames: Vec<SnapshotFrame>,
    /// Whether frames are missing at the root end.
    pub truncated: bool,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SnapshotFrame {
    /// The function.
    pub function: String,
    /// Its source file, absolute as the target sees it; of a C frame whose source is not known its
    /// module.
    pub file: String,
    /// The line it runs.
    pub line: Option<u32>,
    /// Whether it is a C frame.
    pub native: bool,
    /// A C frame's module: `libc.so.6`.
    pub module: Option<String>,
    /// Its local variables, if asked for: names and short texts of their values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locals: Option<Vec<(String, String)>>,
}
