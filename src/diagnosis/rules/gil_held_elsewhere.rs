//! The rule `gil-held-elsewhere`: the loop, or requests that have threads of their own, wait for the interpreter lock.
//!
//! Takes stalls in which the loop's thread waited for the lock. Their culprits are lines of the
//! threads that held it. Of servers without a loop it takes what held the lock beside requests, and how long these
//! waited: that requests of one process wait for each other is how threads work, and no fault.

use super::loop_hung::is_hung;
use crate::diagnosis::background;
use crate::diagnosis::blocked::{Blame, Blocked};
use crate::diagnosis::{Case, MEDIUM_LENGTH, MEDIUM_SHARE, Rule, found_in, lacks, remedy, wording};
use crate::model::{Cause, Finding, Stall, Verdict};

/// See `docs/findings/gil-held-elsewhere.md`.
#[derive(Debug)]
pub struct GilHeldElsewhere;

impl Rule for GilHeldElsewhere {
    fn id(&self) -> &'static str {
        "gil-held-elsewhere"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/gil-held-elsewhere.md")
    }

    fn explains(&self, finding: &Finding) -> Option<f64> {
        background::explains(finding)
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let Case { recording, stalls, .. } = *case;
        if let Some(need) = lacks(recording) {
            return Verdict::NotEnoughData { need };
        }
        let picked = |stall: &Stall| stall.cause == Cause::GilWait && !is_hung(stall);
        let Some(blocked) = Blocked::of(recording, stalls, picked) else {
            return background::found(self.id(), case).map_or(Verdict::Clear, Verdict::Found);
        };
        let summary = format!(
            "{} held up by another thread that holds the interpreter lock: {}",
            wording::loops_are(&blocked),
            wording::extent(&blocked)
        );
        // A turn of a few milliseconds now and then is how threads share the lock, and no process is worth it.
        let is_felt = |blame: &Blame| {
            blame.total.share_of(recording.length()) >= MEDIUM_SHARE || blame.max >= MEDIUM_LENGTH
        };
        let lines = remedy::by_lines(recording, &blocked, remedy::for_gil).into_iter();
        let felt = lines.filter(|(blame, _)| is_felt(blame));
        let recommendations = felt.map(|(_, advice)| advice).collect();
        found_in(self, blocked, summary, recommendations)
    }
}
