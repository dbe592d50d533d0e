//! What more CPU time under a quota does, in words: the limit to type, and what comes of it.
//!
//! Takes a server whose quota is spent. Never judges whether it is.

use super::size::effect;
use super::thread_size::ThreadSize;
use crate::model::{Effect, Load};

/// From this share of a quota on it is what limits: the kernel's account of it and that of the CPU time are not read at
/// the same moment.
pub(super) const SPENT: f64 = 0.9;

/// How more CPU time is had; `to` so many CPUs, where that is known.
#[must_use]
pub(super) fn raise(to: Option<f64>) -> String {
    let to = match to {
        Some(1.0) => " to 1 CPU".to_owned(),
        Some(cpus) => format!(" to {cpus:.0} CPUs"),
        None => String::new(),
    };
    format!(
        "raise the CPU limit{to} (Kubernetes: `resources.limits.cpu`, Docker: `--cpus`), or remove it and keep the \
         request"
    )
}

/// Whether a server uses its quota up.
pub(super) fn is_spent(load: &Load) -> bool {
    load.cores.quota.is_some_and(|quota| load.cores_used() >= quota * SPENT)
}

/// The limit that a server with loops is to have, no more than one CPU for each of them, and what one loop carries then:
/// as much more as there is CPU time.
pub(super) fn of_loops(load: &Load) -> Option<(f64, Vec<Effect>)> {
    let quota = load.cores.quota?;
    let to = load.cores.beyond_quota()?.min(load.worker_count().max(1.0));
    let busy: f64 = load.loops.iter().filter_map(|one| one.utilization).sum();
    let carries = load.rate().filter(|rate| *rate > 0.0 && busy > 0.0).map(|rate| rate / busy);
    let carries = carries.filter(|_| is_spent(load));
    let gains = carries.map(|carries| effect("capacity", carries, carries * to / quota, "1/s"));
    (to > quota).then(|| (to, gains.into_iter().collect()))
}

/// The same of threads: what they do with so many CPUs, by the model that sizes them.
pub(super) fn of_threads(size: &ThreadSize<'_>) -> Option<(f64, Vec<Effect>)> {
    let to = size.load.cores.beyond_quota()?;
    Some((to, vec![size.with_cpus(to)]))
}
