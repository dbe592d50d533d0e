//! What the other stalls of a line say of one that was over too soon to tell.
//!
//! Whether a line computes in Python or in one call of C code takes looks at it on a CPU. A short
//! stall on a busy machine may have had none; the same line's other stalls then decide, as it does
//! the same in each. Never touches a stall that was told by its own looks.

use std::collections::HashMap;

use super::culprit::CpuTimes;
use crate::model::{Cause, FrameId, Stall};
use crate::units::Nanos;

/// Collects what is known of each line.
#[derive(Debug, Default)]
pub struct Consensus {
    seen: usize,
    /// Places of stalls that computed, nobody saw in what.
    untold: Vec<usize>,
    /// Time in C code, and in Python, by line.
    told: HashMap<FrameId, [Nanos; 2]>,
}

impl Consensus {
    /// Takes the next stall, explained, and what the looks at its culprit saw.
    pub fn see(&mut self, stall: &Stall, times: Option<&CpuTimes>) {
        let place = self.seen;
        self.seen += 1;
        let (Some(culprit), Some(times)) = (&stall.culprit, times) else { return };
        if !matches!(stall.cause, Cause::Cpu | Cause::CCall) {
            return;
        }
        if stall.cause == Cause::Cpu && times.in_python == Nanos::ZERO {
            self.untold.push(place);
            return;
        }
        let [native, python] = self.told.entry(culprit.frame).or_default();
        let time = stall.duration();
        if stall.cause == Cause::CCall { *native += time } else { *python += time }
    }

    /// Settles what was not told, of the stalls in the order in which they were seen.
    pub fn settle(&self, stalls: &mut [Stall]) {
        for place in &self.untold {
            let Some(stall) = stalls.get_mut(*place) else { continue };
            let told = stall.culprit.as_ref().and_then(|culprit| self.told.get(&culprit.frame));
            if told.is_some_and(|[native, python]| native > python) {
                stall.cause = Cause::CCall;
            }
        }
    }
}
