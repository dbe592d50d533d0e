//! What to change at a line that blocks the loop.
//!
//! Knows the usual blocking clients and what replaces them. Takes a blamed line with its library
//! and its wait, gives a recommendation with its figures. Mitigation first (take it off the
//! loop), cure second (use something that does not block). Never decides whether to recommend.

use super::blocked::{Blame, Blocked};
use super::deadline::{Deadline, Silence};
use super::greenlets::{self, Hub};
use super::{MEDIUM_LENGTH, wording};
use crate::model::{
    Cause, FrameId, LoopKind, Patches, Peer, Recommendation, Recording, Remedy, Tables,
};
use crate::units::Nanos;

/// Lines to recommend something for: the costliest few. With more, none gets done.
pub const MOST_LINES: usize = 3;

/// Packages that block, by import name, and what does the same without blocking.
const ASYNC_INSTEAD: &[(&str, &str)] = &[
    ("requests", "use an async client: `httpx.AsyncClient`, or aiohttp"),
    ("urllib3", "use an async client: `httpx.AsyncClient`, or aiohttp"),
    ("httplib2", "use an async client: `httpx.AsyncClient`, or aiohttp"),
    ("httpcore", "use `httpx.AsyncClient` instead of `httpx.Client`"),
    ("httpx", "use `httpx.AsyncClient` instead of `httpx.Client`"),
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
    ("urllib", "use an async client: `httpx.AsyncClient`, or aiohttp"),
    ("http", "use an async client: `httpx.AsyncClient`, or aiohttp"),
    ("socket", "use `asyncio.open_connection`, or the loop's `getaddrinfo` for names"),
    ("queue", "use `asyncio.Queue`"),
    ("threading", "use asyncio's own `Lock`, `Event` or `Condition` on the loop"),
];

/// What to do about the costliest lines.
#[must_use]
pub fn for_lines(
    recording: &Recording,
    blocked: &Blocked,
    advice: impl Fn(&Recording, &Blame) -> Recommendation,
) -> Vec<Recommendation> {
    by_lines(recording, blocked, advice).into_iter().map(|(_, advice)| advice).collect()
}

/// A line with less than this part of the costliest line's time changes nothing that anybody could measure:
/// it is below the sampling error of that time.
const WORTH_A_WORD: u64 = 100;

/// The same with the lines. Of several lines of one function the costliest stands for all: they are
/// changed together, as is what is defined on the same line, a generator expression. Short stalls of a
/// line below `WORTH_A_WORD` are left out.
#[must_use]
pub fn by_lines<'a>(
    recording: &Recording,
    blocked: &'a Blocked,
    advice: impl Fn(&Recording, &Blame) -> Recommendation,
) -> Vec<(&'a Blame, Recommendation)> {
    let tables = &recording.tables;
    let line = |frame| tables.get_frame(frame).and_then(|frame| Some((frame.file?, frame.line?)));
    let together = |one, other| {
        tables.is_same_function(one, other) || line(one).is_some_and(|one| line(other) == Some(one))
    };
    let most = blocked.culprits.first().map_or(Nanos::ZERO, |blame| blame.total);
    let mut all: Vec<(&Blame, Recommendation)> = Vec::new();
    for blame in &blocked.culprits {
        let one = advice(recording, blame);
        let is_said = all
            .iter()
            .any(|(known, said)| together(known.frame, blame.frame) && said.command == one.command);
        let is_little = blame.total < most.scaled(1, WORTH_A_WORD) && blame.max < MEDIUM_LENGTH;
        if !is_said && !is_little && all.len() < MOST_LINES {
            all.push((blame, one));
        }
    }
    all
}

/// Off twisted's reactor, where asyncio's ways are none.
const TO_THREAD_OF_TWISTED: &str = "`twisted.internet.threads.deferToThread(…)`";

/// Frameworks that run a handler that is no coroutine in a thread, by the folder of their files: Starlette and so
/// FastAPI (`request_response`, starlette 0.41 `routing.py`), Quart (`ensure_async`, quart 0.20 `app.py`). Others, as
/// aiohttp, Sanic, tornado and Litestar, run it on the loop.
const RUN_HANDLERS_IN_THREADS: [&str; 2] = ["/starlette/", "/quart/"];

/// Where frameworks keep what calls an application's middleware, as Starlette's `BaseHTTPMiddleware.__call__`
/// (starlette 0.41 `middleware/base.py`).
const MIDDLEWARE: &str = "/middleware/";

/// How a call of asyncio's loop is handed to a thread.
fn to_thread(recording: &Recording, blame: &Blame) -> &'static str {
    let is_met = |folder: &&str| has_code_below(&recording.tables, folder);
    let is_middleware = |caller: FrameId| {
        let frame = recording.tables.get_frame(caller);
        let file = frame.and_then(|frame| frame.file);
        file.is_some_and(|file| recording.tables.text(file).contains(MIDDLEWARE))
    };
    // What a middleware calls is no handler, and has to stay a coroutine.
    let is_handler = blame.in_request && !blame.caller.is_some_and(is_middleware);
    if is_handler && RUN_HANDLERS_IN_THREADS.iter().any(is_met) {
        "make the handler `def`, or `await asyncio.to_thread(…)`"
    } else {
        "`await asyncio.to_thread(…)`"
    }
}

/// Whether code of a folder was met anywhere.
pub(super) fn has_code_below(tables: &Tables, folder: &str) -> bool {
    tables
        .frames
        .iter()
        .any(|frame| frame.file.is_some_and(|file| tables.text(file).contains(folder)))
}

/// Why a call that waits is a matter of the loop.
const LOOP_SLEEPS: &str =
    "the call sleeps on the loop's thread, and nothing else runs until it returns";
/// Why a call that waits is a matter of a hub's greenlets.
const HUB_SLEEPS: &str =
    "the call sleeps on the hub's thread, and no greenlet runs until it returns";
/// The same of code that computes.
const HUB_COMPUTES: &str = "it computes on the hub's thread, and no greenlet runs until it is done; on \
     another thread it would hold the interpreter lock as well";

/// What to do about a line that sleeps in a call.
#[must_use]
pub fn for_call(recording: &Recording, blame: &Blame) -> Recommendation {
    let tables = &recording.tables;
    if let Some(hub) = blame.hub() {
        let patches = patches_of(recording, blame);
        let (client, module) = (client_in_c(hub, tables, blame), patched_module(tables, blame));
        let command = hub.for_call(client, module, patches);
        return recommendation(recording, blame, command, HUB_SLEEPS);
    }
    if blame.kind == Some(LoopKind::Twisted) {
        let command = match wait_kind(tables, blame) {
            Some(WaitKind::Sleep) => {
                "`twisted.internet.task.deferLater(reactor, …)` instead".to_owned()
            }
            Some(WaitKind::Child) => {
                format!("{TO_THREAD_OF_TWISTED}; or use `reactor.spawnProcess`")
            }
            None => TO_THREAD_OF_TWISTED.to_owned(),
        };
        return recommendation(recording, blame, command, LOOP_SLEEPS);
    }
    let take_off = to_thread(recording, blame);
    let cure = match wait_kind(tables, blame) {
        Some(WaitKind::Sleep) => Some("`await asyncio.sleep(…)` instead"),
        Some(WaitKind::Child) => Some("use `asyncio.create_subprocess_exec`"),
        None => blame.library.and_then(|library| async_instead(tables, library)),
    };
    let command = match (wait_kind(tables, blame), cure) {
        // A sleep needs no thread; but a function that is no coroutine cannot await one.
        (Some(WaitKind::Sleep), Some(cure)) => format!("{cure}; or {take_off}"),
        (_, Some(cure)) => format!("{take_off}; or {cure}"),
        (_, None) => take_off.to_owned(),
    };
    recommendation(recording, blame, command, LOOP_SLEEPS)
}

/// Whether what is recommended of a line that blocks its loop puts the call on a thread of a pool.
#[must_use]
pub fn takes_a_thread(recording: &Recording, blame: &Blame, cause: Cause) -> bool {
    if !matches!(blame.kind, Some(LoopKind::Asyncio | LoopKind::Uvloop)) {
        return false;
    }
    match cause {
        Cause::BlockingCall => {
            !matches!(wait_kind(&recording.tables, blame), Some(WaitKind::Sleep))
        }
        Cause::CCall => blame.releases_gil != Some(false),
        _ => false,
    }
}

/// What to do about a line that computes.
#[must_use]
pub fn for_cpu(recording: &Recording, blame: &Blame) -> Recommendation {
    if let Some(hub) = blame.hub() {
        let command = hub.for_cpu.to_owned();
        return recommendation(recording, blame, command, HUB_COMPUTES);
    }
    let command = if blame.kind == Some(LoopKind::Twisted) {
        "run it in another process; or split it with `task.cooperate(…)`"
    } else {
        "run it in a process pool: `await loop.run_in_executor(process_pool, …)`; or split it \
         with `await asyncio.sleep(0)` between the parts"
    };
    recommendation(
        recording,
        blame,
        command.to_owned(),
        "it computes in Python on the loop's thread; on another thread it would hold the \
         interpreter lock as well",
    )
}

/// What to do about a line that calls C code which computes.
#[must_use]
pub fn for_native(recording: &Recording, blame: &Blame) -> Recommendation {
    let thread = if let Some(hub) = blame.hub() {
        hub.thread
    } else if blame.kind == Some(LoopKind::Twisted) {
        TO_THREAD_OF_TWISTED
    } else {
        to_thread(recording, blame)
    };
    let (command, reason) = match blame.releases_gil {
        Some(true) => {
            // The line may be a library's user's, with no place of its own to hand a call over.
            let command = match blame.hub() {
                Some(_) => format!("{thread}, or {}", greenlets::OTHER_WORKERS),
                None => thread.to_owned(),
            };
            (command, "the C code lets go of the interpreter lock while it computes")
        }
        Some(false) if blame.hub().is_some() => (
            greenlets::FOR_HOLDING.to_owned(),
            "the C code holds the interpreter lock all along: a thread would block the hub as well",
        ),
        Some(false) if blame.kind == Some(LoopKind::Twisted) => (
            greenlets::FOR_HOLDING.to_owned(),
            "the C code holds the interpreter lock all along: a thread would block the reactor as well",
        ),
        Some(false) => (
            "run it in a process pool: `await loop.run_in_executor(process_pool, …)`".to_owned(),
            "the C code holds the interpreter lock all along: a thread would block the loop as well",
        ),
        None => (
            format!("if it lets go of the interpreter lock, {thread}; else a process pool"),
            "the C code computes on the loop's thread; whether it holds the interpreter lock \
             was not seen",
        ),
    };
    recommendation(recording, blame, command, reason)
}

/// What to do about a thread that holds the interpreter lock for long.
#[must_use]
pub fn for_gil(recording: &Recording, blame: &Blame) -> Recommendation {
    recommendation(
        recording,
        blame,
        "run it in a process of its own: `ProcessPoolExecutor`, or another worker; in Python code \
         a `time.sleep(0)` in its loop lets others in"
            .to_owned(),
        "it holds the interpreter lock on another thread, and the event loop waits for that",
    )
}

/// How a call is taken off its loop.
fn off_the_loop(blame: &Blame) -> &'static str {
    match blame.kind {
        Some(LoopKind::Twisted) => TO_THREAD_OF_TWISTED,
        _ => blame.hub().map_or("`await asyncio.to_thread(…)`", |hub| hub.thread),
    }
}

/// What to do about a line that keeps its worker from a sign of life, and for what cause.
#[must_use]
pub fn for_deadline(
    recording: &Recording,
    blame: &Blame,
    cause: Cause,
    deadline: &Deadline,
) -> Recommendation {
    let bounded = format!(
        "give the call a timeout of its own, below the {} from which on {} may kill its worker",
        wording::length(deadline.least()),
        deadline.supervisor.name
    );
    let fails_first = "it then fails before its worker is killed, and its client gets an answer";
    let (command, reason) = match (deadline.silence, cause) {
        (Silence::Request, Cause::BlockingCall) => {
            (format!("{bounded}; or do it after the answer"), fails_first)
        }
        (Silence::Request, _) => (
            "make it shorter, or do it after the answer, in another process".to_owned(),
            "its worker gives no sign of life before it is done",
        ),
        (Silence::LockHeld, _) if blame.kind == Some(LoopKind::NoLoop) => (
            "run it in another process: a `ProcessPoolExecutor`, or after the answer in a queue of \
             jobs"
                .to_owned(),
            "it holds the interpreter lock, and the thread that gives the sign of life cannot run",
        ),
        (_, Cause::BlockingCall) => {
            (format!("{bounded}, and take it off the loop: {}", off_the_loop(blame)), fails_first)
        }
        (_, Cause::CCall) => return for_native(recording, blame),
        (_, Cause::GilWait) => return for_gil(recording, blame),
        _ => return for_cpu(recording, blame),
    };
    recommendation(recording, blame, command, reason)
}

/// What to do about a line that did not come back.
#[must_use]
pub fn for_hang(recording: &Recording, blame: &Blame) -> Recommendation {
    let take_off = off_the_loop(blame);
    recommendation(
        recording,
        blame,
        format!("give the call a timeout, and take it off the loop: {take_off}"),
        "it had not returned when observation ended; look again with `stallspy dump` to see \
         what every thread holds and waits for",
    )
}

/// What was patched in the process of a line.
fn patches_of<'a>(recording: &'a Recording, blame: &Blame) -> Option<&'a Patches> {
    let process = recording.processes.iter().find(|one| Some(one.pid) == blame.process);
    process.and_then(|process| process.patches.as_ref())
}

/// CPython's own functions that sleep for `time.sleep` (Modules/timemodule.c): what was taken before the patch.
const OWN_SLEEP: [&str; 2] = ["time_sleep", "pysleep"];

/// Whether a line that waits on a hub waits in C code that no patch and no other client is known for. Where that
/// is not clear it does not.
#[must_use]
pub fn is_out_of_reach(recording: &Recording, blame: &Blame) -> bool {
    let tables = &recording.tables;
    let Some(hub) = blame.hub() else { return false };
    let Some(patches) = patches_of(recording, blame).filter(|all| !all.modules.is_empty()) else {
        return false;
    };
    let is_own_sleep = blame
        .native
        .iter()
        .flatten()
        .filter_map(|id| tables.get_frame(*id))
        .any(|frame| OWN_SLEEP.contains(&tables.text(frame.function)));
    if client_in_c(hub, tables, blame).is_some()
        || cooperative_file(tables, blame).is_some()
        || is_own_sleep
    {
        return false;
    }
    match patched_module(tables, blame) {
        // Python's own call, or one of C code: only a library or a C function in between tells.
        Some(module) => {
            let is_told = blame.library.is_some() || blame.native.iter().any(Option::is_some);
            patches.has(module) && is_told
        }
        None => true,
    }
}

/// What helps where the client it calls waits in C code, out of reach of monkey-patching.
fn client_in_c(hub: &Hub, tables: &Tables, blame: &Blame) -> Option<&'static str> {
    let frames = blame.native.into_iter().chain([blame.library]).flatten();
    let frames: Vec<_> = frames.filter_map(|id| tables.get_frame(id)).collect();
    let names = frames.iter().flat_map(|frame| [frame.file, frame.module]).flatten();
    hub.for_client(names.map(|name| tables.text(name)))
}

/// Modules of the standard library that can be made cooperative and wait in calls of their own, by the name
/// of their file.
const COOPERATIVE: [&str; 6] = ["subprocess", "socket", "ssl", "selectors", "queue", "threading"];

/// The module that a patch would have to reach, as far as the call that waits tells.
fn patched_module(tables: &Tables, blame: &Blame) -> Option<&'static str> {
    if let Some(known) = cooperative_file(tables, blame) {
        return Some(known);
    }
    match wait_kind(tables, blame) {
        Some(WaitKind::Sleep) => return Some("time"),
        Some(WaitKind::Child) => return Some("subprocess"),
        None => {}
    }
    if blame.library.is_some() {
        return None;
    }
    match tables.text(tables.get_wait(blame.wait?)?.syscall) {
        "recvfrom" | "recvmsg" | "sendto" | "sendmsg" | "connect" | "accept" | "accept4" => {
            Some("socket")
        }
        "futex" => Some("threading"),
        _ => None,
    }
}

/// The module of [`COOPERATIVE`] that made the call.
fn cooperative_file(tables: &Tables, blame: &Blame) -> Option<&'static str> {
    let file = blame.library.and_then(|frame| Some(tables.text(tables.get_frame(frame)?.file?)));
    let name = file.and_then(|file| file.rsplit('/').next()?.strip_suffix(".py"));
    COOPERATIVE.iter().find(|module| name == Some(**module)).copied()
}

enum WaitKind {
    Sleep,
    Child,
}

fn wait_kind(tables: &Tables, blame: &Blame) -> Option<WaitKind> {
    let wait = tables.get_wait(blame.wait?)?;
    if matches!(wait.peer, Some(Peer::Child(_))) {
        return Some(WaitKind::Child);
    }
    match tables.text(wait.syscall) {
        // time.sleep: clock_nanosleep since 3.11, select without descriptors before
        // (pysleep, Modules/timemodule.c).
        "clock_nanosleep" | "nanosleep" => Some(WaitKind::Sleep),
        "select" | "pselect6" if wait.fd.is_none() && blame.library.is_none() => {
            Some(WaitKind::Sleep)
        }
        "wait4" | "waitid" => Some(WaitKind::Child),
        _ => None,
    }
}

fn async_instead(tables: &Tables, library: FrameId) -> Option<&'static str> {
    let path = tables.text(tables.get_frame(library)?.file?);
    // The outermost name that is known: `requests/…` and `/lib/python3.12/subprocess.py` alike.
    path.split('/').find_map(|step| {
        let module = step.strip_suffix(".py").unwrap_or(step);
        ASYNC_INSTEAD.iter().find(|(name, _)| *name == module).map(|(_, advice)| *advice)
    })
}

/// One of a line, with the line's figures.
pub(super) fn recommendation(
    recording: &Recording,
    blame: &Blame,
    command: String,
    reason: &str,
) -> Recommendation {
    Recommendation {
        remedy: Remedy::Code { frame: blame.frame },
        command,
        reason: reason.to_owned(),
        inputs: blame.measured(recording),
        predicted: Vec::new(),
    }
}
