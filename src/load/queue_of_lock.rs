//! The lock that a server's requests queue for: what lets one through at a time lets no more through for more threads.
//!
//! While anyone waits for a lock somebody has it, and now and then somebody has it and nobody waits: of a station that is
//! used for ρ of the time there is a queue for ρ² of it (M/M/1; Kleinrock, *Queueing Systems* I, 1975, §3.2). That use by
//! the rate is how long a request keeps it.

use std::collections::BTreeMap;

use super::shared::{MOSTLY, rate};
use crate::model::{
    FrameId, LockKind, LockWait, ProcessInfo, Recording, SharedKind, SharedPool, Tables,
};
use crate::units::{Nanos, Pid, Timestamp, to_f64};

/// The one that there was a queue for most of the time.
pub(super) fn of(
    recording: &Recording,
    workers: &[&ProcessInfo],
    waits: &[LockWait],
) -> Option<SharedPool> {
    // A lock of a process is known by the line that waits for it, that of SQLite is one for all.
    let mut queues: BTreeMap<(LockKind, Option<FrameId>), Vec<&LockWait>> = BTreeMap::new();
    for wait in waits.iter().filter(|wait| workers.iter().any(|one| one.pid == wait.pid)) {
        let line = (wait.kind == LockKind::Thread).then_some(wait.frame);
        queues.entry((wait.kind, line)).or_default().push(wait);
    }
    let ((kind, line), waits) = queues.into_iter().max_by_key(|(_, waits)| waited(waits))?;
    let (queued, in_use, rate) = match kind {
        LockKind::Thread => {
            let mut by_worker: BTreeMap<Pid, Vec<&LockWait>> = BTreeMap::new();
            for wait in &waits {
                by_worker.entry(wait.pid).or_default().push(wait);
            }
            let own = || workers.iter().copied().filter(|one| by_worker.contains_key(&one.pid));
            let share = |worker: &ProcessInfo| {
                let queue = by_worker.get(&worker.pid).map_or(Nanos::ZERO, |waits| covered(waits));
                queue.share_of(recording.lived(worker)).min(1.0)
            };
            let queued = own().map(share).sum::<f64>() / to_f64(by_worker.len().max(1) as u64);
            (queued, own().map(|one| share(one).sqrt()).sum::<f64>(), rate(recording, own())?)
        }
        LockKind::Sqlite => {
            // Whoever waits for it sleeps, up to 100 ms, and is not woken when it is free (`sqliteDefaultBusyCallback`,
            // sqlite3 3.45 `src/main.c`): what it let through meanwhile is all that it lets through.
            let queued = covered(&waits).share_of(recording.length()).min(1.0);
            (queued, 1.0, rate(recording, workers.iter().copied())?)
        }
    };
    (queued >= MOSTLY).then(|| SharedPool {
        kind: SharedKind::Lock(kind),
        name: line.map_or(String::new(), |line| place(&recording.tables, line)),
        limit: Some(1),
        servers: 1.0,
        kept: in_use / rate,
        waited: waited(&waits).as_secs_f64() / recording.length().as_secs_f64() / rate,
        share: queued,
    })
}

/// The time that all waited together.
fn waited(waits: &[&LockWait]) -> Nanos {
    waits.iter().map(|wait| wait.until.since(wait.from)).sum()
}

/// The time in which anyone waited.
fn covered(waits: &[&LockWait]) -> Nanos {
    let mut spans: Vec<(Timestamp, Timestamp)> =
        waits.iter().map(|wait| (wait.from, wait.until)).collect();
    spans.sort();
    let (mut sum, mut reached) = (Nanos::ZERO, Timestamp::default());
    for (from, until) in spans {
        sum += until.since(from.max(reached));
        reached = reached.max(until);
    }
    sum
}

/// `views.py:41`.
fn place(tables: &Tables, line: FrameId) -> String {
    let frame = tables.get_frame(line);
    let file = frame.and_then(|frame| frame.file).map_or("", |file| tables.text(file));
    let name = file.rsplit('/').next().unwrap_or(file);
    match frame.and_then(|frame| frame.line) {
        Some(line) => format!("{name}:{line}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_there_while_anyone_waits() {
        let wait = |from, until| LockWait {
            pid: Pid(1),
            kind: LockKind::Thread,
            frame: FrameId(0),
            from: Timestamp(from),
            until: Timestamp(until),
        };
        let all = [wait(10, 20), wait(15, 30), wait(12, 14), wait(40, 50)];
        let all: Vec<&LockWait> = all.iter().collect();
        assert_eq!(covered(&all), Nanos(30));
        assert_eq!(waited(&all), Nanos(37));
    }
}
