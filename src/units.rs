//! Newtypes for the quantities that must never be mixed up: addresses, times, ids.
//!
//! Knows nothing but arithmetic. Every time is on the host's `CLOCK_MONOTONIC`, in nanoseconds,
//! the clock `time.monotonic()` and asyncio's `loop.time()` read on Linux.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An address in the *target's* address space. Never dereferenced in ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Addr(pub u64);

impl Addr {
    /// No user-space mapping begins below this (`vm.mmap_min_addr` defaults to 64 KiB, and 4 KiB is
    /// the smallest any kernel allows), so a smaller "pointer" is a small number read as one.
    pub const LOWEST: u64 = 4096;
    /// First address that no user-space pointer has on x86_64 and aarch64 with 48-bit tables
    /// (`TASK_SIZE_MAX`, arch/x86/include/asm/page_64_types.h).
    pub const BEYOND: u64 = 1 << 48;

    /// `self + offset`, wrapping: a hostile pointer must not be able to panic us; the read that
    /// follows fails on its own.
    #[must_use]
    pub fn at(self, offset: u64) -> Addr {
        Addr(self.0.wrapping_add(offset))
    }

    /// Whether this can be a user-space pointer at all.
    #[must_use]
    pub fn is_plausible(self) -> bool {
        (Addr::LOWEST..Addr::BEYOND).contains(&self.0)
    }

    /// Whether this is the null pointer.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A length of time in nanoseconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// No time at all.
    pub const ZERO: Nanos = Nanos(0);

    /// `n` microseconds.
    #[must_use]
    pub const fn from_micros(n: u64) -> Nanos {
        Nanos(n.saturating_mul(1_000))
    }

    /// `n` milliseconds.
    #[must_use]
    pub const fn from_millis(n: u64) -> Nanos {
        Nanos(n.saturating_mul(1_000_000))
    }

    /// `n` seconds.
    #[must_use]
    pub const fn from_secs(n: u64) -> Nanos {
        Nanos(n.saturating_mul(1_000_000_000))
    }

    /// This length in seconds, for rates and shares.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // 2^53 ns is 104 days: no recording is that long.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// This length in milliseconds, for printing.
    #[must_use]
    pub fn as_millis_f64(self) -> f64 {
        self.as_secs_f64() * 1e3
    }

    /// The share `self / whole`, 0 when there is no whole.
    #[must_use]
    pub fn share_of(self, whole: Nanos) -> f64 {
        if whole.0 == 0 { 0.0 } else { self.as_secs_f64() / whole.as_secs_f64() }
    }

    /// `self - other`, never below zero.
    #[must_use]
    pub fn saturating_sub(self, other: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(other.0))
    }

    /// `numerator / denominator` of this length, without overflow.
    #[must_use]
    pub fn scaled(self, numerator: u64, denominator: u64) -> Nanos {
        let wide = u128::from(self.0) * u128::from(numerator) / u128::from(denominator.max(1));
        Nanos(u64::try_from(wide).unwrap_or(u64::MAX))
    }
}

impl std::ops::Add for Nanos {
    type Output = Nanos;
    fn add(self, other: Nanos) -> Nanos {
        Nanos(self.0.saturating_add(other.0))
    }
}

impl std::ops::AddAssign for Nanos {
    fn add_assign(&mut self, other: Nanos) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Nanos {
    fn sum<I: Iterator<Item = Nanos>>(iter: I) -> Nanos {
        iter.fold(Nanos::ZERO, |a, b| a + b)
    }
}

/// A moment: nanoseconds on the host's `CLOCK_MONOTONIC`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Time from `earlier` to `self`; zero if `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `by` before this one, or the clock's zero.
    #[must_use]
    pub fn before(self, by: Nanos) -> Timestamp {
        Timestamp(self.0.saturating_sub(by.0))
    }
}

impl std::ops::Add<Nanos> for Timestamp {
    type Output = Timestamp;
    fn add(self, by: Nanos) -> Timestamp {
        Timestamp(self.0.saturating_add(by.0))
    }
}

/// A quantity known only to lie in `[lo, hi]`: `lo` is certain, `hi` is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bounds<T> {
    /// The least it can be.
    pub lo: T,
    /// The most it can be.
    pub hi: T,
}

impl<T: Copy + Ord> Bounds<T> {
    /// A quantity known exactly.
    #[must_use]
    pub fn exactly(value: T) -> Bounds<T> {
        Bounds { lo: value, hi: value }
    }

    /// The interval spanned by two values, in either order.
    #[must_use]
    pub fn spanning(a: T, b: T) -> Bounds<T> {
        Bounds { lo: a.min(b), hi: a.max(b) }
    }
}

impl Bounds<Timestamp> {
    /// The middle of the interval: the best single guess when nothing prefers either end.
    #[must_use]
    pub fn middle(self) -> Timestamp {
        Timestamp(self.lo.0.midpoint(self.hi.0))
    }
}

/// A count as a part of fractions. Counts of things stay far below 2^53, up to which it is exact.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn to_f64(count: u64) -> f64 {
    count as f64
}

/// The whole number that a fraction stands for, cut off; 0 for what is negative or no number, and the
/// largest there is for what is larger.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates
pub fn whole(value: f64) -> u32 {
    value as u32
}

/// A process id in the namespace stallspy runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(pub i32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A kernel thread id in the namespace stallspy runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tid(pub i32);

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_never_go_below_zero() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Nanos::ZERO);
        assert_eq!(Timestamp(5).before(Nanos(9)), Timestamp(0));
        assert_eq!(Nanos(5).saturating_sub(Nanos(9)), Nanos::ZERO);
    }

    #[test]
    fn a_hostile_offset_cannot_overflow() {
        assert_eq!(Addr(u64::MAX).at(2), Addr(1));
        assert!(!Addr(8).is_plausible());
        assert!(!Addr(u64::MAX).is_plausible());
    }

    #[test]
    fn scaling_does_not_overflow() {
        assert_eq!(Nanos(u64::MAX).scaled(1, 2), Nanos(u64::MAX / 2));
        assert_eq!(Nanos(10).scaled(4, 5), Nanos(8));
    }
}
