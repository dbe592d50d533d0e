//! The rule `too-few-workers`: every worker's loop is busy with computing while CPUs are idle.
//!
//! Takes servers with event loops. Workers without one have rules of their own; a loop that is busy
//! because a call blocks it needs no more workers, but the call moved.

use super::{busy_idle, wrong_worker_class};
use crate::diagnosis::blocked::{Blocked, ratio};
use crate::diagnosis::{Case, Rule, lacks, quota, residents, size, wording};
use crate::model::{
    Cause, Cores, Finding, Load, Measured, Recommendation, Remedy, Severity, Stall, Verdict,
};

/// A loop that is out of its poll for so much of the time has no room: whatever comes waits for about
/// ten times as long as it takes (M/M/1: 1 / (1 - U); Kleinrock, *Queueing Systems* I, 1975, §3.2).
const BUSY: f64 = 0.9;
/// The part of that time in which it must have used a CPU, and not waited for something.
const COMPUTES: f64 = 0.7;
/// CPUs that must have nothing to do: half of one for a worker to gain anything.
pub(super) const IDLE: f64 = 0.5;

/// See `docs/findings/too-few-workers.md`.
#[derive(Debug)]
pub struct TooFewWorkers;

impl Rule for TooFewWorkers {
    fn id(&self) -> &'static str {
        "too-few-workers"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/too-few-workers.md")
    }

    fn explains(&self, finding: &Finding) -> Option<f64> {
        finding.figure(COMPUTES_ITSELF)
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        if let Some(need) = lacks(case.recording) {
            return Verdict::NotEnoughData { need };
        }
        let Some(load) = case.loads.iter().find(|load| is_busy(load)) else {
            return Verdict::Clear;
        };
        let Some(idle) = load.cores.idle else {
            return Verdict::NotEnoughData { need: "the machine's account of idle CPUs" };
        };
        let beyond = beyond_quota(case, load);
        let quota = if beyond.is_some() { ", which uses its CPU quota up" } else { "" };
        let Some(sized) = beyond.or_else(|| wanted(case, load)) else { return Verdict::Clear };
        let workers = load.workers.len();
        // Where more would repeat what lives in one, `single-process-state` says what to do.
        let advice = (!residents::is_single(load)).then_some(sized);
        let (least, _) = load.utilization.unwrap_or_default();
        Verdict::Found(Finding {
            id: self.id().to_owned(),
            severity: Severity::High,
            summary: format!(
                "{} busy {} of the time, computing{quota}, while {idle:.1} CPUs are idle",
                match workers {
                    1 => "the only worker is".to_owned(),
                    several => format!("all {several} workers are"),
                },
                wording::percent(least)
            ),
            evidence: vec![
                ratio("loop_utilization", least),
                ratio(COMPUTES_ITSELF, computes_itself(case, load)),
                Measured::new("cpus_used", load.cores_used(), "count"),
                Measured::new("idle_cpus", idle, "count"),
            ],
            stalls: Vec::new(),
            recommendations: advice.into_iter().collect(),
        })
    }
}

/// The figure of [`computes_itself`].
pub(super) const COMPUTES_ITSELF: &str = "computes_itself";

/// The share of the time that the least busy worker's loop is busy with what no other thread could do.
pub(super) fn computes_itself(case: &Case<'_>, load: &Load) -> f64 {
    let (least, _) = load.utilization.unwrap_or_default();
    (least - movable(case)).max(0.0)
}

/// The share of the time that calls block a loop which another thread could make: they come first, as more
/// workers would only be blocked as well.
fn movable(case: &Case<'_>) -> f64 {
    let is_movable = |stall: &Stall| match stall.cause {
        Cause::BlockingCall => true,
        Cause::CCall => stall.particulars.releases_gil != Some(false),
        _ => false,
    };
    Blocked::of(case.recording, case.stalls, is_movable).map_or(0.0, |blocked| blocked.share)
}

/// More workers, where every worker's loop computes nearly all the time while CPUs are idle.
pub(super) fn wanted(case: &Case<'_>, load: &Load) -> Option<Recommendation> {
    let has_room = load.cores.idle.is_some_and(|idle| has_room(load, idle));
    // A loop that spins is busy with nothing: another worker would be, too.
    // More hubs that the same calls keep are no cure.
    let is_kept = || wrong_worker_class::is_found_of_hubs(case, load);
    (is_busy(load) && has_room && !is_kept() && !busy_idle::is_found(case))
        .then(|| size::for_loops(load))?
}

/// More workers and a quota for them, where the loops use up the one that there is.
fn beyond_quota(case: &Case<'_>, load: &Load) -> Option<Recommendation> {
    let cores = load.cores;
    let has_room = computes(load) && cores.idle.is_some_and(|idle| idle >= IDLE);
    let is_kept = || wrong_worker_class::is_found_of_hubs(case, load);
    if !quota::is_spent(load) || !has_room || is_kept() || busy_idle::is_found(case) {
        return None;
    }
    let budget = f64::from(cores.affinity);
    let free = Load { cores: Cores { quota: None, budget, ..cores }, ..load.clone() };
    let mut advice = size::for_loops(&free)?;
    let Remedy::Setting { recommended, .. } = advice.remedy else { return None };
    advice.command = format!(
        "{} and a CPU limit of {recommended} (Kubernetes: `resources.limits.cpu`, Docker: `--cpus`), or a second \
         container like this one",
        advice.command
    );
    Some(advice)
}

/// Whether every worker's loop is busy all the time.
pub(super) fn is_busy(load: &Load) -> bool {
    load.utilization.is_some_and(|(least, _)| least >= BUSY)
}

/// Whether its workers use a CPU each for most of the time.
pub(super) fn computes(load: &Load) -> bool {
    load.cores_used() / load.worker_count() >= COMPUTES
}

fn has_room(load: &Load, idle: f64) -> bool {
    idle >= IDLE && computes(load) && f64::from(load.cores.whole()) > load.cores_used()
}
