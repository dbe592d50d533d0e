//! `concurrent.futures.ThreadPoolExecutor`: asyncio's default executor, gunicorn gthread's `tpool`,
//! and whatever the application makes.
//!
//! Every worker thread is in `concurrent.futures.thread._threads_queues`, from the thread to the queue
//! it takes its work from; the thread's `_args` begin with a weak reference to the executor
//! (<https://github.com/python/cpython/blob/v3.12.1/Lib/concurrent/futures/thread.py#L180>, the same
//! 3.8 to 3.15). Who is idle stands in the frame `_worker` and waits in C code; who works has frames
//! above it. The executor's own count (`_idle_semaphore`) is not used: up to 3.11 it grows with every
//! piece of work that had waited in the queue. An executor without a thread has never had any work.

use std::collections::HashMap;

use super::{Family, Ground, MAX_POOLS, Pool, plausible};
use crate::model::{PoolKind, PoolReading};
use crate::python::Interpreter;
use crate::python::frames::Walker;
use crate::python::innermost::innermost;
use crate::python::objects::Objects;
use crate::target::{ReadError, unless_over};
use crate::units::Addr;

/// The module that knows all worker threads.
const MODULE: &str = "concurrent.futures.thread";
/// The function that a worker runs all its life, and its file whatever the installation.
const WORKER: (&str, &str) = ("_worker", "concurrent/futures/thread.py");
/// Most worker threads of a process that are looked at.
const MAX_WORKERS: usize = 1024;

/// The family, and the workers met so far by their `Thread` objects.
#[derive(Debug, Default)]
pub(super) struct Executors {
    workers: HashMap<Addr, Worker>,
}

/// A worker thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Worker {
    /// Its `PyThreadState`; `None` of one that is none of the kernel's (gevent's).
    state: Option<Addr>,
    /// The frame it waits for work in, once that was seen.
    frame: Option<Addr>,
}

#[derive(Debug)]
struct Executor {
    object: Addr,
    name: String,
    limit: Option<u32>,
    queue: Addr,
    workers: Vec<Worker>,
}

impl Family for Executors {
    fn find(&mut self, ground: &mut Ground<'_>) -> Result<Vec<Box<dyn Pool>>, ReadError> {
        let mut before = std::mem::take(&mut self.workers);
        let mut found: Vec<Executor> = Vec::new();
        for globals in ground.modules.globals(&ground.python, MODULE)? {
            let threads = unless_over(worker_threads(&ground.python, globals))?.unwrap_or_default();
            for (thread, queue) in threads {
                let place = found.iter().position(|executor| executor.queue == queue);
                let executor = match place {
                    Some(place) => found.get_mut(place),
                    None if found.len() < MAX_POOLS => {
                        let executor = unless_over(executor(&ground.python, thread, queue))?;
                        found.extend(executor.flatten());
                        found.last_mut().filter(|executor| executor.queue == queue)
                    }
                    None => None,
                };
                let Some(executor) = executor else { continue };
                let known = before.remove(&thread);
                let worker = worker(ground, thread, known)?;
                self.workers.insert(thread, worker);
                executor.workers.push(worker);
            }
        }
        Ok(found.into_iter().map(|executor| Box::new(executor) as Box<dyn Pool>).collect())
    }
}

/// All worker threads, `Thread` objects, with their queues.
fn worker_threads(python: &Interpreter<'_>, globals: Addr) -> Result<Vec<(Addr, Addr)>, ReadError> {
    let objects = python.objects();
    let Some(known) = objects.dict_get(globals, "_threads_queues")? else { return Ok(Vec::new()) };
    let Some(data) = objects.attribute(known, "data")? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (reference, queue) in objects.dict_items(data, MAX_WORKERS)? {
        if let Some(thread) = unless_over(objects.referent(reference))?.flatten() {
            found.push((thread, queue));
        }
    }
    Ok(found)
}

/// The executor that a worker thread works for.
fn executor(
    python: &Interpreter<'_>,
    thread: Addr,
    queue: Addr,
) -> Result<Option<Executor>, ReadError> {
    let objects = python.objects();
    let Some(args) = objects.attribute(thread, "_args")? else { return Ok(None) };
    let Some(reference) = objects.tuple_items(args, 1)?.first().copied() else { return Ok(None) };
    let Some(object) = objects.referent(reference)? else { return Ok(None) };
    if objects.attribute(object, "_work_queue")? != Some(queue) {
        return Ok(None);
    }
    let limit = int_attribute(&objects, object, "_max_workers")?;
    let limit = limit.and_then(|limit| plausible(usize::try_from(limit).ok()?));
    let name = match objects.attribute(object, "_thread_name_prefix")? {
        Some(name) => objects.str(name)?,
        None => String::new(),
    };
    Ok(Some(Executor { object, name, limit, queue, workers: Vec::new() }))
}

fn int_attribute(
    objects: &Objects<'_>,
    object: Addr,
    name: &str,
) -> Result<Option<i64>, ReadError> {
    objects.attribute(object, name)?.map(|value| objects.int(value)).transpose()
}

/// What is known of the worker that the `Thread` object `thread` stands for.
fn worker(
    ground: &mut Ground<'_>,
    thread: Addr,
    known: Option<Worker>,
) -> Result<Worker, ReadError> {
    let python = &ground.python;
    let alive = |state| ground.threads.iter().any(|one| one.state == state);
    if let Some(known @ Worker { state: Some(state), frame: Some(_) }) = known
        && alive(state)
    {
        return Ok(known);
    }
    let ident = unless_over(int_attribute(&python.objects(), thread, "_ident"))?.flatten();
    let found = ground.threads.iter().find(|one| i64::try_from(one.ident).ok() == ident);
    let Some(found) = found.copied() else { return Ok(Worker { state: None, frame: None }) };
    let stack = unless_over(Walker::default().walk(python, &found))?.unwrap_or_default();
    let is_worker = |code: Addr, codes: &mut crate::python::code_objects::CodeCache| {
        let code = codes.get(python, code, ground.now);
        code.is_ok_and(|code| code.name == WORKER.0 && code.filename.ends_with(WORKER.1))
    };
    let mut frames = stack.frames.iter().rev();
    let frame = frames.find(|frame| is_worker(frame.code, ground.codes)).map(|frame| frame.addr);
    Ok(Worker { state: Some(found.state), frame })
}

impl Executor {
    /// How many of its workers are at work; `None` if that is not known of some of them.
    fn busy(&self, python: &Interpreter<'_>) -> Result<Option<u32>, ReadError> {
        let states: Option<Vec<Addr>> = self.workers.iter().map(|worker| worker.state).collect();
        let Some(states) = states else { return Ok(None) };
        let tops = innermost(python, &states)?;
        if tops.len() < states.len() {
            // One of them has ended: the next search tells which.
            return Ok(None);
        }
        // A worker whose frame was not seen yet is about to begin: it is made for a piece of work.
        let at_work = |(worker, top): &(&Worker, Addr)| worker.frame != Some(*top);
        Ok(plausible(self.workers.iter().zip(tops).filter(at_work).count()))
    }
}

impl Pool for Executor {
    fn kind(&self) -> PoolKind {
        PoolKind::ThreadPoolExecutor
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn object(&self) -> Addr {
        self.object
    }

    fn look(&self, python: &Interpreter<'_>) -> Result<Option<PoolReading>, ReadError> {
        let busy = self.busy(python)?;
        let waiting = unless_over(python.objects().simple_queue_len(self.queue))?;
        if busy.is_none() && waiting.is_none() {
            return Ok(None);
        }
        Ok(Some(PoolReading { limit: self.limit, busy, waiting: waiting.and_then(plausible) }))
    }
}
