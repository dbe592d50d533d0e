//! P: the CPUs a server may use, and what others on the machine leave of them.

use crate::model::{Cores, Neighbour, ProcessInfo, Recording};
use crate::units::Nanos;

pub(super) fn of(recording: &Recording, workers: &[&ProcessInfo], own: Nanos) -> Cores {
    let machine = &recording.machine;
    let affinity = workers.iter().map(|one| one.cpus).min().unwrap_or(1).max(1);
    let quotas = workers.iter().filter_map(|one| one.budget.quota_cpus());
    let quota = quotas.min_by(f64::total_cmp).filter(|quota| *quota > 0.0);
    let mut budget = f64::from(affinity);
    if machine.cpus > 0 {
        budget = budget.min(f64::from(machine.cpus));
    }
    budget = budget.min(quota.unwrap_or(f64::INFINITY));
    // Stallspy itself will be gone.
    let known = own + recording.own_cpu;
    let others = (!machine.is_empty() && machine.busy > Nanos::ZERO)
        .then(|| machine.busy.saturating_sub(known).share_of(recording.length()));
    // What is kept to a part of the machine does not take its CPUs from those who are not.
    let is_shared = budget >= f64::from(machine.cpus);
    let neighbours = if is_shared { neighbours(recording, workers) } else { 0.0 };
    let neighbours = neighbours.min(others.unwrap_or(0.0));
    Cores { affinity, quota, budget, others, neighbours, idle: machine.idle_cpus() }
}

/// CPUs' worth that processes used which talk to these.
fn neighbours(recording: &Recording, workers: &[&ProcessInfo]) -> f64 {
    let talks = |one: &&Neighbour| workers.iter().any(|worker| one.of.contains(&worker.pid));
    recording.neighbours.iter().filter(talks).filter_map(Neighbour::cpus).sum()
}
