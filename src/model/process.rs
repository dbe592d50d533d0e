//! Processes, threads and what serves requests in them.

use serde::{Deserialize, Serialize};

use super::{
    Budget, ConnectionInfo, GilTally, ListenerInfo, Occupancy, Patches, PoolInfo, RequestTally,
    Resident, ServerConfig, Turns,
};
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

impl Role {
    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Worker => "worker",
            Role::Single => "single",
        }
    }
}

/// How a worker runs requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerClass {
    /// uvicorn's own server, an ASGI application on one event loop.
    Uvicorn,
    /// gunicorn's `sync`: one request at a time.
    Sync,
    /// gunicorn's `gthread`: a pool of threads.
    Gthread,
    /// Greenlets on gevent's hub.
    Gevent,
    /// Greenlets on eventlet's hub.
    Eventlet,
    /// tornado's server on its loop.
    Tornado,
    /// gunicorn's native `asgi` worker.
    Asgi,
    /// One asyncio loop: hypercorn's default, aiohttp.
    Asyncio,
    /// hypercorn's `uvloop`.
    Uvloop,
    /// hypercorn's `trio`.
    Trio,
    /// twisted's reactor: daphne.
    Twisted,
    /// A pool of threads of the server's own: waitress, cheroot.
    ThreadPool,
    /// A new thread for each request: development servers.
    ThreadPerRequest,
    /// uWSGI, a server in C that calls Python.
    Uwsgi,
    /// granian, a server in Rust that calls Python.
    Granian,
    /// A class of the application's own.
    Other,
    /// Not known yet.
    Unknown,
    /// No server we know: a program of its own.
    Bare,
}

impl WorkerClass {
    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WorkerClass::Uvicorn => "uvicorn",
            WorkerClass::Sync => "sync",
            WorkerClass::Gthread => "gthread",
            WorkerClass::Gevent => "gevent",
            WorkerClass::Eventlet => "eventlet",
            WorkerClass::Tornado => "tornado",
            WorkerClass::Asgi => "asgi",
            WorkerClass::Asyncio => "asyncio",
            WorkerClass::Uvloop => "uvloop",
            WorkerClass::Trio => "trio",
            WorkerClass::Twisted => "twisted",
            WorkerClass::ThreadPool => "thread_pool",
            WorkerClass::ThreadPerRequest => "thread_per_request",
            WorkerClass::Uwsgi => "uwsgi",
            WorkerClass::Granian => "granian",
            WorkerClass::Other => "other",
            WorkerClass::Unknown => "unknown",
            WorkerClass::Bare => "bare",
        }
    }
}

/// What a server probe recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerTopology {
    /// The server's name, `uvicorn`.
    pub server: String,
    /// Its version, where memory or its files tell.
    pub server_version: Option<String>,
    /// This process's part.
    pub role: Role,
    /// How it runs requests; of a master: how its workers do.
    pub class: WorkerClass,
    /// The version of the library behind the class where that is not the server's own: gevent's
    /// under gunicorn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_version: Option<String>,
    /// Whether it is meant for development: a reloader, or Flask's or Django's own server.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub development: bool,
}

impl WorkerTopology {
    /// Whether it is a server's process at all.
    #[must_use]
    pub fn is_server(&self) -> bool {
        self.class != WorkerClass::Bare
    }
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
    /// Drivers of databases that it has imported, by their names (see [`driver`](super::driver)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drivers: Vec<String>,
    /// Processes below it that run event loops or serve requests and were not watched, where it does
    /// neither itself and no server is known that it would be the master of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serving_children: Vec<Pid>,
    /// When stallspy attached to it.
    pub attached: Timestamp,
    /// When it ended, if it ended while it was watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Whether the kernel killed it for memory, as its control group counts; `None` where it did not end, or nobody
    /// counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub killed_for_memory: Option<bool>,
    /// CPU time it used while it was watched.
    pub cpu: Nanos,
    /// Its resident memory at the last look, in bytes.
    pub rss_bytes: u64,
    /// CPUs it may run on.
    pub cpus: u32,
    /// Its server's configuration in force.
    #[serde(default, skip_serializing_if = "ServerConfig::is_empty")]
    pub config: ServerConfig,
    /// Requests as its server counts them.
    #[serde(default, skip_serializing_if = "RequestTally::is_empty")]
    pub requests: RequestTally,
    /// How often its interpreter lock was held, and looked at.
    #[serde(default, skip_serializing_if = "GilTally::is_empty")]
    pub gil: GilTally,
    /// Its pools, in the order they were found in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolInfo>,
    /// How many tasks of asyncio and trio waited or had not begun when the recording ended in the middle
    /// of a stall; `None` where it did not, or they could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks_waiting: Option<usize>,
    /// What a library of greenlets has patched in it; `None` where there is none, or it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patches: Option<Patches>,
    /// Its listening sockets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerInfo>,
    /// Its connections, by peer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<ConnectionInfo>,
    /// How many of its threads were held by requests, where each request has a thread.
    #[serde(default, skip_serializing_if = "Occupancy::is_empty")]
    pub occupancy: Occupancy,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Budget::is_empty")]
    pub budget: Budget,
    /// How it came by the CPUs.
    #[serde(default, skip_serializing_if = "Turns::is_empty")]
    pub turns: Turns,
    /// What lives in it beside the requests it serves; `None` where nobody looked: it ended, or was watched
    /// for too short a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residents: Option<Vec<Resident>>,
    /// Its threads.
    pub threads: Vec<ThreadInfo>,
}

impl ProcessInfo {
    /// Whether it lives and no server is known of it: what it started may serve requests, and nobody
    /// would know.
    #[must_use]
    pub fn is_bare_parent(&self) -> bool {
        self.ended.is_none() && !self.topology.is_server()
    }
}

/// One thread of a watched process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadInfo {
    /// Its id, in stallspy's namespace.
    pub tid: Tid,
    /// Its name as the kernel has it (`comm`).
    pub name: String,
    /// Its name as Python has it (`Thread.name`), where it was asked for: before Python 3.14 the kernel does not know
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python_name: Option<String>,
    /// Looks of [`ProcessInfo::gil`] that saw it hold the interpreter lock.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gil_held: u64,
}

impl ThreadInfo {
    /// The name that says more: Python's, if that is known.
    #[must_use]
    pub fn title(&self) -> &str {
        self.python_name.as_deref().unwrap_or(&self.name)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(count: &u64) -> bool {
    *count == 0
}
