//! The clock of gevent's loop on libev: reads `struct ev_loop` and gevent's object around it.
//!
//! Takes where they lie, proves that they do, gives [`Reading`]s. What the numbers mean is decided
//! in `progress.rs`. A look is one `pread` and one `process_vm_readv`.

use super::progress::{Place, Progress, Seen, Whereabouts};
use crate::event_loop::float_stamp::to_timestamp;
use crate::event_loop::{Clock, Reading, Running, Sight, View};
use crate::layout::libev as layout;
use crate::layout::shape::FrameLink;
use crate::model::CallbackRun;
use crate::python::Interpreter;
use crate::python::frames::RawStack;
use crate::target::edges::PollCall;
use crate::target::{Fields, ProcFs, ReadError, RemoteMemoryExt, Span, SyscallState};
use crate::units::{Addr, Nanos, Pid, Timestamp};

/// The type of gevent's object around the loop.
const LOOP_TYPE: &str = "gevent.libev.corecext.loop";
/// How far a stamp may lie ahead of the look: a look takes microseconds, and clocks do not differ.
const MAX_AHEAD: Nanos = Nanos::from_millis(1);
/// The same for a loop being looked for: it has run on since its thread's stack was read.
const MAX_SINCE_SIGHT: Nanos = Nanos::from_secs(1);
/// The first stamp seen may be this old: an iteration longer than that is not told from garbage.
const MAX_FIRST_AGE: Nanos = Nanos::from_secs(3600);
/// `ev_rt_now - mn_now` may differ from `rtmn_diff` by rounding only.
const MAX_CLOCK_DIFFERENCE: f64 = 1e-3;
/// Most callbacks in the queue that are counted; each takes a read of some 2 µs.
const MAX_WAITING: u32 = 64;
/// Bytes read of gevent's object, from its pointer to the loop on.
const OBJECT_LEN: usize = 24;
/// How much less of the struct is read at the next try.
const STEP: u64 = 64;
/// Bytes of a double and the like.
const WORD: usize = 8;

/// Where one loop lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loop {
    /// The `struct ev_loop`.
    ev: Addr,
    /// Where its `userdata` is in it.
    userdata: u64,
    /// gevent's object around it.
    object: Addr,
    /// The queue of callbacks that are due.
    queue: Addr,
}

impl Loop {
    /// The loop whose `struct ev_loop` is at `ev`, if it runs and polls with epoll. `Ok(None)`: it
    /// has not been started.
    pub(super) fn at(sight: &Sight<'_>, ev: Addr) -> Result<Option<Loop>, ReadError> {
        let python = &sight.python;
        let bytes = read_loop(python, ev)?;
        let fields = Fields(&bytes);
        let mut places = layout::USERDATA.step_by(WORD);
        let Some(userdata) = places.find(|at| fields.pointer(*at) == Ok(ev)) else {
            return Err(ReadError::Invalid("libev loop"));
        };
        let head = Head::decode(fields, userdata, python.clock_offset)?;
        if head.depth == 0 {
            return Ok(None);
        }
        if !head.is_sane(sight.now) || !is_epoll(sight.procfs, sight.pid, head.poll) {
            return Err(ReadError::Invalid("libev loop that polls with epoll"));
        }
        let prepares = fields.pointer(userdata.saturating_sub(layout::PREPARES_BEFORE_USERDATA))?;
        let prepare = python.memory.read_pointer(prepares)?;
        let object = Addr(prepare.0.wrapping_sub(layout::LOOP_PREPARE));
        if python.objects().type_name(object)? != LOOP_TYPE
            || python.memory.read_pointer(object.at(layout::LOOP_PTR))? != ev
        {
            return Err(ReadError::Invalid("gevent loop"));
        }
        let queue = python.memory.read_pointer(object.at(layout::LOOP_CALLBACKS))?;
        Ok(Some(Loop { ev, userdata, object, queue }))
    }

    /// The loop that this object of gevent's stands for.
    pub(super) fn of_object(sight: &Sight<'_>, object: Addr) -> Result<Option<Loop>, ReadError> {
        if sight.python.objects().type_name(object)? != LOOP_TYPE {
            return Ok(None);
        }
        Loop::at(sight, sight.python.memory.read_pointer(object.at(layout::LOOP_PTR))?)
    }

    /// Its clock.
    pub(super) fn clock(self) -> LibevClock {
        let length = usize::try_from(self.userdata).unwrap_or(0).saturating_add(WORD);
        LibevClock {
            place: self,
            poll: None,
            top: None,
            none: None,
            last_stamp: None,
            is_running: true,
            progress: Progress::default(),
            buffer: vec![0; length],
        }
    }
}

/// As much of the struct as there is: it may be the last thing in its module's data.
fn read_loop(python: &Interpreter<'_>, ev: Addr) -> Result<Vec<u8>, ReadError> {
    let mut end = layout::USERDATA.end;
    loop {
        let length = usize::try_from(end).unwrap_or(0);
        match python.memory.read_vec(ev, length) {
            Err(ReadError::Unmapped(_)) if end > layout::USERDATA.start => {
                end = end.saturating_sub(STEP);
            }
            read => return read,
        }
    }
}

/// The members of `struct ev_loop` that a look is about.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Head {
    stamp: Option<Timestamp>,
    /// `ev_rt_now - mn_now - rtmn_diff`, in seconds.
    clock_difference: f64,
    pending: u32,
    backend: u32,
    poll: i32,
    count: u32,
    depth: u32,
}

impl Head {
    fn decode(fields: Fields<'_>, userdata: u64, clock_offset: i64) -> Result<Head, ReadError> {
        let double = |at| fields.u64(at).map(f64::from_bits);
        let (rt_now, mn_now) = (double(layout::RT_NOW)?, double(layout::MN_NOW)?);
        let mut pending = 0_u32;
        for priority in 0..layout::PRIORITIES {
            let at = layout::PENDING.saturating_add(priority.saturating_mul(4));
            pending = pending.saturating_add(fields.u32(at)?);
        }
        Ok(Head {
            stamp: to_timestamp(mn_now, clock_offset),
            clock_difference: rt_now - mn_now - double(layout::RTMN_DIFF)?,
            pending,
            backend: fields.u32(layout::BACKEND)?,
            poll: fields.u32(layout::BACKEND_FD)?.cast_signed(),
            count: fields.u32(userdata.saturating_sub(layout::COUNT_BEFORE_USERDATA))?,
            depth: fields.u32(userdata.saturating_sub(layout::DEPTH_BEFORE_USERDATA))?,
        })
    }

    /// Whether these can be members of a loop that runs.
    fn is_sane(&self, now: Timestamp) -> bool {
        self.backend == layout::BACKEND_EPOLL
            && self.clock_difference.abs() < MAX_CLOCK_DIFFERENCE
            && self.stamp.is_some_and(|stamp| {
                stamp <= now + MAX_SINCE_SIGHT && stamp >= now.before(MAX_FIRST_AGE)
            })
    }
}

/// The clock of one loop.
#[derive(Debug)]
pub(super) struct LibevClock {
    place: Loop,
    /// How it polls.
    poll: Option<PollCall>,
    /// What [`Top`] shows while nothing runs but the loop itself.
    top: Option<Top>,
    /// `None`, once it was met.
    none: Option<Addr>,
    /// The latest stamp accepted. Stamps never go back.
    last_stamp: Option<Timestamp>,
    /// Whether it ran at the last look.
    is_running: bool,
    progress: Progress,
    buffer: Vec<u8>,
}

/// Which Python frame is the thread's innermost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Top {
    /// The thread's word for it: the frame, or the `_PyCFrame` that knows it.
    word: Addr,
    /// What that `_PyCFrame` says; the same as `word` where there is none.
    frame: Addr,
}

/// What one look reads.
struct Look {
    head: Head,
    is_self: bool,
    calling: bool,
    next: Addr,
    top: Option<Top>,
}

impl LibevClock {
    fn read(&mut self, view: &View<'_>) -> Result<Look, ReadError> {
        let python = &view.python;
        let has_cframe = python.layout.shape.frame_link == FrameLink::CFrame;
        let inner_offset = python.layout.offsets.thread.cframe_current_frame;
        let Loop { ev, userdata, object, queue } = self.place;
        let (mut word, mut inner) = ([0; WORD], [0; WORD]);
        let (mut around, mut next) = ([0; OBJECT_LEN], [0; WORD]);
        let guess = self.top.filter(|_| has_cframe).map(|top| top.word);
        let mut spans: Vec<Span<'_>> = vec![
            (ev, &mut self.buffer),
            (object.at(layout::LOOP_PTR), &mut around),
            (queue.at(layout::FIFO_HEAD), &mut next),
            (view.thread.state.at(python.layout.offsets.thread.frame), &mut word),
        ];
        let needed = spans.len();
        if let Some(guess) = guess {
            spans.push((guess.at(inner_offset), &mut inner));
        }
        let filled = python.memory.read_batch(&mut spans)?;
        if filled < needed {
            return Err(ReadError::Unmapped(ev));
        }
        let word = Addr(u64::from_le_bytes(word));
        let frame = if !has_cframe {
            Some(word)
        } else if guess == Some(word) && filled > needed {
            Some(Addr(u64::from_le_bytes(inner)))
        } else {
            python.memory.read_pointer(word.at(inner_offset)).ok()
        };
        let (fields, around) = (Fields(&self.buffer), Fields(&around));
        let calling_at = layout::LOOP_CALLING.saturating_sub(layout::LOOP_PTR);
        Ok(Look {
            head: Head::decode(fields, userdata, python.clock_offset)?,
            is_self: fields.pointer(userdata)? == ev && around.pointer(0)? == ev,
            calling: around.u32(calling_at)? != 0,
            next: Addr(u64::from_le_bytes(next)),
            top: frame.map(|frame| Top { word, frame }),
        })
    }

    /// Where the thread is, by what it did in the kernel before its memory was read.
    fn whereabouts(&mut self, view: &View<'_>, state: SyscallState, look: &Look) -> Whereabouts {
        match state {
            SyscallState::Blocked { nr, args, .. } => {
                if self.poll.as_ref().and_then(|poll| poll.epfd) != Some(look.head.poll) {
                    // A fork makes it open another.
                    self.poll = Some(PollCall::guessed(look.head.poll));
                }
                if self.poll.as_ref().is_some_and(|poll| poll.is(nr, args)) {
                    if !look.calling && look.head.pending == 0 {
                        self.top = look.top;
                    }
                    Whereabouts::InPoll
                } else {
                    Whereabouts::Out
                }
            }
            SyscallState::BlockedOutside { .. } => Whereabouts::Out,
            SyscallState::Running => {
                let Some(top) = look.top else { return Whereabouts::Unknown };
                let at_loop = match self.top {
                    Some(known) => known == top,
                    // It was never met in its poll: it is a busy one.
                    None => is_hub(&view.python, top.frame),
                };
                if at_loop { Whereabouts::AtLoop } else { Whereabouts::Out }
            }
            SyscallState::Ended | SyscallState::Denied => Whereabouts::Unknown,
        }
    }

    /// The callback at the queue's head, if there is one.
    fn next(&mut self, view: &View<'_>, head: Addr) -> Option<Addr> {
        if head.is_null() || self.none == Some(head) {
            return None;
        }
        if self.none.is_none()
            && view.python.objects().type_name(head).is_ok_and(|name| name == "NoneType")
        {
            self.none = Some(head);
            return None;
        }
        Some(head)
    }
}

impl Clock for LibevClock {
    fn look(&mut self, view: &View<'_>) -> Result<Reading, ReadError> {
        // In this order: a thread met out of its poll may have gone back by the time its memory is
        // read, which then shows the next iteration, and no time in it.
        let state = view.files.syscall();
        let look = match self.read(view) {
            Ok(look) => look,
            Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
            Err(_) => {
                self.is_running = false;
                return Ok(Reading::Moving);
            }
        };
        self.is_running = look.is_self && look.head.depth > 0;
        if !self.is_running {
            return Ok(Reading::Moving);
        }
        let earliest = self.last_stamp.unwrap_or_else(|| view.now.before(MAX_FIRST_AGE));
        let is_possible = |stamp: &Timestamp| *stamp >= earliest && *stamp <= view.now + MAX_AHEAD;
        let Some(stamp) = look.head.stamp.filter(is_possible) else { return Ok(Reading::Torn) };
        self.last_stamp = Some(stamp);
        let thread = self.whereabouts(view, state, &look);
        let next = self.next(view, look.next);
        let place = Place { calling: look.calling, pending: look.head.pending, next };
        let seen = Seen { count: look.head.count, stamp, place, thread };
        Ok(self.progress.see(seen, view.now))
    }

    fn callback(&self, _: &View<'_>, running: &Running) -> Option<CallbackRun> {
        self.progress.callback(running)
    }

    fn polls(&self, view: &View<'_>) -> Option<u64> {
        let count = self.place.userdata.checked_sub(layout::COUNT_BEFORE_USERDATA)?;
        view.python.memory.read_u32(self.place.ev.at(count)).ok().map(u64::from)
    }

    fn waiting(&self, view: &View<'_>) -> Option<u32> {
        let memory = view.python.memory;
        let none = self.none?;
        let mut next = memory.read_pointer(self.place.queue.at(layout::FIFO_HEAD)).ok()?;
        let mut count = 0_u32;
        while next != none {
            count = count.checked_add(1).filter(|count| *count <= MAX_WAITING)?;
            next = memory.read_pointer(next.at(layout::CALLBACK_NEXT)).ok()?;
        }
        Some(count)
    }

    fn sleeps_in_poll(&mut self, at: Timestamp) -> bool {
        self.progress.sleeps_in_poll(at);
        true
    }

    fn is_on(&self, _: &RawStack) -> bool {
        // The hub, which has the loop's frame, is put aside while a greenlet runs.
        self.is_running
    }

    fn loop_object(&self) -> Addr {
        self.place.object
    }
}

/// Whether a frame is the hub's, in which the loop runs.
fn is_hub(python: &Interpreter<'_>, frame: Addr) -> bool {
    let offsets = &python.layout.offsets;
    let objects = python.objects();
    let text = |code: Addr, offset| {
        python.memory.read_pointer(code.at(offset)).and_then(|text| objects.str(text))
    };
    let code = python.memory.read_pointer(frame.at(offsets.frame.code)).map(|it| python.untag(it));
    code.is_ok_and(|code| {
        text(code, offsets.code.name).is_ok_and(|name| name == super::HUB_METHOD)
            && text(code, offsets.code.filename).is_ok_and(|file| file.ends_with(super::HUB_FILE))
    })
}

fn is_epoll(procfs: &ProcFs, pid: Pid, fd: i32) -> bool {
    procfs.epolls(pid).is_ok_and(|fds| fds.contains(&fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of a loop as gevent 24.2.1 lays it out.
    fn bytes(changes: &[(u64, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0_u8; 1136];
        let mut put = |at: u64, value: &[u8]| {
            let at = usize::try_from(at).unwrap();
            bytes[at..at + value.len()].copy_from_slice(value);
        };
        put(layout::RT_NOW, &1_700_000_010.5_f64.to_le_bytes());
        put(layout::MN_NOW, &10.5_f64.to_le_bytes());
        put(layout::RTMN_DIFF, &1_700_000_000.0_f64.to_le_bytes());
        put(layout::PENDING + 8, &3_u32.to_le_bytes());
        put(layout::BACKEND, &4_u32.to_le_bytes());
        put(layout::BACKEND_FD, &7_u32.to_le_bytes());
        put(1128 - 12, &41_u32.to_le_bytes());
        put(1128 - 8, &1_u32.to_le_bytes());
        for (at, value) in changes {
            put(*at, value);
        }
        bytes
    }

    fn decode(changes: &[(u64, &[u8])]) -> Head {
        Head::decode(Fields(&bytes(changes)), 1128, 0).unwrap()
    }

    const NOW: Timestamp = Timestamp(11_000_000_000);

    #[test]
    fn a_loop_is_told_from_memory_that_is_none() {
        let head = decode(&[]);
        assert_eq!((head.count, head.depth, head.pending, head.poll), (41, 1, 3, 7));
        assert_eq!(head.stamp, Some(Timestamp(10_500_000_000)));
        assert!(head.is_sane(NOW));
        let future = 12.1_f64.to_le_bytes();
        let changes: [(u64, &[u8]); 4] = [
            (layout::BACKEND, &[1]),
            (layout::RTMN_DIFF, &[0; 8]),
            (layout::MN_NOW, &future),
            (layout::MN_NOW, &[0xff; 8]),
        ];
        for change in changes {
            assert!(!decode(&[change]).is_sane(NOW), "{change:?}");
        }
        assert!(!head.is_sane(Timestamp(4_000_000_000_000)));
        assert!(Head::decode(Fields(&bytes(&[])[..1000]), 1128, 0).is_err());
    }
}
