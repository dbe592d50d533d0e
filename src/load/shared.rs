//! The pool of the application's own that a server's requests wait for: how long each keeps one, and how long it
//! waits for it.
//!
//! By Little's law: what is in use is the rate times how long each is kept, and what waits is the rate times
//! how long that takes. Where not all requests go through it these are those of a mean request.

use super::lived;
use crate::model::{PoolInfo, ProcessInfo, Recording, SharedPool};
use crate::units::to_f64;

/// From this share of the time on a semaphore whose size is not known limits what is done, so that what was done
/// tells how much it lets through.
const MOSTLY: f64 = 0.5;

/// The pool that is full while others wait for most of the time, over all workers that have it.
pub(super) fn of(recording: &Recording, workers: &[&ProcessInfo]) -> Option<SharedPool> {
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
    let rate = |worker: &ProcessInfo| {
        let seconds = lived(recording, worker).as_secs_f64();
        worker.requests.served().filter(|_| seconds > 0.0).map(|served| to_f64(served) / seconds)
    };
    let rate: f64 = all.iter().map(|(worker, _)| rate(worker)).sum::<Option<f64>>()?;
    if rate <= 0.0 {
        return None;
    }
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
        kind: worst.kind,
        name: worst.name.clone(),
        limit: worst.limit,
        servers,
        kept,
        waited: waiting / rate,
        share: shares / count,
    })
}

fn share(pool: &PoolInfo) -> f64 {
    pool.share(pool.full_and_waiting).unwrap_or(0.0)
}
