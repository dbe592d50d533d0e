//! The table of event loops: how busy they were, how long an event waited.

use std::io;

use super::ink::{Ink, Page};
use super::lengths;
use crate::model::{LoopSummary, Recording, Report, Role};
use crate::units::Nanos;

/// A loop outside its poll for more of the time than this has little left for more requests: at
/// this load a single-server queue with random arrivals makes an event wait four times as long as
/// it takes to serve (M/M/1: ρ/(1−ρ)).
const BUSY: f64 = 0.8;

/// Most loops listed.
const MOST: usize = 16;

/// Writes the table; nothing if no loop was seen.
pub(super) fn write(page: &mut Page<'_>, report: &Report) -> io::Result<()> {
    if report.loops.is_empty() {
        return Ok(());
    }
    let rows: Vec<(String, &LoopSummary)> = report
        .loops
        .iter()
        .take(MOST)
        .map(|summary| (name(&report.recording, summary), summary))
        .collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(4);
    let head = format!(
        " {:<width$}  {:>6}  {:>9}  {:>7}  {:>7}",
        "loop", "busy", "delay p50", "p99", "longest"
    );
    page.line(&[(Ink::Dim, &head)])?;
    for (name, summary) in &rows {
        row(page, &report.recording, name, width, summary)?;
    }
    if report.loops.len() > rows.len() {
        let text = format!(" … and {} more", report.loops.len() - rows.len());
        page.line(&[(Ink::Dim, &text)])?;
    }
    page.blank()
}

fn row(
    page: &mut Page<'_>,
    recording: &Recording,
    name: &str,
    width: usize,
    summary: &LoopSummary,
) -> io::Result<()> {
    let busy = summary.utilization.map_or("?".to_owned(), lengths::percent);
    let busy_ink = if summary.utilization.is_some_and(|share| share > BUSY) {
        Ink::AlarmBold
    } else {
        Ink::Plain
    };
    let longest = if summary.lag_max == Nanos::ZERO {
        format!("<{}", lengths::plain(recording.settings.threshold))
    } else {
        lengths::plain(summary.lag_max)
    };
    let lag = |delay| lag(delay, summary.lag_max);
    let numbers =
        format!("  {:>9}  {:>7}  {longest:>7}", lag(summary.lag_p50), lag(summary.lag_p99));
    page.line(&[
        (Ink::Plain, &format!(" {name:<width$}  ")),
        (busy_ink, &format!("{busy:>6}")),
        (Ink::Plain, &numbers),
    ])
}

/// A delay, from counts in buckets: the upper end of one, but not above what was seen.
fn lag(delay: Option<Nanos>, longest: Nanos) -> String {
    match delay {
        None => "?".to_owned(),
        Some(Nanos::ZERO) => "0 ms".to_owned(),
        Some(delay) if longest > Nanos::ZERO && delay > longest => {
            format!("~{}", lengths::coarse(longest))
        }
        Some(delay) => format!("~{}", lengths::coarse(delay)),
    }
}

/// `worker 4243`, with the thread where it is not the first one.
fn name(recording: &Recording, summary: &LoopSummary) -> String {
    let Some(info) = recording.get_loop(summary.loop_id) else { return "?".to_owned() };
    let role = match recording.get_process(info.pid).map(|process| process.topology.role) {
        Some(Role::Worker) => "worker",
        Some(Role::Master) => "master",
        Some(Role::Single) | None => "pid",
    };
    let thread =
        if info.tid.0 == info.pid.0 { String::new() } else { format!(" thread {}", info.tid) };
    format!("{role} {}{thread}", info.pid)
}
