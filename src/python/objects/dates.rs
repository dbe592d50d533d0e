//! `datetime.datetime`.
//!
//! <https://github.com/python/cpython/blob/v3.12.1/Include/datetime.h>, unchanged from 3.8 to 3.15.

use super::Objects;
use crate::target::ReadError;
use crate::units::{Addr, Nanos};

/// Where the packed bytes lie: after the object's head, its hash, and `hastzinfo`.
pub const DATA: u64 = 25;
/// How many they are: year (2), month, day, hour, minute, second, microsecond (3).
pub const PACKED: usize = 10;
/// Days from 0001-01-01 to 1970-01-01 in the proleptic Gregorian calendar.
const EPOCH: u64 = 719_162;
/// Days of the months before each one, in a year without a leap day.
const BEFORE_MONTH: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

impl Objects<'_> {
    /// The wall-clock time that a `datetime` shows, since 1970-01-01 00:00 of its own time zone.
    ///
    /// # Errors
    /// [`ReadError`] when there is none, or none that can be.
    pub fn datetime(&self, addr: Addr) -> Result<Nanos, ReadError> {
        let (head, kind) = self.head(addr, DATA.saturating_add(2))?;
        if kind.name != "datetime.datetime" {
            return Err(ReadError::Invalid("datetime"));
        }
        let byte = |index: u64| {
            let at = usize::try_from(DATA.saturating_add(index)).unwrap_or(usize::MAX);
            head.get(at).copied().map(u64::from).ok_or(ReadError::Invalid("datetime"))
        };
        let year = byte(0)?.saturating_mul(256).saturating_add(byte(1)?);
        let micros = byte(7)?
            .saturating_mul(65_536)
            .saturating_add(byte(8)?.saturating_mul(256))
            .saturating_add(byte(9)?);
        from_parts([year, byte(2)?, byte(3)?, byte(4)?, byte(5)?, byte(6)?, micros])
            .ok_or(ReadError::Invalid("datetime"))
    }
}

/// Year, month, day, hour, minute, second, microsecond.
fn from_parts([year, month, day, hour, minute, second, micros]: [u64; 7]) -> Option<Nanos> {
    let fits = (1970..=9999).contains(&year)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && micros < 1_000_000;
    if !fits {
        return None;
    }
    let before = usize::try_from(month.checked_sub(1)?).ok()?;
    let before = BEFORE_MONTH.get(before)?;
    let past = year.checked_sub(1)?;
    let leap_days = (past / 4).checked_sub(past / 100)?.checked_add(past / 400)?;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = past
        .checked_mul(365)?
        .checked_add(leap_days)?
        .checked_add(*before)?
        .checked_add(u64::from(is_leap && month > 2))?
        .checked_add(day.checked_sub(1)?)?
        .checked_sub(EPOCH)?;
    let seconds = days
        .checked_mul(86_400)?
        .checked_add(hour.checked_mul(3_600)?)?
        .checked_add(minute.checked_mul(60)?)?
        .checked_add(second)?;
    seconds.checked_mul(1_000_000)?.checked_add(micros)?.checked_mul(1_000).map(Nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_from_the_epoch() {
        // Each by `calendar.timegm`.
        let seconds = |parts| from_parts(parts).map(|nanos| nanos.0 / 1_000_000_000);
        assert_eq!(seconds([1970, 1, 1, 0, 0, 0, 0]), Some(0));
        assert_eq!(seconds([2000, 2, 29, 12, 0, 0, 0]), Some(951_825_600));
        assert_eq!(seconds([2026, 11, 24, 15, 30, 1, 9]), Some(1_795_534_201));
        assert_eq!(seconds([2024, 3, 1, 0, 0, 0, 0]), Some(1_709_251_200));
        assert_eq!(from_parts([1970, 1, 1, 0, 0, 0, 7]), Some(Nanos(7_000)));
    }

    #[test]
    fn garbage_is_no_date() {
        for parts in [
            [0, 1, 1, 0, 0, 0, 0],
            [2026, 13, 1, 0, 0, 0, 0],
            [2026, 0, 1, 0, 0, 0, 0],
            [2026, 1, 0, 0, 0, 0, 0],
            [2026, 1, 1, 24, 0, 0, 0],
            [2026, 1, 1, 0, 0, 0, 1_000_000],
        ] {
            assert_eq!(from_parts(parts), None, "{parts:?}");
        }
    }
}
