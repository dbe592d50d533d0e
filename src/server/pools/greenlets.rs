//! Pools of greenlets that a server runs requests in: gunicorn's `worker_connections`, gevent's
//! `StreamServer` with a `Pool`, eventlet's `wsgi.server`.
//!
//! The pool is a variable of the function that serves, which is parked below the hub: of gevent's the server
//! has it (`StreamServer.pool`), of eventlet's whoever accepts
//! (<https://github.com/gevent/gevent/blob/24.2.1/src/gevent/baseserver.py#L126>,
//! <https://github.com/benoitc/gunicorn/blob/23.0.0/gunicorn/workers/ggevent.py#L56>,
//! <https://github.com/benoitc/gunicorn/blob/23.0.0/gunicorn/workers/geventlet.py#L62>,
//! <https://github.com/eventlet/eventlet/blob/0.36.1/eventlet/wsgi.py#L999>). gevent's stops accepting when
//! it is full: who waits is before the listening socket. eventlet's accepts one more, which waits at the
//! pool's semaphore.

use super::{Family, Ground, MAX_POOLS, Pool, plausible};
use crate::model::{PoolKind, PoolReading};
use crate::python::Interpreter;
use crate::python::code_objects::CodeCache;
use crate::python::frames::{RawStack, Walker, local};
use crate::python::greenlets::{is_greenlet, parked_at};
use crate::server::hub::beside;
use crate::target::{ReadError, unless_over};
use crate::units::{Addr, Timestamp};

/// The modules that have them.
const MODULES: [&str; 2] = ["gevent.pool", "eventlet.greenpool"];
/// Most servers of one worker: it has one for each listening socket.
const MAX_SERVERS: usize = 16;
/// Most greenlets of a pool that are asked at a search what they wait for, some 20 µs each: where many wait
/// for the same, one of these does.
const ASKED: usize = 16;

/// What a variable of a function that serves holds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Holds {
    /// A server that has a pool.
    Server,
    /// A list of them.
    Servers,
    /// Greenlets that accept, each with a pool.
    Acceptors,
    /// The pool.
    Pool,
}

/// Functions that serve: the file's end, the function, its variable, and what that is.
const PLACES: [(&str, &str, &str, Holds); 5] = [
    ("gunicorn/workers/ggevent.py", "run", "servers", Holds::Servers),
    ("gunicorn/workers/geventlet.py", "run", "acceptors", Holds::Acceptors),
    ("gunicorn/workers/geventlet.py", "_eventlet_serve", "pool", Holds::Pool),
    ("gevent/baseserver.py", "serve_forever", "self", Holds::Server),
    ("eventlet/wsgi.py", "server", "pool", Holds::Pool),
];

/// The family: the pools that were found. A thread whose hub runs a greenlet may not show them again.
#[derive(Debug, Default)]
pub(super) struct GreenletPools {
    known: Vec<Addr>,
}

#[derive(Debug)]
struct Greenlets {
    object: Addr,
    kind: PoolKind,
}

impl Family for GreenletPools {
    fn find(&mut self, ground: &mut Ground<'_>) -> Result<Vec<Box<dyn Pool>>, ReadError> {
        let python = ground.python;
        let mut is_there = false;
        for module in MODULES {
            is_there |= !ground.modules.globals(&python, module)?.is_empty();
        }
        if !is_there {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for thread in ground.threads {
            let Some(own) = unless_over(Walker::default().walk(&python, thread))? else { continue };
            let others = beside(&python, ground.codes, &own, ground.worker, ground.now);
            for stack in std::iter::once(&own).chain(&others) {
                let mut search =
                    Search { python: &python, codes: ground.codes, now: ground.now, depth: 0 };
                found.extend(search.pools(stack)?);
            }
        }
        found.retain(|pool| kind_of(&python, *pool).is_some());
        if found.is_empty() {
            found.clone_from(&self.known);
        }
        found.sort_unstable();
        found.dedup();
        found.truncate(MAX_POOLS);
        self.known.clone_from(&found);
        for pool in &found {
            meet(ground, *pool)?;
        }
        let pools = found.into_iter().filter_map(|object| {
            let pool = Greenlets { object, kind: kind_of(&python, object)? };
            Some(Box::new(pool) as Box<dyn Pool>)
        });
        Ok(pools.collect())
    }
}

/// Has the pools met that requests in gevent's `pool` wait for: of a connection, say.
fn meet(ground: &mut Ground<'_>, pool: Addr) -> Result<(), ReadError> {
    let python = ground.python;
    let objects = python.objects();
    let Some(running) = unless_over(objects.attribute(pool, "greenlets"))?.flatten() else {
        return Ok(());
    };
    for one in unless_over(objects.set_items(running, ASKED))?.unwrap_or_default() {
        if let Some(stack) = unless_over(parked_at(&python, one))?.flatten() {
            ground.awaited.meet(&python, ground.codes, &stack.frames, None, ground.now);
        }
    }
    Ok(())
}

struct Search<'a, 'b> {
    python: &'a Interpreter<'b>,
    codes: &'a mut CodeCache,
    now: Timestamp,
    depth: u8,
}

impl Search<'_, '_> {
    /// The pools that functions on this stack serve with.
    fn pools(&mut self, stack: &RawStack) -> Result<Vec<Addr>, ReadError> {
        let mut found = Vec::new();
        for frame in &stack.frames {
            let Ok(code) = self.codes.get(self.python, frame.code, self.now) else { continue };
            let place = PLACES.iter().find(|(file, function, ..)| {
                code.name == *function && code.filename.ends_with(file)
            });
            let Some((_, _, variable, holds)) = place else { continue };
            let Some(slot) = code.local_index(variable) else { continue };
            if let Some(value) = unless_over(local(self.python, frame.addr, slot))? {
                found.extend(self.behind(value, *holds)?);
            }
        }
        Ok(found)
    }

    fn behind(&mut self, value: Addr, holds: Holds) -> Result<Vec<Addr>, ReadError> {
        let objects = self.python.objects();
        let pool = |server| unless_over(objects.member(server, "pool")).map(Option::flatten);
        let mut found = Vec::new();
        match holds {
            Holds::Pool => found.push(value),
            Holds::Server => found.extend(pool(value)?),
            Holds::Servers => {
                for server in
                    unless_over(objects.list_items(value, MAX_SERVERS))?.into_iter().flatten()
                {
                    found.extend(pool(server)?);
                }
            }
            Holds::Acceptors => {
                // What accepts has no acceptors.
                if self.depth > 0 {
                    return Ok(found);
                }
                self.depth = 1;
                for one in
                    unless_over(objects.list_items(value, MAX_SERVERS))?.into_iter().flatten()
                {
                    if !is_greenlet(self.python, one) {
                        continue;
                    }
                    if let Some(stack) = unless_over(parked_at(self.python, one))?.flatten() {
                        found.extend(self.pools(&stack)?);
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Which pool is there, by its classes and what it must have; `None` where there is none.
fn kind_of(python: &Interpreter<'_>, object: Addr) -> Option<PoolKind> {
    let objects = python.objects();
    let classes = objects.class_names(object).ok()?;
    let has = |attribute: &str| objects.attribute(object, attribute).ok().flatten().is_some();
    let is = |name: &str| classes.iter().any(|class| class == name);
    if is("Pool") && has("greenlets") {
        Some(PoolKind::GeventPool)
    } else if is("GreenPool") && has("coroutines_running") {
        Some(PoolKind::EventletPool)
    } else {
        None
    }
}

impl Pool for Greenlets {
    fn kind(&self) -> PoolKind {
        self.kind
    }

    fn name(&self) -> &'static str {
        ""
    }

    fn object(&self) -> Addr {
        self.object
    }

    fn look(&self, python: &Interpreter<'_>) -> Result<Option<PoolReading>, ReadError> {
        let objects = python.objects();
        let attribute =
            |name| unless_over(objects.attribute(self.object, name)).map(Option::flatten);
        let set = match self.kind {
            PoolKind::GeventPool => "greenlets",
            _ => "coroutines_running",
        };
        let Some(set) = attribute(set)? else { return Ok(None) };
        let Some(busy) = unless_over(objects.set_len(set))? else { return Ok(None) };
        let size = match attribute("size")? {
            Some(size) => unless_over(objects.int(size))?,
            None => None,
        };
        let limit = size.and_then(|size| plausible(usize::try_from(size).ok()?));
        let waiting = match attribute("sem")? {
            Some(semaphore) => unless_over(objects.attribute(semaphore, "_waiters"))?.flatten(),
            None => None,
        };
        let waiting = match waiting {
            // A set before eventlet 0.25.
            Some(waiters) => {
                unless_over(objects.deque_len(waiters).or_else(|_| objects.set_len(waiters)))?
            }
            None => None,
        };
        let waiting = waiting.and_then(plausible);
        Ok(Some(PoolReading { limit, busy: plausible(busy), waiting }))
    }
}
