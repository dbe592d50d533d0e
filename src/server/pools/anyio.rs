//! anyio's `CapacityLimiter`s that belong to a loop: the default one of worker threads, which every
//! `def` handler of Starlette and FastAPI goes through, and the one of subprocesses.
//!
//! They are kept in `anyio.lowlevel._run_vars`, a `WeakKeyDictionary` from loops to dicts, under a
//! `RunVar` (its name to anyio 4.5, then itself). Read in anyio 3.0, 4.5 and 4.16:
//! <https://github.com/agronholm/anyio/blob/4.5.2/src/anyio/lowlevel.py#L67>,
//! <https://github.com/agronholm/anyio/blob/4.5.2/src/anyio/_backends/_asyncio.py#L1829>. A limiter
//! that the application makes for itself is in no such place, and not found.

use super::{Family, Ground, MAX_POOLS, Pool, plausible};
use crate::model::{PoolKind, PoolReading};
use crate::python::Interpreter;
use crate::python::objects::Objects;
use crate::target::{ReadError, RemoteMemoryExt, unless_over};
use crate::units::Addr;

/// The module that keeps variables of loops.
const MODULE: &str = "anyio.lowlevel";
/// The limiter's class, in the backend of asyncio. trio's backend wraps trio's own.
const CLASS: &str = "CapacityLimiter";
/// Most loops, and most variables of a loop, that are looked at.
const MAX_ENTRIES: usize = 64;

/// The family.
#[derive(Debug)]
pub(super) struct Anyio;

#[derive(Debug)]
struct Limiter {
    object: Addr,
    kind: Addr,
    name: String,
    /// `_total_tokens`; the application may change it, and a search sees that.
    limit: Option<u32>,
    /// `_borrowers`, a set that lives as long as the limiter.
    borrowers: Addr,
    /// `_wait_queue`, an `OrderedDict` that does, too.
    wait_queue: Addr,
}

impl Family for Anyio {
    fn find(&mut self, ground: &mut Ground<'_>) -> Result<Vec<Box<dyn Pool>>, ReadError> {
        let mut found: Vec<Box<dyn Pool>> = Vec::new();
        for globals in ground.modules.globals(&ground.python, MODULE)? {
            let limiters = unless_over(limiters(&ground.python, globals))?.unwrap_or_default();
            let room = MAX_POOLS.saturating_sub(found.len());
            found.extend(limiters.into_iter().take(room).map(|one| Box::new(one) as Box<dyn Pool>));
        }
        Ok(found)
    }
}

fn limiters(python: &Interpreter<'_>, globals: Addr) -> Result<Vec<Limiter>, ReadError> {
    let objects = python.objects();
    let mut found = Vec::new();
    let Some(run_vars) = objects.dict_get(globals, "_run_vars")? else { return Ok(found) };
    let Some(data) = objects.attribute(run_vars, "data")? else { return Ok(found) };
    for (_, variables) in objects.dict_items(data, MAX_ENTRIES)? {
        let Some(variables) = unless_over(objects.dict_items(variables, MAX_ENTRIES))? else {
            continue;
        };
        for (variable, value) in variables {
            found.extend(unless_over(limiter(&objects, variable, value))?.flatten());
        }
    }
    Ok(found)
}

fn limiter(
    objects: &Objects<'_>,
    variable: Addr,
    object: Addr,
) -> Result<Option<Limiter>, ReadError> {
    if objects.type_name(object)? != CLASS {
        return Ok(None);
    }
    let name = match objects.member(variable, "_name") {
        Ok(Some(name)) => objects.str(name)?,
        _ => objects.str(variable)?,
    };
    let part = |name| objects.member(object, name);
    let (Some(tokens), Some(borrowers), Some(wait_queue)) =
        (part("_total_tokens")?, part("_borrowers")?, part("_wait_queue")?)
    else {
        return Ok(None);
    };
    // A set and a dict, or this is no limiter.
    objects.set_len(borrowers)?;
    objects.dict_len(wait_queue)?;
    // `math.inf` is no limit.
    let limit =
        objects.int(tokens).ok().and_then(|tokens| plausible(usize::try_from(tokens).ok()?));
    let name = name.trim_start_matches('_').to_owned();
    let kind = objects.type_of(object)?;
    Ok(Some(Limiter { object, kind, name, limit, borrowers, wait_queue }))
}

impl Pool for Limiter {
    fn kind(&self) -> PoolKind {
        PoolKind::AnyioLimiter
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn object(&self) -> Addr {
        self.object
    }

    fn look(&self, python: &Interpreter<'_>) -> Result<Option<PoolReading>, ReadError> {
        let offsets = &python.layout.offsets.object;
        let words = [
            self.object.at(offsets.ob_type),
            self.borrowers.at(offsets.set_used),
            self.wait_queue.at(offsets.dict_used),
        ];
        let Some([kind, busy, waiting]) = unless_over(python.memory.read_words(words))? else {
            return Ok(None);
        };
        if Addr(kind) != self.kind {
            return Ok(None);
        }
        let count = |word| usize::try_from(word).ok().and_then(plausible);
        let (busy, waiting) = (count(busy), count(waiting));
        Ok(Some(PoolReading { limit: self.limit, busy, waiting }))
    }
}
