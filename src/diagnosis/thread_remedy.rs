//! What to change at a line that holds a request's own thread.
//!
//! Takes a blamed line, gives a recommendation with its figures. Where a size of its server is told apart, no more
//! workers and threads are asked for here.

use super::blocked::{Blame, Blocked};
use super::remedy::recommendation;
use super::{Case, often, residents, wording};
use crate::model::{FrameId, LockKind, Recommendation};
use crate::units::Nanos;

/// A line waits for a lock from half of its time on: what else it does is the smaller part.
const MOSTLY: (u64, u64) = (1, 2);

/// What to do about it.
#[must_use]
pub fn for_thread(case: &Case<'_>, blame: &Blame) -> Recommendation {
    if let Some(kind) = lock_of(case, blame) {
        return for_lock(case, blame, kind);
    }
    let load = blame.process.and_then(|pid| case.load_of(pid));
    let is_sized = load.is_some_and(|load| case.size_of(load).is_some());
    let pools = case.recording.processes.iter().flat_map(|process| &process.pools);
    let is_awaited = { pools }.any(|pool| {
        let share = pool.share(pool.full_and_waiting).unwrap_or(0.0);
        pool.waited_in == Some(blame.frame) && share >= often::SELDOM
    });
    let (command, reason) = if is_awaited {
        (
            "keep what it waits for for less time, give it back before anything else is done, or have more of it",
            "it waits for a pool that others use up, and more threads only wait there, too",
        )
    } else if blame.wait.is_some() {
        (
            if is_sized {
                "give the call a timeout, or do it after the answer"
            } else {
                "give the call a timeout, or do it after the answer; or let more requests wait at the same \
                 time: more threads (gunicorn: `--threads`)"
            },
            "it waits, and its thread serves nobody else meanwhile",
        )
    } else {
        (
            if is_sized {
                "make it cheaper, or do it after the answer"
            } else if load.is_some_and(residents::is_single) {
                "make it cheaper, or do it after the answer; no more workers, which would repeat what lives in \
                 each"
            } else {
                "make it cheaper, or do it after the answer; more workers if there are CPUs for them"
            },
            "it computes, and its thread serves nobody else meanwhile; of threads in one process only \
             one computes in Python at a time",
        )
    };
    recommendation(case.recording, blame, command.to_owned(), reason)
}

/// The lock that a line spent most of its time waiting for.
fn lock_of(case: &Case<'_>, blame: &Blame) -> Option<LockKind> {
    let waits = || case.lock_waits.iter().filter(|wait| wait.frame == blame.frame);
    let waited: Nanos = waits().map(|wait| wait.until.since(wait.from)).sum();
    let kind = waits().next()?.kind;
    (waited >= blame.total.scaled(MOSTLY.0, MOSTLY.1)).then_some(kind)
}

fn for_lock(case: &Case<'_>, blame: &Blame, kind: LockKind) -> Recommendation {
    let (command, reason) = match kind {
        LockKind::Thread => {
            let held = holder(case, blame).map_or(String::new(), |line| {
                format!(": it is held during {}", wording::place(case.recording, line))
            });
            (
                format!("hold the lock that requests queue for here for less{held}"),
                "one is let through at a time, and each of the others keeps its thread meanwhile: more threads \
                 only queue here",
            )
        }
        LockKind::Sqlite => (
            "make transactions that write short; `PRAGMA journal_mode=WAL`, so that who reads need not wait; or \
             use a database server"
                .to_owned(),
            "SQLite lets one connection write at a time; the others sleep and try again, each keeps its thread \
             meanwhile, and more threads only queue here",
        ),
    };
    recommendation(case.recording, blame, command, reason)
}

/// The line that takes most of the time while the lock is held: of what else the same function does.
fn holder(case: &Case<'_>, blame: &Blame) -> Option<FrameId> {
    let tables = &case.recording.tables;
    let is_other = |line| line != blame.frame && tables.is_same_function(line, blame.frame);
    let lines = Blocked::of_threads(case.recording, case.stalls)?.culprits;
    lines.into_iter().map(|one| one.frame).find(|line| is_other(*line))
}
