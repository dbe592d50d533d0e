//! A server as a whole at the moments it was looked at: were all its threads held, and did anyone wait
//! for one?

use serde::{Deserialize, Serialize};

use super::Level;

/// One look at all threads that serve requests from the same listening sockets, and at those who wait
/// for one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CrowdLook {
    /// Threads there may be, in all processes.
    pub threads: u32,
    /// How many of them were held.
    pub held: u32,
    /// How many waited who could not be served: connections that waited to be accepted while every
    /// thread was held, and requests that waited in a process of which every thread was.
    pub waiting: u32,
}

/// Evenly spaced looks at a server as a whole. All processes that accept from the same sockets have
/// the same looks, as far as each of them was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crowd {
    /// Threads there may be. Its looks are those of the whole.
    pub threads: Level,
    /// How many were held.
    pub held: Level,
    /// Looks at which every thread of every process was held.
    pub full: u64,
    /// Looks at which someone waited because no thread was free for them.
    pub starved: u64,
    /// How many waited at these.
    pub waiting: Level,
}

impl Crowd {
    /// Counts a look.
    pub fn add(&mut self, look: CrowdLook) {
        self.threads.add(Some(look.threads));
        self.held.add(Some(look.held));
        let is_full = look.threads > 0 && look.held >= look.threads;
        self.full = self.full.saturating_add(u64::from(is_full));
        if look.waiting > 0 {
            self.starved = self.starved.saturating_add(1);
            self.waiting.add(Some(look.waiting));
        }
    }

    /// All looks.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.threads.looks
    }

    /// The share of time in which someone waited because no thread was free; `None` without a look.
    #[must_use]
    pub fn starved_share(&self) -> Option<f64> {
        share(self.starved, self.looks())
    }
}

#[allow(clippy::cast_precision_loss)] // counts of looks stay far below 2^53
fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part.min(all) as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_all_looks() {
        let mut crowd = Crowd::default();
        assert_eq!(crowd.starved_share(), None);
        for (held, waiting) in [(3, 0), (4, 0), (4, 6), (4, 2)] {
            crowd.add(CrowdLook { threads: 4, held, waiting });
        }
        assert_eq!((crowd.looks(), crowd.full, crowd.starved), (4, 3, 2));
        assert_eq!(crowd.starved_share(), Some(0.5));
        assert_eq!((crowd.waiting.mean(), crowd.waiting.max), (Some(4.0), 6));
        crowd.add(CrowdLook::default());
        assert_eq!(crowd.full, 3, "no threads are none that are held");
    }
}
