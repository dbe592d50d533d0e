//! What of its workers' time a server's requests did not take: threads that compute beside them.
//!
//! Takes what held the interpreter lock beside requests, gives the CPU time of both. That of a thread that serves
//! requests the kernel counts by itself; what is left is the others', by how long each held the lock.

use std::collections::HashSet;

use crate::model::{
    Background, Beside, LoopInfo, LoopState, ProcessInfo, Recording, Resident, ResidentKind,
    ResidentPlace, SchedTimes, Tables,
};
use crate::units::{Nanos, Pid, Tid};

/// What the workers of a server did beside requests.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// The threads that did.
    pub(super) threads: HashSet<(Pid, Tid)>,
    /// Looks that saw them hold the lock.
    pub(super) looks: u64,
    /// Seconds for which they held it.
    pub(super) held: f64,
    /// CPU time that they used.
    pub(super) cpu: Nanos,
    /// Seconds for which threads that serve requests were ready and waited for a CPU, where anything is beside them.
    pub(super) run_delay: Option<f64>,
    /// Seconds of all workers together.
    lived: f64,
}

impl Work {
    pub(super) fn of(
        recording: &Recording,
        workers: &[&ProcessInfo],
        background: &[Background],
    ) -> Work {
        let mut all = Work::default();
        for worker in workers {
            let life = recording.lived(worker).as_secs_f64();
            all.lived += life;
            let Some(own) = background.iter().find(|one| one.pid == worker.pid) else { continue };
            all.threads.extend(own.threads.iter().map(|tid| (own.pid, *tid)));
            all.looks = all.looks.saturating_add(own.looks);
            all.held += own.held * life;
            all.cpu += cpu(recording, worker, own);
        }
        if !all.threads.is_empty() {
            let of = |worker: &&ProcessInfo| serving(recording, worker, &all.threads);
            all.run_delay = { workers.iter().map(of) }
                .map(|times| Some(times?.run_delay.as_secs_f64()))
                .sum::<Option<f64>>();
        }
        all
    }

    /// The same as a share of time; `None` where there is nothing.
    pub(super) fn beside(&self) -> Option<Beside> {
        (!self.threads.is_empty() && self.lived > 0.0)
            .then(|| Beside { held: (self.held / self.lived).min(1.0), cpu: self.cpu })
    }
}

/// The CPU time of what runs beside requests.
fn cpu(recording: &Recording, worker: &ProcessInfo, own: &Background) -> Nanos {
    let threads = own.threads.iter().map(|tid| (own.pid, *tid)).collect();
    let counted = serving(recording, worker, &threads);
    let is_own = |info: &LoopInfo, tid| info.pid == worker.pid && info.tid == tid;
    let is_counted =
        |tid| counted.is_some() && recording.request_threads().any(|info| is_own(info, tid));
    let others = worker.threads.iter().filter(|thread| {
        // One that takes connections in, and such.
        !own.threads.contains(&thread.tid) && !is_counted(thread.tid)
    });
    let others: u64 = others.map(|thread| thread.gil_held).sum();
    let left = worker.cpu.saturating_sub(counted.map_or(Nanos::ZERO, |times| times.on_cpu));
    // Who holds the lock uses no more of a CPU than the time that passes.
    let held = recording.lived(worker).scaled(own.looks, worker.gil.looks.max(1));
    left.scaled(own.looks, own.looks.saturating_add(others).max(1)).min(held)
}

/// The scheduler's times of a worker's threads that serve requests, from the first look at each to the last; `None`
/// where nobody read them.
fn serving(
    recording: &Recording,
    worker: &ProcessInfo,
    beside: &HashSet<(Pid, Tid)>,
) -> Option<SchedTimes> {
    let own = |info: &&LoopInfo| info.pid == worker.pid && !beside.contains(&(info.pid, info.tid));
    let mut sum: Option<SchedTimes> = None;
    for info in recording.request_threads().filter(own) {
        let states = recording.loop_states.iter().filter(|state| state.loop_id == info.id);
        let mut times = states.filter_map(|state: &LoopState| state.sched);
        let Some(first) = times.next() else { continue };
        let last = times.next_back().unwrap_or(first);
        let all = sum.get_or_insert_default();
        all.on_cpu += last.on_cpu.saturating_sub(first.on_cpu);
        all.run_delay += last.run_delay.saturating_sub(first.run_delay);
    }
    sum
}

/// As what lives in a worker, and would in each.
pub(super) fn resident(tables: &Tables, one: &Background) -> Option<Resident> {
    let frame = tables.get_frame(one.runs.unwrap_or(one.frame))?;
    let function = tables.text(frame.function).to_owned();
    let file = tables.text(frame.file?).to_owned();
    let place = ResidentPlace { function: function.clone(), file, line: frame.line };
    let count = u32::try_from(one.threads.len()).unwrap_or(u32::MAX);
    Some(Resident {
        kind: ResidentKind::ComputingThread,
        name: function,
        place: Some(place),
        count,
        period: None,
    })
}
