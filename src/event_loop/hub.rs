//! Hubs of greenlets: what tells of a loop or a server may be out of its thread's sight, on a stack that is
//! parked.
//!
//! Takes the stack of a thread, gives those of its main greenlet and of the hub. The main one is parked in
//! whatever the program does: gunicorn's worker in its `run`, below the arbiter's `spawn_worker`. The hub is
//! while a greenlet runs that it has called.

use crate::python::Interpreter;
use crate::python::code_objects::CodeCache;
use crate::python::frames::{RawStack, local};
use crate::python::greenlets::{is_greenlet, kin_of};
use crate::units::{Addr, Timestamp};

/// Functions whose `self` is a greenlet, or has one: gevent's hub, which is itself one, eventlet's, and
/// what runs one of its greenlets
/// (<https://github.com/gevent/gevent/blob/24.2.1/src/gevent/hub.py#L610>,
/// <https://github.com/eventlet/eventlet/blob/0.36.1/eventlet/hubs/hub.py#L309>,
/// <https://github.com/eventlet/eventlet/blob/0.36.1/eventlet/greenthread.py#L262>).
const RUNS: [(&str, &str); 3] = [
    ("run", "gevent/hub.py"),
    ("run", "eventlet/hubs/hub.py"),
    ("main", "eventlet/greenthread.py"),
];

/// The parked stacks of the main greenlet and the hub of a thread with this stack; empty for a thread
/// without greenlets, and where nothing leads to them: gevent's own greenlets run in C, so that while one
/// does, only `other` does, one of the same thread.
#[must_use]
pub fn beside(
    python: &Interpreter<'_>,
    codes: &mut CodeCache,
    stack: &RawStack,
    other: impl FnOnce() -> Option<Addr>,
    now: Timestamp,
) -> Vec<RawStack> {
    let Some(greenlet) = running(python, codes, stack, now).or_else(other) else {
        return Vec::new();
    };
    let mut kin = kin_of(python, greenlet).unwrap_or_default();
    // A greenlet's parent is its hub, whose own is the main one.
    let beyond: Vec<_> = kin
        .iter()
        .flat_map(|(parent, _)| kin_of(python, *parent).unwrap_or_default())
        .filter(|(one, _)| *one != greenlet)
        .collect();
    for (one, stack) in beyond {
        if kin.iter().all(|(known, _)| *known != one) {
            kin.push((one, stack));
        }
    }
    kin.into_iter().map(|(_, stack)| stack).collect()
}

/// The greenlet that the innermost of [`RUNS`] on a stack is of.
fn running(
    python: &Interpreter<'_>,
    codes: &mut CodeCache,
    stack: &RawStack,
    now: Timestamp,
) -> Option<Addr> {
    stack.frames.iter().find_map(|frame| {
        let code = codes.get(python, frame.code, now).ok()?;
        RUNS.iter().find(|(name, file)| code.name == *name && code.filename.ends_with(file))?;
        greenlet_of(python, local(python, frame.addr, code.local_index("self")?).ok()?)
    })
}

/// The greenlet that runs a hub, or that is one.
#[must_use]
pub fn greenlet_of(python: &Interpreter<'_>, object: Addr) -> Option<Addr> {
    if is_greenlet(python, object) {
        return Some(object);
    }
    let own = python.objects().attribute(object, "greenlet").ok()??;
    is_greenlet(python, own).then_some(own)
}
