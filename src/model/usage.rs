//! What a thread spent its time on a CPU on.

use super::{FrameId, LoopId};
use crate::units::{Nanos, Pid, Tid, to_f64};

/// One thread over the recording, by its background samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadUse {
    /// Its process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// The event loop that it runs; of several, the last.
    pub loop_id: Option<LoopId>,
    /// Whether it serves requests without a loop.
    pub serves: bool,
    /// Looks at it.
    pub looks: u64,
    /// The time these stand for.
    pub span: Nanos,
    /// Looks at which it ran.
    pub running: u64,
    /// Of these: in the loop's own code, or in C code that the loop has called.
    pub in_loop: u64,
    /// Of these: in an HTTP parser that is written in Python.
    pub in_parser: u64,
    /// The lines of the application that ran, the commonest first.
    pub places: Vec<(FrameId, u64)>,
    /// The line that was met running most as the loop went round, where it was looked for.
    pub each_round: Option<FrameId>,
}

impl ThreadUse {
    /// The share of time it ran; `None` without a look.
    #[must_use]
    pub fn running_share(&self) -> Option<f64> {
        share(self.running, self.looks)
    }

    /// The share of its running that was the loop's own.
    #[must_use]
    pub fn loop_share(&self) -> f64 {
        share(self.in_loop, self.running).unwrap_or(0.0)
    }

    /// The share of its running that was the HTTP parser's.
    #[must_use]
    pub fn parser_share(&self) -> f64 {
        share(self.in_parser, self.running).unwrap_or(0.0)
    }
}

fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| to_f64(part.min(all)) / to_f64(all))
}
