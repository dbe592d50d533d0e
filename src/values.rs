//! Quantities as people type them: `10ms`, `1khz`, `90%`.
//!
//! Takes one word of a command line, gives a number in the tool's own units, or a sentence that
//! says what is allowed. Knows no flag: whoever calls names the flag in front of the sentence.

use crate::units::Nanos;

/// Why a typed quantity was not understood. Its text says what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

/// The longest duration taken: a day. More is a slip of the finger.
const LONGEST: Nanos = Nanos::from_secs(24 * 60 * 60);

/// Nanoseconds of each unit of time; the empty one is what a bare number means.
const TIME_UNITS: [(&str, f64); 8] = [
    ("", 1e6),
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("min", 60e9),
];

/// Reads a length of time: `500us`, `10ms`, `1.5s`; a bare number is milliseconds.
///
/// # Errors
/// When the text is no number with a known unit, is not above zero, or is longer than a day.
pub fn duration(text: &str) -> Result<Nanos, ValueError> {
    let fail = |what: &str| {
        ValueError(format!(
            "`{text}` {what}: write a number and a unit, like 500us, 10ms or 1s \
             (without a unit: milliseconds)"
        ))
    };
    let (number, unit) = split(text).ok_or_else(|| fail("is not a duration"))?;
    let scale = find(&TIME_UNITS, unit).ok_or_else(|| fail("has an unknown unit"))?;
    let nanos = (number * scale).round();
    if nanos < 1.0 {
        return Err(fail("is too short"));
    }
    if nanos > LONGEST.as_secs_f64() * 1e9 {
        return Err(fail("is longer than a day"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 1 ns to a day fits
    Ok(Nanos(nanos as u64))
}

/// The highest rate taken, looks a second. A look costs some 10 µs: beyond this there is no time
/// left between two of them.
const FASTEST_HZ: f64 = 20_000.0;

/// Reads a rate in looks a second: `100`, `250hz`, `1khz`.
///
/// # Errors
/// When the text is no number with a known unit, is not above zero, or is above 20 kHz.
pub fn rate(text: &str) -> Result<f64, ValueError> {
    let fail = |what: &str| {
        ValueError(format!(
            "`{text}` {what}: write looks a second, like 100, 250hz or 1khz, up to 20khz"
        ))
    };
    let (number, unit) = split(text).ok_or_else(|| fail("is not a rate"))?;
    let units = [("", 1.0), ("hz", 1.0), ("khz", 1e3)];
    let scale = find(&units, unit).ok_or_else(|| fail("has an unknown unit"))?;
    let hertz = number * scale;
    if hertz <= 0.0 {
        return Err(fail("is not above zero"));
    }
    if hertz > FASTEST_HZ {
        return Err(fail("is too fast"));
    }
    Ok(hertz)
}

/// Reads a share of a whole: `0.9` or `90%`.
///
/// # Errors
/// When the text is no number, or lies outside 0 to 1.
pub fn share(text: &str) -> Result<f64, ValueError> {
    let fail = || {
        ValueError(format!(
            "`{text}` is not a share: write a number from 0 to 1, like 0.9, or a percentage, \
             like 90%"
        ))
    };
    let (number, unit) = split(text).ok_or_else(fail)?;
    let value = match unit.as_str() {
        "" => number,
        "%" => number / 100.0,
        _ => return Err(fail()),
    };
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(fail()) }
}

/// A plain decimal number, not negative, and the lower-cased word after it.
fn split(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let number: f64 = number.parse().ok()?;
    number.is_finite().then(|| (number, unit.trim().to_lowercase()))
}

fn find(units: &[(&str, f64)], unit: String) -> Option<f64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, nanos) in [
            ("500us", 500_000),
            ("500µs", 500_000),
            ("10ms", 10_000_000),
            ("10", 10_000_000),
            ("0.5", 500_000),
            ("1s", 1_000_000_000),
            ("1.5 s", 1_500_000_000),
            ("2MS", 2_000_000),
            ("1min", 60_000_000_000),
            ("7ns", 7),
        ] {
            assert_eq!(duration(text), Ok(Nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_is_allowed() {
        for text in [
            "", " ", "ms", "-5ms", "0", "0ms", "1e3", "1e309", "ten", "10m", "10 10", "1..5", ".",
            "5d", "9999999s", "∞", "0x10", "inf", "NaN", "10ms;", "1,5s",
        ] {
            let error = duration(text).unwrap_err().to_string();
            assert!(error.contains("10ms"), "{text}: {error}");
            assert!(error.contains(&format!("`{text}`")), "{text}: {error}");
        }
        for text in ["", "-1", "0", "fast", "1mhz", "30khz", "100/s", "1e2"] {
            let error = rate(text).unwrap_err().to_string();
            assert!(error.contains("1khz"), "{text}: {error}");
        }
        for text in ["", "1.1", "-0.1", "101%", "half", "0.5x"] {
            assert!(share(text).unwrap_err().to_string().contains("90%"), "{text}");
        }
    }

    #[test]
    fn rates_and_shares() {
        assert_eq!(rate("100"), Ok(100.0));
        assert_eq!(rate("1kHz"), Ok(1000.0));
        assert_eq!(rate("0.5hz"), Ok(0.5));
        assert_eq!(share("90%"), Ok(0.9));
        assert_eq!(share("0.25"), Ok(0.25));
    }
}
