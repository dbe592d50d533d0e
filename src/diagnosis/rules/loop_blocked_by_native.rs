//! The rule `loop-blocked-by-native`: a callback computes in C code for too long.
//!
//! Takes stalls whose cause is one call of C code. Leaves those that never came back to
//! [`loop_hung`](super::loop_hung).

use super::loop_hung::is_hung;
use crate::diagnosis::blocked::{self, Blocked};
use crate::diagnosis::{Case, Rule, found_in, gain, lacks, remedy, wording};
use crate::model::{Cause, Recording, Stall, Verdict};
use crate::units::Nanos;

/// See `docs/findings/loop-blocked-by-native.md`.
#[derive(Debug)]
pub struct LoopBlockedByNative;

impl Rule for LoopBlockedByNative {
    fn id(&self) -> &'static str {
        "loop-blocked-by-native"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/loop-blocked-by-native.md")
    }

    fn part(&self, recording: &Recording, stall: &Stall) -> Nanos {
        blocked::part(recording, stall, is_its)
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let Case { recording, stalls, .. } = *case;
        if let Some(need) = lacks(recording) {
            return Verdict::NotEnoughData { need };
        }
        let Some(blocked) = Blocked::of(recording, stalls, is_its) else { return Verdict::Clear };
        let summary = format!(
            "{} blocked by C code that computes: {}",
            wording::loops_are(&blocked),
            wording::extent(&blocked)
        );
        let recommendations = gain::ranked(case, &blocked, Cause::CCall, remedy::for_native);
        found_in(self, blocked, summary, recommendations)
    }
}

fn is_its(stall: &Stall) -> bool {
    stall.cause == Cause::CCall && !is_hung(stall)
}
