//! How many of a process's threads were held by requests, where each request has a thread.

use serde::{Deserialize, Serialize};

use super::Crowd;

/// Number of buckets of [`Occupancy::busy`]: from here on numbers of threads are counted together.
pub const MOST_COUNTED: usize = 256;

/// Counts over evenly spaced looks at all threads of a process that serve requests. The looks are
/// independent of what the threads do, so shares of them are shares of time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Occupancy {
    /// How many threads may serve requests at the same time, if that was found out: 1 of gunicorn's
    /// sync worker, the size of gthread's pool. Others make a thread for each connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Looks by how many threads were held: place `n` counts those that saw `n`. Never longer than
    /// [`MOST_COUNTED`].
    pub busy: Vec<u64>,
    /// Looks at the server as a whole, where the number of threads of all its processes is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowd: Option<Crowd>,
}

impl Occupancy {
    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.limit.is_none() && self.busy.is_empty() && self.crowd.is_none()
    }

    /// Counts a look that saw `held` threads held.
    pub fn count(&mut self, held: usize) {
        let place = held.min(MOST_COUNTED - 1);
        if self.busy.len() <= place {
            self.busy.resize(place + 1, 0);
        }
        if let Some(count) = self.busy.get_mut(place) {
            *count = count.saturating_add(1);
        }
    }

    /// All looks.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.busy.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// How many threads were held on average; `None` without a look.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts of looks stay far below 2^53
    pub fn mean(&self) -> Option<f64> {
        let looks = self.looks();
        let held: f64 =
            self.busy.iter().enumerate().map(|(held, count)| held as f64 * *count as f64).sum();
        (looks > 0).then(|| held / looks as f64)
    }

    /// The most that were held at the same time; `None` without a look.
    #[must_use]
    pub fn most(&self) -> Option<usize> {
        self.busy.iter().rposition(|count| *count > 0)
    }

    /// The share of time in which every thread there may be was held; `None` where the limit is not
    /// known, or too large to be counted up to.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts of looks stay far below 2^53
    pub fn share_at_limit(&self) -> Option<f64> {
        let limit = usize::try_from(self.limit?).ok().filter(|limit| *limit < MOST_COUNTED)?;
        let looks = self.looks();
        let full: u64 = self.busy.iter().skip(limit).fold(0, |sum, one| sum.saturating_add(*one));
        (looks > 0 && limit > 0).then(|| full as f64 / looks as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_looks_are_shares_of_time() {
        let mut seen = Occupancy { limit: Some(2), ..Occupancy::default() };
        assert_eq!((seen.mean(), seen.share_at_limit(), seen.most()), (None, None, None));
        for held in [0, 1, 2, 2] {
            seen.count(held);
        }
        assert_eq!(seen.looks(), 4);
        assert_eq!(seen.mean(), Some(1.25));
        assert_eq!(seen.most(), Some(2));
        assert_eq!(seen.share_at_limit(), Some(0.5));
    }

    #[test]
    fn what_has_no_limit_is_never_at_it() {
        let mut seen = Occupancy::default();
        seen.count(100_000);
        assert_eq!(seen.share_at_limit(), None);
        assert_eq!(seen.most(), Some(MOST_COUNTED - 1));
        assert_eq!(Occupancy { limit: Some(0), ..seen }.share_at_limit(), None);
    }
}
