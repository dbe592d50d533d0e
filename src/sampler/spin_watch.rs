//! Loops that go round and round while nobody asks for anything.
//!
//! Where a process uses a CPU and serves hardly anybody, its loops are looked at in quick succession
//! once a second: which functions run or are about to, how often it goes round, and which of the
//! descriptors it polls are ready. A burst takes a few ms of ours; a server that is busy with requests has
//! none.

use std::collections::HashMap;

use super::pace::now;
use super::thread_watch::{Scene, ThreadWatch};
use crate::event_loop::{Clock, Reading};
use crate::model::{
    Frame, FrameKind, Glimpse, Readiness, ReadyFd, Spin, Stack, StackId, Truncation,
};
use crate::python::callees::code_of;
use crate::python::frames::{RawFrame, RawStack};
use crate::python::glimpse::glimpse;
use crate::target::net_tables::NetTables;
use crate::target::{PeerText, Peers, ProcFs};
use crate::units::{Addr, Nanos, Pid, Timestamp};

/// From this part of the time on a process that serves hardly anybody is worth a closer look: one that
/// spins gets no more than that of a CPU where several others want it, and no timer and no health check
/// needs as much.
const BUSY_PART: u64 = 5;
/// Requests that "hardly anybody" makes in a second.
const FEW_REQUESTS: u64 = 10;
/// Looks in one burst: a function that takes a fiftieth of each round is met four times.
const LOOKS: usize = 200;
/// Callbacks whose code is looked up in one burst, some 20 µs each.
const CALLBACKS: u32 = 40;
/// Most bursts at the loops of one process: they show the same each time.
const MOST_BURSTS: u32 = 10;
/// Most glimpses kept of a loop.
const MOST_GLIMPSES: usize = 16;
/// Most descriptors kept of a loop.
const MOST_READY: usize = 16;
/// Most descriptors whose counts are read one by one.
const MOST_COUNTED: usize = 64;

/// When to look closer.
#[derive(Debug, Default)]
pub struct SpinWatch {
    last: Option<(Timestamp, Nanos, Option<u64>)>,
    bursts: u32,
}

impl SpinWatch {
    /// Whether the process has used a CPU since this was last asked, for hardly any request. `cpu` is
    /// what it has used so far, `served` its requests.
    pub fn is_due(&mut self, at: Timestamp, cpu: Nanos, served: Option<u64>) -> bool {
        let last = self.last.replace((at, cpu, served));
        let Some((before, cpu_before, served_before)) = last else { return false };
        let (wall, used) = (at.since(before), cpu.saturating_sub(cpu_before));
        let seconds = (wall.0 / Nanos::from_secs(1).0).max(1);
        let came = served.zip(served_before).map_or(0, |(now, then)| now.saturating_sub(then));
        let is_quiet = came <= seconds.saturating_mul(FEW_REQUESTS);
        let is_busy = used >= Nanos(wall.0 / BUSY_PART);
        let is_due = is_busy && is_quiet && self.bursts < MOST_BURSTS;
        self.bursts = self.bursts.saturating_add(u32::from(is_due));
        is_due
    }
}

/// Looks at one loop in quick succession.
pub fn burst(scene: &mut Scene<'_>, thread: &ThreadWatch, clock: &mut dyn Clock, spin: &mut Spin) {
    let from = now();
    let polls = clock.polls(&thread.view(scene, from));
    let mut met: HashMap<Vec<Addr>, (RawStack, u32)> = HashMap::new();
    let mut up: HashMap<Addr, u32> = HashMap::new();
    let (mut iteration, mut iterations, mut asked) = (None, 0_u64, 0);
    for _ in 0..LOOKS {
        if let Ok(stack) = glimpse(&scene.python, &thread.thread) {
            let functions = stack.frames.iter().map(|frame: &RawFrame| frame.code).collect();
            let (_, count) = met.entry(functions).or_insert((stack, 0));
            *count = count.saturating_add(1);
        }
        if asked < CALLBACKS
            && let Some(callback) = clock.up(&thread.view(scene, from))
        {
            asked = asked.saturating_add(1);
            if let Some(code) = code_of(&scene.python, callback) {
                let count = up.entry(code).or_default();
                *count = count.saturating_add(1);
            }
        }
        if polls.is_none()
            && let Ok(Reading::Running(running)) = clock.look(&thread.view(scene, now()))
            && running.iteration.is_some()
            && running.iteration != iteration
        {
            iteration = running.iteration;
            iterations = iterations.saturating_add(1);
        }
    }
    let at = now();
    let polled = clock.polls(&thread.view(scene, at)).zip(polls);
    let rounds = polled.map_or(iterations, |(now, then)| now.saturating_sub(then));
    spin.bursts = spin.bursts.saturating_add(1);
    spin.rounds = spin.rounds.saturating_add(rounds);
    spin.span += at.since(from);
    write_glimpses(scene, met, spin, at);
    write_callbacks(scene, up, spin, at);
    spin.glimpses.sort_by_key(|glimpse| std::cmp::Reverse(glimpse.count));
    spin.glimpses.truncate(MOST_GLIMPSES);
    let (procfs, pid) = (scene.procfs, scene.pid);
    let found = ready(procfs, pid, &mut scene.notes.sockets, at);
    for (fd, why) in found {
        add_ready(spin, fd, why, || name(scene.peers, procfs, pid, fd, at));
    }
}

fn write_glimpses(
    scene: &mut Scene<'_>,
    met: HashMap<Vec<Addr>, (RawStack, u32)>,
    spin: &mut Spin,
    at: Timestamp,
) {
    let mut met: Vec<(RawStack, u32)> = met.into_values().collect();
    // Of those met as often, in an order that does not change from run to run.
    met.sort_by_key(|(stack, count)| {
        (std::cmp::Reverse(*count), stack.frames.first().map(|frame| frame.code))
    });
    for (raw, count) in met.into_iter().take(MOST_GLIMPSES) {
        let (codes, directory) = (&mut *scene.codes, scene.directory);
        let stack = scene.notes.stack(&scene.python, codes, directory, &raw, at);
        add_glimpse(spin, stack, count);
    }
}

/// Of a callback that was not met running, the line where its function begins.
fn write_callbacks(scene: &mut Scene<'_>, up: HashMap<Addr, u32>, spin: &mut Spin, at: Timestamp) {
    let mut up: Vec<(Addr, u32)> = up.into_iter().collect();
    up.sort_by_key(|(code, count)| (std::cmp::Reverse(*count), *code));
    for (code, count) in up.into_iter().take(MOST_GLIMPSES) {
        let Ok(code) = scene.codes.get(&scene.python, code, at) else { continue };
        let tables = &mut scene.notes.tables;
        let function = tables.name(&code.name);
        let file = Some(tables.name(&scene.directory.absolute(&code.filename)));
        let (kind, line) = (FrameKind::Python, Some(code.first_line));
        let frame = tables.frame(Frame { kind, function, file, line, module: None });
        let truncated = Some(Truncation::DepthLimit);
        let stack = tables.stack(Stack { frames: vec![frame], truncated });
        add_glimpse(spin, stack, count);
    }
}

fn add_glimpse(spin: &mut Spin, stack: StackId, count: u32) {
    let known = spin.glimpses.iter_mut().find(|known| known.stack == stack);
    if let Some(known) = known {
        known.count = known.count.saturating_add(count);
    } else {
        spin.glimpses.push(Glimpse { stack, count });
    }
}

/// The descriptors that the process polls and that are ready now, as far as the kernel tells without
/// their being touched: TCP sockets, eventfds and timerfds.
fn ready(
    procfs: &ProcFs,
    pid: Pid,
    tables: &mut NetTables,
    at: Timestamp,
) -> Vec<(i32, Readiness)> {
    let sets = procfs.epolls(pid).unwrap_or_default();
    let polled: Vec<_> =
        sets.iter().flat_map(|set| procfs.polled(pid, *set).unwrap_or_default()).collect();
    if polled.is_empty() {
        return Vec::new();
    }
    let connections = tables.connections(procfs, pid, at);
    let connections: HashMap<u64, _> =
        connections.iter().flat_map(|all| all.iter()).map(|one| (one.inode, one)).collect();
    let listeners = tables.listeners_now(procfs, pid, at);
    let lines: HashMap<u64, _> =
        { listeners.iter().flat_map(|all| all.iter()) }.map(|one| (one.inode, one.queue)).collect();
    let mut found = Vec::new();
    let mut others = Vec::new();
    for one in polled {
        let (reads, writes) = (one.for_reading(), one.for_writing());
        let connection = one.inode.and_then(|inode| connections.get(&inode));
        if let Some(connection) = connection {
            if reads && connection.unread > 0 {
                found.push((one.fd, Readiness::Unread));
            } else if reads && connection.is_closed {
                found.push((one.fd, Readiness::Closed));
            } else if writes && connection.unsent == 0 {
                found.push((one.fd, Readiness::Writable));
            }
        } else if let Some(queue) = one.inode.and_then(|inode| lines.get(&inode)) {
            found.extend((reads && *queue > Some(0)).then_some((one.fd, Readiness::Unread)));
        } else if reads {
            others.push(one.fd);
        }
    }
    let counted = others.into_iter().take(MOST_COUNTED);
    let ready = counted.filter(|fd| procfs.counts(pid, *fd) == Some(true));
    found.extend(ready.map(|fd| (fd, Readiness::Unread)));
    found
}

fn name(peers: &mut Peers, procfs: &ProcFs, pid: Pid, fd: i32, at: Timestamp) -> String {
    match peers.behind(procfs, pid, fd, at) {
        Some(PeerText::Remote(text) | PeerText::Local(text) | PeerText::Path(text)) => text,
        Some(PeerText::Child(_)) | None => String::new(),
    }
}

fn add_ready(spin: &mut Spin, fd: i32, why: Readiness, name: impl FnOnce() -> String) {
    let known = spin.ready.iter_mut().find(|known| known.fd == fd && known.why == why);
    if let Some(known) = known {
        known.bursts = known.bursts.saturating_add(1);
    } else if spin.ready.len() < MOST_READY {
        spin.ready.push(ReadyFd { fd, what: name(), why, bursts: 1 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_uses_a_cpu_for_nobody_is_looked_at() {
        let second = |n: u64| Timestamp(n * 1_000_000_000);
        let ms = Nanos::from_millis;
        let due = |cpu_ms: u64, served: [Option<u64>; 2]| {
            let mut watch = SpinWatch::default();
            assert!(!watch.is_due(second(1), ms(100), served[0]), "nothing to compare with");
            watch.is_due(second(2), ms(100 + cpu_ms), served[1])
        };
        assert!(due(990, [Some(7), Some(7)]));
        assert!(due(300, [Some(7), Some(7)]), "others want the CPU");
        assert!(due(990, [None, None]), "who does not count may serve nobody");
        assert!(!due(150, [Some(7), Some(7)]), "it sleeps");
        assert!(!due(990, [Some(7), Some(907)]), "it serves");
        let mut watch = SpinWatch::default();
        let times = (0..60).filter(|n| watch.is_due(second(*n), ms(990 * n), None)).count();
        assert_eq!(times, 10);
    }
}
