//! gevent's pools of native threads: the hub's, which `gevent.get_hub().threadpool` and the resolver
//! use, and those of `gevent.threadpool.ThreadPoolExecutor`.
//!
//! Every worker thread runs `_WorkerGreenlet.run`, and that object keeps a method of its pool
//! (`_unregister_worker`):
//! <https://github.com/gevent/gevent/blob/24.2.1/src/gevent/threadpool.py#L73>; the same in 26.9. The
//! pool counts tasks that are not finished, those that wait for a thread among them; greenlets beyond
//! its size wait at a semaphore that is written in C, and how many is not known. A pool without a
//! thread has never had any work.

use std::collections::HashMap;

use super::{Family, Ground, MAX_POOLS, Pool, own_of, plausible};
use crate::model::{PoolKind, PoolReading};
use crate::python::Interpreter;
use crate::python::threads::Thread;
use crate::target::{ReadError, RemoteMemoryExt, unless_over};
use crate::units::Addr;

/// The module that has them.
const MODULE: &str = "gevent.threadpool";
/// The function that a worker runs all its life, and its file whatever the installation.
const WORKER: (&str, &str) = ("run", "gevent/threadpool.py");
/// Offset of `im_self` in a method (`PyMethodObject`, Include/cpython/classobject.h; the same 3.8 to
/// 3.15).
const METHOD_SELF: u64 = 24;

/// The family: the pool that each thread works for, by the thread's state; `None` for other threads.
#[derive(Debug, Default)]
pub(super) struct GeventThreads {
    known: HashMap<Addr, Option<Addr>>,
}

#[derive(Debug)]
struct ThreadPool {
    object: Addr,
    limit: Option<u32>,
    /// `task_queue`, which a fork replaces and nothing else.
    queue: Addr,
}

impl Family for GeventThreads {
    fn find(&mut self, ground: &mut Ground<'_>) -> Result<Vec<Box<dyn Pool>>, ReadError> {
        if ground.modules.globals(&ground.python, MODULE)?.is_empty() {
            return Ok(Vec::new());
        }
        let before = std::mem::take(&mut self.known);
        let mut found: Vec<Addr> = Vec::new();
        for thread in ground.threads {
            let pool = match before.get(&thread.state) {
                Some(Some(known)) => Some(*known),
                // It may not have begun yet when it was looked at.
                _ => unless_over(pool_of(ground, thread))?.flatten(),
            };
            self.known.insert(thread.state, pool);
            found.extend(pool.filter(|pool| !found.contains(pool)));
        }
        let mut pools: Vec<Box<dyn Pool>> = Vec::new();
        for object in found.into_iter().take(MAX_POOLS) {
            if let Some(pool) = unless_over(thread_pool(&ground.python, object))?.flatten() {
                pools.push(Box::new(pool));
            }
        }
        Ok(pools)
    }
}

/// The pool that a thread works for, if it is a worker of one.
fn pool_of(ground: &mut Ground<'_>, thread: &Thread) -> Result<Option<Addr>, ReadError> {
    let python = ground.python;
    let Some(worker) = own_of(&python, ground.codes, thread, WORKER, ground.now)? else {
        return Ok(None);
    };
    let objects = python.objects();
    let Some(method) = objects.attribute(worker, "_unregister_worker")? else { return Ok(None) };
    if objects.type_name(method)? != "method" {
        return Ok(None);
    }
    python.memory.read_pointer(method.at(METHOD_SELF)).map(Some)
}

fn thread_pool(python: &Interpreter<'_>, object: Addr) -> Result<Option<ThreadPool>, ReadError> {
    let objects = python.objects();
    let limit = objects.member(object, "_maxsize")?;
    let limit = limit.map(|limit| objects.int(limit)).transpose()?;
    let limit = limit.and_then(|limit| plausible(usize::try_from(limit).ok()?));
    let queue = objects.member(object, "task_queue")?;
    Ok(queue.map(|queue| ThreadPool { object, limit, queue }))
}

impl Pool for ThreadPool {
    fn kind(&self) -> PoolKind {
        PoolKind::GeventThreadPool
    }

    fn name(&self) -> &'static str {
        ""
    }

    fn object(&self) -> Addr {
        self.object
    }

    fn look(&self, python: &Interpreter<'_>) -> Result<Option<PoolReading>, ReadError> {
        let objects = python.objects();
        let read = || {
            let Some(count) = objects.member(self.queue, "unfinished_tasks")? else {
                return Ok(None);
            };
            objects.int(count).map(|count| plausible(usize::try_from(count).ok()?))
        };
        let Some(busy) = unless_over(read())?.flatten() else { return Ok(None) };
        let busy = Some(self.limit.map_or(busy, |limit| busy.min(limit)));
        Ok(Some(PoolReading { limit: self.limit, busy, waiting: None }))
    }
}
