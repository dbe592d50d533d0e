//! Who holds the interpreter lock of a process beside the requests that it serves on threads: a scheduler's job, a
//! thread that computes, a collector of metrics.
//!
//! Takes the background samples, which tell who held the lock, gives the threads and the line. Threads that an
//! application computes a request's answer in are none of it: then the request waits for them, and not for the lock
//! alone. What that is worth is for the rules to say.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::application::{origin_of, site};
use crate::model::origin::Origin;
use crate::model::{
    Background, Frame, FrameId, GilState, LoopInfo, ProcessInfo, Recording, Sample, StackId, Tables,
};
use crate::units::{Nanos, Tid};

/// Packages whose functions are on every stack of a thread that serves requests, or takes them in.
const SERVERS: &[&str] = &[
    "gunicorn",
    "uvicorn",
    "hypercorn",
    "daphne",
    "granian",
    "waitress",
    "cheroot",
    "cherrypy",
    "werkzeug",
];
/// Files of the standard library that serve requests (`wsgiref`, Django's development server).
const SERVING: &[&str] = &["/socketserver.py", "/http/server.py", "/wsgiref/handlers.py"];
/// Where every thread begins that Python's `threading` has started.
const BEGINS: (&str, &str) = ("/threading.py", "_bootstrap");
/// Where a thread waits for what another one computes for it: the result of an executor's, the end of a thread
/// (<https://github.com/python/cpython/tree/v3.12.1/Lib/concurrent/futures>, Lib/threading.py).
const AWAITS: [(&str, &str); 4] = [
    ("concurrent/futures/_base.py", "result"),
    ("concurrent/futures/_base.py", "wait"),
    ("concurrent/futures/_base.py", "result_iterator"),
    ("/threading.py", "join"),
];

/// Below this share of the time it is no matter: each request waits for a twentieth of its computing.
const LEAST_SHARE: f64 = 0.05;
/// As many looks must have seen it: the share is known to a half of itself then (a count of `n` varies by √n).
const LEAST_LOOKS: u64 = 20;
/// Who waits for work that is done for him waits for as long as it takes; half of that is enough to tell, as looks
/// at two threads are not of one moment.
const AWAITED: (u64, u64) = (1, 2);

/// The work beside requests of each process that has any.
#[must_use]
pub fn background(recording: &Recording) -> Vec<Background> {
    let serves = |process: &&ProcessInfo| {
        let mut threads = recording.request_threads();
        let is_loops = recording.event_loops().any(|info| info.pid == process.pid);
        !is_loops && threads.any(|info| info.pid == process.pid)
    };
    let processes = recording.processes.iter().filter(serves);
    processes.filter_map(|process| of_process(recording, process)).collect()
}

/// The threads of a process that serve requests, or would.
fn serving(recording: &Recording, process: &ProcessInfo) -> HashSet<Tid> {
    let own = |info: &&LoopInfo| info.pid == process.pid;
    recording.request_threads().filter(own).map(|info| info.tid).collect()
}

/// What a stack shows its thread to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Beside requests, at this line.
    Beside(FrameId),
    /// It waits for what another thread does for it.
    Awaits,
    Other,
}

/// The lock's holders among samples.
#[derive(Debug, Default)]
struct Holding {
    beside: Nanos,
    other: Nanos,
    stacks: BTreeMap<StackId, Nanos>,
}

fn of_process(recording: &Recording, process: &ProcessInfo) -> Option<Background> {
    let (tables, stdlib) = (&recording.tables, process.stdlib.as_deref());
    let mut known: HashMap<StackId, Whose> = HashMap::new();
    let mut threads: BTreeMap<Tid, Holding> = BTreeMap::new();
    let serves = serving(recording, process);
    let mut awaited = Nanos::ZERO;
    for sample in recording.samples.iter().filter(|sample| sample.pid == process.pid) {
        let stack = sample.stack;
        let whose = *known.entry(stack).or_insert_with(|| whose(tables, stdlib, stack));
        match (sample.gil, whose) {
            (GilState::Holding, Whose::Beside(_)) => {
                let thread = threads.entry(sample.tid).or_default();
                thread.beside += sample.weight;
                *thread.stacks.entry(stack).or_default() += sample.weight;
            }
            (GilState::Holding, _) => threads.entry(sample.tid).or_default().other += sample.weight,
            (_, Whose::Awaits) if serves.contains(&sample.tid) => awaited += sample.weight,
            _ => {}
        }
    }
    // What serves requests mostly is theirs.
    threads.retain(|_, thread| thread.beside > thread.other);
    let held: Nanos = threads.values().map(|thread| thread.beside).sum();
    if held == Nanos::ZERO || awaited >= held.scaled(AWAITED.0, AWAITED.1) {
        return None;
    }
    let looks = process.threads.iter().filter(|info| threads.contains_key(&info.tid));
    let looks: u64 = looks.map(|info| info.gil_held).sum();
    let share = process.gil.share(looks)?;
    if share < LEAST_SHARE || looks < LEAST_LOOKS {
        return None;
    }
    let mut lines: BTreeMap<FrameId, (Nanos, StackId, Nanos)> = BTreeMap::new();
    for (stack, time) in threads.values().flat_map(|thread| &thread.stacks) {
        let Some(Whose::Beside(frame)) = known.get(stack) else { continue };
        let line = lines.entry(*frame).or_insert((Nanos::ZERO, *stack, Nanos::ZERO));
        line.0 += *time;
        if *time > line.2 {
            (line.1, line.2) = (*stack, *time);
        }
    }
    let (frame, (_, stack, _)) =
        lines.into_iter().max_by_key(|(frame, (time, ..))| (*time, std::cmp::Reverse(*frame)))?;
    let mut tids: Vec<(Nanos, Tid)> =
        threads.iter().map(|(tid, thread)| (thread.beside, *tid)).collect();
    tids.sort_by_key(|(time, tid)| (std::cmp::Reverse(*time), *tid));
    let threads: Vec<Tid> = tids.into_iter().map(|(_, tid)| tid).collect();
    Some(Background {
        pid: process.pid,
        held: share,
        looks,
        frame,
        runs: runs(tables, stdlib, stack).filter(|one| !tables.is_same_function(*one, frame)),
        package: package(tables, stdlib, stack),
        waited: waited(recording, process, &serves, &threads),
        threads,
    })
}

fn whose(tables: &Tables, stdlib: Option<&str>, stack: StackId) -> Whose {
    let frames: Vec<(FrameId, &Frame)> = tables.frames_of(stack).collect();
    if frames.iter().any(|(_, frame)| AWAITS.iter().any(|one| tables.is_function(frame, *one))) {
        return Whose::Awaits;
    }
    let begins = frames.last().is_some_and(|(_, frame)| tables.is_function(frame, BEGINS));
    let is_server = |frame: &Frame| {
        let file = frame.file.map_or("", |file| tables.text(file));
        matches!(origin_of(tables, stdlib, frame), Origin::Package(name) if SERVERS.contains(&name))
            || SERVING.iter().any(|end| file.ends_with(end))
    };
    if !begins || frames.iter().any(|(_, frame)| is_server(frame)) {
        return Whose::Other;
    }
    let site = site(tables, stdlib, stack);
    let at = site.and_then(|site| Some((site.culprit, tables.get_frame(site.culprit)?)));
    match at.map(|(id, frame)| (id, origin_of(tables, stdlib, frame))) {
        Some((id, Origin::Application | Origin::Package(_))) => Whose::Beside(id),
        _ => Whose::Other,
    }
}

/// The application's outermost line.
fn runs(tables: &Tables, stdlib: Option<&str>, stack: StackId) -> Option<FrameId> {
    let frames: Vec<(FrameId, &Frame)> = tables.frames_of(stack).collect();
    let is_own = |frame: &Frame| origin_of(tables, stdlib, frame) == Origin::Application;
    frames.into_iter().rev().find(|(_, frame)| is_own(frame)).map(|(id, _)| id)
}

/// The package that called what the thread runs: the outermost one, if it is outside of the application's code.
fn package(tables: &Tables, stdlib: Option<&str>, stack: StackId) -> Option<String> {
    let frames: Vec<&Frame> = tables.frames_of(stack).map(|(_, frame)| frame).collect();
    let mut origins = frames.into_iter().rev().map(|frame| origin_of(tables, stdlib, frame));
    let is_whose = |origin: &Origin<'_>| matches!(origin, Origin::Application | Origin::Package(_));
    match origins.find(is_whose)? {
        Origin::Package(name) => Some(name.to_owned()),
        _ => None,
    }
}

/// The share of the requests' time in which they waited for the lock.
fn waited(
    recording: &Recording,
    process: &ProcessInfo,
    serves: &HashSet<Tid>,
    beside: &[Tid],
) -> Option<f64> {
    let occupied = process.occupancy.mean()? * recording.lived(process).as_secs_f64();
    let is_waiting = |sample: &&Sample| {
        sample.pid == process.pid
            && sample.gil == GilState::Waiting
            && !beside.contains(&sample.tid)
            && serves.contains(&sample.tid)
    };
    let waiting: Nanos =
        recording.samples.iter().filter(is_waiting).map(|sample| sample.weight).sum();
    (occupied > 0.0).then(|| (waiting.as_secs_f64() / occupied).min(1.0))
}
