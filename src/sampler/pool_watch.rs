//! The pools of one process under observation: finds them, and counts what looks at them show.
//!
//! Looks are evenly spaced and independent of what the process does, so shares of them are shares of
//! time. A look at all pools of a process costs a few system calls; a search is made when threads have
//! come or gone, as no pool is used without one, and every few seconds for what changes without.

use super::pace::POOL_LOOK;
use super::quiet::Quiet;
use super::thread_watch::ThreadWatch;
use crate::model::{PoolInfo, PoolKind, PoolReading};
use crate::python::Interpreter;
use crate::python::code_objects::CodeCache;
use crate::python::threads::Thread;
use crate::server::pools::awaited::Awaited;
use crate::server::pools::{Family, Ground, MAX_POOLS, Modules, Pool, families};
use crate::target::{Prefetch, ReadError};
use crate::units::{Addr, Nanos, Tid, Timestamp};

/// Least distance of two searches: one costs up to a millisecond in a process of many threads.
const SEARCH: Nanos = Nanos::from_secs(1);
/// A search is made this often even if no thread came or went: a limiter may have been changed.
const SEARCH_ANYWAY: Nanos = Nanos::from_secs(5);

/// Tasks are asked this often what they wait for, which costs about a millisecond: a pool that is full for
/// long is met soon enough.
const ASK_TASKS: Nanos = Nanos::from_secs(2);

/// What pools are looked for in.
#[derive(Debug)]
pub struct Around<'a> {
    /// The process's threads.
    pub threads: &'a [ThreadWatch],
    /// gunicorn's worker.
    pub worker: Option<Addr>,
    /// Pools that somebody was met waiting for.
    pub awaited: &'a mut Awaited,
    /// The threads that serve requests; `None` where that is not told apart.
    pub serving: Option<&'a [Tid]>,
}

/// The pools of one process.
#[derive(Debug)]
pub struct PoolWatch {
    families: Vec<Box<dyn Family>>,
    modules: Modules,
    /// Each with its place among the process's [`PoolInfo`]s.
    pools: Vec<(Box<dyn Pool>, usize)>,
    /// The object that each [`PoolInfo`] is of.
    objects: Vec<Addr>,
    /// gunicorn's worker, as it was known at the last search.
    worker: Option<Addr>,
    /// The threads at the last search.
    threads: Vec<Addr>,
    searched: Option<Timestamp>,
    /// How many had been met by who waits for them at the last search.
    met: usize,
    /// When tasks were last asked what they wait for.
    asked: Option<Timestamp>,
    /// How many looks there were.
    looks: u64,
    next_look: Timestamp,
    ahead: Prefetch,
    quiet: Quiet,
    /// What the last look showed, by place among the infos; `None` where the next is not to be spared.
    last: Option<Vec<(usize, PoolReading)>>,
}

impl Default for PoolWatch {
    fn default() -> PoolWatch {
        PoolWatch {
            families: families(),
            modules: Modules::default(),
            pools: Vec::new(),
            objects: Vec::new(),
            worker: None,
            threads: Vec::new(),
            searched: None,
            met: 0,
            asked: None,
            looks: 0,
            next_look: Timestamp::default(),
            ahead: Prefetch::default(),
            quiet: Quiet::default(),
            last: None,
        }
    }
}

impl PoolWatch {
    /// Looks at the pools if it is time, and counts what was seen in `infos`.
    ///
    /// # Errors
    /// Only [`ReadError::Gone`] and [`ReadError::Denied`].
    pub fn see(
        &mut self,
        python: &Interpreter<'_>,
        codes: &mut CodeCache,
        around: Around<'_>,
        infos: &mut Vec<PoolInfo>,
        at: Timestamp,
    ) -> Result<(), ReadError> {
        if at < self.next_look {
            return Ok(());
        }
        // Later looks are not drawn together to make up for one that was late.
        self.next_look = at + POOL_LOOK;
        let threads = around.threads;
        self.search(python, codes, around, infos, at)?;
        self.looks = self.looks.saturating_add(1);
        // A pool is used by threads that run.
        let is_quiet = !self.pools.is_empty() && self.quiet.ask(threads);
        let seen = match self.last.take().filter(|_| is_quiet) {
            Some(last) => last,
            None => self.look(python)?,
        };
        for (place, reading) in &seen {
            if let Some(info) = infos.get_mut(*place) {
                info.add(reading);
            }
        }
        self.last = Some(seen);
        Ok(())
    }

    /// What all pools show, each with its place among the infos.
    fn look(&mut self, python: &Interpreter<'_>) -> Result<Vec<(usize, PoolReading)>, ReadError> {
        let pools = &self.pools;
        self.ahead.read(python.memory, |memory| {
            let python = Interpreter { memory, types: None, ..*python };
            let mut seen = Vec::with_capacity(pools.len());
            for (pool, place) in pools {
                seen.extend(pool.look(&python)?.map(|reading| (*place, reading)));
            }
            Ok(seen)
        })
    }

    /// How many requests waited for the threads that a server keeps itself, at the last look; `None` where it has no such
    /// pool. `infos` are those that looks are counted in.
    #[must_use]
    pub fn waiting_for_threads(&self, infos: &[PoolInfo]) -> Option<u32> {
        let is_its = |place: &usize| {
            infos.get(*place).is_some_and(|info| info.kind == PoolKind::ServerThreads)
        };
        let seen = self.last.iter().flatten().filter(|(place, _)| is_its(place));
        seen.filter_map(|(_, reading)| reading.waiting).reduce(u32::saturating_add)
    }

    /// All pools that are there now, as they are now.
    ///
    /// # Errors
    /// Only [`ReadError::Gone`] and [`ReadError::Denied`].
    pub fn now(
        &mut self,
        python: &Interpreter<'_>,
        codes: &mut CodeCache,
        around: Around<'_>,
        at: Timestamp,
    ) -> Result<Vec<(PoolInfo, PoolReading)>, ReadError> {
        let mut infos = Vec::new();
        self.search(python, codes, around, &mut infos, at)?;
        let mut seen = Vec::new();
        for (pool, place) in &self.pools {
            if let (Some(reading), Some(info)) = (pool.look(python)?, infos.get(*place)) {
                seen.push((info.clone(), reading));
            }
        }
        Ok(seen)
    }

    fn search(
        &mut self,
        python: &Interpreter<'_>,
        codes: &mut CodeCache,
        around: Around<'_>,
        infos: &mut Vec<PoolInfo>,
        at: Timestamp,
    ) -> Result<(), ReadError> {
        let Around { threads, worker, awaited, serving } = around;
        if let Some(last) = self.searched {
            let age = at.since(last);
            let same =
                threads.iter().map(|watch| watch.thread.state).eq(self.threads.iter().copied());
            let same = same && worker == self.worker;
            // One that was just met is looked at from now on: there are few.
            let is_met = awaited.count() > self.met;
            if !is_met && (age < SEARCH || (same && age < SEARCH_ANYWAY)) {
                return Ok(());
            }
        }
        self.searched = Some(at);
        self.worker = worker;
        let threads: Vec<Thread> = threads.iter().map(|watch| watch.thread).collect();
        self.threads = threads.iter().map(|thread| thread.state).collect();
        self.pools.clear();
        self.last = None;
        for family in &mut self.families {
            let modules = &mut self.modules;
            let codes = &mut *codes;
            let awaited = &mut *awaited;
            let (threads, python) = (&threads, *python);
            let mut ground =
                Ground { python, codes, threads, worker, modules, awaited, serving, now: at };
            for pool in family.find(&mut ground)? {
                let (kind, name, object) = (pool.kind(), pool.name(), pool.object());
                let is_it = |(info, known): (&PoolInfo, &Addr)| {
                    *known == object && info.kind == kind && info.name == name
                };
                let place = match infos.iter().zip(&self.objects).position(is_it) {
                    Some(place) => place,
                    // One that makes pools without end must not grow our memory.
                    None if infos.len() >= MAX_POOLS => continue,
                    None => {
                        infos.push(begun(pool.as_ref(), self.looks));
                        self.objects.push(object);
                        infos.len().saturating_sub(1)
                    }
                };
                self.pools.push((pool, place));
            }
        }
        self.met = awaited.count();
        Ok(())
    }

    /// Whether tasks are to be asked what they wait for, which is now.
    pub fn are_tasks_due(&mut self, at: Timestamp) -> bool {
        let is_due = self.asked.is_none_or(|last| at.since(last) >= ASK_TASKS);
        if is_due {
            self.asked = Some(at);
        }
        is_due
    }
}

/// The account of a pool that was just found, after so many looks. Nobody was met waiting before for one that is
/// found by that.
fn begun(pool: &dyn Pool, looks: u64) -> PoolInfo {
    let mut info = PoolInfo::new(pool.kind(), pool.name().to_owned());
    info.waits_at = pool.waits_at();
    if info.kind.is_awaited() {
        info.waiting.looks = looks;
    }
    info
}
