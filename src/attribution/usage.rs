//! What threads spent their time on a CPU on: the event loop itself, an HTTP parser, the application.
//!
//! Takes the background samples, which are evenly spaced, so that shares of them are shares of time. The
//! loop's own code is told by its file; what it calls in C shows as the frame that runs the loop. Whether
//! that is too much is for the rules to say.

use std::collections::{BTreeMap, HashMap};

use super::application::{PLUMBING, in_callback, origin_of, site};
use crate::model::origin::Origin;
use crate::model::{
    CpuState, Frame, FrameId, LoopInfo, LoopKind, NameId, Recording, Sample, Spin, StackId, Tables,
    ThreadUse,
};
use crate::units::{Nanos, Pid, Tid};

/// Files of asyncio that go round the loop, watch descriptors and move bytes: what another loop does
/// in their place. (<https://github.com/python/cpython/tree/v3.12.1/Lib/asyncio>)
const ASYNCIO: &[&str] = &[
    "asyncio/base_events.py",
    "asyncio/events.py",
    "asyncio/selector_events.py",
    "asyncio/unix_events.py",
    "asyncio/transports.py",
    "asyncio/sslproto.py",
    "asyncio/runners.py",
    "asyncio/tasks.py",
    "/selectors.py",
];
/// The same of other loops, not of the servers and sockets that lie in the same packages.
const OTHERS: &[&str] = &[
    "/uvloop/",
    "/gevent/hub.py",
    "/gevent/_hub_primitives.py",
    "/gevent/_waiter.py",
    "/gevent/libev/",
    "/gevent/libuv/",
    "/gevent/_ffi/",
    "/eventlet/hubs/",
    "/eventlet/greenthread.py",
    "/trio/_core/",
    "/twisted/internet/base.py",
    "/twisted/internet/epollreactor.py",
    "/twisted/internet/posixbase.py",
];
/// Packages that parse HTTP in Python.
const PARSERS: &[&str] = &["h11"];
/// Most lines kept of a thread.
const MOST_PLACES: usize = 4;

/// All threads that were sampled, in order of their numbers.
#[must_use]
pub fn usage(recording: &Recording) -> Vec<ThreadUse> {
    let mut threads: BTreeMap<(Pid, Tid), Vec<&Sample>> = BTreeMap::new();
    for sample in &recording.samples {
        threads.entry((sample.pid, sample.tid)).or_default().push(sample);
    }
    threads.into_iter().map(|(thread, samples)| of_thread(recording, thread, &samples)).collect()
}

fn of_thread(recording: &Recording, (pid, tid): (Pid, Tid), samples: &[&Sample]) -> ThreadUse {
    let tables = &recording.tables;
    let stdlib = recording.get_process(pid).and_then(|process| process.stdlib.as_deref());
    let own = |info: &&LoopInfo| info.pid == pid && info.tid == tid;
    let event_loop = recording.event_loops().filter(own).last();
    let count = |sample: &Sample| u64::from(sample.count);
    let mut found = ThreadUse {
        pid,
        tid,
        loop_id: event_loop.map(|info| info.id),
        serves: recording.request_threads().any(|info| own(&info)),
        looks: samples.iter().map(|sample| count(sample)).sum(),
        span: samples.iter().map(|sample| sample.weight).fold(Nanos::ZERO, |all, one| all + one),
        running: 0,
        in_loop: 0,
        in_parser: 0,
        places: Vec::new(),
        each_round: None,
    };
    let running = samples.iter().filter(|sample| sample.cpu == CpuState::Running);
    let mut by_stack: HashMap<StackId, u64> = HashMap::new();
    for sample in running {
        *by_stack.entry(sample.stack).or_default() += count(sample);
    }
    let kind = event_loop.map(|info| info.kind);
    // Python that uvloop calls lies on top of the frame that called it, which was there before.
    let depth = |stack: StackId| tables.frames_of(stack).count();
    let depths = by_stack.keys().map(|stack| (depth(*stack), *stack)).filter(|one| one.0 > 0);
    let base = if kind == Some(LoopKind::Uvloop) { depths.min() } else { None };
    let mut places: BTreeMap<FrameId, u64> = BTreeMap::new();
    for (stack, times) in by_stack {
        found.running += times;
        let in_base = base.is_some_and(|base| depth(stack) <= base.0);
        match leaf(tables, stdlib, stack) {
            _ if in_base => found.in_loop += times,
            Leaf::Loop => found.in_loop += times,
            Leaf::Parser => found.in_parser += times,
            Leaf::Other => {}
        }
        let site = site(tables, stdlib, stack).filter(|site| site.is_application && !in_base);
        // What started the loop is not at work.
        let is_called = kind != Some(LoopKind::Asyncio) || in_callback(tables, stack);
        if let Some(site) = site.filter(|_| is_called) {
            *places.entry(site.culprit).or_default() += times;
        }
    }
    found.places = places.into_iter().collect();
    found.places.sort_by_key(|(frame, times)| (std::cmp::Reverse(*times), *frame));
    found.places.truncate(MOST_PLACES);
    let spin = event_loop.and_then(|info| info.spin.as_ref());
    let outside = base.map(|(_, stack)| stack);
    found.each_round = spin.and_then(|spin| each_round(tables, stdlib, spin, outside));
    found
}

enum Leaf {
    Loop,
    Parser,
    Other,
}

fn leaf(tables: &Tables, stdlib: Option<&str>, stack: StackId) -> Leaf {
    let Some((_, frame)) = tables.frames_of(stack).next() else { return Leaf::Other };
    let file = frame.file.map(|file| tables.text(file)).unwrap_or_default();
    match origin_of(tables, stdlib, frame) {
        Origin::Package(_) if OTHERS.iter().any(|part| file.contains(part)) => Leaf::Loop,
        Origin::Package(name) if PARSERS.contains(&name) => Leaf::Parser,
        Origin::Stdlib(_) if ASYNCIO.iter().any(|end| file.ends_with(end)) => Leaf::Loop,
        _ => Leaf::Other,
    }
}

/// The line met most that is neither the loop's nor a library's that plumbs it, nor one of the frames of
/// `outside`, which started the loop.
fn each_round(
    tables: &Tables,
    stdlib: Option<&str>,
    spin: &Spin,
    outside: Option<StackId>,
) -> Option<FrameId> {
    let outside: Vec<FrameId> =
        outside.into_iter().flat_map(|stack| tables.frames_of(stack)).map(|(id, _)| id).collect();
    let is_own = |id: FrameId, frame: &Frame| match origin_of(tables, stdlib, frame) {
        _ if outside.contains(&id) || tables.text(frame.function) == MODULE => false,
        Origin::Application => true,
        Origin::Package(name) => !PLUMBING.contains(&name),
        Origin::Stdlib(_) | Origin::Foreign => false,
    };
    // By function: it is met in one line and about to begin in another.
    let mut met: BTreeMap<(Option<NameId>, NameId), (u32, FrameId, u32)> = BTreeMap::new();
    for glimpse in &spin.glimpses {
        let frames = tables.frames_of(glimpse.stack);
        // Those from the loop's own on are its callers.
        let mut called = frames.take_while(|(_, frame)| !is_runner(tables, frame));
        let Some((id, frame)) = called.find(|(id, frame)| is_own(*id, frame)) else { continue };
        let entry = met.entry((frame.file, frame.function)).or_insert((0, id, 0));
        entry.0 = entry.0.saturating_add(glimpse.count);
        if glimpse.count > entry.2 {
            (entry.1, entry.2) = (id, glimpse.count);
        }
    }
    met.into_values().max_by_key(|(count, id, _)| (*count, std::cmp::Reverse(*id))).map(|one| one.1)
}

/// The script that started everything.
const MODULE: &str = "<module>";

/// Whether a frame runs asyncio's loop, or called what does.
fn is_runner(tables: &Tables, frame: &Frame) -> bool {
    let file = frame.file.map(|file| tables.text(file)).unwrap_or_default();
    ["asyncio/base_events.py", "asyncio/runners.py"].iter().any(|end| file.ends_with(end))
        && tables.text(frame.function) != "time"
}
