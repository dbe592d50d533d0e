//! The rule `not-under-load`: too little happened to conclude anything but that.
//!
//! Takes the loops' utilisation. A recording of an idle server shows no stalls whatever its code
//! would do to real traffic.

use super::healthy::{busiest, busy_name};
use super::pool_saturated;
use crate::diagnosis::blocked::ratio;
use crate::diagnosis::size::LEAST_REQUESTS;
use crate::diagnosis::{Case, Rule, lacks, wording};
use crate::model::{Finding, Load, Measured, Severity, Verdict};
use crate::units::to_f64;

/// Below this share of time outside the poll a loop counts as idle. A health check every second
/// and a few timers stay below it; a server at a twentieth of what one loop can do does not.
pub const IDLE_BELOW: f64 = 0.05;

/// See `docs/findings/not-under-load.md`.
#[derive(Debug)]
pub struct NotUnderLoad;

impl Rule for NotUnderLoad {
    fn id(&self) -> &'static str {
        "not-under-load"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/not-under-load.md")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let Case { recording, stalls, .. } = *case;
        if let Some(need) = lacks(recording) {
            return Verdict::NotEnoughData { need };
        }
        if let Some(served) = few(case) {
            return Verdict::Found(Finding {
                id: self.id().to_owned(),
                severity: Severity::Info,
                summary: format!(
                    "{} served in {}: too few to size anything; record again under load, or for longer",
                    match served {
                        0 => "no request was".to_owned(),
                        1 => "1 request was".to_owned(),
                        several => format!("{several} requests were"),
                    },
                    wording::length(recording.length())
                ),
                evidence: vec![Measured::new("requests", to_f64(served), "count")],
                stalls: Vec::new(),
                recommendations: Vec::new(),
            });
        }
        // A loop has nothing to do where all that there is waits for a pool.
        if !stalls.is_empty() || pool_saturated::is_found(case) {
            return Verdict::Clear;
        }
        let Some(busiest) = busiest(recording) else {
            return Verdict::NotEnoughData { need: "evenly spaced looks at an event loop" };
        };
        if busiest >= IDLE_BELOW || awaiting(case).is_some() {
            return Verdict::Clear;
        }
        Verdict::Found(Finding {
            id: self.id().to_owned(),
            severity: Severity::Info,
            summary: format!(
                "the server was nearly idle, its {} busy {} of the time: record again under load",
                if recording.event_loops().next().is_none() {
                    "busiest thread"
                } else {
                    "event loop"
                },
                wording::percent(busiest)
            ),
            evidence: vec![ratio(busy_name(recording), busiest)],
            stalls: Vec::new(),
            recommendations: Vec::new(),
        })
    }
}

/// Requests in flight from which on a loop that is idle is one whose requests wait: a single client that asks again and
/// again keeps up to one there.
const SEVERAL: f64 = 2.0;

/// Requests in flight on average, of servers with loops that were asked often enough: idle loops or not, they are there,
/// and wait for what they await.
pub(super) fn awaiting(case: &Case<'_>) -> Option<f64> {
    let asked = case.loads.iter().filter(|load| !load.loops.is_empty());
    let asked = asked.filter(|load| load.served >= Some(LEAST_REQUESTS));
    let there: f64 = asked.filter_map(|load| load.in_flight).sum();
    (there >= SEVERAL).then_some(there)
}

/// The requests served, where they were counted and are too few to show a mean. Not where requests were there all along
/// and keep a loop busy: WebSockets and streams end late or never.
pub(super) fn few(case: &Case<'_>) -> Option<u64> {
    let lasting = |load: &Load| !load.loops.is_empty() && load.in_flight >= Some(1.0);
    if case.loads.iter().any(lasting) && busiest(case.recording) >= Some(IDLE_BELOW) {
        return None;
    }
    let counted = case.loads.iter().map(|load| load.served);
    let served = counted.sum::<Option<u64>>().filter(|_| !case.loads.is_empty())?;
    (served < LEAST_REQUESTS).then_some(served)
}
