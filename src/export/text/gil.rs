//! Who held the interpreter lock (GIL), and how much of the time.

use std::io;

use super::ink::{Ink, Page, Piece};
use super::lengths;
use crate::model::{LoopInfo, ProcessInfo, Recording, Report, ThreadInfo};

/// Shares below this are not worth a word: at 100 looks a second for 10 s it is 10 looks.
const LEAST: f64 = 0.01;
/// Most threads listed of one process.
const MOST_THREADS: usize = 4;
/// Most processes listed.
const MOST: usize = 8;

/// Writes a line for each process in which another thread than the loops' own held the lock for a
/// share worth a word: what a loop's own thread does is told by how busy the loop was.
pub(super) fn write(page: &mut Page<'_>, report: &Report) -> io::Result<()> {
    let recording = &report.recording;
    let told = recording.processes.iter().filter_map(|process| pieces(recording, process));
    let mut written = false;
    for pieces in told.take(MOST) {
        page.wrapped(&[(Ink::Dim, " GIL  ")], &pieces)?;
        written = true;
    }
    if written { page.blank() } else { Ok(()) }
}

fn pieces(recording: &Recording, process: &ProcessInfo) -> Option<Vec<Piece>> {
    let share = |thread: &ThreadInfo| process.gil.share(thread.gil_held).unwrap_or(0.0);
    let mut threads: Vec<&ThreadInfo> =
        process.threads.iter().filter(|thread| share(thread) >= LEAST).collect();
    threads.sort_by(|a, b| share(b).total_cmp(&share(a)));
    // A thread of an executor looks like one that could serve requests until it did.
    let serves = |info: &LoopInfo| info.kind.is_loop() || info.tally.iterations_seen > 0;
    let runs_loop = |thread: &ThreadInfo| {
        let own = |info: &&LoopInfo| info.pid == process.pid && info.tid == thread.tid;
        recording.loops.iter().filter(own).any(serves)
    };
    if threads.iter().all(|thread| runs_loop(thread)) {
        return None;
    }
    let held = lengths::percent(process.gil.share(process.gil.held)?);
    let head = if recording.processes.len() > 1 {
        format!("pid {}: held {held} of the time", process.pid)
    } else {
        format!("held {held} of the time")
    };
    let mut pieces = vec![Piece::word(Ink::Plain, head)];
    for thread in threads.iter().take(MOST_THREADS) {
        let name = match thread.title() {
            "" => String::new(),
            name => format!(" ({name})"),
        };
        let share = lengths::percent(share(thread));
        let text = format!("· {share} by thread {}{name}", thread.tid);
        let ink = if runs_loop(thread) { Ink::Plain } else { Ink::Bold };
        pieces.push(Piece::word(ink, text));
    }
    Some(pieces)
}
