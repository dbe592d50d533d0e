//! asyncio's own loop, in pure Python: `BaseEventLoop._run_once` in `asyncio/base_events.py`.
//!
//! The method's local variable `end_time` is the clock. It is unbound while the loop polls and
//! takes events in, and is then set to `self.time() + self._clock_resolution`, a float of seconds
//! on `CLOCK_MONOTONIC` plus its resolution of 1 ns; it keeps its value until the iteration's last
//! callback has returned. So one read tells whether callbacks run and since when, to the
//! nanosecond, and its value names the iteration. The variables `i`, `ntodo` and `handle` name the
//! callback. The names are the same from 3.8 to 3.15; their slots are not, and are read from the
//! code object. (<https://github.com/python/cpython/blob/v3.12.1/Lib/asyncio/base_events.py#L1906>)

use super::float_stamp::{FLOAT_SIZE, Floats, to_timestamp};
use super::{Clock, Probe, Reading, Running, Sight, TaskNames, View};
use crate::layout::shape::{IntTag, WakeupCallback};
use crate::model::{CallbackRun, LoopKind};
use crate::python::Interpreter;
use crate::python::frames::{RawStack, local};
use crate::python::tasks::names_of;
use crate::target::{Fields, ReadError, RemoteMemoryExt, Span};
use crate::units::{Addr, Bounds, Nanos, Timestamp};

/// The method that is one iteration of the loop.
const METHOD: &str = "_run_once";
/// The file it is in, whatever the installation.
const FILE: &str = "asyncio/base_events.py";
/// The loop's clock adds its resolution, 1e-9 s on Linux (`time.get_clock_info('monotonic')`).
const CLOCK_RESOLUTION: Nanos = Nanos(1);
/// How far a stamp may lie ahead of the look: a look takes microseconds, and clocks do not differ.
const MAX_AHEAD: Nanos = Nanos::from_millis(1);
/// The first stamp seen may be this old: an iteration longer than that is not told from garbage.
const MAX_FIRST_AGE: Nanos = Nanos::from_secs(3600);
/// Where `m_self` lies in a `PyCFunctionObject` (Include/cpython/methodobject.h).
const BUILTIN_SELF: u64 = 24;
/// Most slots of the frame that are read; `_run_once` has 10.
const MAX_SLOTS: usize = 64;

/// The probe for the standard library's loop.
#[derive(Debug, Clone, Copy)]
pub struct Asyncio;

/// Slots of `_run_once`'s variables.
#[derive(Debug, Clone, Copy)]
struct Slots {
    end_time: usize,
    index: usize,
    batch: usize,
    handle: usize,
    count: usize,
}

#[derive(Debug)]
struct AsyncioClock {
    frame: Addr,
    code: Addr,
    loop_object: Addr,
    slots: Slots,
    /// `loop._ready`, a deque that lives as long as the loop.
    ready: Option<Addr>,
    floats: Floats,
    /// Where the last stamp lay: read along with the frame, as it is usually still there.
    last_float: Addr,
    /// The latest stamp accepted. Stamps never go back.
    last_stamp: Option<Timestamp>,
    /// Target's `CLOCK_MONOTONIC` minus the host's, in ns (time namespaces).
    clock_offset: i64,
    buffer: Vec<u8>,
}

impl Probe for Asyncio {
    fn kind(&self) -> LoopKind {
        LoopKind::Asyncio
    }

    fn find(&self, sight: &mut Sight<'_>) -> Result<Option<Box<dyn Clock>>, ReadError> {
        let python = &sight.python;
        let mut unreadable = None;
        for frame in &sight.stack.frames {
            let code = match sight.codes.get(python, frame.code, sight.now) {
                Ok(code) => code,
                Err(error) => {
                    // It may be the loop's own.
                    unreadable = Some(error);
                    continue;
                }
            };
            if code.name != METHOD || !code.filename.ends_with(FILE) {
                continue;
            }
            let slot =
                |name: &str| code.local_index(name).ok_or(ReadError::Invalid("_run_once variable"));
            let slots = Slots {
                end_time: slot("end_time")?,
                index: slot("i")?,
                batch: slot("ntodo")?,
                handle: slot("handle")?,
                count: code.locals.len().min(MAX_SLOTS),
            };
            let loop_object = local(python, frame.addr, slot("self")?)?;
            if !loop_object.is_plausible() {
                // Being pushed: `self` is not there yet. The next walk will see it.
                return Ok(None);
            }
            let objects = python.objects();
            let ready = objects.attribute(loop_object, "_ready").ok().flatten();
            let ready = ready.filter(|ready| objects.deque_len(*ready).is_ok());
            let size = frame_span(python, slots.count)?;
            return Ok(Some(Box::new(AsyncioClock {
                frame: frame.addr,
                code: frame.code,
                loop_object,
                slots,
                ready,
                floats: Floats::default(),
                last_float: Addr(0),
                last_stamp: None,
                clock_offset: python.clock_offset,
                buffer: vec![0; size],
            })));
        }
        unreadable.map_or(Ok(None), Err)
    }
}

/// Bytes of a frame from its start to the end of its local variables.
fn frame_span(python: &Interpreter<'_>, slots: usize) -> Result<usize, ReadError> {
    let locals = usize::try_from(python.layout.offsets.frame.localsplus)
        .map_err(|_| ReadError::Invalid("frame layout"))?;
    locals.checked_add(slots.saturating_mul(8)).ok_or(ReadError::Invalid("frame layout"))
}

impl AsyncioClock {
    fn slot(&self, python: &Interpreter<'_>, index: usize) -> Result<Addr, ReadError> {
        let offset =
            (index as u64).saturating_mul(8).saturating_add(python.layout.offsets.frame.localsplus);
        Ok(python.untag(Fields(&self.buffer).pointer(offset)?))
    }

    /// Reads the frame, and where the last stamp lay.
    fn read(&mut self, python: &Interpreter<'_>) -> Result<Option<[u8; FLOAT_SIZE]>, ReadError> {
        let mut float = [0; FLOAT_SIZE];
        let mut spans: Vec<Span<'_>> = Vec::with_capacity(2);
        spans.push((self.frame, &mut self.buffer));
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
    fn stamp(
        &mut self,
        python: &Interpreter<'_>,
        float: &[u8],
        now: Timestamp,
    ) -> Result<Option<Timestamp>, ReadError> {
        let Some(seconds) = self.floats.value(python, float)? else { return Ok(None) };
        let Some(stamp) = stamp_of(seconds, self.clock_offset) else { return Ok(None) };
        let earliest = self.last_stamp.unwrap_or_else(|| now.before(MAX_FIRST_AGE));
        if stamp < earliest || stamp > now + MAX_AHEAD {
            return Ok(None);
        }
        Ok(Some(stamp))
    }
}

/// `end_time` as a time on the host's clock.
fn stamp_of(end_time: f64, clock_offset: i64) -> Option<Timestamp> {
    let stamp = to_timestamp(end_time, clock_offset)?;
    stamp.0.checked_sub(CLOCK_RESOLUTION.0).map(Timestamp)
}

impl Clock for AsyncioClock {
    fn look(&mut self, view: &View<'_>) -> Result<Reading, ReadError> {
        let (python, now) = (&view.python, view.now);
        let beside = match self.read(python) {
            Ok(beside) => beside,
            Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
            Err(_) => return Ok(Reading::Moving),
        };
        let Ok(code) = Fields(&self.buffer).pointer(python.layout.offsets.frame.code) else {
            return Ok(Reading::Torn);
        };
        if python.untag(code) != self.code || self.slot(python, 0) != Ok(self.loop_object) {
            return Ok(Reading::Moving);
        }
        let end_time = self.slot(python, self.slots.end_time)?;
        if end_time.is_null() {
            return Ok(Reading::Polling);
        }
        let float = match beside {
            Some(float) if end_time == self.last_float => float,
            _ => {
                self.last_float = end_time;
                let mut float = [0; FLOAT_SIZE];
                match python.memory.read(end_time, &mut float) {
                    Ok(()) => float,
                    Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
                    Err(_) => return Ok(Reading::Torn),
                }
            }
        };
        let Ok(Some(began)) = self.stamp(python, &float, now) else { return Ok(Reading::Torn) };
        self.last_stamp = Some(began);
        let identity =
            [end_time, self.slot(python, self.slots.index)?, self.slot(python, self.slots.handle)?];
        // The stamp is the iteration's own: no other has the same.
        let iteration = Some(began.0);
        Ok(Reading::Running(Running { began: Bounds::exactly(began), iteration, identity }))
    }

    fn callback(&self, view: &View<'_>, running: &Running) -> Option<CallbackRun> {
        let python = &view.python;
        let [_, index, _] = running.identity;
        let batch = small_int(python, self.slot(python, self.slots.batch).ok()?).ok()?;
        Some(CallbackRun { index: small_int(python, index).ok()?, batch })
    }

    fn waiting(&self, view: &View<'_>) -> Option<u32> {
        let python = &view.python;
        // Proven to be a deque when it was found; it lives as long as the loop.
        let size = self.ready?.at(python.layout.offsets.object.deque_size);
        u32::try_from(python.memory.read_u64(size).ok()?).ok()
    }

    fn up(&self, view: &View<'_>) -> Option<Addr> {
        let python = &view.python;
        let place = |index: usize| {
            let offset = python.layout.offsets.frame.localsplus;
            self.frame.at(offset.saturating_add((index as u64).saturating_mul(8)))
        };
        let handle = python.memory.read_pointer(place(self.slots.handle)).ok()?;
        let handle = python.untag(handle);
        // It is unbound before the first callback, and keeps the last until the next round.
        let is_handle = |handle: Addr| {
            python.objects().type_name(handle).is_ok_and(|name| name.ends_with("Handle"))
        };
        let waiting = || python.objects().deque_items(self.ready?, 1).ok()?.first().copied();
        let handle = Some(handle).filter(|handle| is_handle(*handle)).or_else(waiting)?;
        let callback = handle.at(python.layout.offsets.asyncio.handle_callback);
        python.memory.read_pointer(callback).ok()
    }

    fn task(&self, view: &View<'_>, running: &Running) -> TaskNames {
        let [_, _, handle] = running.identity;
        match task_of(&view.python, handle) {
            Ok(Some(task)) => names_of(&view.python, task),
            _ => TaskNames::default(),
        }
    }

    fn sleeps_in_poll(&mut self, _at: Timestamp) -> bool {
        // Its stamp is unbound by then, and the next one cannot be mistaken for an earlier.
        true
    }

    fn is_on(&self, stack: &RawStack) -> bool {
        stack.frames.iter().any(|frame| frame.addr == self.frame && frame.code == self.code)
    }

    fn loop_object(&self) -> Addr {
        self.loop_object
    }
}

/// The value of an int below 2^30, in one read: `i` and `ntodo` count callbacks. The caller trusts
/// it only if the frame that refers to it held still.
fn small_int(python: &Interpreter<'_>, addr: Addr) -> Result<u32, ReadError> {
    let offsets = &python.layout.offsets.object;
    let mut bytes = [0; 12];
    python.memory.read(addr.at(offsets.int_tag), &mut bytes)?;
    let fields = Fields(&bytes);
    let tag = fields.u64(0)?;
    let digits = match python.layout.shape.int_tag {
        IntTag::Size => tag,
        IntTag::Tag => tag >> 3,
    };
    match digits {
        0 => Ok(0),
        1 => fields.u32(offsets.int_digits.wrapping_sub(offsets.int_tag)),
        _ => Err(ReadError::Invalid("small int")),
    }
}

/// The task behind a `Handle`'s callback; `None` for a plain function.
fn task_of(python: &Interpreter<'_>, handle: Addr) -> Result<Option<Addr>, ReadError> {
    let offsets = &python.layout.offsets.asyncio;
    let objects = python.objects();
    let callback = python.memory.read_pointer(handle.at(offsets.handle_callback))?;
    let kind = objects.type_name(callback)?;
    if kind.ends_with("TaskStepMethWrapper") {
        return python.memory.read_pointer(callback.at(offsets.step_task)).map(Some);
    }
    let wakes = match python.layout.shape.wakeup_callback {
        WakeupCallback::Wrapper => kind.ends_with("TaskWakeupMethWrapper"),
        WakeupCallback::BoundMethod => kind == "builtin_function_or_method",
    };
    if !wakes {
        return Ok(None);
    }
    let offset = match python.layout.shape.wakeup_callback {
        WakeupCallback::Wrapper => offsets.wakeup_task,
        WakeupCallback::BoundMethod => BUILTIN_SELF,
    };
    let task = python.memory.read_pointer(callback.at(offset))?;
    // Any builtin can be a callback; only a task's is followed.
    let is_task = objects.type_name(task).is_ok_and(|name| name.ends_with("Task"));
    Ok(is_task.then_some(task))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_the_time_less_the_clocks_resolution() {
        assert_eq!(stamp_of(2.000_000_001, 0), Some(Timestamp(2_000_000_000)));
        assert_eq!(stamp_of(5.0, 3_000_000_000), Some(Timestamp(1_999_999_999)));
    }

    #[test]
    fn no_number_of_seconds_is_trusted() {
        for garbage in [f64::NAN, f64::INFINITY, -1.0, 1e300, -0.5] {
            assert_eq!(stamp_of(garbage, 0), None, "{garbage}");
        }
        assert_eq!(stamp_of(1.0, i64::MIN), None);
        assert_eq!(stamp_of(0.0, 0), None);
    }
}
