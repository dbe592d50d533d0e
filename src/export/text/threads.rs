//! The table of processes whose requests have threads of their own: how many were held.

use std::io;

use super::ink::{Ink, Page};
use super::lengths;
use crate::model::loop_state::bucket_floor;
use crate::model::{LoopInfo, ProcessInfo, Report, Role, Stall};
use crate::units::Nanos;

/// From this share of the time without a free thread on it is an alarm: one request in ten waits.
const OFTEN: f64 = 0.1;
/// Most processes listed.
const MOST: usize = 16;

/// Writes the table; nothing if no thread was seen that serves requests without a loop.
pub(super) fn write(page: &mut Page<'_>, report: &Report) -> io::Result<()> {
    let processes = &report.recording.processes;
    let seen: Vec<&ProcessInfo> =
        processes.iter().filter(|one| one.occupancy.looks() > 0).collect();
    if seen.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = seen.iter().map(|one| name(one)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(7);
    let head = format!(
        " {:<width$}  {:>6}  {:>6}  {:>6}  {:>7}  {:>11}  {:>15}",
        "threads", "busy", "most", "of", "no free", "others wait", "longest request"
    );
    page.line(&[(Ink::Dim, &head)])?;
    for (process, name) in seen.iter().zip(&names).take(MOST) {
        row(page, report, process, &format!(" {name:<width$}"))?;
    }
    if seen.len() > MOST {
        let text = format!(" … and {} more", seen.len().saturating_sub(MOST));
        page.line(&[(Ink::Dim, &text)])?;
    }
    page.blank()
}

fn row(page: &mut Page<'_>, report: &Report, process: &ProcessInfo, name: &str) -> io::Result<()> {
    let seen = &process.occupancy;
    let busy = seen.mean().map_or("?".to_owned(), |mean| format!("{mean:.1}"));
    let most = seen.most().map_or("?".to_owned(), |most| most.to_string());
    let limit = seen.limit.map_or("?".to_owned(), |limit| limit.to_string());
    let full = seen.share_at_limit();
    let ink = if full.is_some_and(|full| full >= OFTEN) { Ink::AlarmBold } else { Ink::Plain };
    let full = full.map_or("?".to_owned(), lengths::percent);
    // While no thread of the whole server was free.
    let waited = seen.crowd.and_then(|crowd| crowd.starved_share());
    let waited_ink = if waited >= Some(OFTEN) { Ink::AlarmBold } else { Ink::Plain };
    let waited = waited.map_or("?".to_owned(), lengths::percent);
    page.line(&[
        (Ink::Plain, &format!("{name}  {busy:>6}  {most:>6}  {limit:>6}  ")),
        (ink, &format!("{full:>7}")),
        (waited_ink, &format!("  {waited:>11}")),
        (Ink::Plain, &format!("  {:>15}", longest(report, process))),
    ])
}

/// The longest request, as far as it was seen: its age at an evenly spaced look, or a call of it.
fn longest(report: &Report, process: &ProcessInfo) -> String {
    let recording = &report.recording;
    let own = recording.request_threads().filter(|info| info.pid == process.pid);
    let seen = own.map(oldest).max().unwrap_or_default();
    let calls = report.stalls.iter().filter(|stall| stall.occupies && stall.pid == process.pid);
    match calls.map(Stall::duration).chain([seen]).max() {
        Some(longest) if longest >= recording.settings.threshold => {
            format!("~{}", lengths::coarse(longest))
        }
        _ => format!("<{}", lengths::plain(recording.settings.threshold)),
    }
}

/// The least age that the oldest request of a thread had at an evenly spaced look.
fn oldest(info: &LoopInfo) -> Nanos {
    info.tally.ages.iter().rposition(|count| *count > 0).map_or(Nanos::ZERO, bucket_floor)
}

fn name(process: &ProcessInfo) -> String {
    let role = match process.topology.role {
        Role::Worker => "worker",
        Role::Master => "master",
        Role::Single => "pid",
    };
    format!("{role} {}", process.pid)
}
