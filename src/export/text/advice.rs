//! What to do: the recommendations of the findings, the one that explains most first.

use std::io;

use super::ink::{Ink, Page};
use crate::export::names::FileNames;
use crate::model::{Effect, Measured, Recommendation, Remedy, Report};

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
    let all: Vec<&Recommendation> =
        report.findings.iter().flat_map(|finding| &finding.recommendations).collect();
    let notes = report.findings.iter().filter(|finding| finding.recommendations.is_empty());
    let mut written = false;
    for (index, advice) in all.iter().take(most).enumerate() {
        let head = if index == 0 { "DO" } else { "  " };
        let number = format!("  {}. ", index + 1);
        let indent = " ".repeat(head.len() + number.len());
        let head = [(Ink::Good, head), (Ink::Plain, number.as_str())];
        page.prose(&head, Ink::Bold, &what(report, advice, names))?;
        page.prose(&[(Ink::Plain, &indent)], Ink::Plain, &why(advice))?;
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
    for (rule, need) in &report.undecided {
        let text = format!("{rule}: cannot tell without {need}");
        page.prose(&[(Ink::Plain, "      ")], Ink::Dim, &text)?;
        written = true;
    }
    if written { page.blank() } else { Ok(()) }
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
        Remedy::Setting { setting, current, recommended, .. } => {
            let from = current.map_or(String::new(), |now| format!("{now} → "));
            format!("{setting} {from}{recommended}: {command}")
        }
    }
}

/// The reason, with the numbers it rests on.
fn why(advice: &Recommendation) -> String {
    let mut text = advice.reason.clone();
    if let Remedy::Setting { limited_by, .. } = &advice.remedy
        && !limited_by.is_empty()
    {
        text.push_str(&format!(" (limited by {limited_by})"));
    }
    for effect in &advice.predicted {
        text.push_str(&format!("; {}", predicted(effect)));
    }
    if !advice.inputs.is_empty() {
        let inputs: Vec<String> = advice.inputs.iter().map(input).collect();
        text.push_str(&format!(" [{}]", inputs.join(", ")));
    }
    text
}

fn predicted(effect: &Effect) -> String {
    let Effect { name, before, after, unit } = effect;
    let figure = |value: f64| input(&Measured { name: String::new(), value, unit: unit.clone() });
    format!(
        "{} {} → {} (predicted)",
        name.replace('_', " "),
        figure(*before).trim(),
        figure(*after).trim()
    )
}

fn input(measured: &Measured) -> String {
    let Measured { name, value, unit } = measured;
    let value = format!("{value:.3}");
    let value = value.trim_end_matches('0').trim_end_matches('.');
    let unit = match unit.as_str() {
        "count" | "ratio" => String::new(),
        "1/s" => "/s".to_owned(),
        unit => format!(" {unit}"),
    };
    format!("{} {value}{unit}", name.replace('_', " "))
}
