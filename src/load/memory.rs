//! M: the memory a server may use, and what one worker takes of it.

use crate::model::{Memory, ProcessInfo, Recording};

pub(super) fn of(recording: &Recording, workers: &[&ProcessInfo]) -> Memory {
    let per_worker = workers.iter().filter_map(|one| one.budget.private_bytes).max();
    let peak = workers.iter().filter_map(|one| one.budget.private_peak_bytes).max();
    let own: u64 = workers.iter().filter_map(|one| one.budget.private_bytes).sum();
    let limits = workers.iter().filter_map(|one| {
        let limit = one.budget.memory_limit_bytes?;
        // Caches count as used, and give way: what is used is an upper bound.
        Some(limit.saturating_sub(one.budget.memory_used_bytes?))
    });
    let limited = limits.min();
    let machine = recording.machine.memory_available_bytes;
    let left = match (limited, machine) {
        (Some(limit), Some(machine)) => Some(limit.min(machine)),
        (one, other) => one.or(other),
    };
    let is_limited = limited.is_some() && limited == left;
    Memory { workers: workers.len() as u64, own, per_worker, peak, left, is_limited }
}
