//! A thread that serves one request at a time, as if it were a loop: its iteration is a request, and
//! it polls while it waits for the next.
//!
//! There is no stamp that tells one from the other. So a look reads the thread's stack, which has
//! the server's frame of the request in it or not (`request_places.rs`), and that frame's variable
//! that is another object for each request. A request began between the look before and the first
//! that saw it, unless its server wrote down when: gunicorn keeps the wall-clock time in a variable.
//! Never decides what a long request means.

use std::cell::RefCell;
use std::rc::Rc;

use super::request_places::{Found, Kinds, Learnt, is_worker, learn, request};
use crate::event_loop::{Clock, Reading, Running, Sight, View};
use crate::python::Interpreter;
use crate::python::code_objects::CodeCache;
use crate::python::frames::{Fingerprint, RawStack, Walker, local};
use crate::python::objects::{DATETIME_DATA as DATA, DATETIME_PACKED as PACKED};
use crate::target::ReadError;
use crate::units::{Addr, Bounds, Nanos, Timestamp};

/// Time zones differ from UTC by multiples of this (the tz database has none else since 1972), and
/// `datetime.now()` has no zone: a time of day is known up to it.
const ZONE_STEP: Nanos = Nanos::from_secs(15 * 60);
/// A request's own time of beginning is believed if it lies between the two looks that it must lie
/// between, or so little outside: the wall clock is adjusted now and then.
const TOLERANCE: Nanos = Nanos::from_millis(1);

/// What a thread's request clock is made with.
#[derive(Debug, Clone)]
pub struct Known {
    /// Code objects read so far by the clocks of this process: some servers make a thread for each
    /// request, and all of them run the same few dozen functions.
    pub codes: Rc<RefCell<CodeCache>>,
    /// In this process gunicorn's gthread was seen.
    pub in_gthread: bool,
    /// The process runs an event loop.
    pub has_loop: bool,
    /// How many threads may serve requests at the same time, if that is known for certain.
    pub size: Option<u32>,
    /// The thread served no request, or did not exist, at this time.
    pub free_at: Timestamp,
    /// How far the wall clock (`CLOCK_REALTIME`) is ahead of `CLOCK_MONOTONIC`.
    pub wall_ahead: Nanos,
}

/// What a stack tells of how its process serves requests.
#[derive(Debug)]
pub struct Discovery {
    /// The clock of its thread, if that serves requests, or waits for them.
    pub clock: Option<Box<dyn Clock>>,
    /// What it tells of the others.
    pub learnt: Learnt,
}

/// Looks for a thread that serves requests.
#[must_use]
pub fn find(sight: &mut Sight<'_>, known: Known) -> Discovery {
    let (python, now) = (sight.python, sight.now);
    let learnt = learn(&python, sight.codes, sight.stack, known.size, now);
    let kinds = Kinds {
        in_gthread: known.in_gthread || learnt.in_gthread,
        any_application: !known.has_loop,
    };
    let is_one = is_worker(&python, sight.codes, sight.stack, kinds, now);
    let clock = is_one.then(|| -> Box<dyn Clock> {
        Box::new(RequestClock {
            any_application: kinds.any_application,
            walker: Walker::default(),
            codes: known.codes,
            thread: sight.thread.state,
            wall_ahead: known.wall_ahead,
            seen: known.free_at,
            serving: None,
            requests: 0,
            walked: None,
        })
    });
    Discovery { clock, learnt }
}

#[derive(Debug)]
struct RequestClock {
    any_application: bool,
    walker: Walker,
    codes: Rc<RefCell<CodeCache>>,
    thread: Addr,
    wall_ahead: Nanos,
    /// The last look: a request that is new to the next one began after it.
    seen: Timestamp,
    serving: Option<Serving>,
    /// How many requests were seen.
    requests: u64,
    /// The stack of the last look.
    walked: Option<(RawStack, Fingerprint)>,
}

/// The request that holds the thread.
#[derive(Debug, Clone, Copy)]
struct Serving {
    frame: Addr,
    key: [Addr; 2],
    /// When it began by its server's own variable, if that was set. An object's address alone may
    /// be the next request's as well: what is freed is used again at once.
    shown: Option<Shown>,
    /// The port of its client, which tells connections apart where there is no such time.
    port: Option<i64>,
    running: Running,
}

/// A wall-clock time in a variable, as it lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shown {
    object: Addr,
    packed: [u8; PACKED],
}

impl RequestClock {
    /// The request in this stack: the one known, or another.
    fn serve(
        &mut self,
        python: &Interpreter<'_>,
        found: &Found,
        now: Timestamp,
    ) -> Result<Running, ReadError> {
        let frame = found.frame.addr;
        let read =
            found.read.map_or(Ok(Addr(0)), |index| self.walker.local(python, frame, index))?;
        let object = self.walker.local(python, frame, found.key)?;
        let key = [object, read];
        let start = found.start.and_then(|index| self.walker.local(python, frame, index).ok());
        let shown = start.and_then(|object| shown(python, object));
        let port = found.client.filter(|_| shown.is_none());
        let port = port.and_then(|(frame, index)| port_of(python, frame, index));
        // One whose beginning was not written down yet is not known to be the one that has it now.
        if let Some(known) = &self.serving
            && known.frame == frame
            && known.key == key
            && known.port == port
            && known.shown == shown
        {
            return Ok(known.running);
        }
        let between = Bounds { lo: self.seen.min(now), hi: now };
        let stamp = shown.and_then(|shown| self.stamp(python, shown, between));
        self.requests = self.requests.saturating_add(1);
        let running = Running {
            began: stamp.map_or(between, Bounds::exactly),
            iteration: Some(self.requests),
            identity: [frame, object, read],
        };
        self.serving = Some(Serving { frame, key, shown, port, running });
        Ok(running)
    }

    /// When the request began by its server's own variable, if that can be true.
    fn stamp(
        &self,
        python: &Interpreter<'_>,
        shown: Shown,
        between: Bounds<Timestamp>,
    ) -> Option<Timestamp> {
        let shown = python.objects().datetime(shown.object).ok()?;
        stamp(shown, self.wall_ahead, between)
    }
}

/// What the variable that tells when a request began holds, if it is set.
fn shown(python: &Interpreter<'_>, object: Addr) -> Option<Shown> {
    if !object.is_plausible() {
        return None;
    }
    let mut packed = [0; PACKED];
    python.memory.read(object.at(DATA), &mut packed).ok()?;
    Some(Shown { object, packed })
}

/// The port in a client's address.
fn port_of(python: &Interpreter<'_>, frame: Addr, index: usize) -> Option<i64> {
    let address = local(python, frame, index).ok().filter(|value| value.is_plausible())?;
    let objects = python.objects();
    let address = match objects.attribute(address, "client") {
        Ok(Some(inside)) => inside,
        _ => address,
    };
    let items = objects.tuple_items(address, 2).ok()?;
    objects.int(*items.get(1)?).ok()
}

/// The time within `between` at which a clock of some time zone showed `shown`.
fn stamp(shown: Nanos, wall_ahead: Nanos, between: Bounds<Timestamp>) -> Option<Timestamp> {
    let wall = between.hi.0.checked_add(wall_ahead.0)?.checked_add(TOLERANCE.0)?;
    // How long ago, whatever the zone: the latest that can be.
    let zoned = wall.checked_rem(ZONE_STEP.0)?.checked_add(ZONE_STEP.0)?;
    let age = zoned.checked_sub(shown.0.checked_rem(ZONE_STEP.0)?)?.checked_rem(ZONE_STEP.0)?;
    let at = Timestamp(between.hi.0.checked_add(TOLERANCE.0)?.checked_sub(age)?);
    let early = between.lo.before(TOLERANCE);
    (at >= early).then(|| at.clamp(between.lo, between.hi))
}

impl Clock for RequestClock {
    fn look(&mut self, view: &View<'_>) -> Result<Reading, ReadError> {
        self.walked = None;
        let stack = match self.walker.walk(&view.python, view.thread) {
            Ok(stack) => stack,
            Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
            Err(_) => return Ok(Reading::Torn),
        };
        let codes = Rc::clone(&self.codes);
        let codes = &mut *codes.borrow_mut();
        let reading = match request(&view.python, codes, &stack, self.any_application, view.now) {
            None => {
                self.serving = None;
                Reading::Polling
            }
            Some(found) => match self.serve(&view.python, &found, view.now) {
                Ok(running) => Reading::Running(running),
                Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
                Err(_) => return Ok(Reading::Torn),
            },
        };
        self.seen = self.seen.max(view.now);
        self.walked = Some((stack, self.walker.print()));
        Ok(reading)
    }

    fn still(&mut self, at: Timestamp) {
        self.seen = self.seen.max(at);
    }

    fn walked(&self) -> Option<&(RawStack, Fingerprint)> {
        self.walked.as_ref()
    }

    fn is_on(&self, _: &RawStack) -> bool {
        true
    }

    fn loop_object(&self) -> Addr {
        self.thread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-24 15:30:01 UTC, and a host that has run for 1000 s.
    const WALL: u64 = 1_795_534_201_000_000_000;
    const UP: u64 = 1_000_000_000_000;

    fn between(lo_ms: u64, hi_ms: u64) -> Bounds<Timestamp> {
        Bounds { lo: Timestamp(UP + lo_ms * 1_000_000), hi: Timestamp(UP + hi_ms * 1_000_000) }
    }

    fn at(zone_seconds: i64, began_ms: u64, bounds: Bounds<Timestamp>) -> Option<u64> {
        let shown = (WALL + began_ms * 1_000_000).checked_add_signed(zone_seconds * 1_000_000_000);
        let found = stamp(Nanos(shown.unwrap()), Nanos(WALL - UP), bounds);
        found.map(|at| (at.0 - UP) / 1_000_000)
    }

    #[test]
    fn a_request_began_when_its_server_says_in_any_time_zone() {
        for zone in [0, 3600, -5 * 3600, 5 * 3600 + 1800, 20_700, -34_200] {
            assert_eq!(at(zone, 105, between(100, 108)), Some(105), "{zone}");
        }
    }

    #[test]
    fn a_time_that_cannot_be_is_not_believed() {
        assert_eq!(at(0, 90, between(100, 108)), None);
        assert_eq!(at(0, 112, between(100, 108)), None);
        // A clock that was set back by an hour and a half is another zone; by a minute, garbage.
        assert_eq!(at(-60, 105, between(100, 108)), None);
        assert_eq!(stamp(Nanos(0), Nanos(u64::MAX), between(100, 108)), None);
    }

    #[test]
    fn a_step_of_the_clock_is_forgiven() {
        let close = stamp(Nanos(WALL + 99_400_000), Nanos(WALL - UP), between(100, 108));
        assert_eq!(close, Some(Timestamp(UP + 100_000_000)));
    }
}
