//! What a server counts itself: requests served, and in flight.
//!
//! Takes the server's objects, gives numbers, or "not known": never a guess. The counts are the
//! server's own, so that rates are exact; they lie in attributes of objects that live as long as the
//! process.

use super::ServerObjects;
use crate::model::WorkerClass;
use crate::python::Interpreter;
use crate::units::Addr;

/// What the counters say now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests served since the process began; gunicorn counts them when they begin.
    pub requests: Option<u64>,
    /// Requests in flight, those in a queue for a thread among them.
    pub in_flight: Option<u64>,
}

/// The counts of a process that runs requests as `class` does.
///
/// - uvicorn: `ServerState.total_requests`, `len(ServerState.tasks)`
///   (<https://github.com/encode/uvicorn/blob/0.30.0/uvicorn/server.py#L39>; the same from 0.13 on)
/// - gunicorn: `Worker.nr`, which all classes count but uvicorn's
///   (<https://github.com/benoitc/gunicorn/blob/23.0.0/gunicorn/workers/base.py#L57>)
/// - hypercorn on asyncio, where `max_requests` is set: `WorkerContext.requests`, which counts only then
///   (<https://github.com/pgjones/hypercorn/blob/0.17.3/src/hypercorn/asyncio/worker_context.py#L64>)
/// - gthread: `nr_conns` less the connections that wait between requests: `_keep` to 23,
///   `keepalived_conns` and `pending_conns` later
#[must_use]
pub fn counts(python: &Interpreter<'_>, objects: &ServerObjects, class: WorkerClass) -> Counts {
    if let Some(context) = objects.context {
        return of_hypercorn(python, context);
    }
    match (objects.server, objects.worker, class) {
        (Some(server), _, _) => of_uvicorn(python, server),
        (None, Some(_), WorkerClass::Uvicorn) | (None, None, _) => Counts::default(),
        (None, Some(worker), class) => of_gunicorn(python, worker, class),
    }
}

fn of_uvicorn(python: &Interpreter<'_>, server: Addr) -> Counts {
    let objects = python.objects();
    let read = || {
        let state = objects.attribute(server, "server_state").ok()??;
        let attributes = objects.attributes(state, MAX_ATTRIBUTES).ok()?;
        let find = |name: &str| attributes.iter().find(|(own, _)| own == name).map(|one| one.1);
        let counted = |count| settled(python, state, "total_requests", count);
        let requests = find("total_requests").and_then(counted);
        let in_flight = find("tasks").and_then(|tasks| objects.set_len(tasks).ok());
        Some(Counts { requests, in_flight: in_flight.map(|count| count as u64) })
    };
    read().unwrap_or_default()
}

fn of_hypercorn(python: &Interpreter<'_>, context: Addr) -> Counts {
    let objects = python.objects();
    let count = objects.attribute(context, "requests").ok().flatten();
    let requests = count.and_then(|count| settled(python, context, "requests", count));
    Counts { requests, in_flight: None }
}

fn of_gunicorn(python: &Interpreter<'_>, worker: Addr, class: WorkerClass) -> Counts {
    let objects = python.objects();
    let Ok(attributes) = objects.attributes(worker, MAX_ATTRIBUTES) else {
        return Counts::default();
    };
    let find = |name: &str| attributes.iter().find(|(own, _)| own == name).map(|one| one.1);
    let requests = find("nr").and_then(|count| settled(python, worker, "nr", count));
    let waiting = |name: &str| find(name).map(|queue| objects.deque_len(queue));
    let in_flight = || {
        let connections = find("nr_conns").and_then(|count| whole(python, count))?;
        let queues = ["_keep", "keepalived_conns", "pending_conns"].map(waiting);
        let mut idle = 0_u64;
        for queue in queues.into_iter().flatten() {
            idle = idle.saturating_add(queue.ok()? as u64);
        }
        // The two change one after the other.
        Some(connections.saturating_sub(idle))
    };
    let in_flight = if class == WorkerClass::Gthread { in_flight() } else { None };
    Counts { requests, in_flight }
}

/// A counter's value, if it is still that object's: the number it was a moment ago is freed when it
/// grows, and its memory may be another number's by now.
fn settled(python: &Interpreter<'_>, object: Addr, name: &str, count: Addr) -> Option<u64> {
    let value = whole(python, count)?;
    let objects = python.objects();
    let still = objects.attribute(object, name).ok().flatten() == Some(count);
    if still {
        return Some(value);
    }
    // Between two requests, most likely; once more, and else at the next look.
    let count = objects.attribute(object, name).ok().flatten()?;
    let value = whole(python, count)?;
    (objects.attribute(object, name).ok().flatten() == Some(count)).then_some(value)
}

fn whole(python: &Interpreter<'_>, addr: Addr) -> Option<u64> {
    u64::try_from(python.objects().int(addr).ok()?).ok()
}

/// Most attributes of a worker or a server's state; they have some 20.
const MAX_ATTRIBUTES: usize = 128;
