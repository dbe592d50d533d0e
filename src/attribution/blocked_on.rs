//! On whom the threads that serve requests were blocked, and for how long.
//!
//! Takes the background samples, gives the time of all threads together, by process and by the other end
//! of the system call they slept in. Only what the application asked for counts: a thread that waits for
//! its next request, a loop in its poll and the application's own watch threads are left out.

use std::collections::{BTreeMap, HashSet};

use super::Attribution;
use super::pools::RUNNERS;
use crate::model::{
    BlockedOn, CpuState, FrameKind, NameId, Peer, Recording, Sample, StackId, Tables, Wait, WaitId,
};
use crate::units::{Nanos, Pid, Tid};

/// Where the threads of gevent's pools begin, besides those of [`RUNNERS`].
const GEVENTS: &str = "gevent/threadpool.py";
/// Most stacks are shared by many samples; so deep a pool's own frames are from the root.
const ROOTS: usize = 8;

/// The time blocked, by process; the largest first.
#[must_use]
pub fn blocked_on(recording: &Recording) -> BTreeMap<Pid, Vec<BlockedOn>> {
    let mut sites = Attribution::new(recording);
    let loops = recording.event_loops().chain(recording.request_threads());
    let serving: HashSet<(Pid, Tid)> = loops.map(|info| (info.pid, info.tid)).collect();
    let mut sums: BTreeMap<Pid, BTreeMap<WaitId, Nanos>> = BTreeMap::new();
    for sample in &recording.samples {
        let Some(wait) = wait_of(recording, sample) else { continue };
        let serves =
            serving.contains(&(sample.pid, sample.tid)) || is_of_a_pool(recording, sample.stack);
        let site = sites.site(sample.pid, sample.stack);
        if !serves || !site.is_some_and(|site| site.is_application) {
            continue;
        }
        let of_process = sums.entry(sample.pid).or_default();
        *of_process.entry(wait).or_default() += sample.weight;
    }
    let sorted = sums.into_iter().map(|(pid, waits)| {
        let peers = by_peer(&recording.tables, &waits);
        let mut all: Vec<BlockedOn> = { peers.into_iter() }
            .map(|(peer, time)| BlockedOn { peer, time, libraries: Vec::new() })
            .collect();
        all.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.peer.cmp(&b.peer)));
        (pid, all)
    });
    sorted.collect()
}

/// What a sample shows the thread to sleep in; nothing where that is a loop's poll or the interpreter
/// lock, which is no peer.
fn wait_of(recording: &Recording, sample: &Sample) -> Option<WaitId> {
    let CpuState::Blocked { wait: Some(id) } = sample.cpu else { return None };
    let wait = recording.tables.get_wait(id)?;
    let is_poll = recording.tables.text(wait.syscall).starts_with("epoll");
    (!is_poll && wait.peer != Some(Peer::Gil)).then_some(id)
}

fn is_of_a_pool(recording: &Recording, stack: StackId) -> bool {
    let tables = &recording.tables;
    let frames: Vec<_> = tables.frames_of(stack).map(|(_, frame)| frame).collect();
    let python = frames.iter().rev().filter(|frame| frame.kind == FrameKind::Python);
    let mut files = python.take(ROOTS).filter_map(|frame| frame.file);
    let begins = RUNNERS.iter().map(|(_, file, _)| *file).chain([GEVENTS]);
    files.any(|file| begins.clone().any(|begin| tables.text(file).ends_with(begin)))
}

/// The time by the name of the other end. Sockets that were too new to be found have none: their time goes to those that
/// were found in the same call, by the time of each.
fn by_peer(tables: &Tables, waits: &BTreeMap<WaitId, Nanos>) -> BTreeMap<String, Nanos> {
    let all: Vec<(&Wait, Nanos)> =
        waits.iter().filter_map(|(id, time)| Some((tables.get_wait(*id)?, *time))).collect();
    let of_call = |call: NameId, is_known: bool| -> Nanos {
        let those =
            all.iter().filter(|(wait, _)| wait.syscall == call && wait.peer.is_some() == is_known);
        those.map(|(_, time)| *time).sum()
    };
    let mut peers: BTreeMap<String, Nanos> = BTreeMap::new();
    for (wait, time) in &all {
        let (known, unknown) = (of_call(wait.syscall, true), of_call(wait.syscall, false));
        let time = match wait.peer {
            Some(_) => *time + unknown.scaled(time.0, known.0),
            None if known > Nanos::ZERO => continue,
            None => *time,
        };
        *peers.entry(name(tables, wait)).or_default() += time;
    }
    peers
}

fn name(tables: &Tables, wait: &Wait) -> String {
    match wait.peer {
        Some(Peer::Remote(id) | Peer::Local(id) | Peer::Path(id)) => tables.text(id).to_owned(),
        Some(Peer::Child(_)) => "child processes".to_owned(),
        Some(Peer::Gil) | None => format!("{}()", tables.text(wait.syscall)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_too_new_to_be_found_waits_for_those_that_were_found() {
        let mut tables = Tables::default();
        let call = tables.name("recvfrom");
        let sleep = tables.name("clock_nanosleep");
        let [first, second] =
            ["10.0.0.7:5432", "10.0.0.8:80"].map(|peer| Some(Peer::Remote(tables.name(peer))));
        let waits = [(call, first, 10), (call, second, 30), (call, None, 400), (sleep, None, 5)];
        let waits = waits.map(|(syscall, peer, time)| {
            (tables.wait(Wait { syscall, peer, fd: None }), Nanos(time))
        });
        let peers = by_peer(&tables, &waits.into_iter().collect());
        let expected = [("10.0.0.7:5432", 110), ("10.0.0.8:80", 330), ("clock_nanosleep()", 5)];
        assert_eq!(peers, expected.map(|(name, time)| (name.to_owned(), Nanos(time))).into());
    }
}
