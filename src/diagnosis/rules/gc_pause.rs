//! The rule `gc-pause`: the garbage collector ran on the loop's thread, or under its lock.
//!
//! Takes stalls that the collector explains. There is no line to change: a collection starts
//! wherever the next object happens to be made.

use crate::diagnosis::blocked::{Blocked, count};
use crate::diagnosis::{Case, Rule, found_in, lacks, severity_of, wording};
use crate::model::{Cause, Recommendation, Remedy, Severity, Stall, Verdict};

/// See `docs/findings/gc-pause.md`.
#[derive(Debug)]
pub struct GcPause;

impl Rule for GcPause {
    fn id(&self) -> &'static str {
        "gc-pause"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/gc-pause.md")
    }

    /// Below what users notice it is worth knowing and no more: whoever makes objects has such pauses.
    fn severity(&self, blocked: &Blocked) -> Severity {
        match severity_of(blocked) {
            Severity::Low => Severity::Info,
            noticed => noticed,
        }
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let Case { recording, stalls, .. } = *case;
        if let Some(need) = lacks(recording) {
            return Verdict::NotEnoughData { need };
        }
        let collected = |stall: &Stall| stall.cause == Cause::Gc;
        let Some(blocked) = Blocked::of(recording, stalls, collected) else {
            return Verdict::Clear;
        };
        let summary = format!(
            "{} held up by the garbage collector: {}",
            wording::loops_are(&blocked),
            wording::extent(&blocked)
        );
        let advice = Recommendation {
            remedy: Remedy::Config,
            command: "call `gc.collect()` and `gc.freeze()` once the application is loaded, and \
                      let the collector run less often: `gc.set_threshold(50_000, 20, 20)`"
                .to_owned(),
            reason: "a full collection visits every object that is alive; what was frozen is not \
                     visited any more"
                .to_owned(),
            inputs: blocked.measured(),
            predicted: Vec::new(),
        };
        let picked = || blocked.stalls.iter().filter_map(|index| stalls.get(*index));
        let known = picked().filter(|stall| stall.particulars.generation.is_some()).count();
        let full = picked().filter(|stall| stall.particulars.generation == Some(2)).count();
        let is_noticed = self.severity(&blocked) > Severity::Info;
        let advice = is_noticed.then_some(advice).into_iter().collect();
        let mut verdict = found_in(self, blocked, summary, advice);
        if let Verdict::Found(finding) = &mut verdict
            && known > 0
        {
            finding.evidence.push(count("full_collections", full));
        }
        verdict
    }
}
