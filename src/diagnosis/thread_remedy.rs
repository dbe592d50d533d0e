//! What to change at a line that holds a request's own thread.
//!
//! Takes a blamed line, gives a recommendation with its figures. Where a size of its server is told apart, no more
//! workers and threads are asked for here.

use super::blocked::{Blame, Blocked};
use super::remedy::{FOR_SQLITE, WaitKind, recommendation, wait_kind};
use super::{Case, often, residents, wording};
use crate::model::{FrameId, Load, LockKind, Peer, Recommendation, WorkerClass};
use crate::units::Nanos;

/// A line waits for a lock from half of its time on: what else it does is the smaller part.
const MOSTLY: (u64, u64) = (1, 2);
/// Of `SQLite`'s a tenth is enough: the line is a query, which computes as well, and holds the lock meanwhile.
const NOTICED: (u64, u64) = (1, 10);

/// What to do about it.
#[must_use]
pub fn for_thread(case: &Case<'_>, blame: &Blame) -> Recommendation {
    match lock_of(case, blame) {
        Some(LockKind::Sqlite) => return for_sqlite(case, blame),
        Some(LockKind::Thread) => return for_lock(case, blame),
        None => {}
    }
    let load = blame.process.and_then(|pid| case.load_of(pid));
    let is_sized = load.is_some_and(|load| case.size_of(load).is_some());
    let threads = load.map_or(MORE, more_threads).filter(|_| !makes_threads(case, blame));
    let more = |words: Option<&str>| match words.filter(|_| !is_sized) {
        Some(words) => format!("; {words}"),
        None => String::new(),
    };
    let (command, reason) = if is_awaited(case, blame) {
        (
            "keep what it waits for for less time, give it back before anything else is done, or have more of it"
                .to_owned(),
            "it waits for a pool that others use up, and more threads only wait there, too",
        )
    } else if blame.wait.is_some() && !is_for_gil(case, blame) {
        let what = match wait_kind(&case.recording.tables, blame) {
            Some(WaitKind::Sleep) => "sleep for less",
            _ => "give the call a timeout",
        };
        (
            format!("{what}, or do it after the answer{}", more(threads)),
            "it waits, and its thread serves nobody else meanwhile",
        )
    } else {
        (
            format!("make it cheaper, or do it after the answer{}", more(more_workers(load))),
            match blame.releases_gil {
                Some(true) => {
                    "it computes in C code that lets go of the interpreter lock, and its thread serves nobody \
                     else meanwhile"
                }
                _ => {
                    "it computes, and its thread serves nobody else meanwhile; of threads in one process only \
                     one computes in Python at a time"
                }
            },
        )
    };
    recommendation(case.recording, blame, command, reason)
}

/// Whether what it waited for in the longest of its stalls is the interpreter lock: others compute then.
fn is_for_gil(case: &Case<'_>, blame: &Blame) -> bool {
    let wait = blame.wait.and_then(|wait| case.recording.tables.get_wait(wait));
    wait.is_some_and(|wait| matches!(wait.peer, Some(Peer::Gil)))
}

/// More threads where it is not known how that server is told.
const MORE: Option<&str> =
    Some("or let more requests wait at the same time: more threads (gunicorn: `--threads`)");

/// How more requests of a server wait at the same time; `None` where no number of threads keeps them from it.
fn more_threads(load: &Load) -> Option<&'static str> {
    match (load.class, load.server.as_str()) {
        // Each connection gets one.
        (WorkerClass::ThreadPerRequest, _) => None,
        (WorkerClass::Sync | WorkerClass::Gthread | WorkerClass::Uwsgi, _) => {
            Some("or let more requests wait at the same time: more threads (`--threads`)")
        }
        // <https://github.com/emmett-framework/granian#options>
        (WorkerClass::Granian, _) => {
            Some("or let more requests wait at the same time: more threads (`--blocking-threads`)")
        }
        (WorkerClass::ThreadPool, "cheroot") => {
            Some("or let more requests wait at the same time: more threads (`numthreads`)")
        }
        (WorkerClass::ThreadPool, "cherrypy") => {
            Some("or let more requests wait at the same time: more threads (`server.thread_pool`)")
        }
        (WorkerClass::ThreadPool, "waitress") => {
            Some("or let more requests wait at the same time: more threads (`threads`)")
        }
        _ => MORE,
    }
}

/// Whether its process makes a thread for each connection: several were held, and nothing bounds them.
fn makes_threads(case: &Case<'_>, blame: &Blame) -> bool {
    let process = blame.process.and_then(|pid| case.recording.get_process(pid));
    process.is_some_and(|one| {
        one.occupancy.limit.is_none() && one.occupancy.most().is_some_and(|most| most > 1)
    })
}

/// How more of what computes is done at the same time.
fn more_workers(load: Option<&Load>) -> Option<&'static str> {
    match load.map(|load| load.class) {
        _ if load.is_some_and(residents::is_single) => {
            Some("no more workers, which would repeat what lives in each")
        }
        // It has one process, and is not for production: `dev-server`.
        Some(WorkerClass::ThreadPerRequest) => None,
        Some(WorkerClass::ThreadPool | WorkerClass::Bare) | None => {
            Some("more processes of it behind one proxy if there are CPUs for them")
        }
        _ => Some("more workers if there are CPUs for them"),
    }
}

/// Whether something is known that ends its wait, and no timeout is wanted.
pub(super) fn has_cure(case: &Case<'_>, blame: &Blame) -> bool {
    lock_of(case, blame).is_some() || is_awaited(case, blame)
}

/// Whether it waits for a pool that is used up.
fn is_awaited(case: &Case<'_>, blame: &Blame) -> bool {
    let mut pools = case.recording.processes.iter().flat_map(|process| &process.pools);
    pools.any(|pool| {
        let share = pool.share(pool.full_and_waiting).unwrap_or(0.0);
        pool.waited_in == Some(blame.frame) && share >= often::SELDOM
    })
}

/// The lock that a line waits for: one of its process's where it spent most of its time so; `SQLite`'s where the longest
/// that it did was that, or a part of its time that counts.
fn lock_of(case: &Case<'_>, blame: &Blame) -> Option<LockKind> {
    let is_part = |kind, (of, all)| {
        let waited = waited(case, blame, kind);
        waited > Nanos::ZERO && waited >= blame.total.scaled(of, all)
    };
    let is_longest = || wait_kind(&case.recording.tables, blame) == Some(WaitKind::Sqlite);
    if is_part(LockKind::Sqlite, NOTICED) || is_longest() {
        return Some(LockKind::Sqlite);
    }
    is_part(LockKind::Thread, MOSTLY).then_some(LockKind::Thread)
}

/// The time that a line waited for a lock of this kind.
fn waited(case: &Case<'_>, blame: &Blame, kind: LockKind) -> Nanos {
    let waits = case.lock_waits.iter();
    let own = waits.filter(|wait| wait.frame == blame.frame && wait.kind == kind);
    own.map(|wait| wait.until.since(wait.from)).sum()
}

fn for_lock(case: &Case<'_>, blame: &Blame) -> Recommendation {
    let held = holder(case, blame).map_or(String::new(), |line| {
        format!(": it is held during {}", wording::place(case.recording, line))
    });
    recommendation(
        case.recording,
        blame,
        format!("hold the lock that requests queue for here for less{held}"),
        "one is let through at a time, and each of the others keeps its thread meanwhile: more threads \
         only queue here",
    )
}

fn for_sqlite(case: &Case<'_>, blame: &Blame) -> Recommendation {
    let is_most = waited(case, blame, LockKind::Sqlite) >= blame.total.scaled(MOSTLY.0, MOSTLY.1);
    let command = match is_most {
        true => FOR_SQLITE.to_owned(),
        // A query that computes: what it reads is not to be written meanwhile.
        false => format!("make it cheaper, and {FOR_SQLITE}"),
    };
    recommendation(
        case.recording,
        blame,
        command,
        "SQLite lets one connection write at a time; the others sleep and try again, each keeps its thread \
         meanwhile, and more threads only queue here",
    )
}

/// The line that takes most of the time while the lock is held: of what else the same function does.
fn holder(case: &Case<'_>, blame: &Blame) -> Option<FrameId> {
    let tables = &case.recording.tables;
    let is_other = |line| line != blame.frame && tables.is_same_function(line, blame.frame);
    let lines = Blocked::of_threads(case.recording, case.stalls)?.culprits;
    lines.into_iter().map(|one| one.frame).find(|line| is_other(*line))
}
