//! What to do: the recommendations of the findings, the one that explains most first.

use std::io;

use super::ink::{Ink, Page, Piece};
use super::lengths;
use crate::export::names::FileNames;
use crate::model::{Effect, Finding, Measured, Recommendation, Remedy, Report};
use crate::units::{Nanos, whole};

/// Most recommendations listed: nobody does more than a few things at once.
const MOST: usize = 5;

/// Writes the list; nothing if there is nothing to do.
pub(super) fn write(page: &mut Page<'_>, report: &Report, names: &FileNames<'_>) -> io::Result<()> {
    list(page, report, names, MOST)
}

/// The same, however long it is.
pub(super) fn write_all(
    page: &mut Page<'_>,
    report: &Report,
    names: &FileNames<'_>,
) -> io::Result<()> {
    list(page, report, names, usize::MAX)
}

fn list(
    page: &mut Page<'_>,
    report: &Report,
    names: &FileNames<'_>,
    most: usize,
) -> io::Result<()> {
    let all = report.advice();
    // The verdict is a finding's sentence already.
    let is_told = |finding: &&Finding| finding.summary == report.verdict;
    let notes = report.findings.iter().filter(|finding| finding.recommendations.is_empty());
    let notes = notes.filter(|finding| !is_told(finding));
    let mut written = false;
    for (index, advice) in all.iter().take(most).enumerate() {
        let head = if index == 0 { "DO" } else { "  " };
        let number = format!("  {}. ", index + 1);
        let indent = " ".repeat(head.len() + number.len());
        let head = [(Ink::Good, head), (Ink::Plain, number.as_str())];
        let change = what(report, advice, names);
        match predicted(&advice.predicted) {
            Some(effect) => {
                let change = change.split_whitespace().map(|word| Piece::word(Ink::Bold, word));
                let effect = effect.split_whitespace().map(|word| Piece::word(Ink::Good, word));
                let pieces: Vec<Piece> =
                    change.chain([Piece::word(Ink::Plain, "·")]).chain(effect).collect();
                page.wrapped(&head, &pieces)?;
            }
            None => page.prose(&head, Ink::Bold, &change)?,
        }
        let why = why(advice);
        if !why.is_empty() {
            page.prose(&[(Ink::Plain, &indent)], Ink::Dim, &why)?;
        }
        written = true;
    }
    if all.len() > most {
        let text = format!("    … and {} more: `-f json` lists them", all.len() - most);
        page.line(&[(Ink::Dim, &text)])?;
    }
    for finding in notes {
        page.prose(&[(Ink::Warning, "NOTE"), (Ink::Plain, "  ")], Ink::Plain, &finding.summary)?;
        written = true;
    }
    for (need, rules) in undecided(&report.undecided) {
        let text = format!("{}: cannot tell without {need}", rules.join(", "));
        page.prose(&[(Ink::Plain, "      ")], Ink::Dim, &text)?;
        written = true;
    }
    if written { page.blank() } else { Ok(()) }
}

/// Rules that could not tell, those that need the same together, in the order of the first of each.
fn undecided<'a>(all: &[(&'a str, &'a str)]) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut together: Vec<(&str, Vec<&str>)> = Vec::new();
    for (rule, need) in all {
        match together.iter_mut().find(|(known, _)| known == need) {
            Some((_, rules)) => rules.push(rule),
            None => together.push((need, vec![rule])),
        }
    }
    together
}

/// The change itself, with its place if the command does not name it.
fn what(report: &Report, advice: &Recommendation, names: &FileNames<'_>) -> String {
    let command = &advice.command;
    match &advice.remedy {
        Remedy::Code { frame } => {
            let frame = report.recording.tables.get_frame(*frame);
            match frame.and_then(|frame| names.place(frame)) {
                Some(place) if !command.contains(&place) => format!("{place}: {command}"),
                _ => command.clone(),
            }
        }
        Remedy::Config | Remedy::Platform => command.clone(),
        Remedy::Setting { .. } if advice.keeps() => format!("{command}: {}", advice.reason),
        Remedy::Setting { setting, current, recommended, .. } => {
            let from = current.map_or(String::new(), |now| format!("{now} → "));
            format!("{setting} {from}{recommended}: {command}")
        }
    }
}

/// The reason, with the numbers it rests on.
fn why(advice: &Recommendation) -> String {
    // What to keep has its reason beside it.
    let mut text = if advice.keeps() { String::new() } else { advice.reason.clone() };
    if let Remedy::Setting { limited_by, .. } = &advice.remedy
        && !limited_by.is_empty()
        && !advice.keeps()
    {
        text.push_str(&format!(" (limited by {limited_by})"));
    }
    if !advice.inputs.is_empty() {
        let inputs: Vec<String> = advice.inputs.iter().map(input).collect();
        let gap = if text.is_empty() { "" } else { " " };
        text.push_str(&format!("{gap}[{}]", inputs.join(", ")));
    }
    text
}

/// `Loop delay p99 412 ms → 9 ms, capacity 12 → 40 requests/s a loop (predicted)`.
fn predicted(effects: &[Effect]) -> Option<String> {
    let mut said: Vec<String> = Vec::new();
    for effect in effects {
        let Effect { name, before, after, unit, at_best } = effect;
        let best = if *at_best { "at best " } else { "" };
        let label = match name.as_str() {
            // A median that is 0 before and after says nothing, and quantiles say more than a mean.
            "loop_lag_p50" if *before <= 0.0 => continue,
            "loop_wait_mean" => continue,
            "loop_lag_p50" => "loop delay p50".to_owned(),
            "loop_lag_p99" => "loop delay p99".to_owned(),
            other => other.replace('_', " "),
        };
        said.push(match (name.as_str(), unit.as_str()) {
            (_, "s") => format!("{label} {} → {best}{}", seconds(*before), seconds(*after)),
            (_, "bytes") => format!("{label} {} → {} MiB", mebibytes(*before), mebibytes(*after)),
            ("capacity", "1/s") => {
                format!("{label} of a loop {} → {} requests/s", few(*before), few(*after))
            }
            ("capacity", "ratio") => format!("{label} of a loop × {}", few(after / before)),
            (_, "1/s") => format!("{label} {} → {best}{}/s", few(*before), few(*after)),
            _ => format!("{label} {} → {}", few(*before), few(*after)),
        });
    }
    let text = said.join(", ");
    let mut letters = text.chars();
    let first = letters.next()?;
    Some(format!("{}{} (predicted)", first.to_uppercase(), letters.as_str()))
}

fn seconds(value: f64) -> String {
    lengths::coarse(Nanos::from_micros(u64::from(whole((value * 1e6).round()))))
}

fn mebibytes(bytes: f64) -> String {
    few(bytes / f64::from(1 << 20))
}

/// Two or three digits: more are not predicted.
fn few(value: f64) -> String {
    match value {
        ..9.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn input(measured: &Measured) -> String {
    let Measured { name, value, unit } = measured;
    // Microseconds count where a request takes few of them.
    let value = if unit == "s" && value.abs() < 0.01 {
        format!("{value:.5}")
    } else {
        format!("{value:.3}")
    };
    let value = value.trim_end_matches('0').trim_end_matches('.');
    let unit = match unit.as_str() {
        "count" | "ratio" => String::new(),
        "1/s" => "/s".to_owned(),
        unit => format!(" {unit}"),
    };
    format!("{} {value}{unit}", name.replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_less_is_said_to_be_the_best() {
        let effect = |name: &str, before, after, unit: &str, at_best| Effect {
            name: name.to_owned(),
            before,
            after,
            unit: unit.to_owned(),
            at_best,
        };
        let [sure, best] = [false, true].map(|at_best| {
            predicted(&[
                effect("throughput", 42.0, 82.0, "1/s", at_best),
                effect("response_time", 0.5, 0.25, "s", at_best),
            ])
        });
        assert_eq!(
            sure.as_deref(),
            Some("Throughput 42 → 82/s, response time 500 ms → 250 ms (predicted)")
        );
        assert_eq!(
            best.as_deref(),
            Some("Throughput 42 → at best 82/s, response time 500 ms → at best 250 ms (predicted)")
        );
    }

    #[test]
    fn rules_that_need_the_same_share_a_line() {
        let all = [("loop-hung", "a loop"), ("pool-saturated", "a pool"), ("healthy", "a loop")];
        let together =
            vec![("a loop", vec!["loop-hung", "healthy"]), ("a pool", vec!["pool-saturated"])];
        assert_eq!(undecided(&all), together);
    }
}
