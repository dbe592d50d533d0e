//! What a thread that serves requests needs beside what every loop does.
//!
//! Knows how long the thread has stood at one place, so that what a long request calls last is
//! looked into as closely as what it calls first. Decides nothing.

use crate::model::StackId;
use crate::units::{Nanos, Timestamp};

/// One thread that serves requests.
#[derive(Debug, Default)]
pub struct HeldThread {
    /// The stack it was last met with, and since when that is.
    stack: Option<StackId>,
    since: Timestamp,
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
}
