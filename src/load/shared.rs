//! The pool of the application's own, or the lock, that a server's requests wait for: how long each keeps one, and how
//! long it waits for it.
//!
//! By Little's law: what is in use is the rate times how long each is kept, and what waits is the rate times
//! how long that takes. Where not all requests go through it these are those of a mean request.

use super::queue_of_lock;
use crate::model::{LockWait, PoolInfo, ProcessInfo, Recording, SharedKind, SharedPool};
use crate::units::to_f64;

/// From this share of the time on a semaphore whose size is not known limits what is done, so that what was done
/// tells how much it lets through.
pub(super) const MOSTLY: f64 = 0.5;

/// The pool that is full while others wait, or the lock that requests queue for, for most of the time.
pub(super) fn of(
    recording: &Recording,
    workers: &[&ProcessInfo],
    waits: &[LockWait],
) -> Option<SharedPool> {
    let both = [pool(recording, workers), queue_of_lock::of(recording, workers, waits)];
    both.into_iter().flatten().reduce(|a, b| if b.share > a.share { b } else { a })
}

/// The pool, over all workers that have it.
fn pool(recording: &Recording, workers: &[&ProcessInfo]) -> Option<SharedPool> {
    let worst = { workers.iter().flat_map(|worker| &worker.pools) }
        .filter(|pool| pool.kind.is_awaited() && share(pool) > 0.0)
        .max_by(|a, b| share(a).total_cmp(&share(b)))?;
    let is_it = |pool: &&PoolInfo| pool.kind == worst.kind && pool.name == worst.name;
    let all: Vec<(&ProcessInfo, &PoolInfo)> = { workers.iter() }
        .filter_map(|worker| {
            let own = worker.pools.iter().filter(is_it);
            Some((*worker, own.max_by(|a, b| share(a).total_cmp(&share(b)))?))
        })
        .collect();
    let rate = rate(recording, all.iter().map(|(worker, _)| *worker))?;
    let waiting: f64 = all.iter().filter_map(|(_, pool)| pool.waiting.mean()).sum();
    let busy: f64 = all.iter().filter_map(|(_, pool)| pool.busy.mean()).sum();
    let shares: f64 = all.iter().map(|(_, pool)| share(pool)).sum();
    let count = to_f64(all.len().max(1) as u64);
    let (servers, kept) = match worst.limit {
        Some(limit) if busy > 0.0 => (f64::from(limit.max(1)), busy / rate),
        // What comes out of one that is always used up is all it lets through.
        _ if shares / count >= MOSTLY => (1.0, shares / rate),
        _ => return None,
    };
    Some(SharedPool {
        kind: SharedKind::Pool(worst.kind),
        name: worst.name.clone(),
        limit: worst.limit,
        servers,
        kept,
        waited: waiting / rate,
        share: shares / count,
    })
}

/// The requests a second of some workers together; `None` where there were none, or nobody counted.
pub(super) fn rate<'a>(
    recording: &Recording,
    workers: impl Iterator<Item = &'a ProcessInfo>,
) -> Option<f64> {
    let of = |worker: &ProcessInfo| {
        let seconds = recording.lived(worker).as_secs_f64();
        worker.requests.served().filter(|_| seconds > 0.0).map(|served| to_f64(served) / seconds)
    };
    workers.map(of).sum::<Option<f64>>().filter(|rate| *rate > 0.0)
}

fn share(pool: &PoolInfo) -> f64 {
    pool.share(pool.full_and_waiting).unwrap_or(0.0)
}
