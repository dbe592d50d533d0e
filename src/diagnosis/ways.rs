//! How what blocks a loop is taken off it, and what waits there without blocking: each family of loops has ways of its
//! own, and those of another are an error there.
//!
//! Knows asyncio (uvloop is asyncio's to the application), trio and twisted; hubs of greenlets have
//! [`greenlets`](super::greenlets). Never decides whether to recommend.

use crate::model::{FrameId, LoopKind, Tables};

/// The ways of one family.
#[derive(Debug, PartialEq, Eq)]
pub struct Ways {
    /// What people call such a loop.
    pub name: &'static str,
    /// To a thread.
    pub thread: &'static str,
    /// Instead of a sleep.
    pub sleep: &'static str,
    /// Instead of waiting for a child process.
    pub child: &'static str,
    /// For C code that computes and holds the interpreter lock.
    pub process: &'static str,
    /// For Python code that computes.
    pub for_cpu: &'static str,
    /// Packages that block, by import name, and what does the same without blocking.
    clients: &'static [(&'static str, &'static str)],
}

static ASYNCIO: Ways = Ways {
    name: "loop",
    thread: "`await asyncio.to_thread(…)`",
    sleep: "`await asyncio.sleep(…)` instead",
    child: "use `asyncio.create_subprocess_exec`",
    process: "run it in a process pool: `await loop.run_in_executor(process_pool, …)`",
    for_cpu: "run it in a process pool: `await loop.run_in_executor(process_pool, …)`; or split it with `await \
              asyncio.sleep(0)` between the parts",
    clients: &[
        ("requests", HTTP),
        ("urllib3", HTTP),
        ("httplib2", HTTP),
        ("httpcore", HTTPX),
        ("httpx", HTTPX),
        ("botocore", "use aioboto3, or aiobotocore"),
        ("kubernetes", "use kubernetes_asyncio"),
        ("grpc", "use `grpc.aio`"),
        ("psycopg2", "use psycopg 3 (`AsyncConnection`), or asyncpg"),
        ("psycopg", "use `psycopg.AsyncConnection`"),
        ("pymysql", "use asyncmy, or aiomysql"),
        ("MySQLdb", "use asyncmy, or aiomysql"),
        ("sqlalchemy", "use `sqlalchemy.ext.asyncio` with an async driver"),
        ("redis", "use `redis.asyncio`"),
        ("pymongo", "use `pymongo.AsyncMongoClient`"),
        ("elasticsearch", "use `AsyncElasticsearch`"),
        ("kafka", "use aiokafka"),
        ("pika", "use aio-pika"),
        ("paramiko", "use asyncssh"),
        ("smtplib", "use aiosmtplib"),
        ("subprocess", "use `asyncio.create_subprocess_exec`"),
        ("urllib", HTTP),
        ("http", HTTP),
        ("socket", "use `asyncio.open_connection`, or the loop's `getaddrinfo` for names"),
        ("queue", "use `asyncio.Queue`"),
        ("threading", "use asyncio's own `Lock`, `Event` or `Condition` on the loop"),
    ],
};
const HTTP: &str = "use an async client: `httpx.AsyncClient`, or aiohttp";
const HTTPX: &str = "use `httpx.AsyncClient` instead of `httpx.Client`";

/// trio's (<https://trio.readthedocs.io/en/stable/reference-core.html>, `reference-io.html`). Clients made for asyncio
/// do not run on it; httpx's does, by anyio.
static TRIO: Ways = Ways {
    name: "loop",
    thread: "`await trio.to_thread.run_sync(…)`",
    sleep: "`await trio.sleep(…)` instead",
    child: "use `trio.run_process`",
    process: "run it in another process: `await anyio.to_process.run_sync(…)`",
    for_cpu: "run it in another process: `await anyio.to_process.run_sync(…)`; or split it with `await \
              trio.lowlevel.checkpoint()` between the parts",
    clients: &[
        ("requests", TRIO_HTTP),
        ("urllib3", TRIO_HTTP),
        ("httplib2", TRIO_HTTP),
        ("httpcore", HTTPX),
        ("httpx", HTTPX),
        ("subprocess", "use `trio.run_process`"),
        ("urllib", TRIO_HTTP),
        ("http", TRIO_HTTP),
        ("socket", "use `trio.open_tcp_stream`, or `trio.socket`"),
        ("queue", "use `trio.open_memory_channel`"),
        ("threading", "use trio's own `Lock`, `Event` or `Condition`"),
    ],
};
const TRIO_HTTP: &str = "use an async client: `httpx.AsyncClient`";

/// twisted's (<https://docs.twisted.org/en/stable/core/howto/threading.html>, `enterprise/adbapi`).
static TWISTED: Ways = Ways {
    name: "reactor",
    thread: "`twisted.internet.threads.deferToThread(…)`",
    sleep: "`twisted.internet.task.deferLater(reactor, …)` instead",
    child: "use `reactor.spawnProcess`",
    process: "run it in another process: `reactor.spawnProcess`",
    for_cpu: "run it in another process; or split it with `task.cooperate(…)`",
    clients: &[
        ("requests", TREQ),
        ("urllib3", TREQ),
        ("httpx", TREQ),
        ("urllib", TREQ),
        ("http", TREQ),
        ("psycopg2", ADBAPI),
        ("psycopg", ADBAPI),
        ("pymysql", ADBAPI),
        ("MySQLdb", ADBAPI),
        ("subprocess", "use `reactor.spawnProcess`"),
    ],
};
const TREQ: &str = "use treq";
const ADBAPI: &str = "use `twisted.enterprise.adbapi.ConnectionPool`";

impl Ways {
    /// Those of a loop that is no hub of greenlets.
    #[must_use]
    pub fn of(kind: Option<LoopKind>) -> &'static Ways {
        match kind {
            Some(LoopKind::Trio) => &TRIO,
            Some(LoopKind::Twisted) => &TWISTED,
            _ => &ASYNCIO,
        }
    }

    /// What does the same as this library's line without blocking.
    #[must_use]
    pub fn instead_of(&self, tables: &Tables, library: FrameId) -> Option<&'static str> {
        let path = tables.text(tables.get_frame(library)?.file?);
        // The outermost name that is known: `requests/…` and `/lib/python3.12/subprocess.py` alike.
        path.split('/').find_map(|step| {
            let module = step.strip_suffix(".py").unwrap_or(step);
            self.clients.iter().find(|(name, _)| *name == module).map(|(_, advice)| *advice)
        })
    }
}
