//! The interpreter lock of one process: who holds it while somebody waits, and how often.
//!
//! Takes a thread found waiting for the lock, gives the one that holds it, with its stack. On looks
//! at which all is well nothing is read but, with the background samples, the lock itself.

use super::thread_watch::{Scene, ThreadWatch};
use crate::model::{CpuState, GilHolder, GilState, GilTally};
use crate::python::Interpreter;
use crate::python::gil::{Gil, holders};
use crate::python::threads::Thread;
use crate::units::{Addr, Nanos, Tid, Timestamp};

/// The lock may pass to another thread while the holder's stack is read; so often it is tried.
const TRIES: usize = 3;
/// A holder is looked at again after this or a little later (`RECAPTURE_LONGEST`, pace.rs).
const NEXT_LOOK: Nanos = Nanos::from_millis(4);
/// Holders whose files are kept open. More than a few take turns only where a pool of threads
/// computes, and then the oldest is opened anew.
const MAX_HOLDERS: usize = 16;

/// The interpreter lock of one process.
#[derive(Debug, Default)]
pub struct GilWatch {
    /// Mostly one; sub-interpreters may have their own (PEP 684).
    locks: Vec<Gil>,
    /// Which of them each thread needs.
    roster: Vec<Entry>,
    /// Threads that were found holding one, latest last.
    holders: Vec<ThreadWatch>,
    /// Whether a thread held it that is not in the roster.
    stranger: bool,
    /// Looks left out since the last one, which the next stands for.
    left_out: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    thread: Thread,
    tid: Tid,
    lock: usize,
}

/// Who held the locks at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// For each lock its holder; `None` where it could not be read.
    by_lock: Vec<Option<Option<Addr>>>,
}

impl GilWatch {
    /// Takes the threads there are now.
    pub fn update(&mut self, python: &Interpreter<'_>, threads: &[ThreadWatch]) {
        self.locks.clear();
        self.roster.clear();
        self.stranger = false;
        let mut known: Vec<(Addr, Option<usize>)> = Vec::new();
        for watch in threads {
            let interpreter = watch.thread.interpreter;
            let lock = match known.iter().find(|(of, _)| *of == interpreter) {
                Some((_, lock)) => *lock,
                None => {
                    let lock = Gil::of(python, interpreter).map(|gil| self.place(gil));
                    known.push((interpreter, lock));
                    lock
                }
            };
            let Some(lock) = lock else { continue };
            self.roster.push(Entry { thread: watch.thread, tid: watch.tid, lock });
        }
        let roster = &self.roster;
        self.holders.retain(|watch| roster.iter().any(|entry| entry.is_of(watch)));
        // Who holds the lock still is met again.
        self.holders.iter_mut().for_each(ThreadWatch::stop_samples);
    }

    fn place(&mut self, gil: Gil) -> usize {
        if let Some(place) = self.locks.iter().position(|known| *known == gil) {
            return place;
        }
        self.locks.push(gil);
        self.locks.len().saturating_sub(1)
    }

    /// Whether `addr` lies in one of the locks.
    #[must_use]
    pub fn contains(&self, addr: Addr) -> bool {
        self.locks.iter().any(|gil| gil.contains(addr))
    }

    /// Whether since this was last asked a holder was met that [`GilWatch::update`] had not given.
    pub fn has_met_stranger(&mut self) -> bool {
        std::mem::take(&mut self.stranger)
    }

    /// Reads who holds the locks now: one read.
    #[must_use]
    pub fn look(&self, python: &Interpreter<'_>) -> Held {
        let by_lock = holders(python, &self.locks).into_iter().map(Result::ok);
        Held { by_lock: by_lock.collect() }
    }

    /// What a thread had to do with its lock when `held` was read; `cpu` is what it was seen doing.
    #[must_use]
    pub fn state(&self, held: &Held, thread: &Thread, is_waiting: bool) -> GilState {
        let entry = self.roster.iter().find(|entry| entry.thread == *thread);
        let holder = entry.and_then(|entry| *held.by_lock.get(entry.lock)?);
        match holder {
            None => GilState::Unknown,
            Some(Some(state)) if state == thread.state => GilState::Holding,
            Some(_) if is_waiting => GilState::Waiting,
            Some(_) => GilState::Released,
        }
    }

    /// A look is left out, as all threads have been idle for long: the next will stand for it.
    pub fn leave_out(&mut self) {
        self.left_out = self.left_out.saturating_add(1);
    }

    /// Counts a look, and returns the threads that held a lock, and for how many looks it stands. A
    /// holder that is not known yet is counted as some thread.
    pub fn count(&mut self, held: &Held, tally: &mut GilTally) -> (Vec<Tid>, u64) {
        let weight = std::mem::take(&mut self.left_out).saturating_add(1);
        let read = || held.by_lock.iter().flatten();
        tally.looks += if read().next().is_some() { weight } else { 0 };
        tally.held += if read().any(Option::is_some) { weight } else { 0 };
        let mut tids = Vec::new();
        for state in read().flatten() {
            match self.roster.iter().find(|entry| entry.thread.state == *state) {
                Some(entry) => tids.push(entry.tid),
                None => self.stranger = true,
            }
        }
        (tids, weight)
    }

    fn lock_of(&self, thread: &Thread) -> Option<Gil> {
        let entry = self.roster.iter().find(|entry| entry.thread == *thread)?;
        self.locks.get(entry.lock).copied()
    }
}

impl Entry {
    fn is_of(&self, watch: &ThreadWatch) -> bool {
        self.thread == watch.thread && self.tid == watch.tid
    }
}

/// Whether `thread` holds the interpreter lock; `None` if that cannot be told.
pub(super) fn is_holding(scene: &Scene<'_>, thread: &ThreadWatch) -> Option<bool> {
    let lock = scene.gil.lock_of(&thread.thread)?;
    let holder = lock.holder(&scene.python).ok()?;
    Some(holder == Some(thread.thread.state))
}

/// Who holds the lock that `waiter` is known to wait for; `None` if that is itself by now, or cannot
/// be told.
pub(super) fn holder(
    scene: &mut Scene<'_>,
    waiter: &ThreadWatch,
    at: Timestamp,
) -> Option<GilHolder> {
    let lock = scene.gil.lock_of(&waiter.thread)?;
    // Taken out while they are looked at, as each look needs the whole scene.
    let mut holders = std::mem::take(&mut scene.gil.holders);
    let found = (0..TRIES).find_map(|_| try_holder(scene, &mut holders, waiter, lock, at));
    scene.gil.holders = holders;
    found
}

fn try_holder(
    scene: &mut Scene<'_>,
    holders: &mut Vec<ThreadWatch>,
    waiter: &ThreadWatch,
    lock: Gil,
    at: Timestamp,
) -> Option<GilHolder> {
    let state = lock.holder(&scene.python).ok()??;
    if state == waiter.thread.state {
        return None;
    }
    let Some(entry) = scene.gil.roster.iter().find(|entry| entry.thread.state == state).copied()
    else {
        scene.gil.stranger = true;
        return None;
    };
    let mut watch = match holders.iter().position(|watch| entry.is_of(watch)) {
        Some(place) => holders.remove(place),
        None => ThreadWatch::new(scene.procfs, scene.pid, entry.tid, entry.thread),
    };
    if holders.len() >= MAX_HOLDERS {
        holders.remove(0);
    }
    let cpu = watch.settle(scene);
    let raw = watch.walk(scene);
    let still = lock.holder(&scene.python) == Ok(Some(state));
    let found = raw.ok().filter(|_| still).map(|raw| {
        let stack = watch.written(scene, &raw, at);
        let native = match cpu {
            // C code that one instruction of Python has called holds the lock until it returns.
            CpuState::Running if watch.stand(scene).is_some_and(|(_, is_still)| is_still) => {
                watch.running_leaf(scene, None, at, NEXT_LOOK)
            }
            CpuState::Running => None,
            _ => watch.sleeping_leaf(scene, at),
        };
        GilHolder { tid: entry.tid, stack, native, cpu }
    });
    holders.push(watch);
    found
}
