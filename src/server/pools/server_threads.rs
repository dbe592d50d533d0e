//! Threads that a server hands its requests to: waitress's and cheroot's own pools.
//!
//! Every thread of one runs a function whose `self` leads to the pool. waitress counts those that are at
//! work (`active_count`), and has a line of requests; of cheroot each thread has the connection it serves,
//! which it may still be reading from
//! (<https://github.com/Pylons/waitress/blob/v3.0.0/src/waitress/task.py#L47>; the same from 1.3 on,
//! <https://github.com/cherrypy/cheroot/blob/v10.0.0/cheroot/workers/threadpool.py#L144>; the same from 6 to
//! 11).

use super::{Family, Ground, Pool, own_of, plausible};
use crate::model::{PoolKind, PoolReading};
use crate::python::Interpreter;
use crate::python::objects::Objects;
use crate::target::{ReadError, unless_over};
use crate::units::Addr;

/// Most threads of one pool whose connections are looked at.
const MAX_THREADS: usize = 256;

/// Whose pool it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Waitress,
    Cheroot,
}

/// The module that has the function, the function, its file, whose it is.
const RUNS: [(&str, (&str, &str), Whose); 2] = [
    ("waitress.task", ("handler_thread", "waitress/task.py"), Whose::Waitress),
    ("cheroot.workers.threadpool", ("run", "cheroot/workers/threadpool.py"), Whose::Cheroot),
];

/// The family.
#[derive(Debug)]
pub(super) struct ServerThreads;

#[derive(Debug)]
struct Threads {
    pool: Addr,
    whose: Whose,
}

impl Family for ServerThreads {
    fn find(&mut self, ground: &mut Ground<'_>) -> Result<Vec<Box<dyn Pool>>, ReadError> {
        let python = ground.python;
        let mut pools: Vec<Box<dyn Pool>> = Vec::new();
        for (module, function, whose) in RUNS {
            if ground.modules.globals(&python, module)?.is_empty() {
                continue;
            }
            // A process has one such server: whichever of its threads holds still tells.
            for thread in ground.threads {
                let own = own_of(&python, ground.codes, thread, function, ground.now);
                let Some(own) = unless_over(own)?.flatten() else { continue };
                if let Some(pool) = unless_over(pool_of(&python.objects(), own, whose))?.flatten() {
                    pools.push(Box::new(Threads { pool, whose }));
                    break;
                }
            }
        }
        Ok(pools)
    }
}

/// The pool of the thread whose function's `self` is `own`.
fn pool_of(objects: &Objects<'_>, own: Addr, whose: Whose) -> Result<Option<Addr>, ReadError> {
    match whose {
        Whose::Waitress => Ok(Some(own)),
        Whose::Cheroot => match objects.attribute(own, "server")? {
            Some(server) => objects.attribute(server, "requests"),
            None => Ok(None),
        },
    }
}

impl Threads {
    fn waitress(&self, objects: &Objects<'_>) -> Result<PoolReading, ReadError> {
        let attribute = |name| objects.attribute(self.pool, name);
        let number = |name| attribute(name)?.map(|value| objects.int(value)).transpose();
        let limit = attribute("threads")?.map(|threads| objects.set_len(threads)).transpose()?;
        let waiting = attribute("queue")?.map(|queue| objects.deque_len(queue)).transpose()?;
        let limit = limit.and_then(plausible);
        // Below 0 for a moment where a thread that has just begun waits before it was counted.
        let busy = number("active_count")?.map_or(0, |count| count.max(0));
        let busy = plausible(usize::try_from(busy).unwrap_or(usize::MAX));
        let busy = busy.map(|busy| limit.map_or(busy, |limit| busy.min(limit)));
        Ok(PoolReading { limit, busy, waiting: waiting.and_then(plausible) })
    }

    fn cheroot(&self, objects: &Objects<'_>) -> Result<PoolReading, ReadError> {
        let threads = objects.attribute(self.pool, "_threads")?;
        let threads =
            threads.map(|threads| objects.list_items(threads, MAX_THREADS)).transpose()?;
        let mut busy = 0;
        for thread in threads.iter().flatten() {
            let connection = objects.attribute(*thread, "conn")?;
            let is_idle = connection.map(|one| objects.type_name(one)).transpose()?;
            busy += usize::from(is_idle.is_some_and(|kind| kind != "NoneType"));
        }
        let line = objects.attribute(self.pool, "_queue")?;
        let line = line.map(|line| objects.attribute(line, "queue")).transpose()?.flatten();
        let waiting = line.map(|line| objects.deque_len(line)).transpose()?;
        Ok(PoolReading {
            limit: threads.and_then(|threads| plausible(threads.len())),
            busy: plausible(busy),
            waiting: waiting.and_then(plausible),
        })
    }
}

impl Pool for Threads {
    fn kind(&self) -> PoolKind {
        PoolKind::ServerThreads
    }

    fn name(&self) -> &'static str {
        match self.whose {
            Whose::Waitress => "waitress",
            Whose::Cheroot => "cheroot",
        }
    }

    fn object(&self) -> Addr {
        self.pool
    }

    fn look(&self, python: &Interpreter<'_>) -> Result<Option<PoolReading>, ReadError> {
        let objects = python.objects();
        unless_over(match self.whose {
            Whose::Waitress => self.waitress(&objects),
            Whose::Cheroot => self.cheroot(&objects),
        })
    }
}
