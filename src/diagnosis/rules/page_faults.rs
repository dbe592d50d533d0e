//! The rule `page-faults`: the loop waits for memory to be read from a disk.
//!
//! Takes stalls that major page faults explain.

use crate::diagnosis::blocked::Blocked;
use crate::diagnosis::{Case, Rule, found_in, lacks, wording};
use crate::model::{Cause, Recommendation, Remedy, Stall, Verdict};

/// See `docs/findings/page-faults.md`.
#[derive(Debug)]
pub struct PageFaults;

impl Rule for PageFaults {
    fn id(&self) -> &'static str {
        "page-faults"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/page-faults.md")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let Case { recording, stalls, .. } = *case;
        if let Some(need) = lacks(recording) {
            return Verdict::NotEnoughData { need };
        }
        let picked = |stall: &Stall| stall.cause == Cause::PageFault;
        let Some(blocked) = Blocked::of(recording, stalls, picked) else { return Verdict::Clear };
        let summary = format!(
            "{} held up by memory that had to be read from a disk: {}",
            wording::loops_are(&blocked),
            wording::extent(&blocked)
        );
        let advice = Recommendation {
            remedy: Remedy::Platform,
            command:
                "give the container or machine more memory, or run fewer workers; read mapped \
                      files ahead in a thread"
                    .to_owned(),
            reason:
                "memory that was swapped out, or belongs to a file, is fetched by whichever line \
                     touches it, and the thread sleeps until it is there"
                    .to_owned(),
            inputs: blocked.measured(),
            predicted: Vec::new(),
        };
        found_in(self, blocked, summary, vec![advice])
    }
}
