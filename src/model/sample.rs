//! Background samples: what each thread was doing, for flamegraphs.

use serde::{Deserialize, Serialize};

use super::{StackId, WaitId};
use crate::units::{Nanos, Pid, Tid, Timestamp};

/// Whether a thread was running when we looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuState {
    /// On a CPU or ready to be (the kernel tells the two apart only in `schedstat`).
    Running,
    /// Asleep in the kernel.
    Blocked {
        /// The call it sleeps in, where we may read it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait: Option<WaitId>,
    },
    /// Could not be read.
    Unknown,
}

/// What a thread had to do with the global interpreter lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GilState {
    /// It held the lock.
    Holding,
    /// It waited for the lock.
    Waiting,
    /// Neither.
    Released,
    /// Not observed.
    Unknown,
}

impl GilState {
    /// The JSON value; `None` where it was not observed.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            GilState::Holding => Some("holding"),
            GilState::Waiting => Some("waiting"),
            GilState::Released => Some("released"),
            GilState::Unknown => None,
        }
    }
}

/// One thread, over a run of looks in which nothing changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When the first look of the run was taken.
    pub at: Timestamp,
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// Its Python stack.
    pub stack: StackId,
    /// Whether it ran.
    pub cpu: CpuState,
    /// Its part in the interpreter lock.
    pub gil: GilState,
    /// Looks in the run.
    pub count: u32,
    /// The wall time the run stands for; grows when the sampler runs late.
    pub weight: Nanos,
}
