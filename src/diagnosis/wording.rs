//! How figures and places read in a sentence.
//!
//! Takes numbers and frames, gives short text. Knows no rule.

use super::blocked::Blocked;
use crate::model::{FrameId, Recording, Tables};
use crate::units::Nanos;

/// Bytes of the unit that memory is told in.
pub const MEBIBYTE: f64 = 1_048_576.0;

/// A share of the time: `41 %`, below one per cent with a digit more.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.1 {
        "under 0.1 %".to_owned()
    } else if percent > 0.0 && percent < 0.95 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

/// A length of time: `850 us`, `10 ms`, `412 ms`, `2.4 s`.
#[must_use]
pub fn length(time: Nanos) -> String {
    let millis = time.as_millis_f64();
    if millis < 0.9995 {
        format!("{:.0} us", millis * 1e3)
    } else if millis < 9.95 {
        format!("{millis:.1} ms").replace(".0 ms", " ms")
    } else if millis < 999.5 {
        format!("{millis:.0} ms")
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// `a, b and c`.
#[must_use]
pub fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A number of things: `1 stall`, `3 stalls`.
#[must_use]
pub fn several(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// How much of the time and how long at most: `41 % of the time, longest 412 ms`.
#[must_use]
pub fn extent(blocked: &Blocked) -> String {
    let share = percent(blocked.share);
    let up_to = if blocked.loops > 1 && !share.starts_with("under") { "up to " } else { "" };
    format!("{up_to}{share} of the time, longest {}", length(blocked.max))
}

/// What to call the loops that stalled, with the verb's ending: `the event loop is`.
#[must_use]
pub fn loops_are(blocked: &Blocked) -> String {
    if blocked.loops > 1 {
        format!("{} event loops are", blocked.loops)
    } else {
        "the event loop is".to_owned()
    }
}

/// A place in a program: `lifecycle.py:88 list_sandboxes`.
#[must_use]
pub fn place(recording: &Recording, frame: FrameId) -> String {
    place_in(&recording.tables, frame)
}

/// The same while there is no recording yet.
#[must_use]
pub fn place_in(tables: &Tables, frame: FrameId) -> String {
    let Some(frame) = tables.get_frame(frame) else { return "?".to_owned() };
    let function = tables.text(frame.function);
    let Some(file) = frame.file.map(|file| tables.text(file)) else {
        return function.to_owned();
    };
    let file = file.rsplit('/').next().unwrap_or(file);
    match frame.line {
        Some(line) => format!("{file}:{line} {function}"),
        None => format!("{file} {function}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_the_digits_that_matter() {
        let shares = [0.0, 0.0004, 0.004, 0.0099, 0.41, 1.0].map(percent);
        assert_eq!(shares, ["0 %", "under 0.1 %", "0.4 %", "1 %", "41 %", "100 %"]);
        let lengths = [850, 2_000, 4_260, 9_990, 412_300, 999_600, 11_900_000];
        let lengths = lengths.map(|us| length(Nanos::from_micros(us)));
        let expected = ["850 us", "2 ms", "4.3 ms", "10 ms", "412 ms", "1.0 s", "11.9 s"];
        assert_eq!(lengths, expected);
    }

    #[test]
    fn an_extent_reads_as_a_sentence() {
        let of = |loops, share| {
            let max = Nanos::from_millis(12);
            extent(&Blocked { stalls: Vec::new(), share, max, loops, culprits: Vec::new() })
        };
        assert_eq!(of(1, 0.25), "25 % of the time, longest 12 ms");
        assert_eq!(of(2, 0.25), "up to 25 % of the time, longest 12 ms");
        assert_eq!(of(2, 0.0005), "under 0.1 % of the time, longest 12 ms");
    }
}
