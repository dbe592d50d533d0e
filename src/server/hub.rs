//! What tells of a server may be out of its thread's sight, on the stack of a greenlet that is parked.
//!
//! Takes the stack of a thread, gives those of its main greenlet and of the hub
//! (`event_loop/hub.rs`), also by what a server is known to have. Decides nothing.

use crate::event_loop::hub::{self, greenlet_of};
use crate::python::Interpreter;
use crate::python::code_objects::CodeCache;
use crate::python::frames::RawStack;
use crate::units::{Addr, Timestamp};

/// The parked stacks of the main greenlet and the hub of a thread with this stack; `worker` is gunicorn's.
#[must_use]
pub fn beside(
    python: &Interpreter<'_>,
    codes: &mut CodeCache,
    stack: &RawStack,
    worker: Option<Addr>,
    now: Timestamp,
) -> Vec<RawStack> {
    hub::beside(python, codes, stack, || hub_of(python, worker?), now)
}

/// The hub of gunicorn's gevent worker: its sockets are gevent's.
fn hub_of(python: &Interpreter<'_>, worker: Addr) -> Option<Addr> {
    let objects = python.objects();
    let sockets = objects.attribute(worker, "sockets").ok()??;
    let socket = objects.list_items(sockets, 1).ok()?.into_iter().next()?;
    greenlet_of(python, objects.member(socket, "hub").ok()??)
}
