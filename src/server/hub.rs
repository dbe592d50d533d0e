//! Hubs of greenlets: while one polls, all that tells of its server is out of its thread's sight.
//!
//! Takes the stack of a thread that runs a hub, gives that of the thread's main greenlet, which is parked
//! in whatever the program does: gunicorn's worker in its `run`, below the arbiter's `spawn_worker`.

use super::Place;
use crate::python::Interpreter;
use crate::python::frames::{RawStack, local};
use crate::python::greenlets::{is_greenlet, main_of};
use crate::units::Addr;

/// The function that a hub runs all its life, and the files it is in: gevent's, where the hub is itself a
/// greenlet, and eventlet's, where it has one
/// (<https://github.com/gevent/gevent/blob/24.2.1/src/gevent/hub.py#L610>,
/// <https://github.com/eventlet/eventlet/blob/0.36.1/eventlet/hubs/hub.py#L309>).
const RUN: &str = "run";
const FILES: [&str; 2] = ["gevent/hub.py", "eventlet/hubs/hub.py"];

/// Where the main greenlet of a thread is parked whose hub runs; `None` for other threads.
#[must_use]
pub fn main_greenlet(python: &Interpreter<'_>, stack: &[Place]) -> Option<RawStack> {
    let run = stack.iter().find(|place| FILES.iter().any(|file| place.is(file, RUN)))?;
    let slot = run.locals.iter().position(|local| local == "self")?;
    let greenlet = greenlet_of(python, local(python, run.frame, slot).ok()?)?;
    main_of(python, greenlet).ok()?
}

/// The greenlet that runs a hub.
fn greenlet_of(python: &Interpreter<'_>, hub: Addr) -> Option<Addr> {
    if is_greenlet(python, hub) {
        return Some(hub);
    }
    let own = python.objects().attribute(hub, "greenlet").ok()??;
    is_greenlet(python, own).then_some(own)
}
