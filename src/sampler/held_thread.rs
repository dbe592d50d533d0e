//! What a thread that serves requests needs beside what every loop does.
//!
//! Knows how long the thread has stood at one place, so that what a long request calls last is
//! looked into as closely as what it calls first; and the account of a thread that sleeps, which
//! need not be read again. Decides nothing.

use super::thread_watch::ThreadWatch;
use crate::model::{SchedTimes, StackId};
use crate::units::{Nanos, Timestamp};

/// One thread that serves requests.
#[derive(Debug, Default)]
pub struct HeldThread {
    /// The stack it was last met with, and since when that is.
    stack: Option<StackId>,
    since: Timestamp,
    /// The account of its last sleep.
    sched: Option<SchedTimes>,
    faults: Option<u64>,
}

impl HeldThread {
    /// It is in another request.
    pub fn moved(&mut self, at: Timestamp) {
        (self.stack, self.since) = (None, at);
    }

    /// It was met with this stack.
    pub fn stands(&mut self, stack: StackId, at: Timestamp) {
        if self.stack != Some(stack) {
            (self.stack, self.since) = (Some(stack), at);
        }
    }

    /// How long it has stood where it stands.
    #[must_use]
    pub fn still_for(&self, at: Timestamp) -> Nanos {
        at.since(self.since)
    }

    /// The account of a thread that waits for a request: its scheduler clock and page faults.
    pub fn account(
        &mut self,
        thread: &mut ThreadWatch,
        has_slept_on: bool,
        at: Timestamp,
    ) -> (Option<SchedTimes>, Option<u64>) {
        if has_slept_on && self.sched.is_some() {
            self.sched = self.sched.map(|sched| SchedTimes { at, ..sched });
        } else {
            (self.sched, self.faults) = (thread.files.sched(at), thread.major_faults_lately(at));
        }
        (self.sched, self.faults)
    }
}
