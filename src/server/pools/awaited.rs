//! Pools that an application makes for itself and waits for: of connections, semaphores, and asyncio's locks.
//!
//! They may lie anywhere on the heap, and are found without a search: whoever waits for one, a thread, a task
//! or a greenlet, is parked in a function that has it as a variable. Takes stacks that were walked for
//! another reason anyway, remembers the objects, and reads them from then on. One that nobody waits for
//! is never met, and needs no line: nothing is slow for it.

use super::{Family, Ground, MAX_POOLS, Pool};
use crate::model::{PoolKind, PoolReading, StackId};
use crate::python::Interpreter;
use crate::python::code_objects::{CodeCache, CodeObject};
use crate::python::frames::{RawFrame, local};
use crate::python::objects::Objects;
use crate::server::pools::client_pools::Whose;
use crate::target::{ReadError, unless_over};
use crate::units::{Addr, Tid, Timestamp};

/// Most frames, from the innermost on, that are looked at: below a library's function that waits there
/// are two of `threading`'s, and five at most of the library's own (psycopg's, 3.3).
const NEAREST: usize = 10;
/// The function in which a thread of anyio's runs what it was handed, which is a request's: `def` handlers.
const ANYIO: (&str, &str) = ("run", "anyio/_backends/_asyncio.py");
/// Most frames of a thread of anyio's between what waits and that function.
const DEEPEST: usize = 256;

/// The pools that somebody was met waiting for.
#[derive(Debug, Default)]
pub struct Awaited {
    met: Vec<Met>,
}

#[derive(Debug, Clone, Copy)]
struct Met {
    object: Addr,
    /// Its class: what lies there later is the same pool only while it has this one.
    class: Addr,
    whose: Whose,
    /// The thread that waited, if it may serve anything but requests.
    by: Option<Tid>,
    at: Option<StackId>,
}

impl Awaited {
    /// Looks for a pool among the innermost frames (the innermost first) of somebody who may wait: a thread, or
    /// a task or greenlet, which has no `thread`. Of one that was not known, gives the place for where that is.
    pub fn meet(
        &mut self,
        python: &Interpreter<'_>,
        codes: &mut CodeCache,
        frames: &[RawFrame],
        thread: Option<Tid>,
        now: Timestamp,
    ) -> Option<&mut Option<StackId>> {
        if self.met.len() >= MAX_POOLS {
            return None;
        }
        let (those, object) = frames.iter().take(NEAREST).find_map(|frame| {
            let code = codes.get(python, frame.code, now).ok()?;
            let those = Whose::of(&code)?;
            variable(python, &code, frame.addr).map(|object| (those, object))
        })?;
        if self.met.iter().any(|met| met.object == object) {
            return None;
        }
        let objects = python.objects();
        let class = objects.type_of(object).ok()?;
        let whose = those.iter().copied().find(|whose| whose.is_class_of(&objects, object))?;
        if !is_waited_for(&objects, whose, object) {
            return None;
        }
        let by = thread.filter(|_| whose.may_be_a_signal()).filter(|_| {
            let mut below = frames.iter().take(DEEPEST);
            !below.any(|frame| is_anyios(python, codes, frame, now))
        });
        self.met.push(Met { object, class, whose, by, at: None });
        self.met.last_mut().map(|met| &mut met.at)
    }

    /// How many are known.
    #[must_use]
    pub fn count(&self) -> usize {
        self.met.len()
    }

    /// Forgets those that are gone.
    fn sweep(&mut self, objects: &Objects<'_>) -> Result<(), ReadError> {
        let mut over = None;
        self.met.retain(|met| match unless_over(objects.type_of(met.object)) {
            Ok(class) => class == Some(met.class),
            Err(error) => {
                over = Some(error);
                true
            }
        });
        over.map_or(Ok(()), Err)
    }
}

fn is_anyios(
    python: &Interpreter<'_>,
    codes: &mut CodeCache,
    frame: &RawFrame,
    now: Timestamp,
) -> bool {
    let code = codes.get(python, frame.code, now);
    code.is_ok_and(|code| code.name == ANYIO.0 && code.filename.ends_with(ANYIO.1))
}

/// The `self` of a function: to 3.10 a variable that a nested function uses is in a slot of its own, and the
/// argument's is empty; then it is a cell.
fn variable(python: &Interpreter<'_>, code: &CodeObject, frame: Addr) -> Option<Addr> {
    let slots = code.locals.iter().enumerate().filter(|(_, name)| *name == "self");
    let mut values = slots.filter_map(|(slot, _)| local(python, frame, slot).ok());
    let value = values.find(|value| value.is_plausible())?;
    Some(python.objects().cell_contents(value).unwrap_or(value))
}

fn is_waited_for(objects: &Objects<'_>, whose: Whose, object: Addr) -> bool {
    let read = whose.read(objects, object);
    read.is_ok_and(|reading| reading.waiting.is_some_and(|waiting| waiting > 0))
}

/// The family.
#[derive(Debug)]
pub(super) struct AwaitedPools;

#[derive(Debug)]
struct One {
    met: Met,
    name: String,
}

impl Family for AwaitedPools {
    fn find(&mut self, ground: &mut Ground<'_>) -> Result<Vec<Box<dyn Pool>>, ReadError> {
        let objects = ground.python.objects();
        ground.awaited.sweep(&objects)?;
        let mut pools: Vec<Box<dyn Pool>> = Vec::new();
        for met in &ground.awaited.met {
            let serves = |tid: Tid| ground.serving.is_none_or(|serving| serving.contains(&tid));
            if !met.by.is_none_or(serves) {
                continue;
            }
            let name = unless_over(objects.name_of_type(met.class))?.unwrap_or_default();
            pools.push(Box::new(One { met: *met, name }));
        }
        Ok(pools)
    }
}

impl Pool for One {
    fn kind(&self) -> PoolKind {
        self.met.whose.kind()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn object(&self) -> Addr {
        self.met.object
    }

    fn waits_at(&self) -> Option<StackId> {
        self.met.at
    }

    fn look(&self, python: &Interpreter<'_>) -> Result<Option<PoolReading>, ReadError> {
        let objects = python.objects();
        if unless_over(objects.type_of(self.met.object))? != Some(self.met.class) {
            return Ok(None);
        }
        unless_over(self.met.whose.read(&objects, self.met.object))
    }
}
