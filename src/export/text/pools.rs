//! Pools that were full, or nearly: a line each.

use std::io;

use super::ink::{Ink, Page, Piece};
use super::lengths;
use crate::export::names::FileNames;
use crate::model::{PoolInfo, Report};
use crate::units::{Nanos, Pid};

/// A pool that never had more than this part of it in use is not worth a line.
const WORTH: f64 = 0.5;
/// In a recording of this length a pool is listed from so many looks on, two seconds of them.
const LONG: Nanos = Nanos::from_secs(4);
const LEAST_LOOKS: u64 = 10;
/// Most pools listed.
const MOST: usize = 8;

/// Writes a line for each pool that someone waited for, or of which over half was in use at some time.
pub(super) fn write(page: &mut Page<'_>, report: &Report, names: &FileNames<'_>) -> io::Result<()> {
    let processes = &report.recording.processes;
    let (many, watched) = (processes.len() > 1, report.recording.length());
    let mut all: Vec<(Pid, &PoolInfo)> = processes
        .iter()
        .flat_map(|process| {
            let pools = process.pools.iter().filter(move |pool| is_worth_a_line(pool, watched));
            pools.map(move |pool| (process.pid, pool))
        })
        .collect();
    // The ones that were waited for most come first.
    let share = |pool: &PoolInfo| pool.share(pool.full_and_waiting).unwrap_or(0.0);
    all.sort_by(|(_, a), (_, b)| share(b).total_cmp(&share(a)));
    let mut written = 0;
    for (pid, pool) in all {
        written += 1;
        if written > MOST {
            continue;
        }
        let of = if many { format!("pid {pid}: ") } else { String::new() };
        let mut pieces = pieces(&of, pool);
        let frame = pool.waited_in.and_then(|id| report.recording.tables.get_frame(id));
        if let Some(place) = frame.and_then(|frame| names.place(frame)) {
            pieces.push(Piece::word(Ink::Plain, format!("at {place}")));
        }
        let work = pool.work.filter(|work| pool.full_and_waiting > 0 && work.is_most());
        let frame = work.and_then(|work| report.recording.tables.get_frame(work.frame));
        if let Some(place) = frame.and_then(|frame| names.place(frame)) {
            pieces.push(Piece::word(Ink::Plain, format!("· mostly kept by {place}")));
        }
        page.wrapped(&[(Ink::Dim, " pool  ")], &pieces)?;
    }
    if written > MOST {
        page.line(&[(Ink::Dim, &format!(" … and {} pools more", written - MOST))])?;
    }
    if written > 0 { page.blank() } else { Ok(()) }
}

fn is_worth_a_line(pool: &PoolInfo, watched: Nanos) -> bool {
    // One that lives for a request is made anew for the next: no line tells of them all.
    if watched >= LONG && pool.busy.looks.max(pool.waiting.looks) < LEAST_LOOKS {
        return false;
    }
    let most = pool.busy.most().unwrap_or(0);
    let over_half = pool.limit.is_some_and(|limit| f64::from(most) > f64::from(limit) * WORTH);
    // Of a pool of one or two, one in use says nothing.
    // What waits while there is room is about to be taken.
    let waits = if pool.looks() > 0 { pool.full_and_waiting } else { pool.waiting.max.into() };
    waits > 0 || (over_half && pool.limit > Some(2))
}

/// `anyio limiter default_thread_limiter: 40 of 40 in use at most, 31.2 on average, up to 60 waiting ·
/// full with others waiting 81 % of the time`
fn pieces(of: &str, pool: &PoolInfo) -> Vec<Piece> {
    let name = if pool.name.is_empty() { String::new() } else { format!(" {}", pool.name) };
    let mut pieces = vec![Piece::word(Ink::Plain, format!("{of}{}{name}:", pool.kind.title()))];
    let busy = match (pool.busy.most(), pool.busy.mean(), pool.limit) {
        (Some(most), Some(mean), Some(limit)) => {
            format!("{most} of {limit} in use at most, {mean:.1} on average,")
        }
        (Some(most), Some(mean), None) => format!("{most} in use at most, {mean:.1} on average,"),
        (_, _, Some(limit)) => format!("{limit} in all, how many in use is not known,"),
        _ => "how many in use is not known,".to_owned(),
    };
    pieces.push(Piece::word(Ink::Plain, busy));
    pieces.push(match pool.waiting.most() {
        Some(0) => Piece::word(Ink::Plain, "nobody waiting"),
        Some(most) => Piece::word(Ink::Bold, format!("up to {most} waiting")),
        None => Piece::word(Ink::Plain, "how many wait is not known"),
    });
    let share = pool.share(pool.full_and_waiting).filter(|_| pool.full_and_waiting > 0);
    if let Some(share) = share {
        let text = format!("· full with others waiting {} of the time", lengths::percent(share));
        pieces.push(Piece::word(Ink::AlarmBold, text));
    }
    pieces
}
