//! What to change at a line that blocks the loop.
//!
//! What replaces a blocking client on which loop is `ways.rs`'s and `greenlets.rs`'s to know. Takes a blamed line with its library
//! and its wait, gives a recommendation with its figures. Mitigation first (take it off the
//! loop), cure second (use something that does not block). Never decides whether to recommend.

use super::MEDIUM_LENGTH;
use super::blocked::{Blame, Blocked};
use super::greenlets::{self, Hub};
use super::ways::Ways;
use crate::model::{
    Cause, FrameId, LoopKind, Patches, Peer, Recommendation, Recording, Remedy, Tables,
};
use crate::units::Nanos;

/// Lines to recommend something for: the costliest few. With more, none gets done.
pub const MOST_LINES: usize = 3;

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

/// Whether a line is below the error of what was measured, where the costliest took `most`.
pub(super) fn is_little(blame: &Blame, most: Nanos) -> bool {
    blame.total < most.scaled(1, WORTH_A_WORD) && blame.max < MEDIUM_LENGTH
}

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
        if !is_said && !is_little(blame, most) && all.len() < MOST_LINES {
            all.push((blame, one));
        }
    }
    all
}

/// Frameworks that run a handler that is no coroutine in a thread, by the folder of their files, and what to type:
/// Starlette and so FastAPI (`request_response`, starlette 0.41 `routing.py`), Quart (`ensure_async`, quart 0.20
/// `app.py`), Litestar if it is told to (`sync_to_thread`, litestar 2.25 `handlers/http_handlers/base.py`). Others, as
/// aiohttp, Sanic and tornado, run it on the loop.
const RUN_HANDLERS_IN_THREADS: [(&str, &str); 3] = [
    ("/starlette/", "make the handler `def`"),
    ("/quart/", "make the handler `def`"),
    ("/litestar/", "make the handler `def`, with `sync_to_thread=True`"),
];

/// What is no handler and runs in a thread where it is no coroutine, by who calls it: FastAPI's dependencies
/// (`solve_dependencies`, fastapi 0.115 `dependencies/utils.py`), Starlette's tasks (`BackgroundTask.__call__`, starlette
/// 0.41 `background.py`).
const RUN_IN_THREADS: [(&str, &str); 2] = [
    ("/fastapi/dependencies/", "make the dependency `def`"),
    ("/starlette/background.py", "make the task `def`"),
];

/// Where frameworks keep what calls an application's middleware, as Starlette's `BaseHTTPMiddleware.__call__`
/// (starlette 0.41 `middleware/base.py`).
const MIDDLEWARE: &str = "/middleware/";

/// How a call of a loop is handed to a thread.
fn to_thread(recording: &Recording, blame: &Blame) -> String {
    let ways = Ways::of(blame.kind);
    let is_met = |(folder, _): &&(&str, &str)| has_code_below(&recording.tables, folder);
    let file_of = |caller: FrameId| recording.tables.get_frame(caller)?.file;
    let caller = blame.caller.and_then(file_of).map_or("", |file| recording.tables.text(file));
    // What a middleware calls is no handler, and has to stay a coroutine.
    let is_handler = blame.in_request && !caller.contains(MIDDLEWARE);
    let by_caller = || RUN_IN_THREADS.iter().find(|(file, _)| caller.contains(file));
    let runs_handlers = || by_caller().or_else(|| RUN_HANDLERS_IN_THREADS.iter().find(is_met));
    let is_asked = is_handler && blame.kind != Some(LoopKind::Twisted);
    match is_asked.then(runs_handlers).flatten() {
        Some((_, make)) => format!("{make}, or {}", ways.thread),
        None => ways.thread.to_owned(),
    }
}

/// Whether code of a folder was met anywhere.
pub(super) fn has_code_below(tables: &Tables, folder: &str) -> bool {
    tables
        .frames
        .iter()
        .any(|frame| frame.file.is_some_and(|file| tables.text(file).contains(folder)))
}

/// Where a `SQLite` database's lock is waited for. Of connections one writes at a time; without a write-ahead log it
/// also waits for those that read, and they for it (<https://www.sqlite.org/wal.html>, *Concurrency*;
/// <https://www.sqlite.org/lockingv3.html>).
pub(super) const FOR_SQLITE: &str = "`PRAGMA journal_mode=WAL`, so that who reads and who writes need not wait for \
     each other; transactions that write short, and all in one place; or a database server";

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
        let command = match wait_kind(tables, blame) {
            Some(WaitKind::Sqlite) => format!("{}; or {FOR_SQLITE}", hub.thread),
            _ => hub.for_call(client, module, patches),
        };
        return recommendation(recording, blame, command, HUB_SLEEPS);
    }
    let (take_off, ways) = (to_thread(recording, blame), Ways::of(blame.kind));
    let kind = wait_kind(tables, blame);
    let cure = match kind {
        Some(WaitKind::Sleep) => Some(ways.sleep),
        Some(WaitKind::Child) => Some(ways.child),
        Some(WaitKind::Sqlite) => Some(FOR_SQLITE),
        None => blame.library.and_then(|library| ways.instead_of(tables, library)),
    };
    let command = match (kind, cure) {
        // A sleep needs no thread; but a function that is no coroutine cannot await one.
        (Some(WaitKind::Sleep), Some(cure)) => format!("{cure}; or {take_off}"),
        (_, Some(cure)) => format!("{take_off}; or {cure}"),
        (_, None) => take_off,
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
    recommendation(
        recording,
        blame,
        Ways::of(blame.kind).for_cpu.to_owned(),
        "it computes in Python on the loop's thread; on another thread it would hold the \
         interpreter lock as well",
    )
}

/// What to do about a line that calls C code which computes.
#[must_use]
pub fn for_native(recording: &Recording, blame: &Blame) -> Recommendation {
    let ways = Ways::of(blame.kind);
    let thread = match blame.hub() {
        Some(hub) => hub.thread.to_owned(),
        None => to_thread(recording, blame),
    };
    let (command, reason) = match blame.releases_gil {
        Some(true) => {
            // The line may be a library's user's, with no place of its own to hand a call over.
            let command = match blame.hub() {
                Some(_) => format!("{thread}, or {}", greenlets::OTHER_WORKERS),
                None => thread,
            };
            (command, "the C code lets go of the interpreter lock while it computes")
        }
        Some(false) => {
            let (process, name) = match blame.hub() {
                Some(_) => (greenlets::FOR_HOLDING, "hub"),
                None => (ways.process, ways.name),
            };
            let reason = format!(
                "the C code holds the interpreter lock all along: a thread would block the {name} as well"
            );
            return recommendation(recording, blame, process.to_owned(), &reason);
        }
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

/// What to do about a line that did not come back.
#[must_use]
pub fn for_hang(recording: &Recording, blame: &Blame) -> Recommendation {
    let take_off = blame.hub().map_or(Ways::of(blame.kind).thread, |hub| hub.thread);
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
        // No patch reaches it.
        Some(WaitKind::Sqlite) => return None,
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

/// Waits that something is known for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitKind {
    /// For nothing but time to pass.
    Sleep,
    /// For a child process.
    Child,
    /// For the lock of a `SQLite` database.
    Sqlite,
}

/// What a line waited for in the longest of its stalls.
pub(super) fn wait_kind(tables: &Tables, blame: &Blame) -> Option<WaitKind> {
    let wait = tables.get_wait(blame.wait?)?;
    if wait.is_for_sqlite(tables, blame.native.into_iter().flatten()) {
        return Some(WaitKind::Sqlite);
    }
    if matches!(wait.peer, Some(Peer::Child(_))) {
        return Some(WaitKind::Child);
    }
    match tables.text(wait.syscall) {
        _ if wait.is_sleep(tables) => Some(WaitKind::Sleep),
        // time.sleep before 3.11: select without descriptors (pysleep, Modules/timemodule.c).
        "select" | "pselect6" if wait.fd.is_none() && blame.library.is_none() => {
            Some(WaitKind::Sleep)
        }
        "wait4" | "waitid" => Some(WaitKind::Child),
        _ => None,
    }
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
