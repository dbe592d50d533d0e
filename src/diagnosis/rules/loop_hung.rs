//! The rule `loop-hung`: the loop had not come back when observation ended.
//!
//! Takes ongoing stalls that are long enough to be more than a slow call cut off by the end of
//! the recording, whatever their cause.

use crate::diagnosis::blocked::Blocked;
use crate::diagnosis::{Case, Rule, found_in, lacks, remedy, wording};
use crate::model::{Severity, Stall, Verdict};
use crate::units::Nanos;

/// An ongoing stall is a hang from this length on. Load balancers' health checks time out after
/// one second at the least (Kubernetes' `timeoutSeconds` is 1 by default), so from here on the
/// server counts as down for others too.
pub const HUNG_AFTER: Nanos = Nanos::from_secs(1);

/// Whether a stall is a hang: nothing came back since it began, nor since its server last counted a request in it.
#[must_use]
pub fn is_hung(stall: &Stall) -> bool {
    let serves = |last| stall.ended.lo.since(last) <= HUNG_AFTER;
    stall.ongoing && stall.length().lo > HUNG_AFTER && !stall.particulars.served.is_some_and(serves)
}

/// See `docs/findings/loop-hung.md`.
#[derive(Debug)]
pub struct LoopHung;

impl Rule for LoopHung {
    fn id(&self) -> &'static str {
        "loop-hung"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/loop-hung.md")
    }

    fn severity(&self, _: &Blocked) -> Severity {
        Severity::High
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let Case { recording, stalls, .. } = *case;
        if let Some(need) = lacks(recording) {
            return Verdict::NotEnoughData { need };
        }
        let Some(blocked) = Blocked::of(recording, stalls, is_hung) else { return Verdict::Clear };
        let at = match blocked.culprits.first() {
            Some(blame) => format!(" in {}", wording::place(recording, blame.frame)),
            None => String::new(),
        };
        let loops = match blocked.loops {
            1 => "the event loop hangs".to_owned(),
            several => format!("{several} event loops hang"),
        };
        let waiting: usize = recording.processes.iter().filter_map(|one| one.tasks_waiting).sum();
        let waiting = match waiting {
            0 => String::new(),
            1 => "; 1 task waits".to_owned(),
            several => format!("; {several} tasks wait"),
        };
        let summary = format!(
            "{loops}{at}: not back for {} when the recording ended{waiting}",
            wording::length(blocked.max)
        );
        let lines = blocked.culprits.iter().take(remedy::MOST_LINES);
        let recommendations = lines.map(|blame| remedy::for_hang(recording, blame)).collect();
        found_in(self, blocked, summary, recommendations)
    }
}
