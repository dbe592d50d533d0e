//! Gaps: times a loop's thread spent outside its poll, as the kernel recorded them.

use serde::{Deserialize, Serialize};

use super::LoopId;
use crate::units::{Nanos, Timestamp};

/// One stretch of time outside the poll. Both ends are the kernel's own, exact to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Which loop.
    pub loop_id: LoopId,
    /// When its thread left its poll.
    #[serde(rename = "left_poll_ns")]
    pub left: Timestamp,
    /// When it entered it again.
    #[serde(rename = "entered_poll_ns")]
    pub entered: Timestamp,
    /// Time on a CPU.
    #[serde(rename = "on_cpu_ns")]
    pub on_cpu: Nanos,
    /// Time off the CPU that began with going to sleep; the wait for a CPU after waking included.
    #[serde(rename = "off_cpu_ns")]
    pub off_cpu: Nanos,
    /// Time off the CPU that began with being put off it.
    #[serde(rename = "preempted_ns")]
    pub preempted: Nanos,
    /// Looks that found the thread out of its poll, and contradicted nothing.
    #[serde(default)]
    pub looks: u32,
    /// Looks that fell into it and could not tell.
    #[serde(default)]
    pub unclear_looks: u32,
}

impl Gap {
    /// Whether it is more than two edges with others missing between them: some look vouched for it.
    /// If none did because none was taken, records can be missing only if they stopped and came again
    /// between two looks, and whatever holds them back does so for longer.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.looks > 0 || self.unclear_looks == 0
    }

    /// How long it lasted.
    #[must_use]
    pub fn length(&self) -> Nanos {
        self.entered.since(self.left)
    }
}

/// Whether the kernel recorded a loop's edges, and if not, why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeStatus {
    /// Nobody asked it to.
    #[default]
    Off,
    /// It did.
    Traced,
    /// It does not allow that.
    Denied,
    /// It cannot, or not on this machine.
    Missing,
    /// How the loop polls, or how the kernel numbers that, was not found out in time.
    Unlearnt,
    /// It did, until records failed to come for what certainly happened: another tool holds them
    /// back.
    Blind,
}
