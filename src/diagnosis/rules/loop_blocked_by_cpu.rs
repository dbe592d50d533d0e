//! The rule `loop-blocked-by-cpu`: a callback computes for too long.
//!
//! Takes stalls whose cause is computation. Leaves those that never came back to
//! [`loop_hung`](super::loop_hung), so that no time is explained twice.

use super::loop_hung::is_hung;
use crate::diagnosis::blocked::{self, Blocked};
use crate::diagnosis::{Case, Rule, found_in, gain, lacks, remedy, wording};
use crate::model::{Cause, Recording, Stall, Verdict};
use crate::units::Nanos;

/// See `docs/findings/loop-blocked-by-cpu.md`.
#[derive(Debug)]
pub struct LoopBlockedByCpu;

impl Rule for LoopBlockedByCpu {
    fn id(&self) -> &'static str {
        "loop-blocked-by-cpu"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/loop-blocked-by-cpu.md")
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
            "{} blocked by computation: {}",
            wording::loops_are(&blocked),
            wording::extent(&blocked)
        );
        let recommendations = gain::ranked(case, &blocked, Cause::Cpu, remedy::for_cpu);
        found_in(self, blocked, summary, recommendations)
    }
}

fn is_its(stall: &Stall) -> bool {
    stall.cause == Cause::Cpu && !is_hung(stall)
}
