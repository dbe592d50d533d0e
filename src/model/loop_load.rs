//! One event loop over a recording: how long its iterations were, what they were spent on, and how long an
//! event waited.

use super::{FrameId, LoopId};
use crate::units::{Nanos, Pid};

/// One event loop over the recording. S, the lengths of its iterations, is `lengths`; U is `utilization`.
#[derive(Debug, Clone, PartialEq)]
pub struct LoopLoad {
    /// Which loop.
    pub loop_id: LoopId,
    /// Its process.
    pub pid: Pid,
    /// How long it was watched.
    pub watched: Nanos,
    /// U: the share of time out of the poll; `None` without a look.
    pub utilization: Option<f64>,
    /// The delay that an event meets that arrives at a random moment, until the loop polls again: median
    /// and 99th percentile.
    pub lag_p50: Option<Nanos>,
    /// The same, of one in a hundred.
    pub lag_p99: Option<Nanos>,
    /// S: its iterations by length, the shortest first.
    pub lengths: Vec<LengthBin>,
    /// What its stalls were made of: the calls of each line of the application, and what is left of a stall
    /// without them.
    pub calls: Vec<CallTime>,
}

/// Iterations of about the same length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LengthBin {
    /// From this length on,
    pub from: Nanos,
    /// below this.
    pub to: Nanos,
    /// How many there were.
    pub count: f64,
    /// The share of the time they took.
    pub share: f64,
    /// Each was seen from end to end. Otherwise the numbers are worked out from how old iterations were
    /// when they were looked at.
    pub is_counted: bool,
}

/// Calls of one length on a loop, in a stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallTime {
    /// The line of the application; `None` of what no line took.
    pub frame: Option<FrameId>,
    /// How many.
    pub calls: u32,
    /// The length of one.
    pub length: Nanos,
}

/// Time that requests were blocked in system calls on one peer.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockedOn {
    /// The other end as it is called in reports, `10.0.0.7:5432`; the system call where there is none.
    pub peer: String,
    /// The time all threads together were.
    pub time: Nanos,
    /// Packages and C libraries that were seen waiting for it.
    pub libraries: Vec<String>,
}
