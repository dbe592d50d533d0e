//! The rule `not-under-load`: too little happened to conclude anything but that.
//!
//! Takes the loops' utilisation. A recording of an idle server shows no stalls whatever its code
//! would do to real traffic.

use super::healthy::{busiest, busy_name};
use crate::diagnosis::blocked::ratio;
use crate::diagnosis::{Case, Rule, lacks, wording};
use crate::model::{Finding, Severity, Verdict};

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
        if !stalls.is_empty() {
            return Verdict::Clear;
        }
        let Some(busiest) = busiest(recording) else {
            return Verdict::NotEnoughData { need: "evenly spaced looks at an event loop" };
        };
        if busiest >= IDLE_BELOW {
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
