//! How much the rest can be trusted: what was read, what was missed, what it cost.

use std::io;

use super::ink::{Ink, Page, Piece};
use super::lengths::{self, Mark, many};
use crate::model::{EdgeStatus, Evidence, Report};

/// Writes the footer.
pub(super) fn write(page: &mut Page<'_>, report: &Report) -> io::Result<()> {
    let recording = &report.recording;
    let losses = &recording.losses;
    let mut late = many(losses.late_ticks, "late tick");
    if losses.late_ticks > 0 {
        late.push_str(" (nobody looked then)");
    }
    let looks = recording.loops.iter().map(|info| info.tally.looks()).sum();
    let parts = vec![
        many(looks, "look"),
        many(losses.reads, "read"),
        format!("{} torn", lengths::count(losses.torn_reads)),
        format!("{} failed", lengths::count(losses.failed_reads)),
        late,
        format!("{} dropped", lengths::count(losses.dropped)),
        format!(
            "own CPU {} ({} of a core)",
            lengths::plain(recording.own_cpu),
            lengths::percent(recording.own_cpu.share_of(recording.length()))
        ),
    ];
    list(page, "seen  ", parts)?;
    let mut evidence = evidence(report);
    evidence.extend(edges(report));
    if evidence.is_empty() { Ok(()) } else { list(page, "how   ", evidence) }
}

/// The kinds of evidence that occur, the signs that were used, and whether the target was paused.
fn evidence(report: &Report) -> Vec<String> {
    let has = |kind| report.stalls.iter().any(|stall| stall.evidence == kind);
    let marked = |sign| report.stalls.iter().any(|stall| lengths::mark(stall) == sign);
    let mut parts = Vec::new();
    if has(Evidence::Traced) {
        parts.push("traced: lengths are the kernel's own");
    }
    if has(Evidence::Counted) {
        let threads = report.recording.event_loops().next().is_none();
        parts.push(if threads {
            "counted: lengths begin where the server's own clock says"
        } else {
            "counted: lengths begin where the loop's own clock says"
        });
    }
    if marked(Mark::About) {
        parts.push("~ sampled: known to the distance of two looks");
    }
    if marked(Mark::AtLeast) {
        parts.push("≥ not seen whole: at least this long");
    }
    if report.recording.settings.blocking {
        parts.push("threads that ran were paused while a stack was read (--blocking)");
    }
    parts.into_iter().map(str::to_owned).collect()
}

/// Which loops the kernel recorded the edges of, if it was asked, and why not the others.
fn edges(report: &Report) -> Vec<String> {
    let loops: Vec<_> = report.recording.event_loops().collect();
    let count = |status| loops.iter().filter(|info| info.edges == status).count();
    let mut parts = Vec::new();
    for (status, why) in NOT_TRACED {
        let some = match count(*status) {
            0 => continue,
            all if all == loops.len() => String::new(),
            some => format!("{} ", many(some as u64, "loop")),
        };
        parts.push(format!("{some}not traced: {why}"));
    }
    let losses = &report.recording.losses;
    if losses.lost_edges > 0 {
        parts.push(format!("{} lost", many(losses.lost_edges, "edge")));
    }
    if losses.edge_disagreements > 0 {
        let stalls = many(losses.edge_disagreements, "stall");
        parts.push(format!("{stalls} that the loop's clock and the kernel tell differently"));
    }
    parts
}

/// Why a loop's ends are not the kernel's own.
const NOT_TRACED: &[(EdgeStatus, &str)] = &[
    (EdgeStatus::Denied, "perf events are not allowed here"),
    (EdgeStatus::Missing, "this kernel has no perf events for system calls"),
    (EdgeStatus::Unlearnt, "how the loop polls was not found out"),
    (EdgeStatus::Blind, "something keeps the kernel's records back"),
];

fn list(page: &mut Page<'_>, head: &str, parts: Vec<String>) -> io::Result<()> {
    let pieces: Vec<Piece> = parts
        .into_iter()
        .enumerate()
        .map(|(index, part)| {
            let text = if index == 0 { part } else { format!("· {part}") };
            Piece::word(Ink::Dim, text)
        })
        .collect();
    page.wrapped(&[(Ink::Dim, head)], &pieces)
}
