//! The account of a thread whose sleep is not looked into again: its scheduler clock and page faults.
//!
//! Both stand still while the thread sleeps, so that what was read at its last look is true at this
//! one. Decides nothing.

use super::thread_watch::ThreadWatch;
use crate::model::SchedTimes;
use crate::units::Timestamp;

/// What the kernel had booked for a thread at its last look.
#[derive(Debug, Default)]
pub struct Account {
    sched: Option<SchedTimes>,
    faults: Option<u64>,
    /// The thread has run since.
    pub is_stale: bool,
}

impl Account {
    /// The account of a thread at `at`: the last one, if it has `slept_on` since that was read.
    pub fn of(
        &mut self,
        thread: &mut ThreadWatch,
        slept_on: bool,
        at: Timestamp,
    ) -> (Option<SchedTimes>, Option<u64>) {
        let is_stale = std::mem::take(&mut self.is_stale);
        if slept_on && !is_stale && self.sched.is_some() {
            self.sched = self.sched.map(|sched| SchedTimes { at, ..sched });
        } else {
            (self.sched, self.faults) = thread.account(at);
        }
        (self.sched, self.faults)
    }
}
