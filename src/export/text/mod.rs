//! The summary for people: the verdict first, then the evidence, then what to do.
//!
//! Written to be read at three in the morning: one screen, the costliest first, every number with
//! the precision its evidence has and no more.

use std::io::{self, Write};

use super::names::FileNames;
use super::{Exporter, View};
use crate::model::Report;
use ink::{Ink, Page};

mod advice;
mod causes;
mod footer;
mod gil;
mod header;
mod ink;
mod lengths;
mod loops;
mod pools;
mod sockets;
mod stalls;
mod threads;

/// Columns where there is no terminal to ask.
const DEFAULT_WIDTH: usize = 100;
/// Below this a table is no table any more; above it the eye loses the line.
const WIDTHS: (usize, usize) = (60, 140);
/// Writes the text summary.
#[derive(Debug)]
pub(super) struct Text;

impl Exporter for Text {
    fn write(&self, report: &Report, view: &View, out: &mut dyn Write) -> io::Result<()> {
        let names = FileNames::new(&report.recording, view.full_filenames);
        let mut page = Page::new(out, view.color, width(view));
        header::write(&mut page, report)?;
        page.blank()?;
        verdict(&mut page, report)?;
        page.blank()?;
        stalls::write(&mut page, report, &names)?;
        loops::write(&mut page, report)?;
        threads::write(&mut page, report)?;
        gil::write(&mut page, report)?;
        pools::write(&mut page, report, &names)?;
        sockets::write(&mut page, report)?;
        advice::write(&mut page, report, &names)?;
        footer::write(&mut page, report)
    }
}

/// Writes the verdict and everything there is to do.
pub(super) fn advice_only(report: &Report, view: &View, out: &mut dyn Write) -> io::Result<()> {
    let names = FileNames::new(&report.recording, view.full_filenames);
    let mut page = Page::new(out, view.color, width(view));
    header::write(&mut page, report)?;
    page.blank()?;
    verdict(&mut page, report)?;
    page.blank()?;
    advice::write_all(&mut page, report, &names)
}

fn width(view: &View) -> usize {
    match view.width {
        0 => DEFAULT_WIDTH,
        width => width.clamp(WIDTHS.0, WIDTHS.1),
    }
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
