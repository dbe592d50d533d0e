//! trio: `unrolled_run` in `trio/_core/_run.py`, a generator that `run` sends each poll's events to.
//!
//! Its local variable `now` is set when events have been taken in, to the clock's time: `perf_counter`,
//! which is `CLOCK_MONOTONIC`, plus an offset that each clock draws for itself. While the loop polls, the
//! generator is suspended, and its frame has no caller. So one read of the frame tells whether tasks run,
//! and since when, to the nanosecond. `task` is the one that runs.
//! (<https://github.com/python-trio/trio/blob/v0.27.0/src/trio/_core/_run.py#L2576>)

use std::rc::Rc;

use super::float_stamp::{FLOAT_SIZE, Floats, to_timestamp};
use super::{Clock, Probe, Reading, Running, Sight, TaskNames, View};
use crate::model::{CallbackRun, LoopKind};
use crate::python::Interpreter;
use crate::python::code_objects::CodeObject;
use crate::python::coroutines::qualname;
use crate::python::frames::{RawFrame, RawStack, local};
use crate::python::generators::frame_of;
use crate::target::{Fields, ReadError, RemoteMemoryExt, Span};
use crate::units::{Addr, Bounds, Nanos, Timestamp};

/// The file of both functions, whatever the installation.
const FILE: &str = "trio/_core/_run.py";
/// The function that polls.
const RUN: &str = "run";
/// The generator that runs tasks.
const GENERATOR: &str = "unrolled_run";
/// What the generator calls after each poll (`trio/_core/_io_epoll.py`).
const TAKES_EVENTS: &str = "process_events";
/// How far a stamp may lie ahead of the look: a look takes microseconds, and clocks do not differ.
const MAX_AHEAD: Nanos = Nanos::from_millis(1);
/// The first stamp seen may be this old: an iteration longer than that is not told from garbage.
const MAX_FIRST_AGE: Nanos = Nanos::from_secs(3600);
/// Most slots of the frame that are read; `unrolled_run` has 24.
const MAX_SLOTS: usize = 64;
/// Most tasks that are counted as waiting.
const MAX_BATCH: usize = 1 << 20;

/// The probe for trio.
#[derive(Debug, Clone, Copy)]
pub struct Trio;

#[derive(Debug)]
struct TrioClock {
    /// `run`'s frame: on the stack as long as the loop runs.
    run: Addr,
    run_code: Addr,
    /// The generator's.
    frame: Addr,
    code: Addr,
    runner: Addr,
    now: usize,
    task: usize,
    batch: usize,
    events: usize,
    /// `runner.runq`, a deque that lives as long as the loop.
    queue: Option<Addr>,
    /// What the clock adds, in seconds.
    offset: f64,
    floats: Floats,
    /// Where the last stamp lay: read along with the frame, as it is usually still there.
    last_float: Addr,
    /// The latest stamp accepted, and the list of events of its poll. Stamps never go back.
    last: Option<(Timestamp, Addr)>,
    /// When the loop was last seen to poll: a stamp from before is the last iteration's.
    polled: Option<Timestamp>,
    buffer: Vec<u8>,
}

impl Probe for Trio {
    fn kind(&self) -> LoopKind {
        LoopKind::Trio
    }

    fn find(&self, sight: &mut Sight<'_>) -> Result<Option<Box<dyn Clock>>, ReadError> {
        let Some((raw, code)) = run_frame(sight) else { return Ok(None) };
        let interpreter = sight.python;
        let python = &interpreter;
        let runner = variable(python, &raw, &code, "runner")?;
        let generator = variable(python, &raw, &code, "gen")?;
        if !runner.is_plausible() || !generator.is_plausible() {
            // It has not begun. The next walk will see it.
            return Ok(None);
        }
        let Some(frame) = frame_of(python, generator)? else { return Ok(None) };
        let own = python.memory.read_pointer(frame.at(python.layout.offsets.frame.code))?;
        let own = python.untag(own);
        let generator = sight.codes.get(python, own, sight.now)?;
        if generator.name != GENERATOR {
            return Err(ReadError::Invalid("trio's generator"));
        }
        let runs = sight.stack.frames.iter().any(|raw| raw.addr == frame);
        if is_taking_events(sight, frame) {
            // Its stamp is the last iteration's still.
            return Ok(None);
        }
        let slot =
            |name: &str| generator.local_index(name).ok_or(ReadError::Invalid("trio's variable"));
        let Some(offset) = clock_offset(python, runner)? else { return Ok(None) };
        let objects = python.objects();
        let queue = objects.slot(runner, "runq").ok().flatten();
        let count = generator.locals.len().min(MAX_SLOTS);
        let locals = usize::try_from(python.layout.offsets.frame.localsplus)
            .map_err(|_| ReadError::Invalid("frame layout"))?;
        Ok(Some(Box::new(TrioClock {
            run: raw.addr,
            run_code: raw.code,
            frame,
            code: own,
            runner,
            now: slot("now")?,
            task: slot("task")?,
            batch: slot("batch")?,
            events: slot("events")?,
            queue: queue.filter(|queue| objects.deque_len(*queue).is_ok()),
            offset,
            floats: Floats::default(),
            last_float: Addr(0),
            last: None,
            polled: (!runs).then_some(sight.now),
            buffer: vec![0; locals.saturating_add(count.saturating_mul(8))],
        })))
    }
}

/// The runner whose loop this thread runs, on whatever clock: it knows all its tasks.
#[must_use]
pub fn runner(sight: &mut Sight<'_>) -> Option<Addr> {
    let (raw, code) = run_frame(sight)?;
    let runner = variable(&sight.python, &raw, &code, "runner").ok()?;
    runner.is_plausible().then_some(runner)
}

/// A local variable of `run`.
fn variable(
    python: &Interpreter<'_>,
    raw: &RawFrame,
    code: &CodeObject,
    name: &str,
) -> Result<Addr, ReadError> {
    let slot = code.local_index(name).ok_or(ReadError::Invalid("run variable"))?;
    local(python, raw.addr, slot)
}

/// The frame of `run` on the stack.
fn run_frame(sight: &mut Sight<'_>) -> Option<(RawFrame, Rc<CodeObject>)> {
    sight.stack.frames.iter().find_map(|frame| {
        let code = sight.codes.get(&sight.python, frame.code, sight.now).ok()?;
        (code.name == RUN && code.filename.ends_with(FILE)).then_some((*frame, code))
    })
}

/// Whether the generator, whose frame this is, runs and has called nothing, or what takes the poll's
/// events.
fn is_taking_events(sight: &mut Sight<'_>, frame: Addr) -> bool {
    let mut callee = None;
    for raw in &sight.stack.frames {
        if raw.addr == frame {
            let Some(called) = callee else { return true };
            let code = sight.codes.get(&sight.python, called, sight.now);
            return code.is_ok_and(|code| code.name == TAKES_EVENTS);
        }
        callee = Some(raw.code);
    }
    false
}

/// What the runner's clock adds to the time; `None` for clocks that are not trio's own, which may show
/// any time.
fn clock_offset(python: &Interpreter<'_>, runner: Addr) -> Result<Option<f64>, ReadError> {
    let objects = python.objects();
    let Some(clock) = objects.slot(runner, "clock")? else { return Ok(None) };
    if objects.type_name(clock)? != "SystemClock" {
        return Ok(None);
    }
    let Some(offset) = objects.slot(clock, "offset")? else { return Ok(None) };
    let bytes = python.memory.read_vec(offset, FLOAT_SIZE)?;
    Floats::default().value(python, &bytes)
}

impl TrioClock {
    fn slot(&self, python: &Interpreter<'_>, index: usize) -> Result<Addr, ReadError> {
        let offset =
            (index as u64).saturating_mul(8).saturating_add(python.layout.offsets.frame.localsplus);
        Ok(python.untag(Fields(&self.buffer).pointer(offset)?))
    }

    /// Reads the frame, and where the last stamp lay.
    fn read(&mut self, python: &Interpreter<'_>) -> Result<Option<[u8; FLOAT_SIZE]>, ReadError> {
        let mut float = [0; FLOAT_SIZE];
        let mut spans: Vec<Span<'_>> = vec![(self.frame, &mut self.buffer)];
        if self.last_float.is_plausible() {
            spans.push((self.last_float, &mut float));
        }
        match python.memory.read_batch(&mut spans)? {
            0 => Err(ReadError::Unmapped(self.frame)),
            1 => Ok(None),
            _ => Ok(Some(float)),
        }
    }

    /// The stamp in a float object, if it is one and can be true.
    ///
    /// While events are being taken in it is still the last iteration's. Their list is made while the
    /// last one is still held, so it lies elsewhere.
    fn stamp(&mut self, view: &View<'_>, float: &[u8], events: Addr) -> Option<Timestamp> {
        let seconds = self.floats.value(&view.python, float).ok()??;
        let stamp = to_timestamp(seconds - self.offset, view.python.clock_offset)?;
        let earliest = self.last.map_or(view.now.before(MAX_FIRST_AGE), |(stamp, _)| stamp);
        let is_fresh = self.polled.is_none_or(|polled| stamp > polled)
            && self.last.is_none_or(|(last, of)| last != stamp || of == events);
        (stamp >= earliest && stamp <= view.now + MAX_AHEAD && is_fresh).then_some(stamp)
    }
}

impl Clock for TrioClock {
    fn look(&mut self, view: &View<'_>) -> Result<Reading, ReadError> {
        let python = &view.python;
        let beside = match self.read(python) {
            Ok(beside) => beside,
            Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
            Err(_) => return Ok(Reading::Moving),
        };
        let offsets = &python.layout.offsets.frame;
        let code = Fields(&self.buffer).pointer(offsets.code)?;
        if python.untag(code) != self.code || self.slot(python, 0) != Ok(self.runner) {
            return Ok(Reading::Moving);
        }
        if Fields(&self.buffer).pointer(offsets.previous)?.is_null() {
            self.polled = Some(view.now);
            return Ok(Reading::Polling);
        }
        let now = self.slot(python, self.now)?;
        if now.is_null() {
            // The first events are being taken in.
            return Ok(Reading::Polling);
        }
        let float = match beside {
            Some(float) if now == self.last_float => float,
            _ => {
                self.last_float = now;
                let mut float = [0; FLOAT_SIZE];
                match python.memory.read(now, &mut float) {
                    Ok(()) => float,
                    Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
                    Err(_) => return Ok(Reading::Torn),
                }
            }
        };
        // Else it is the last iteration's still, or was torn.
        let events = self.slot(python, self.events)?;
        let Some(began) = self.stamp(view, &float, events) else { return Ok(Reading::Torn) };
        self.last = Some((began, events));
        let identity = [now, self.slot(python, self.task)?, Addr(0)];
        let iteration = Some(began.0);
        Ok(Reading::Running(Running { began: Bounds::exactly(began), iteration, identity }))
    }

    fn callback(&self, _view: &View<'_>, _running: &Running) -> Option<CallbackRun> {
        // Tasks are taken out of the batch, so how many there were is not known.
        None
    }

    fn waiting(&self, view: &View<'_>) -> Option<u32> {
        let python = &view.python;
        let batch = python.objects().list_len(self.slot(python, self.batch).ok()?).ok()?;
        // Proven to be a deque when it was found; it lives as long as the loop.
        let size = self.queue?.at(python.layout.offsets.object.deque_size);
        let queued = u32::try_from(python.memory.read_u64(size).ok()?).ok()?;
        u32::try_from(batch.min(MAX_BATCH)).ok()?.checked_add(queued)
    }

    fn task(&self, view: &View<'_>, running: &Running) -> TaskNames {
        let [_, task, _] = running.identity;
        let objects = view.python.objects();
        let name = objects.slot(task, "name").ok().flatten();
        let coroutine = objects.slot(task, "coro").ok().flatten();
        let coroutine = coroutine.and_then(|coroutine| qualname(&view.python, coroutine).ok());
        TaskNames { task: name.and_then(|name| objects.str(name).ok()), coroutine }
    }

    fn sleeps_in_poll(&mut self, at: Timestamp) -> bool {
        self.polled = Some(at);
        true
    }

    fn is_on(&self, stack: &RawStack) -> bool {
        stack.frames.iter().any(|frame| frame.addr == self.run && frame.code == self.run_code)
    }

    fn loop_object(&self) -> Addr {
        self.runner
    }
}
