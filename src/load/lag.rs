//! How long an event waits for a loop that runs callbacks.
//!
//! An event that arrives at a random moment waits until the iteration that runs is over, and the chance to
//! meet an iteration grows with its length. So of iterations of lengths s over a time T, the share of
//! events that wait longer than t is Σ (s - t)⁺ / T (residual life; Cox, *Renewal Theory*, 1962, §5.4).
//! Iterations of the threshold and longer were all seen from end to end and are added up so. Of shorter ones
//! the looks tell: how old an iteration is at a random moment is distributed as what is left of it.

use crate::model::{LoopInfo, Recording, Stall};
use crate::units::{Nanos, to_f64};

/// The delay of one loop's events.
#[derive(Debug)]
pub struct Lag<'a> {
    info: &'a LoopInfo,
    threshold: Nanos,
    watched: f64,
    /// The observed lengths of its stalls, in seconds.
    stalls: Vec<f64>,
    longest: Option<Nanos>,
}

/// Steps of the bisection: each halves the interval, so that nanoseconds are reached from any length.
const STEPS: u32 = 60;

impl<'a> Lag<'a> {
    /// That of this loop's, whose stalls are among `stalls`.
    #[must_use]
    pub fn of(recording: &Recording, info: &'a LoopInfo, stalls: &[Stall]) -> Lag<'a> {
        let own = stalls.iter().filter(|stall| stall.loop_id == info.id && !stall.occupies);
        Lag {
            info,
            threshold: recording.settings.threshold,
            watched: watched(recording, info).as_secs_f64(),
            stalls: own.clone().map(|stall| recording.observed(stall).as_secs_f64()).collect(),
            longest: own.map(Stall::duration).max(),
        }
    }

    /// The longest stall; without one, the oldest that an iteration was seen, rounded up.
    #[must_use]
    pub fn max(&self) -> Nanos {
        self.longest.or_else(|| self.info.tally.lag_quantile(1.0)).unwrap_or_default()
    }

    /// The delay that a share `q` of events does not exceed; `None` without a look.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Nanos> {
        let by_looks = self.info.tally.lag_quantile(q)?;
        let rest = 1.0 - q.clamp(0.0, 1.0);
        if self.longer(self.threshold.as_secs_f64()) <= rest {
            // No stall is that short, and no other iteration longer.
            let most = if self.longest.is_some() { self.threshold } else { self.max() };
            return Some(by_looks.min(most));
        }
        let (mut low, mut high) =
            (self.threshold.as_secs_f64(), self.stalls.iter().copied().fold(0.0, f64::max));
        for _ in 0..STEPS {
            let middle = low.midpoint(high);
            if self.longer(middle) > rest { low = middle } else { high = middle }
        }
        Some(nanos(high))
    }

    /// The share of events that wait for more than `seconds` in a stall.
    fn longer(&self, seconds: f64) -> f64 {
        let left = self.stalls.iter().map(|stall| (stall - seconds).max(0.0)).sum::<f64>();
        if self.watched > 0.0 { left / self.watched } else { 0.0 }
    }
}

/// How long a loop was watched.
pub(super) fn watched(recording: &Recording, info: &LoopInfo) -> Nanos {
    info.last_seen.min(recording.detached).since(info.first_seen.max(recording.attached))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates
pub(super) fn nanos(seconds: f64) -> Nanos {
    Nanos((seconds * to_f64(1_000_000_000)) as u64)
}
