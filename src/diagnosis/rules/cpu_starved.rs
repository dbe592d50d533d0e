//! The rule `cpu-starved`: the loop's thread was ready to run and got no CPU.
//!
//! Takes stalls that the wait for a CPU explains. There is no line to change: the cause is
//! outside the program.

use crate::diagnosis::blocked::{Blocked, ratio};
use crate::diagnosis::{Case, Rule, found_in, lacks, quota, wording};
use crate::model::{
    Cause, Load, Measured, Recommendation, Remedy, Severity, Stall, Throttled, Verdict,
};
use crate::units::Nanos;

/// See `docs/findings/cpu-starved.md`.
#[derive(Debug)]
pub struct CpuStarved;

impl Rule for CpuStarved {
    fn id(&self) -> &'static str {
        "cpu-starved"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/cpu-starved.md")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let Case { recording, stalls, .. } = *case;
        if let Some(need) = lacks(recording) {
            return Verdict::NotEnoughData { need };
        }
        let starved = |stall: &Stall| stall.cause == Cause::CpuStarved;
        let Some(blocked) = Blocked::of(recording, stalls, starved) else { return Verdict::Clear };
        let spent = spent_quota(&blocked, stalls);
        let loops = match blocked.loops {
            1 => "the event loop waits".to_owned(),
            several => format!("{several} event loops wait"),
        };
        let extent = wording::extent(&blocked);
        let summary = match spent {
            Some((throttled, _)) => format!(
                "{loops} for a CPU: your CPU quota ({}) was spent, not your code: {extent}",
                throttled.quota.name()
            ),
            None => format!(
                "{loops} for a CPU, not for the application's code: {extent}{}",
                idle(case).map_or(String::new(), |(idle, cpus)| format!(
                    ", though {idle:.1} of {cpus} CPUs are idle on average: bursts of other work, a CPU \
                     limit that is not seen, or the machine's host"
                ))
            ),
        };
        let picked = || blocked.stalls.iter().filter_map(|index| stalls.get(*index));
        let delay: Nanos = picked().map(|stall| stall.split.run_delay).sum();
        let whole: Nanos = picked().map(Stall::duration).sum();
        let advice = match spent {
            Some((throttled, spent)) => {
                let process = picked().find(|stall| stall.particulars.throttled.is_some());
                let load = process.and_then(|stall| case.load_of(stall.pid));
                Some(raise(load, throttled, spent))
            }
            // Below what users notice nobody moves anything away.
            None if self.severity(&blocked) == Severity::Low => None,
            None => Some(Recommendation {
                remedy: Remedy::Platform,
                command: fewer(case),
                reason: "the loop's thread was ready to run and got no CPU: any line would have \
                     stalled there"
                    .to_owned(),
                inputs: vec![ratio("run_delay_share", delay.share_of(whole))],
                predicted: Vec::new(),
            }),
        };
        let mut verdict = found_in(self, blocked, summary, advice.into_iter().collect());
        if let Verdict::Found(finding) = &mut verdict {
            finding.evidence.push(ratio("run_delay_share", delay.share_of(whole)));
            finding.evidence.extend(spent.map(|(throttled, _)| quota_cpus(throttled)));
        }
        verdict
    }
}

/// From this share of the CPUs on that nobody uses they are not short.
const MOSTLY_IDLE: f64 = 0.5;

/// How many CPUs had nothing to do on average, and how many there are, where that is most of them.
fn idle(case: &Case<'_>) -> Option<(f64, u32)> {
    let known = case.loads.iter().filter_map(|load| Some((load.cores.idle?, load.cores.affinity)));
    // Of a program that is no server there is the machine.
    let machine = case.recording.machine;
    let least = known.min_by(|a, b| a.0.total_cmp(&b.0));
    let least = least.or_else(|| Some((machine.idle_cpus()?, machine.cpus)))?;
    (least.0 >= f64::from(least.1) * MOSTLY_IDLE).then_some(least)
}

/// What to do where no quota was spent: that depends on whose work keeps the CPUs busy.
fn fewer(case: &Case<'_>) -> String {
    let general = "run fewer busy processes and threads than there are CPUs";
    let starved = case.loads.iter().filter_map(|load| Some((load, load.cores.others?)));
    let busiest = starved.max_by(|a, b| a.1.total_cmp(&b.1));
    let Some((load, others)) = busiest.filter(|_| idle(case).is_none()) else {
        return format!(
            "in a container compare `nr_throttled` in /sys/fs/cgroup/cpu.stat before and after, and raise \
             the CPU limit if it grows; else {general}"
        );
    };
    let (own, cpus) = (load.cores_used(), load.cores.affinity);
    let whose = if others > own {
        "move other programs away"
    } else {
        "it is this server's own work: less of it, or more CPUs"
    };
    format!("{whose}: of {cpus} CPUs the server uses {own:.1} and everything else {others:.1}")
}

/// The quota to which these stalls owe most of their waiting, and the share they owe to it.
fn spent_quota(blocked: &Blocked, stalls: &[Stall]) -> Option<(Throttled, f64)> {
    let picked = || blocked.stalls.iter().filter_map(|index| stalls.get(*index));
    let throttled = || picked().filter_map(|stall| stall.particulars.throttled);
    let spent: Nanos = throttled().map(|throttled| throttled.time).sum();
    let delay: Nanos = picked().map(|stall| stall.split.run_delay).sum();
    let most = throttled().max_by_key(|throttled| throttled.time)?;
    (spent >= delay.scaled(1, 2)).then(|| (most, spent.share_of(delay)))
}

fn quota_cpus(throttled: Throttled) -> Measured {
    Measured::new("quota", throttled.quota.cpus(), "CPUs")
}

fn raise(load: Option<&Load>, throttled: Throttled, spent: f64) -> Recommendation {
    let (to, predicted) = load.and_then(quota::of_loops).unzip();
    Recommendation {
        remedy: Remedy::Platform,
        command: format!("{}; or run fewer workers and threads under it", quota::raise(to)),
        reason: "the kernel keeps everything in the control group off the CPUs until the next \
                 period once the quota is spent: any line stalls there"
            .to_owned(),
        inputs: vec![quota_cpus(throttled), ratio("throttled_share_of_run_delay", spent)],
        predicted: predicted.unwrap_or_default(),
    }
}
