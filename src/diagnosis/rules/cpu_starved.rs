//! The rule `cpu-starved`: the loop's thread was ready to run and got no CPU.
//!
//! Takes stalls that the wait for a CPU explains. There is no line to change: the cause is
//! outside the program.

use crate::diagnosis::blocked::{Blocked, ratio};
use crate::diagnosis::{Rule, found_in, lacks, wording};
use crate::model::{Cause, Recommendation, Recording, Remedy, Stall, Verdict};
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

    fn check(&self, recording: &Recording, stalls: &[Stall]) -> Verdict {
        if let Some(need) = lacks(recording) {
            return Verdict::NotEnoughData { need };
        }
        let starved = |stall: &Stall| stall.cause == Cause::CpuStarved;
        let Some(blocked) = Blocked::of(recording, stalls, starved) else { return Verdict::Clear };
        let loops = match blocked.loops {
            1 => "the event loop waits".to_owned(),
            several => format!("{several} event loops wait"),
        };
        let summary = format!(
            "{loops} for a CPU, not for the application's code: {}",
            wording::extent(&blocked)
        );
        let picked = || blocked.stalls.iter().filter_map(|index| stalls.get(*index));
        let delay: Nanos = picked().map(|stall| stall.split.run_delay).sum();
        let whole: Nanos = picked().map(Stall::duration).sum();
        let advice = Recommendation {
            remedy: Remedy::Platform,
            command: "in a container compare `nr_throttled` in /sys/fs/cgroup/cpu.stat before and \
                      after, and raise the CPU limit if it grows; else run fewer busy processes \
                      and threads than there are CPUs"
                .to_owned(),
            reason: "the loop's thread was ready to run and got no CPU: any line would have \
                     stalled there"
                .to_owned(),
            inputs: vec![ratio("run_delay_share", delay.share_of(whole))],
        };
        let mut verdict = found_in(self, blocked, summary, vec![advice]);
        if let Verdict::Found(finding) = &mut verdict {
            finding.evidence.push(ratio("run_delay_share", delay.share_of(whole)));
        }
        verdict
    }
}
