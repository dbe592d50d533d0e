//! What lives in a process beside the requests it serves: each worker process has its own.

use serde::{Deserialize, Serialize};

use crate::units::Nanos;

/// What lives there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResidentKind {
    /// A scheduler of jobs: `APScheduler`, `schedule`, `sched`.
    Scheduler,
    /// Something that sleeps, does its work and sleeps again: a thread, a task, a greenlet, a timer that
    /// is set anew.
    Timer,
    /// Something that follows another system or a folder: a watch of Kubernetes', an observer of files.
    Watch,
    /// A subscription or consumer that is told things: Redis' publish and subscribe, Kafka.
    Subscription,
    /// `SQLite` databases that it wrote to.
    SqliteWriter,
    /// A thread that computes much of the time, of which nothing else is known.
    ComputingThread,
    /// `WebSocket` connections: what one process sends to all of its own, others' clients do not get.
    WebSockets,
}

impl ResidentKind {
    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ResidentKind::Scheduler => "scheduler",
            ResidentKind::Timer => "timer",
            ResidentKind::Watch => "watch",
            ResidentKind::Subscription => "subscription",
            ResidentKind::SqliteWriter => "sqlite_writer",
            ResidentKind::ComputingThread => "computing_thread",
            ResidentKind::WebSockets => "websockets",
        }
    }

    /// Its name for people, to which an `s` makes the plural.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            ResidentKind::Scheduler => "scheduler",
            ResidentKind::Timer => "timer",
            ResidentKind::Watch => "watcher",
            ResidentKind::Subscription => "subscription",
            ResidentKind::SqliteWriter => "SQLite database written to",
            ResidentKind::ComputingThread => "computing thread",
            ResidentKind::WebSockets => "WebSocket connection",
        }
    }

    /// Whether another worker process would do the same once more, or get in its way. Connections of
    /// clients are divided among workers.
    #[must_use]
    pub fn is_repeated(self) -> bool {
        self != ResidentKind::WebSockets
    }
}

/// Where in a program something is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ResidentPlace {
    /// The function.
    pub function: String,
    /// Its source file, absolute as the target sees it.
    pub file: String,
    /// The line it waits at; of a function that is to be called its first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// One thing that lives in a process, or several of a kind at the same place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resident {
    /// What it is.
    pub kind: ResidentKind,
    /// What it is called: a library's name, a thread's or coroutine's, a file.
    pub name: String,
    /// Where it waits: the application's line where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<ResidentPlace>,
    /// How many of them.
    pub count: u32,
    /// How long it sleeps each time, where that is known.
    #[serde(default, rename = "period_ns", skip_serializing_if = "Option::is_none")]
    pub period: Option<Nanos>,
}
