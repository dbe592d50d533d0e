//! What a process may use and what it took, asked for at the beginning, now and then, and at the end.
//!
//! Takes a pid, fills a [`Budget`] and [`Turns`]. Threads' turns are read twice in all, memory of its
//! own once, at the end: it walks the target's pages.

use std::collections::HashMap;

use crate::model::{Budget, Machine, Turns};
use crate::target::{CpuTotals, ProcFs, ThreadTurns};
use crate::units::{Pid, Tid};

/// One process's account.
#[derive(Debug)]
pub struct BudgetWatch {
    before: HashMap<Tid, ThreadTurns>,
}

impl BudgetWatch {
    /// Begins the account.
    #[must_use]
    pub fn new(procfs: &ProcFs, pid: Pid) -> BudgetWatch {
        BudgetWatch { before: procfs.turns(pid).unwrap_or_default() }
    }

    /// Closes it, while the process is still there.
    pub fn close(&self, procfs: &ProcFs, pid: Pid, budget: &mut Budget, turns: &mut Turns) {
        let quotas = procfs.cpu_quotas(pid);
        budget.quotas = quotas.iter().map(|file| file.quota).collect();
        let memory = procfs.memory_limit(pid);
        budget.memory_limit_bytes = memory.map(|memory| memory.limit);
        budget.memory_used_bytes = memory.and_then(|memory| memory.used);
        let private = procfs.private_bytes(pid);
        // What it has, and by how much that was once more.
        let peak =
            private.zip(procfs.shrunk_bytes(pid)).and_then(|(now, more)| now.checked_add(more));
        budget.private_bytes = private.or(budget.private_bytes);
        budget.private_peak_bytes = peak.or(budget.private_peak_bytes);
        *turns = Turns::default();
        for (tid, now) in procfs.turns(pid).unwrap_or_default() {
            let before = self.before.get(&tid).copied().unwrap_or_default();
            turns.run_delay += now.run_delay.saturating_sub(before.run_delay);
            let count = |now: u64, before: u64| now.saturating_sub(before);
            turns.voluntary += count(now.voluntary, before.voluntary);
            turns.involuntary += count(now.involuntary, before.involuntary);
        }
    }
}

/// The machine since `before` was read.
#[must_use]
pub fn machine(procfs: &ProcFs, before: Option<CpuTotals>) -> Machine {
    let mut machine = Machine { cpus: online(procfs), ..Machine::default() };
    if let (Some(before), Some(now)) = (before, procfs.cpu_totals()) {
        machine.busy = now.busy.saturating_sub(before.busy);
        machine.idle = now.idle.saturating_sub(before.idle);
        machine.stolen = now.stolen.saturating_sub(before.stolen);
    }
    machine.memory_available_bytes = procfs.memory_available();
    machine
}

fn online(procfs: &ProcFs) -> u32 {
    procfs.cpus_online().unwrap_or(0)
}
