//! The interpreter lock (GIL): who was seen to hold it, and how often.

use serde::{Deserialize, Serialize};

use super::{CpuState, StackId};
use crate::units::Tid;

/// The thread that held the lock another thread waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GilHolder {
    /// Which thread.
    pub tid: Tid,
    /// Its Python stack; it held the lock before and after that was read.
    pub stack: StackId,
    /// The C frames that its innermost Python frame had called, where they were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<StackId>,
    /// Whether it ran or slept, and in which call.
    pub cpu: CpuState,
}

/// Counts over the evenly spaced looks at a process's interpreter lock. They are independent of what
/// the process does, so shares of them are shares of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GilTally {
    /// Looks that could tell.
    pub looks: u64,
    /// Of these: some thread held the lock.
    pub held: u64,
}

impl GilTally {
    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.looks == 0
    }

    /// The share of time that `held` of the looks stand for; `None` without a look.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts of looks stay far below 2^53
    pub fn share(&self, held: u64) -> Option<f64> {
        (self.looks > 0).then(|| held.min(self.looks) as f64 / self.looks as f64)
    }
}
