//! The pools of one process under observation: finds them, and counts what looks at them show.
//!
//! Looks are evenly spaced and independent of what the process does, so shares of them are shares of
//! time. A look at all pools of a process costs a few system calls; a search is made when threads have
//! come or gone, as no pool is used without one, and every few seconds for what changes without.

use super::pace::POOL_LOOK;
use super::quiet::Quiet;
use super::thread_watch::ThreadWatch;
use crate::model::{PoolInfo, PoolReading};
use crate::python::Interpreter;
use crate::python::code_objects::CodeCache;
use crate::python::threads::Thread;
use crate::server::pools::{Family, Ground, MAX_POOLS, Modules, Pool, families};
use crate::target::{Prefetch, ReadError};
use crate::units::{Addr, Nanos, Timestamp};

/// Least distance of two searches: one costs up to a millisecond in a process of many threads.
const SEARCH: Nanos = Nanos::from_secs(1);
/// A search is made this often even if no thread came or went: a limiter may have been changed.
const SEARCH_ANYWAY: Nanos = Nanos::from_secs(5);

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
        (threads, worker): (&[ThreadWatch], Option<Addr>),
        infos: &mut Vec<PoolInfo>,
        at: Timestamp,
    ) -> Result<(), ReadError> {
        if at < self.next_look {
            return Ok(());
        }
        // Later looks are not drawn together to make up for one that was late.
        self.next_look = at + POOL_LOOK;
        self.search(python, codes, (threads, worker), infos, at)?;
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
            let python = Interpreter { memory, ..*python };
            let mut seen = Vec::with_capacity(pools.len());
            for (pool, place) in pools {
                seen.extend(pool.look(&python)?.map(|reading| (*place, reading)));
            }
            Ok(seen)
        })
    }

    /// All pools that are there now, as they are now.
    ///
    /// # Errors
    /// Only [`ReadError::Gone`] and [`ReadError::Denied`].
    pub fn now(
        &mut self,
        python: &Interpreter<'_>,
        codes: &mut CodeCache,
        (threads, worker): (&[ThreadWatch], Option<Addr>),
        at: Timestamp,
    ) -> Result<Vec<(PoolInfo, PoolReading)>, ReadError> {
        let mut infos = Vec::new();
        self.search(python, codes, (threads, worker), &mut infos, at)?;
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
        (threads, worker): (&[ThreadWatch], Option<Addr>),
        infos: &mut Vec<PoolInfo>,
        at: Timestamp,
    ) -> Result<(), ReadError> {
        if let Some(last) = self.searched {
            let age = at.since(last);
            let same =
                threads.iter().map(|watch| watch.thread.state).eq(self.threads.iter().copied());
            let same = same && worker == self.worker;
            if age < SEARCH || (same && age < SEARCH_ANYWAY) {
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
            let mut ground =
                Ground { python: *python, codes, threads: &threads, worker, modules, now: at };
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
                        infos.push(PoolInfo::new(kind, name.to_owned()));
                        self.objects.push(object);
                        infos.len().saturating_sub(1)
                    }
                };
                self.pools.push((pool, place));
            }
        }
        Ok(())
    }
}
