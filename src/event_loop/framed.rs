//! The clock of loops that run in a Python function and keep no time of their polls.
//!
//! Takes the function's frame, what is known of its variables, and where the thread is by the kernel
//! and by its innermost frame; gives [`Reading`]s. Which iteration that is, is decided in `turns.rs`.
//! A look is one `pread` and one `process_vm_readv`; more where the innermost frame is not the last
//! one's. Knows no library: each says in a [`Family`] what is what.

use super::float_stamp::{FLOAT_SIZE, Floats, to_timestamp};
use super::hub::beside;
use super::turns::{Marks, Rest, Seen, Turns, Whereabouts};
use super::{Clock, Reading, Sight, View};
use crate::layout::shape::FrameLink;
use crate::python::Interpreter;
use crate::python::code_objects::{CodeCache, CodeObject};
use crate::python::frames::{RawStack, local};
use crate::target::edges::PollCall;
use crate::target::{Fields, ReadError, RemoteMemoryExt, Span, SyscallState};
use crate::units::{Addr, Timestamp};

/// Most slots of a frame that are read: the functions have 4 to 13.
const MAX_SLOTS: usize = 24;
/// Bytes of a pointer.
const WORD: usize = 8;

/// A function, by its name and how its file's path ends.
pub(super) type Function = (&'static str, &'static str);

/// What is what in one library.
#[derive(Debug)]
pub(super) struct Family {
    /// Runs the loop for as long as it lasts; its first variable is the loop's object.
    pub(super) run: Function,
    /// Its variable that is set right before each poll to how long that may sleep, a float counted
    /// from a clock where there is a timer.
    pub(super) pause: &'static str,
    /// What the variable holds where there is no timer, if that is a float.
    pub(super) endless: Option<f64>,
    /// Innermost while the loop polls.
    pub(super) polls: &'static [Function],
    /// Innermost while the loop sleeps because it has nothing to poll for.
    pub(super) naps: &'static [Function],
    /// Fires the timers that are due, called by `run`.
    pub(super) timers: Function,
    /// Its variable that holds the time at which it began, a float of seconds.
    pub(super) turned: &'static str,
    /// Whether that is on `CLOCK_MONOTONIC`.
    pub(super) is_monotonic: bool,
    /// Variables of what `run` calls that are other ones for each callback.
    pub(super) subjects: &'static [&'static str],
    /// Files whose code is the loop's own.
    pub(super) own: &'static [&'static str],
    /// Whether what the loop calls may run on a stack of its own, without the loop's frame.
    pub(super) puts_aside: bool,
}

/// What a frame is to the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Poll,
    Nap,
    Own,
    Called,
}

impl Family {
    fn is(function: Function, code: &CodeObject) -> bool {
        code.name.rsplit('.').next() == Some(function.0) && code.filename.ends_with(function.1)
    }

    fn part(&self, code: &CodeObject) -> Part {
        let among = |all: &[Function]| all.iter().any(|one| Family::is(*one, code));
        if among(self.polls) {
            Part::Poll
        } else if among(self.naps) {
            Part::Nap
        } else if self.own.iter().any(|file| code.filename.contains(file)) {
            Part::Own
        } else {
            Part::Called
        }
    }

    /// The clock of the loop whose frame is on the stack, or was put aside for what it has called.
    pub(super) fn find(
        &'static self,
        sight: &mut Sight<'_>,
    ) -> Result<Option<Box<dyn Clock>>, ReadError> {
        let found = self.find_on(sight, sight.stack)?;
        if found.is_some() || !self.puts_aside {
            return Ok(found);
        }
        let parked = beside(&sight.python, sight.codes, sight.stack, || None, sight.now);
        for stack in &parked {
            if let Some(clock) = self.find_on(sight, stack)? {
                return Ok(Some(clock));
            }
        }
        Ok(None)
    }

    fn find_on(
        &'static self,
        sight: &mut Sight<'_>,
        stack: &RawStack,
    ) -> Result<Option<Box<dyn Clock>>, ReadError> {
        let python = &sight.python;
        let mut callee = None;
        for frame in &stack.frames {
            let code = match sight.codes.get(python, frame.code, sight.now) {
                Ok(code) if Family::is(self.run, &code) => code,
                _ => {
                    callee = Some(frame.addr);
                    continue;
                }
            };
            let pause =
                code.local_index(self.pause).ok_or(ReadError::Invalid("the loop's variable"))?;
            let object = local(python, frame.addr, 0)?;
            if !object.is_plausible() {
                return Ok(None);
            }
            // Frames that Python calls lie one behind the other, so that all that the loop calls is
            // at one place; those of older versions are objects of their own.
            let callee =
                callee.filter(|_| python.layout.shape.frame_link != FrameLink::FrameObject);
            let slots = code.locals.len().min(MAX_SLOTS).max(pause.saturating_add(1));
            return Ok(Some(Box::new(FrameClock {
                family: self,
                frame: frame.addr,
                code: frame.code,
                object,
                pause,
                callee,
                last_pause: Addr(0),
                cframe: None,
                floats: Floats::default(),
                codes: CodeCache::default(),
                turns: Turns::default(),
                poll: None,
                is_running: true,
                own: vec![0; span(python, slots)?],
                called: vec![0; span(python, MAX_SLOTS)?],
            })));
        }
        Ok(None)
    }
}

/// Bytes of a frame from its start to the end of its variables.
fn span(python: &Interpreter<'_>, slots: usize) -> Result<usize, ReadError> {
    let locals = usize::try_from(python.layout.offsets.frame.localsplus).ok();
    locals
        .and_then(|locals| locals.checked_add(slots.saturating_mul(WORD)))
        .ok_or(ReadError::Invalid("frame layout"))
}

#[derive(Debug)]
struct FrameClock {
    family: &'static Family,
    frame: Addr,
    code: Addr,
    object: Addr,
    /// Slot of [`Family::pause`].
    pause: usize,
    /// Where the frames lie that the loop calls.
    callee: Option<Addr>,
    /// Where the last pause lay: read along, as it is usually still there.
    last_pause: Addr,
    /// The last `_PyCFrame` by which the thread knew its innermost frame (3.11, 3.12).
    cframe: Option<Addr>,
    floats: Floats,
    codes: CodeCache,
    turns: Turns,
    /// The call it was met polling with.
    poll: Option<PollCall>,
    /// Whether its frame was there at the last look.
    is_running: bool,
    own: Vec<u8>,
    called: Vec<u8>,
}

/// What one look reads.
struct Look {
    pause: Option<u64>,
    /// Whether the frames that the loop calls could be read.
    has_called: bool,
    /// The thread's innermost frame.
    top: Addr,
}

impl FrameClock {
    fn slot(&self, python: &Interpreter<'_>, frame: &[u8], index: usize) -> Addr {
        let offset =
            (index as u64).saturating_mul(8).saturating_add(python.layout.offsets.frame.localsplus);
        Fields(frame).pointer(offset).map_or(Addr(0), |value| python.untag(value))
    }

    /// `None` if the loop's frame is not there.
    fn read(&mut self, view: &View<'_>) -> Result<Option<Look>, ReadError> {
        let python = &view.python;
        let offsets = &python.layout.offsets;
        let has_cframe = python.layout.shape.frame_link == FrameLink::CFrame;
        let (mut word, mut inner, mut float) = ([0; WORD], [0; WORD], [0; FLOAT_SIZE]);
        let mut spans: Vec<Span<'_>> = vec![
            (self.frame, &mut self.own),
            (view.thread.state.at(offsets.thread.frame), &mut word),
        ];
        let needed = spans.len();
        if let Some(callee) = self.callee {
            spans.push((callee, &mut self.called));
        }
        let with_called = spans.len();
        let guess = self.cframe.filter(|_| has_cframe);
        spans.push((
            guess.unwrap_or(self.frame).at(offsets.thread.cframe_current_frame),
            &mut inner,
        ));
        let with_inner = spans.len();
        if self.last_pause.is_plausible() {
            spans.push((self.last_pause, &mut float));
        }
        let wanted = spans.len();
        let filled = python.memory.read_batch(&mut spans)?;
        if filled < needed {
            return Err(ReadError::Unmapped(self.frame));
        }
        let code = python.untag(Fields(&self.own).pointer(offsets.frame.code)?);
        if code != self.code || self.slot(python, &self.own, 0) != self.object {
            return Ok(None);
        }
        let word = Addr(u64::from_le_bytes(word));
        let top = if !has_cframe {
            word
        } else if guess == Some(word) && filled >= with_inner {
            Addr(u64::from_le_bytes(inner))
        } else {
            self.cframe = Some(word);
            python.memory.read_pointer(word.at(offsets.thread.cframe_current_frame))?
        };
        let at = self.slot(python, &self.own, self.pause);
        if at != self.last_pause || filled < wanted {
            self.last_pause = at;
            if !at.is_plausible() || python.memory.read(at, &mut float).is_err() {
                float = [0; FLOAT_SIZE];
            }
        }
        let pause = self.floats.value(python, &float).ok().flatten();
        let pause = pause.filter(|pause| Some(*pause) != self.family.endless && *pause != 0.0);
        let has_called = self.callee.is_some() && filled >= with_called;
        Ok(Some(Look { pause: pause.map(f64::to_bits), has_called, top }))
    }

    fn part(&mut self, view: &View<'_>, frame: Addr) -> Part {
        let python = &view.python;
        let code = python.memory.read_pointer(frame.at(python.layout.offsets.frame.code));
        let code = code.and_then(|code| self.codes.get(python, python.untag(code), view.now));
        code.map_or(Part::Own, |code| self.family.part(&code))
    }

    /// Whether a thread asleep in this call is in the loop's poll.
    fn is_poll(&mut self, call: Option<PollCall>, part: Part) -> bool {
        let Some(call) = call else { return false };
        if part == Part::Poll {
            self.poll = Some(call);
            return true;
        }
        // A monitor may have put a function of its own around the poll. Descriptors tell the loop's
        // from another's; other polls are everybody's.
        call.epfd.is_some() && self.poll.as_ref().is_none_or(|poll| *poll == call)
    }

    /// Where the thread is: `state` was read before its memory was.
    fn whereabouts(&mut self, view: &View<'_>, state: SyscallState, top: Addr) -> Whereabouts {
        let part = if top.is_null() { Part::Own } else { self.part(view, top) };
        match (state, part) {
            (SyscallState::Blocked { nr, args, .. }, part)
                if self.is_poll(PollCall::seen(nr, args), part) =>
            {
                Whereabouts::InPoll
            }
            (_, Part::Called) | (SyscallState::BlockedOutside { .. }, _) => Whereabouts::Out,
            (SyscallState::Blocked { .. }, Part::Nap) => Whereabouts::Napping,
            // It waits for the interpreter lock on the way out, if it has not moved since.
            (SyscallState::Blocked { .. }, _) if view.files.syscall() == state => Whereabouts::Out,
            _ => Whereabouts::AtLoop,
        }
    }

    /// What the frame that the loop calls says: when it began to fire timers, and for whom.
    fn called(&mut self, view: &View<'_>) -> (Option<f64>, Addr) {
        let python = &view.python;
        let Ok(code) = Fields(&self.called).pointer(python.layout.offsets.frame.code) else {
            return (None, Addr(0));
        };
        let Ok(code) = self.codes.get(python, python.untag(code), view.now) else {
            return (None, Addr(0));
        };
        let subjects = self.family.subjects.iter().find_map(|name| code.local_index(name));
        let subject = subjects.map_or(Addr(0), |slot| self.slot(python, &self.called, slot));
        if !Family::is(self.family.timers, &code) {
            return (None, subject);
        }
        let turned = code.local_index(self.family.turned).and_then(|slot| {
            let at = self.slot(python, &self.called, slot);
            let mut float = [0; FLOAT_SIZE];
            at.is_plausible().then(|| python.memory.read(at, &mut float).ok())??;
            self.floats.value(python, &float).ok()?
        });
        (turned, subject)
    }

    fn marks(&mut self, view: &View<'_>, state: SyscallState, look: &Look) -> Seen {
        let (turned, subject) = if look.has_called { self.called(view) } else { (None, Addr(0)) };
        let mut marks = Marks { pause: look.pause, turn: turned.map(f64::to_bits), rest: None };
        if let (Marks { pause: None, turn: None, .. }, SyscallState::Blocked { sp, pc, .. }) =
            (marks, state)
        {
            // In this order: had it run since, it would have been put on a CPU more often.
            marks.rest = view
                .files
                .runs()
                .filter(|_| view.files.syscall() == state)
                .map(|runs| Rest { place: (sp, pc), runs });
        }
        let turned = turned.filter(|_| self.family.is_monotonic);
        let turned = turned.and_then(|turned| to_timestamp(turned, view.python.clock_offset));
        Seen { thread: Whereabouts::Out, marks, turned, subject }
    }
}

impl Clock for FrameClock {
    fn look(&mut self, view: &View<'_>) -> Result<Reading, ReadError> {
        // In this order: a thread met out of its poll may have gone back by the time its memory is
        // read, which then shows it in the loop's own code.
        let state = view.files.syscall();
        let look = match self.read(view) {
            Ok(look) => look,
            Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
            Err(_) => None,
        };
        self.is_running = look.is_some();
        let Some(look) = look else { return Ok(Reading::Moving) };
        let thread = self.whereabouts(view, state, look.top);
        let seen = if thread == Whereabouts::Out {
            self.marks(view, state, &look)
        } else {
            Seen { thread, marks: Marks::default(), turned: None, subject: Addr(0) }
        };
        Ok(self.turns.see(seen, view.now))
    }

    fn still(&mut self, at: Timestamp) {
        self.turns.still(at);
    }

    fn is_on(&self, stack: &RawStack) -> bool {
        let mut frames = stack.frames.iter();
        self.is_running
            && (self.family.puts_aside
                || frames.any(|frame| frame.addr == self.frame && frame.code == self.code))
    }

    fn loop_object(&self) -> Addr {
        self.object
    }
}
