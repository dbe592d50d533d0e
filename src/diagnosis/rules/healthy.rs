//! The rule `healthy`: loops ran, someone looked, and none stood still.
//!
//! Takes the counts of all looks. Says nothing about a recording that never saw a loop run.

use super::not_under_load::{IDLE_BELOW, awaiting, few};
use super::too_few_workers;
use crate::diagnosis::blocked::ratio;
use crate::diagnosis::{Case, Rule, lacks, wording};
use crate::model::{Finding, Load, Measured, Recording, Severity, Verdict};

/// See `docs/findings/healthy.md`.
#[derive(Debug)]
pub struct Healthy;

impl Rule for Healthy {
    fn id(&self) -> &'static str {
        "healthy"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/healthy.md")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let Case { recording, stalls, .. } = *case;
        if let Some(need) = lacks(recording) {
            return Verdict::NotEnoughData { need };
        }
        let allowed = stalls.iter().filter(|stall| stall.allowed).count();
        if allowed < stalls.len() {
            return Verdict::Clear;
        }
        let ran = recording.loops.iter().any(|info| info.tally.running > 0);
        if !ran && allowed == 0 {
            return Verdict::NotEnoughData { need: "a loop that ran callbacks while watched" };
        }
        let busiest = busiest(recording).unwrap_or_default();
        let awaiting = awaiting(case).filter(|_| busiest < IDLE_BELOW);
        let is_idle = busiest < IDLE_BELOW && awaiting.is_none();
        if allowed == 0 && (is_idle || few(case).is_some()) {
            // Not under load: that is all that can be said.
            return Verdict::Clear;
        }
        let rate = rate(case).filter(|rate| *rate > 0.0);
        let is_full = case.loads.iter().find(|load| too_few_workers::is_busy(load));
        Verdict::Found(Finding {
            id: self.id().to_owned(),
            severity: Severity::Info,
            summary: summary(recording, allowed, busiest)
                + &rate.map_or(String::new(), |rate| format!(", at {rate:.1} requests/s"))
                + is_full.map_or("", full)
                + &awaiting.map_or(String::new(), |there| {
                    format!(
                        ", while {there:.1} are in flight on average: they wait for what they await, a \
                         peer, a lock or a pool (`stallspy dump -p PID` shows where)"
                    )
                }),
            evidence: evidence(case, busiest),
            stalls: Vec::new(),
            recommendations: Vec::new(),
        })
    }
}

/// What there is to say of loops that have no time left.
fn full(load: &Load) -> &'static str {
    if too_few_workers::computes(load) {
        "; it is full: what comes in waits for its turn, and only cheaper requests or more CPUs carry more"
    } else {
        "; it is full, and hardly computes: calls shorter than the threshold keep it (`--threshold 2ms` shows them)"
    }
}

/// Requests a second of all servers, where they were counted.
fn rate(case: &Case<'_>) -> Option<f64> {
    case.loads.iter().map(Load::rate).sum::<Option<f64>>().filter(|_| !case.loads.is_empty())
}

fn evidence(case: &Case<'_>, busiest: f64) -> Vec<Measured> {
    let mut all = vec![ratio(busy_name(case.recording), busiest)];
    let lag = case.loops.iter().filter_map(|one| one.lag_p99).max();
    all.extend(lag.map(|lag| Measured::new("loop_lag_p99", lag.as_secs_f64(), "s")));
    all.extend(rate(case).map(|rate| Measured::new("arrival_rate", rate, "1/s")));
    let at_once = case.loads.iter().map(Load::demand).sum::<Option<f64>>();
    let at_once = at_once.filter(|_| !case.loads.is_empty());
    all.extend(at_once.map(|all| Measured::new("requests_at_once", all, "count")));
    all
}

/// What that share is called.
pub(crate) fn busy_name(recording: &Recording) -> &'static str {
    if recording.event_loops().next().is_none() { "thread_busy" } else { "loop_utilization" }
}

/// The share of time the busiest loop spent outside its poll, or the busiest thread in requests, 0 to
/// 1.
pub(crate) fn busiest(recording: &Recording) -> Option<f64> {
    let all = recording.event_loops().chain(recording.request_threads());
    all.filter_map(|info| info.tally.utilization()).reduce(f64::max)
}

fn summary(recording: &Recording, allowed: usize, busiest: f64) -> String {
    let threshold = wording::length(recording.settings.threshold);
    let busy = wording::percent(busiest);
    if allowed > 0 {
        let accepted = wording::several(allowed, "accepted stall");
        let what = if recording.event_loops().next().is_none() { "busiest thread" } else { "loop" };
        return format!(
            "no stall of {threshold} or more besides {accepted}: {what} busy {busy} of the time"
        );
    }
    match recording.event_loops().count() {
        0 => format!(
            "no request held a thread for {threshold} or more: the busiest thread was busy {busy} of \
             the time"
        ),
        1 => format!(
            "no stall of {threshold} or more: the event loop was never blocked, and busy {busy} of \
             the time"
        ),
        several => format!(
            "no stall of {threshold} or more: none of {several} event loops was ever blocked, the \
             busiest busy {busy} of the time"
        ),
    }
}
