//! The rule `loop-blocked-by-call`: a callback sleeps in a system call.
//!
//! Takes stalls whose cause is a blocking call. Leaves those that never came back to
//! [`loop_hung`](super::loop_hung), so that no time is explained twice.

use super::loop_hung::is_hung;
use crate::diagnosis::blocked::{self, Blocked};
use crate::diagnosis::{Case, Rule, found_in, gain, lacks, remedy, wording};
use crate::model::{Cause, Recording, Stall, Verdict};
use crate::units::Nanos;

/// See `docs/findings/loop-blocked-by-call.md`.
#[derive(Debug)]
pub struct LoopBlockedByCall;

impl Rule for LoopBlockedByCall {
    fn id(&self) -> &'static str {
        "loop-blocked-by-call"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/loop-blocked-by-call.md")
    }

    fn part(&self, recording: &Recording, stall: &Stall) -> Nanos {
        blocked::part(recording, stall, is_its)
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let Case { recording, stalls, .. } = *case;
        if let Some(need) = lacks(recording) {
            return Verdict::NotEnoughData { need };
        }
        let Some(blocked) = Blocked::of(recording, stalls, is_its) else {
            return Verdict::Clear;
        };
        let summary = format!(
            "{} blocked by synchronous calls: {}",
            wording::loops_are(&blocked),
            wording::extent(&blocked)
        );
        let recommendations = gain::ranked(case, &blocked, Cause::BlockingCall, remedy::for_call);
        found_in(self, blocked, summary, recommendations)
    }
}

fn is_its(stall: &Stall) -> bool {
    stall.cause == Cause::BlockingCall && !is_hung(stall)
}
