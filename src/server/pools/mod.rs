//! Pools: how each family looks in memory, and how one is read.
//!
//! Takes an interpreter and its threads, gives [`PoolReading`]s. Finding pools costs a few dozen reads,
//! a look at one two or three. Decides nothing about sizes. One file per family; adding one is a file
//! and a line in [`families`].

mod anyio;
pub mod awaited;
mod client_pools;
mod executor;
mod gevent;
mod greenlets;
mod gthread;
mod server_threads;

use std::collections::HashMap;
use std::fmt;

use self::awaited::Awaited;
use crate::model::{PoolKind, PoolReading, StackId};
use crate::python::Interpreter;
use crate::python::code_objects::CodeCache;
use crate::python::frames::{Walker, local};
use crate::python::interpreters::interpreters;
use crate::python::loaded::module_dict;
use crate::python::threads::Thread;
use crate::target::{ReadError, RemoteMemoryExt, unless_over};
use crate::units::{Addr, Tid, Timestamp};

/// Most pools of one process that are looked at.
pub const MAX_POOLS: usize = 64;
/// Most modules whose places are kept: of every interpreter those few that the families know.
const MAX_MODULES: usize = 1024;

/// All families stallspy knows.
#[must_use]
pub fn families() -> Vec<Box<dyn Family>> {
    vec![
        Box::new(anyio::Anyio),
        Box::<executor::Executors>::default(),
        Box::<gevent::GeventThreads>::default(),
        Box::new(gthread::GthreadConnections),
        Box::<greenlets::GreenletPools>::default(),
        Box::new(server_threads::ServerThreads),
        Box::new(awaited::AwaitedPools),
    ]
}

/// What a family may look for pools in.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The interpreter.
    pub python: Interpreter<'a>,
    /// Code objects read so far.
    pub codes: &'a mut CodeCache,
    /// The process's threads.
    pub threads: &'a [Thread],
    /// gunicorn's `Worker`, in a worker.
    pub worker: Option<Addr>,
    /// Modules found so far.
    pub modules: &'a mut Modules,
    /// Pools that somebody was met waiting for.
    pub awaited: &'a mut Awaited,
    /// The threads that serve requests; `None` where that is not told apart.
    pub serving: Option<&'a [Tid]>,
    /// A time just before the search.
    pub now: Timestamp,
}

/// Knows how one family of pools looks in memory. Keeps what makes the next search cheaper.
pub trait Family: fmt::Debug {
    /// All pools of this family that are there now, at most [`MAX_POOLS`].
    ///
    /// # Errors
    /// Only [`ReadError::Gone`] and [`ReadError::Denied`]; what cannot be read is no pool.
    fn find(&mut self, ground: &mut Ground<'_>) -> Result<Vec<Box<dyn Pool>>, ReadError>;
}

/// One pool. Holds what was found once so that a look is cheap.
pub trait Pool: fmt::Debug {
    /// What it is.
    fn kind(&self) -> PoolKind;

    /// Its name; empty where it has none.
    fn name(&self) -> &str;

    /// The object's address: two pools with the same one and the same name are the same.
    fn object(&self) -> Addr;

    /// Where somebody was met waiting for it, if it was found that way.
    fn waits_at(&self) -> Option<StackId> {
        None
    }

    /// Looks at it; `None` once it is gone.
    ///
    /// # Errors
    /// Only [`ReadError::Gone`] and [`ReadError::Denied`].
    fn look(&self, python: &Interpreter<'_>) -> Result<Option<PoolReading>, ReadError>;
}

/// Where modules' globals lie. A module that is not imported is looked for again once another was.
#[derive(Debug, Default)]
pub struct Modules {
    known: HashMap<(Addr, &'static str), Addr>,
    /// How many modules an interpreter had when one was not found.
    missing: HashMap<(Addr, &'static str), u64>,
}

impl Modules {
    /// The globals of the module `name`, of each interpreter that has it.
    ///
    /// # Errors
    /// Only [`ReadError::Gone`] and [`ReadError::Denied`].
    pub fn globals(
        &mut self,
        python: &Interpreter<'_>,
        name: &'static str,
    ) -> Result<Vec<Addr>, ReadError> {
        let mut found = Vec::new();
        for interpreter in unless_over(interpreters(python))?.unwrap_or_default() {
            let key = (interpreter, name);
            if let Some(known) = self.known.get(&key) {
                found.push(*known);
                continue;
            }
            let Some(count) = unless_over(count(python, interpreter))? else { continue };
            if self.missing.get(&key) == Some(&count) {
                continue;
            }
            match unless_over(module_dict(python, interpreter, name))?.flatten() {
                Some(dict) if self.known.len() < MAX_MODULES => {
                    self.known.insert(key, dict);
                    found.push(dict);
                }
                _ if self.missing.len() < MAX_MODULES => {
                    self.missing.insert(key, count);
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// How many modules an interpreter has imported.
fn count(python: &Interpreter<'_>, interpreter: Addr) -> Result<u64, ReadError> {
    let offsets = &python.layout.offsets;
    let modules = python.memory.read_pointer(interpreter.at(offsets.interpreter.modules))?;
    python.memory.read_u64(modules.at(offsets.object.dict_used))
}

/// The `self` of the outermost `function` (its name, its file's end) that a thread runs; `None` of one that
/// runs none.
fn own_of(
    python: &Interpreter<'_>,
    codes: &mut CodeCache,
    thread: &Thread,
    function: (&str, &str),
    now: Timestamp,
) -> Result<Option<Addr>, ReadError> {
    let stack = Walker::default().walk(python, thread)?;
    for frame in stack.frames.iter().rev() {
        let Ok(code) = codes.get(python, frame.code, now) else { continue };
        if code.name != function.0 || !code.filename.ends_with(function.1) {
            continue;
        }
        let Some(slot) = code.local_index("self") else { return Ok(None) };
        return local(python, frame.addr, slot).map(Some);
    }
    Ok(None)
}

/// A count that a pool can have; `None` for what can only be garbage.
fn plausible(count: usize) -> Option<u32> {
    /// No pool has a million threads, and no line a million that wait for one.
    const MOST: u32 = 1_000_000;
    u32::try_from(count).ok().filter(|count| *count <= MOST)
}
