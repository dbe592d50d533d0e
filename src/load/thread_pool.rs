//! The pool of threads that a server's loops hand most to: how many calls are in it, and how many wait for it.
//!
//! By looks at it. What its threads wait for the interpreter lock is told by background samples, which do not say whose
//! threads they are: all that neither serve requests themselves nor compute beside them count.

use std::collections::{BTreeMap, HashSet};

use super::beside::Work;
use crate::model::{GilState, PoolInfo, PoolKind, ProcessInfo, Recording, ThreadPool};
use crate::units::{Nanos, Pid, Tid};

/// That of all workers.
pub(super) fn of(
    recording: &Recording,
    workers: &[&ProcessInfo],
    beside: &Work,
) -> Option<ThreadPool> {
    if workers.iter().any(|one| one.occupancy.limit.is_some()) {
        return None;
    }
    let mut pools: BTreeMap<(&str, &str), ThreadPool> = BTreeMap::new();
    for pool in workers.iter().flat_map(|worker| &worker.pools).filter(|pool| is_of_loops(pool)) {
        let one = pools.entry((pool.kind.name(), &pool.name)).or_insert_with(|| ThreadPool {
            kind: pool.kind,
            name: pool.name.clone(),
            limit: pool.limit,
            busy: 0.0,
            waiting: 0.0,
            gil_wait: 0.0,
        });
        one.busy += pool.busy.mean().unwrap_or(0.0);
        one.waiting += pool.waiting.mean().unwrap_or(0.0);
    }
    let most = pools.into_values().max_by(|a, b| a.busy.total_cmp(&b.busy))?;
    let gil_wait = gil_wait(recording, workers, beside).share_of(recording.length());
    (most.busy > 0.0).then_some(ThreadPool { gil_wait, ..most })
}

/// Whether calls are handed to it by who serves.
fn is_of_loops(pool: &PoolInfo) -> bool {
    matches!(
        pool.kind,
        PoolKind::AnyioLimiter | PoolKind::ThreadPoolExecutor | PoolKind::GeventThreadPool
    )
}

/// The time that threads beside the loops waited for the interpreter lock.
fn gil_wait(recording: &Recording, workers: &[&ProcessInfo], beside: &Work) -> Nanos {
    let pids: HashSet<Pid> = workers.iter().map(|one| one.pid).collect();
    let loops: HashSet<(Pid, Tid)> =
        recording.event_loops().map(|info| (info.pid, info.tid)).collect();
    let waits = recording.samples.iter().filter(|sample| {
        let thread = (sample.pid, sample.tid);
        sample.gil == GilState::Waiting
            && pids.contains(&sample.pid)
            && !loops.contains(&thread)
            && !beside.threads.contains(&thread)
    });
    waits.map(|sample| sample.weight).sum()
}
