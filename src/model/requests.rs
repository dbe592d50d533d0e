//! Requests as a server counts them itself.

use serde::{Deserialize, Serialize};

use crate::units::{Nanos, Timestamp};

/// What a server's counters said while it was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RequestTally {
    /// Requests served so far, at the first look; 0 of a process that was started while we watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// The same at the last look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// When they were last seen to be more than before.
    #[serde(default, rename = "risen_ns", skip_serializing_if = "Option::is_none")]
    pub risen: Option<Timestamp>,
    /// Requests in flight, each for the time since the look before, added up: nanoseconds.
    pub in_flight: Nanos,
    /// For how long they were looked at.
    pub looked: Nanos,
    /// The most at any look.
    pub in_flight_max: u64,
}

impl RequestTally {
    /// Requests served while it was watched.
    #[must_use]
    pub fn served(&self) -> Option<u64> {
        self.last?.checked_sub(self.first?)
    }

    /// Requests in flight, on average over time.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // a share of times far below 2^53 ns
    pub fn in_flight_mean(&self) -> Option<f64> {
        (self.looked > Nanos::ZERO).then(|| self.in_flight.0 as f64 / self.looked.0 as f64)
    }

    /// The most in flight at any look.
    #[must_use]
    pub fn most_in_flight(&self) -> Option<u64> {
        (self.looked > Nanos::ZERO).then_some(self.in_flight_max)
    }

    /// Whether no counter was ever read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == RequestTally::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_read_is_not_zero() {
        let mut tally = RequestTally::default();
        assert_eq!((tally.served(), tally.in_flight_mean()), (None, None));
        tally.first = Some(7);
        tally.last = Some(9);
        assert_eq!(tally.served(), Some(2));
        tally.in_flight = Nanos(30);
        tally.looked = Nanos(20);
        assert_eq!(tally.in_flight_mean(), Some(1.5));
        // A counter that went back is another one's.
        tally.last = Some(3);
        assert_eq!(tally.served(), None);
    }
}
