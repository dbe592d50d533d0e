//! Lengths and numbers in words, with the precision their evidence has.

use crate::model::{Evidence, Stall};
use crate::units::Nanos;

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// How a figure is marked: what it is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// As exact as it is printed.
    Exact,
    /// Known to the distance of two looks.
    About,
    /// Seen to be at least this.
    AtLeast,
}

impl Mark {
    /// The sign before the number.
    fn sign(self) -> &'static str {
        match self {
            Mark::Exact => "",
            Mark::About => "~",
            Mark::AtLeast => "≥",
        }
    }
}

/// How a stall's length is known.
pub(super) fn mark(stall: &Stall) -> Mark {
    if stall.ongoing || stall.before_attach {
        Mark::AtLeast
    } else if stall.evidence == Evidence::Sampled {
        Mark::About
    } else {
        Mark::Exact
    }
}

/// The length of a stall, or of several together: `412 ms`, `~410 ms`, `≥5.2 s`.
pub(super) fn of(stalls: &[&Stall]) -> String {
    let worst = stalls.iter().map(|stall| mark(stall)).max().unwrap_or(Mark::Exact);
    let mut best = Nanos::ZERO;
    let mut doubt = Nanos::ZERO;
    for stall in stalls {
        let length = stall.length();
        if mark(stall) == Mark::AtLeast {
            best += length.lo;
        } else {
            best += stall.duration();
            doubt += length.hi.saturating_sub(length.lo);
        }
    }
    // A digit smaller than the interval the length lies in would be made up.
    let step = step_of(best).max(power_of_ten(doubt.0));
    format!("{}{}", worst.sign(), rounded(best, step))
}

/// A sum that rests on looks, and on these stalls: `~410 ms`, `≥5.2 s`.
pub(super) fn sampled(length: Nanos, stalls: &[&Stall]) -> String {
    let mark = stalls.iter().map(|stall| mark(stall)).max().unwrap_or(Mark::About);
    format!("{}{}", mark.max(Mark::About).sign(), plain(length))
}

/// A length as such, to three digits, or whole milliseconds: `11.9 s`, `88 ms`, `1.2 ms`.
pub(super) fn plain(length: Nanos) -> String {
    rounded(length, step_of(length))
}

/// A length known to a bucket's width of a third of an octave: two digits.
pub(super) fn coarse(length: Nanos) -> String {
    rounded(length, (power_of_ten(length.0) / 10).max(step_of(length)))
}

/// The length of a recording: `30.0 s`, `12 min 5 s`.
pub(super) fn span(length: Nanos) -> String {
    let seconds = length.0 / SECOND;
    if seconds < 120 {
        format!("{:.1} s", length.as_secs_f64())
    } else if seconds < 7200 {
        format!("{} min {} s", seconds / 60, seconds % 60)
    } else {
        format!("{} h {} min", seconds / 3600, seconds % 3600 / 60)
    }
}

/// The smallest digit worth printing.
fn step_of(length: Nanos) -> u64 {
    match length.0 {
        0..MILLI => 10 * MICRO,
        MILLI..10_000_000 => 100 * MICRO,
        10_000_000..SECOND => MILLI,
        SECOND..10_000_000_000 => 10 * MILLI,
        10_000_000_000..100_000_000_000 => 100 * MILLI,
        _ => SECOND,
    }
}

/// The largest power of ten that is not above `n`.
fn power_of_ten(n: u64) -> u64 {
    n.checked_ilog10().map_or(1, |digits| 10u64.saturating_pow(digits))
}

/// `length` rounded to a multiple of `step`, a power of ten, in the unit that fits.
fn rounded(length: Nanos, step: u64) -> String {
    let step = step.max(1);
    let value = length.0.saturating_add(step / 2) / step * step;
    // Rounding up may have reached the next digit: 999.7 ms is 1.00 s, not 1.000 s.
    let step = step.max(step_of(Nanos(value)));
    let (unit, name) = match value {
        SECOND.. => (SECOND, "s"),
        MILLI.. => (MILLI, "ms"),
        0 => (MILLI, "ms"),
        _ => (MICRO, "µs"),
    };
    let decimals =
        if value == 0 { 0 } else { (unit / step).checked_ilog10().unwrap_or(0) as usize };
    let whole = value / unit;
    if decimals == 0 {
        return format!("{whole} {name}");
    }
    let fraction = value % unit / step;
    format!("{whole}.{fraction:0decimals$} {name}")
}

/// A share as a percentage: `41 %`, `0.4 %`.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent <= 0.0 {
        "0 %".to_owned()
    } else if percent < 0.1 {
        "<0.1 %".to_owned()
    } else if percent < 9.95 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

/// A count with its thousands apart: `12,040`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 look`, `2 looks`.
pub(super) fn many(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cause, LoopId, Particulars, TimeSplit};
    use crate::units::{Bounds, Pid, Tid, Timestamp};

    #[test]
    fn lengths_have_three_digits_at_most() {
        for (nanos, text) in [
            (0, "0 ms"),
            (4_000, "0 ms"),
            (451_000, "450 µs"),
            (1_234_567, "1.2 ms"),
            (9_960_000, "10 ms"),
            (88_400_000, "88 ms"),
            (411_600_000, "412 ms"),
            (999_700_000, "1.00 s"),
            (1_424_000_000, "1.42 s"),
            (11_949_000_000, "11.9 s"),
            (123_456_000_000, "123 s"),
            (u64::MAX, "18446744073 s"),
        ] {
            assert_eq!(plain(Nanos(nanos)), text, "{nanos}");
        }
    }

    /// A stall of `ms`, its end known to `doubt_ms`.
    fn stall(ms: u64, doubt_ms: u64, evidence: Evidence, ongoing: bool) -> Stall {
        let begin = Timestamp(1_000_000_000);
        let end = begin + Nanos::from_millis(ms);
        Stall {
            occupies: false,
            loop_id: LoopId(0),
            pid: Pid(1),
            tid: Tid(1),
            began: Bounds::exactly(begin),
            ended: Bounds { lo: end, hi: end + Nanos::from_millis(doubt_ms) },
            ongoing,
            before_attach: false,
            evidence,
            cause: Cause::Unknown,
            split: TimeSplit::default(),
            callbacks: 1,
            waiting_callbacks: None,
            task: None,
            coroutine: None,
            endpoint: None,
            culprit: None,
            stack: None,
            native: None,
            particulars: Particulars::default(),
            allowed: false,
        }
    }

    #[test]
    fn no_digit_is_made_up() {
        use Evidence::{Counted, Sampled, Traced};
        let exact = stall(412, 0, Traced, false);
        assert_eq!(of(&[&exact]), "412 ms");
        assert_eq!(of(&[&stall(411, 1, Counted, false)]), "412 ms");
        assert_eq!(of(&[&stall(402, 18, Sampled, false)]), "~410 ms");
        assert_eq!(of(&[&stall(402, 180, Sampled, false)]), "~500 ms");
        assert_eq!(of(&[&stall(5_000, 300, Counted, true)]), "≥5.00 s");
        assert_eq!(of(&[&exact, &stall(402, 18, Sampled, false)]), "~820 ms");
        assert_eq!(of(&[&exact, &stall(5_000, 300, Counted, true)]), "≥5.41 s");
    }

    #[test]
    fn buckets_have_two() {
        assert_eq!(coarse(Nanos(423_000_000)), "420 ms");
        assert_eq!(coarse(Nanos(8_470_000)), "8.5 ms");
        assert_eq!(coarse(Nanos(0)), "0 ms");
        assert_eq!(coarse(Nanos(1_690_000_000)), "1.7 s");
    }

    #[test]
    fn spans_shares_and_counts() {
        assert_eq!(span(Nanos::from_millis(30_040)), "30.0 s");
        assert_eq!(span(Nanos::from_secs(725)), "12 min 5 s");
        assert_eq!(span(Nanos::from_secs(7261)), "2 h 1 min");
        assert_eq!(
            [0.0, 0.0004, 0.004, 0.05, 0.41, 0.996, 1.0].map(percent),
            ["0 %", "<0.1 %", "0.4 %", "5.0 %", "41 %", "100 %", "100 %"]
        );
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }
}
