//! The summary for people: the verdict first, then the evidence, then what to do.
//!
//! Written to be read at three in the morning: one screen, the costliest first, every number with
//! the precision its evidence has and no more.

use std::io::{self, Write};

use super::names::FileNames;
use super::{Exporter, View};
use crate::model::{LoopInfo, ProcessInfo, Report, Role};
use crate::printable::shortened;
use ink::{Ink, Page};

mod advice;
mod causes;
mod footer;
mod gil;
mod ink;
mod lengths;
mod loops;
mod pools;
mod sockets;
mod stalls;

/// Columns where there is no terminal to ask.
const DEFAULT_WIDTH: usize = 100;
/// Below this a table is no table any more; above it the eye loses the line.
const WIDTHS: (usize, usize) = (60, 140);
/// Most characters of a command line in the header.
const COMMAND: usize = 40;

/// Writes the text summary.
#[derive(Debug)]
pub(super) struct Text;

impl Exporter for Text {
    fn write(&self, report: &Report, view: &View, out: &mut dyn Write) -> io::Result<()> {
        let width = match view.width {
            0 => DEFAULT_WIDTH,
            width => width.clamp(WIDTHS.0, WIDTHS.1),
        };
        let names = FileNames::new(&report.recording, view.full_filenames);
        let mut page = Page::new(out, view.color, width);
        header(&mut page, report)?;
        page.blank()?;
        verdict(&mut page, report)?;
        page.blank()?;
        stalls::write(&mut page, report, &names)?;
        loops::write(&mut page, report)?;
        gil::write(&mut page, report)?;
        pools::write(&mut page, report)?;
        sockets::write(&mut page, report)?;
        advice::write(&mut page, report, &names)?;
        footer::write(&mut page, report)
    }
}

/// `stallspy: 30.0 s · uvicorn 0.30.1, 2 workers (asyncio), CPython 3.12.1 · 2 cores`
fn header(page: &mut Page<'_>, report: &Report) -> io::Result<()> {
    let recording = &report.recording;
    let processes = &recording.processes;
    let mut what: Vec<String> = distinct(processes.iter().map(server));
    let workers = processes.iter().filter(|one| one.topology.role == Role::Worker).count();
    let kinds = distinct(recording.loops.iter().map(loop_name));
    let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
    what.push(match (workers, processes.as_slice()) {
        (0, [one]) => format!("pid {}{kinds}", one.pid),
        (0, _) => format!("{} processes{kinds}", processes.len()),
        (1, _) => format!("1 worker{kinds}"),
        (_, _) => format!("{workers} workers{kinds}"),
    });
    let pythons = distinct(processes.iter().map(|one| one.python.clone()));
    if !pythons.is_empty() {
        what.push(format!("CPython {}", shortened(&pythons.join(" and "), COMMAND)));
    }
    let mut parts = vec![lengths::span(recording.length()), what.join(", ")];
    match processes.iter().map(|one| one.cpus).max() {
        Some(1) => parts.push("1 core".to_owned()),
        Some(cores) => parts.push(format!("{cores} cores")),
        None => {}
    }
    let text = parts.join(" · ");
    page.line(&[(Ink::Bold, "stallspy: "), (Ink::Plain, &text)])
}

fn server(process: &ProcessInfo) -> String {
    let topology = &process.topology;
    match &topology.server_version {
        _ if !topology.is_server() => shortened(&process.command, COMMAND),
        None => topology.server.clone(),
        Some(version) => format!("{} {}", topology.server, shortened(version, COMMAND)),
    }
}

fn loop_name(info: &LoopInfo) -> String {
    info.kind.name().to_owned()
}

/// The different ones, in the order they come in.
fn distinct(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for one in all {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen
}

fn verdict(page: &mut Page<'_>, report: &Report) -> io::Result<()> {
    let blocked = report.stalls.iter().any(|stall| !stall.allowed);
    let nothing_seen = report.recording.loops.iter().all(|info| info.tally.looks() == 0);
    let ink = match (blocked, nothing_seen) {
        (true, _) => Ink::Alarm,
        (false, true) => Ink::Warning,
        (false, false) => Ink::Good,
    };
    page.prose(&[(ink, "VERDICT"), (Ink::Plain, "  ")], ink.strong(), &report.verdict)
}
