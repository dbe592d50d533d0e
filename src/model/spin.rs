//! What keeps a loop going round while nobody asks for anything.

use serde::{Deserialize, Serialize};

use super::StackId;
use crate::units::{Nanos, to_f64};

/// Looks in quick succession at a loop whose process used a CPU while it served hardly anybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spin {
    /// How often it was looked at so.
    pub bursts: u32,
    /// Times it went round during these, by its own count of polls; where it keeps none, the distinct
    /// iterations met: at least so many.
    pub rounds: u64,
    /// How long these took together.
    pub span: Nanos,
    /// The innermost frames met, up to four of each stack, the commonest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub glimpses: Vec<Glimpse>,
    /// Descriptors that it polls and that were ready when these ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ready: Vec<ReadyFd>,
}

/// The innermost frames of a thread, met for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Glimpse {
    /// The frames, leaf first; those farther out were not read.
    pub stack: StackId,
    /// How often they were met.
    pub count: u32,
}

/// A descriptor for which a poll returns at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyFd {
    /// Its number.
    pub fd: i32,
    /// What is behind it, `127.0.0.1:5432`, `anon_inode:[eventfd]`.
    pub what: String,
    /// Why it is ready.
    pub why: Readiness,
    /// At the ends of how many bursts it was.
    pub bursts: u32,
}

/// Why a poll returns at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// There is something to read.
    Unread,
    /// The other end has closed the connection, and this one has not.
    Closed,
    /// It is polled for room to write, and there is room.
    Writable,
}

/// Bursts in all of which a descriptor must be ready: of one with much to do some are ready at any time.
const LEAST_BURSTS: u32 = 3;

impl Spin {
    /// Times it went round in a second, at least; `None` if that was not counted.
    #[must_use]
    pub fn rounds_per_second(&self) -> Option<f64> {
        let seconds = self.span.as_secs_f64();
        (seconds > 0.0 && self.rounds > 0).then(|| to_f64(self.rounds) / seconds)
    }

    /// The descriptors that were ready each time it was looked at, three times at least.
    pub fn always_ready(&self) -> impl Iterator<Item = &ReadyFd> {
        self.ready.iter().filter(|ready| self.bursts >= LEAST_BURSTS && ready.bursts >= self.bursts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ready_once_may_have_been_read_since() {
        let ready =
            |fd, bursts| ReadyFd { fd, what: String::new(), why: Readiness::Unread, bursts };
        let mut spin = Spin { bursts: 1, ready: vec![ready(5, 1)], ..Spin::default() };
        assert_eq!(spin.always_ready().count(), 0, "one look is no habit");
        spin.bursts = 3;
        spin.ready = vec![ready(5, 2), ready(6, 3)];
        assert_eq!(spin.always_ready().map(|one| one.fd).collect::<Vec<_>>(), [6]);
        assert_eq!(spin.rounds_per_second(), None);
        (spin.rounds, spin.span) = (50, Nanos::from_millis(2));
        assert_eq!(spin.rounds_per_second(), Some(25_000.0));
    }
}
