//! Q: who waits to be served: in the kernel's accept queues, and in a server's own line for a thread.

use std::collections::BTreeMap;

use crate::model::{PoolKind, ProcessInfo, WorkerClass};

/// The mean number of connections and requests that waited; `None` if no line was seen.
pub(super) fn of(workers: &[&ProcessInfo]) -> Option<f64> {
    // Workers that share a listening socket see the same line: it is counted once.
    let mut lines: BTreeMap<u64, f64> = BTreeMap::new();
    for worker in workers {
        for listener in &worker.listeners {
            if let Some(mean) = listener.queue.mean() {
                let line = lines.entry(listener.inode).or_default();
                *line = line.max(mean);
            }
        }
    }
    let accepted: f64 = workers.iter().filter_map(|one| waiting_for_threads(one)).sum();
    (!lines.is_empty()).then(|| lines.values().sum::<f64>() + accepted)
}

/// Requests that a server has accepted and that wait for one of its threads.
fn waiting_for_threads(worker: &ProcessInfo) -> Option<f64> {
    let kind = match worker.topology.class {
        WorkerClass::Gthread => PoolKind::ThreadPoolExecutor,
        WorkerClass::ThreadPool => PoolKind::ServerThreads,
        _ => return None,
    };
    let pools = worker.pools.iter().filter(|pool| pool.kind == kind);
    pools.filter_map(|pool| pool.waiting.mean()).reduce(f64::max)
}
