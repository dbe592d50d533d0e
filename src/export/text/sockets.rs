//! Lines before listening sockets that someone stood in, and connections that are not kept.

use std::io;

use super::ink::{Ink, Page, Piece};
use super::lengths;
use crate::model::{ConnectionInfo, ListenerInfo, ProcessInfo, Report};

/// A line that is empty for all but this part of the time is no news: every connection stands in it
/// for a moment.
const WORTH: f64 = 0.05;
/// Connections of which this part is new at each look are not kept.
const NOT_KEPT: f64 = 0.5;
/// Fewer connections met than this show no habit.
const HABIT: u64 = 5;
/// Most lines of each kind.
const MOST: usize = 8;

/// Writes them; nothing where there is nothing to say.
pub(super) fn write(page: &mut Page<'_>, report: &Report) -> io::Result<()> {
    let processes = &report.recording.processes;
    let mut written = false;
    for listener in lines(processes) {
        page.wrapped(&[(Ink::Dim, " line  ")], &line(listener))?;
        written = true;
    }
    let many = processes.len() > 1;
    let all = processes.iter().flat_map(|process| {
        let shown = process.connections.iter().filter(|info| is_not_kept(info));
        shown.map(move |info| (process, info))
    });
    for (process, info) in all.take(MOST) {
        let of = if many { format!("pid {}: ", process.pid) } else { String::new() };
        page.wrapped(&[(Ink::Dim, " peer  ")], &connections(&of, info))?;
        written = true;
    }
    if written { page.blank() } else { Ok(()) }
}

/// Lines worth a word, each once: workers of one master share their sockets.
fn lines(processes: &[ProcessInfo]) -> Vec<&ListenerInfo> {
    let mut found: Vec<&ListenerInfo> = Vec::new();
    for info in processes.iter().flat_map(|process| &process.listeners) {
        let share = info.waiting_share().unwrap_or(0.0);
        let room = found.len() < MOST;
        match found.iter_mut().find(|known| known.inode == info.inode) {
            // Who was watched longest knows most.
            Some(known) if known.queue.looks < info.queue.looks => *known = info,
            Some(_) => {}
            None if share >= WORTH && room => found.push(info),
            None => {}
        }
    }
    found
}

/// `127.0.0.1:8000: up to 129 connections waited to be accepted, 80.2 on average, of 128 that may`
fn line(info: &ListenerInfo) -> Vec<Piece> {
    let most = info.queue.most().unwrap_or(0);
    let mean = info.queue.mean().unwrap_or(0.0);
    let share = lengths::percent(info.waiting_share().unwrap_or(0.0));
    let full = info.limit.is_some_and(|limit| most >= limit);
    let limit = match info.limit {
        Some(limit) => format!("of {limit} that may,"),
        None => "how many may is not known,".to_owned(),
    };
    vec![
        Piece::word(Ink::Plain, format!("{}:", info.address)),
        Piece::word(
            if full { Ink::AlarmBold } else { Ink::Bold },
            format!("up to {most} connections waited to be accepted"),
        ),
        Piece::word(Ink::Plain, limit),
        Piece::word(Ink::Plain, format!("{mean:.1} on average,")),
        Piece::word(Ink::Plain, format!("any {share} of the time")),
    ]
}

fn is_not_kept(info: &ConnectionInfo) -> bool {
    info.peer.is_some()
        && info.met >= HABIT
        && info.fresh_share().is_some_and(|share| share >= NOT_KEPT)
}

/// `10.0.0.7:5432: 3.1 connections on average, 97 % of them new each second`
fn connections(of: &str, info: &ConnectionInfo) -> Vec<Piece> {
    let peer = info.peer.as_deref().unwrap_or("clients");
    let mean = info.open.mean().unwrap_or(0.0);
    let share = lengths::percent(info.fresh_share().unwrap_or(0.0));
    vec![
        Piece::word(Ink::Plain, format!("{of}{peer}:")),
        Piece::word(Ink::Plain, format!("{mean:.1} connections on average,")),
        Piece::word(Ink::Bold, format!("{share} of them new at each look:")),
        Piece::word(Ink::Plain, "they are not kept open"),
    ]
}
