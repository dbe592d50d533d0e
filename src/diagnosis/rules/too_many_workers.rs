//! The rule `too-many-workers`: more workers than the CPUs or the memory are enough for.
//!
//! Takes servers whose requests have a thread each. Workers that mostly wait are not too many: asleep they
//! take memory and nothing else.

use crate::diagnosis::blocked::ratio;
use crate::diagnosis::{Case, Rule, lacks, wording};
use crate::model::{Costs, Finding, Load, Measured, Severity, Verdict};
use crate::units::to_f64;

/// See `docs/findings/too-many-workers.md`.
#[derive(Debug)]
pub struct TooManyWorkers;

impl Rule for TooManyWorkers {
    fn id(&self) -> &'static str {
        "too-many-workers"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/too-many-workers.md")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        if let Some(need) = lacks(case.recording) {
            return Verdict::NotEnoughData { need };
        }
        let mut crowded = case
            .sizes
            .iter()
            .filter_map(|size| Some((size.load, crowded(size.load)?, size.fewer_workers()?)));
        let Some((load, waiting, advice)) = crowded.next() else { return Verdict::Clear };
        let workers = load.workers.len();
        let is_tight = is_tight(load);
        let summary = match is_tight {
            true => format!(
                "{workers} workers take nearly all the memory there is: not one more would fit, and fewer \
                 get as much done"
            ),
            false => format!(
                "{workers} workers compute on {} CPUs: {waiting:.1} threads wait for one on average, and \
                 fewer workers get as much done",
                load.cores.whole()
            ),
        };
        let memory = load.memory.per_worker.map(|bytes| to_f64(bytes) / wording::MEBIBYTE);
        let mut evidence = vec![
            Measured::new("threads_waiting_for_a_cpu", waiting, "count"),
            Measured::new("cpus", load.cores.usable(), "count"),
        ];
        if let Some(costs) = &load.costs {
            evidence.push(ratio("computes", computes(costs)));
        }
        evidence.extend(memory.map(|one| Measured::new("memory_of_a_worker", one, "MiB")));
        Verdict::Found(Finding {
            id: self.id().to_owned(),
            severity: if is_tight { Severity::Medium } else { Severity::Low },
            summary,
            evidence,
            stalls: Vec::new(),
            recommendations: vec![advice],
        })
    }
}

/// The part of what a request needs that has to be computing: from half on a CPU is what it needs most.
const MOSTLY: f64 = 0.5;

/// How many threads wait for a CPU on average, where the workers are too many for the CPUs or for memory.
fn crowded(load: &Load) -> Option<f64> {
    let costs = load.costs.as_ref()?;
    let waiting = costs.run_delay * load.rate()?;
    let whole = load.cores.whole();
    // gunicorn's rule of thumb is no fault (<https://docs.gunicorn.org/en/stable/design.html>).
    let is_above = load.workers.len() > load.cores.rule_of_thumb() as usize;
    // As many wait as run at most: each goes without a CPU for half of the time that it wants one.
    let is_crowded = is_above && computes(costs) >= MOSTLY && waiting >= f64::from(whole);
    (is_crowded || (load.workers.len() > 1 && is_tight(load))).then_some(waiting)
}

fn computes(costs: &Costs) -> f64 {
    costs.needed().filter(|needed| *needed > 0.0).map_or(0.0, |needed| costs.cpu / needed)
}

/// Whether not one more worker fits into the machine's memory. What a control group uses has its caches in it, which
/// give way: how much is left there is known from below only.
fn is_tight(load: &Load) -> bool {
    !load.memory.is_limited && load.memory.more_workers() == Some(0)
}
