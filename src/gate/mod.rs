//! Gates for CI: `--fail-on` says when a report is bad enough to fail, `--allow` which stalls are
//! known and accepted.
//!
//! Takes a finished [`Report`], gives a [`Failure`] with a sentence for the user. Allowed stalls
//! are never gated. Judges only what the report prints: the same lengths, the same counts.

use std::fmt;
use std::str::FromStr;

use crate::model::{FrameId, Report, Stall, Tables};
use crate::printable::printable;
use crate::units::Nanos;
use crate::values;

mod pattern;

pub use pattern::{Pattern, PatternError, allow};

/// A number to compare with, and whether equal is already too much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit<T> {
    /// The number.
    pub value: T,
    /// `>=` was written, not `>`.
    pub inclusive: bool,
}

impl<T: PartialOrd> Limit<T> {
    fn is_passed_by(&self, value: &T) -> bool {
        *value > self.value || (self.inclusive && *value == self.value)
    }

    fn sign(&self) -> &'static str {
        if self.inclusive { ">=" } else { ">" }
    }
}

/// One `--fail-on` condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Gate {
    /// `stall>100ms`: fails on any stall longer than this.
    Stall(Limit<Nanos>),
    /// `stalls>5`: fails on more stalls than this.
    Stalls(Limit<u64>),
    /// `loop-utilization>0.9`: fails when a loop is outside its poll for more of the time than
    /// this, 0 to 1. A report without a measured loop fails too: what was asked for is not known.
    LoopUtilization(Limit<f64>),
    /// `finding:NAME`: fails when the report has this finding. `*` stands for any characters.
    Finding(Pattern),
}

/// Why an expression is none. Its text says what is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GateError(String);

impl FromStr for Gate {
    type Err = GateError;

    fn from_str(text: &str) -> Result<Gate, GateError> {
        let fail = |what: String| GateError(format!("`{text}`: {what}"));
        if let Some(name) = text.trim().strip_prefix("finding:") {
            let pattern = name.parse().map_err(|_| {
                fail("name the finding, like finding:loop-blocked-by-call".to_owned())
            })?;
            return Ok(Gate::Finding(pattern));
        }
        let (name, rest) = text.split_once('>').ok_or_else(|| {
            fail(
                "not a condition: write stall>100ms, stalls>5, loop-utilization>0.9 or \
                 finding:NAME (>= works too; quote it, the shell reads > as a file)"
                    .to_owned(),
            )
        })?;
        let (inclusive, number) = match rest.strip_prefix('=') {
            Some(number) => (true, number.trim()),
            None => (false, rest.trim()),
        };
        match name.trim() {
            "stall" => values::duration(number)
                .map(|value| Gate::Stall(Limit { value, inclusive }))
                .map_err(|error| fail(error.to_string())),
            "stalls" => number
                .parse()
                .map(|value| Gate::Stalls(Limit { value, inclusive }))
                .map_err(|_| fail("write a whole number of stalls, like stalls>5".to_owned())),
            "loop-utilization" => values::share(number)
                .map(|value| Gate::LoopUtilization(Limit { value, inclusive }))
                .map_err(|error| fail(error.to_string())),
            other => Err(fail(format!(
                "`{other}` cannot be gated; stall, stalls, loop-utilization and finding:NAME can"
            ))),
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gate::Stall(limit) => {
                write!(f, "stall{}{}ms", limit.sign(), limit.value.as_millis_f64())
            }
            Gate::Stalls(limit) => write!(f, "stalls{}{}", limit.sign(), limit.value),
            Gate::LoopUtilization(limit) => {
                write!(f, "loop-utilization{}{}", limit.sign(), limit.value)
            }
            Gate::Finding(pattern) => write!(f, "finding:{pattern}"),
        }
    }
}

/// A gate that failed. Displays as one sentence with the number and the worst offender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The condition, as it could have been written.
    pub gate: String,
    /// What was found instead, and where.
    pub found: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gate failed: {}: {}", self.gate, self.found)
    }
}

impl Gate {
    /// Judges a report; `None` when it passes.
    #[must_use]
    pub fn check(&self, report: &Report) -> Option<Failure> {
        let found = match self {
            Gate::Stall(limit) => longest_stall(report, limit),
            Gate::Stalls(limit) => stall_count(report, limit),
            Gate::LoopUtilization(limit) => busiest_loop(report, limit),
            Gate::Finding(pattern) => report
                .findings
                .iter()
                .find(|finding| pattern.fits(&finding.id))
                .map(|finding| format!("{}: {}", finding.id, printable(&finding.summary))),
        };
        found.map(|found| Failure { gate: self.to_string(), found })
    }
}

fn gated(report: &Report) -> impl Iterator<Item = &Stall> {
    report.stalls.iter().filter(|stall| !stall.allowed)
}

fn longest_stall(report: &Report, limit: &Limit<Nanos>) -> Option<String> {
    let over = gated(report).filter(|stall| limit.is_passed_by(&stall.duration())).count();
    let worst = gated(report).max_by_key(|stall| stall.duration())?;
    (over > 0).then(|| {
        let plural = if over == 1 { "stall is" } else { "stalls are" };
        format!("{over} {plural} that long, the longest {}", describe(report, worst))
    })
}

fn stall_count(report: &Report, limit: &Limit<u64>) -> Option<String> {
    let count = gated(report).count() as u64;
    limit.is_passed_by(&count).then(|| match gated(report).max_by_key(|stall| stall.duration()) {
        Some(worst) => format!("{count} stalls, the longest {}", describe(report, worst)),
        None => format!("{count} stalls"),
    })
}

fn busiest_loop(report: &Report, limit: &Limit<f64>) -> Option<String> {
    let measured = report.loops.iter().filter_map(|one| one.utilization.map(|u| (one.loop_id, u)));
    let Some((id, busy)) = measured.max_by(|a, b| a.1.total_cmp(&b.1)) else {
        return Some("no event loop was measured".to_owned());
    };
    limit.is_passed_by(&busy).then(|| match report.recording.get_loop(id) {
        Some(info) => {
            format!("the loop of process {}, thread {}: {busy:.2}", info.pid, info.tid)
        }
        None => format!("{busy:.2}"),
    })
}

/// A stall in a few words: how long, where, for whom.
fn describe(report: &Report, stall: &Stall) -> String {
    let tables = &report.recording.tables;
    let mut text = format!("{:.1} ms", stall.duration().as_millis_f64());
    if let Some(culprit) = &stall.culprit {
        let (place, function) = place_and_function(tables, culprit.frame);
        text.push_str(&format!(" in {} {}", printable(&place), printable(function)));
    }
    if let Some(endpoint) = stall.endpoint {
        text.push_str(&format!(" ({})", printable(tables.text(endpoint))));
    }
    text
}

/// `/srv/app/views.py:12` and the function's name.
fn place_and_function(tables: &Tables, id: FrameId) -> (String, &str) {
    let Some(frame) = tables.get_frame(id) else { return ("?".to_owned(), "?") };
    let file = frame.file.map_or("?", |file| tables.text(file));
    let place = match frame.line {
        Some(line) => format!("{file}:{line}"),
        None => file.to_owned(),
    };
    (place, tables.text(frame.function))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_parse_and_print() {
        for (text, printed) in [
            ("stall>100ms", "stall>100ms"),
            ("stall >= 1s", "stall>=1000ms"),
            ("stall>0.5", "stall>0.5ms"),
            ("stalls>5", "stalls>5"),
            ("stalls>=0", "stalls>=0"),
            ("loop-utilization>0.9", "loop-utilization>0.9"),
            ("loop-utilization>=90%", "loop-utilization>=0.9"),
            ("finding:loop-blocked-by-call", "finding:loop-blocked-by-call"),
            ("finding:*", "finding:*"),
        ] {
            let gate: Gate = text.parse().unwrap();
            assert_eq!(gate.to_string(), printed);
            assert_eq!(gate.to_string().parse(), Ok(gate), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_is_allowed() {
        for (text, help) in [
            ("", "stall>100ms"),
            ("stall", "stall>100ms"),
            ("stall<5ms", "stall>100ms"),
            ("stall=5ms", "stall>100ms"),
            ("stall>", "10ms"),
            ("stall>ten", "10ms"),
            ("stall>>5ms", "10ms"),
            ("stall>-5ms", "10ms"),
            ("stall>5 bananas", "10ms"),
            ("stalls>5.5", "stalls>5"),
            ("stalls>-1", "stalls>5"),
            ("stalls>5ms", "stalls>5"),
            ("stalls>99999999999999999999999", "stalls>5"),
            ("loop-utilization>2", "0.9"),
            ("loop-utilization>=NaN", "0.9"),
            ("lag>5ms", "loop-utilization"),
            (">5", "stalls"),
            ("finding:", "finding:loop-blocked-by-call"),
            ("finding", "finding:NAME"),
            ("💥>5", "stalls"),
        ] {
            let error = text.parse::<Gate>().unwrap_err().to_string();
            assert!(error.contains(help), "{text}: {error}");
            assert!(error.starts_with(&format!("`{text}`")), "{text}: {error}");
        }
    }
}
