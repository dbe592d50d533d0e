//! What all stalls of a line say together of whether it computes in Python or in C code.
//!
//! To tell the two takes looks at the line on a CPU. A short stall on a busy machine may have had none,
//! and one of many requests in a row was met between them as well as in them. A line that calls the same
//! library does the same in each of its stalls: the kind with the longer time is that of all of them.

use std::collections::HashMap;

use super::culprit::CpuTimes;
use crate::model::{Cause, FrameId, Stall};
use crate::units::Nanos;

/// A line, and the library that it called.
type Line = (FrameId, Option<FrameId>);

/// What the looks of a line's stalls told.
#[derive(Debug, Default)]
struct Told {
    /// The time of its stalls in C code.
    native: Nanos,
    /// The time of its stalls in Python.
    python: Nanos,
    /// Of those in C code that told: without the interpreter lock, and with it.
    released: [Nanos; 2],
}

/// Collects what is known of each line.
#[derive(Debug, Default)]
pub struct Consensus {
    seen: usize,
    /// Places of stalls that computed, and their lines.
    computing: Vec<(usize, Line)>,
    told: HashMap<Line, Told>,
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
        let line = (culprit.frame, culprit.library);
        self.computing.push((place, line));
        let told = self.told.entry(line).or_default();
        let time = stall.duration();
        match stall.cause {
            Cause::CCall => told.native += time,
            // Computed, nobody saw in what.
            _ if times.in_python == Nanos::ZERO => {}
            _ => told.python += time,
        }
        match stall.particulars.releases_gil {
            Some(true) => told.released[0] += time,
            Some(false) => told.released[1] += time,
            None => {}
        }
    }

    /// Settles them, of the stalls in the order in which they were seen, and what other lines took of them.
    pub fn settle(&self, stalls: &mut [Stall]) {
        for (place, line) in &self.computing {
            let told = self.told.get(line).and_then(Told::settled);
            if let (Some(stall), Some((cause, releases_gil))) = (stalls.get_mut(*place), told) {
                (stall.cause, stall.particulars.releases_gil) = (cause, releases_gil);
            }
        }
        for other in stalls.iter_mut().flat_map(|stall| &mut stall.particulars.others) {
            let line = (other.culprit.frame, other.culprit.library);
            let computes = matches!(other.cause, Cause::Cpu | Cause::CCall);
            let told = self.told.get(&line).filter(|_| computes).and_then(Told::settled);
            if let Some((cause, releases_gil)) = told {
                (other.cause, other.releases_gil) = (cause, releases_gil);
            }
        }
    }
}

impl Told {
    /// What all of it says together.
    fn settled(&self) -> Option<(Cause, Option<bool>)> {
        let [without, with] = self.released;
        if self.native > self.python {
            let is_known = without + with > Nanos::ZERO;
            return Some((Cause::CCall, is_known.then_some(without > with)));
        }
        (self.python > Nanos::ZERO).then_some((Cause::Cpu, None))
    }
}
