//! gevent's loop on libuv, through cffi (`GEVENT_LOOP=libuv-cffi`): reads the `uv_loop_t` under it.
//!
//! Takes where that lies, proves that it does, gives [`Reading`]s; what its time and count mean is
//! decided in `event_loop/libuv.rs`. The main thread's loop is libuv's default one, found by libuv's own
//! variable if the library still has its symbols; others are found in the hub's frame. `data` of a
//! loop is gevent's handle to the object around it, a cffi object whose pointer is the object itself.
//! (<https://github.com/gevent/gevent/blob/24.2.1/src/gevent/libuv/loop.py#L122>,
//! <https://github.com/python-cffi/cffi/blob/v1.16.0/src/c/_cffi_backend.c>, `CDataObject` and
//! `newp_handle`)

use crate::event_loop::libuv::{Iterations, Thread, UvLoop};
use crate::event_loop::{Clock, Reading, Sight, View};
use crate::layout::LIBUV_SPAN;
use crate::python::frames::RawStack;
use crate::python::innermost::innermost;
use crate::target::edges::PollCall;
use crate::target::{ReadError, RemoteMemoryExt, Span, SyscallState, coarse_step};
use crate::units::Addr;

/// gevent's extension module with libuv in it: its folder and the beginning of its name.
const EXTENSION: &str = "gevent/libuv/_corecffi";
/// libuv's variable that points to its default loop (`src/uv-common.c`).
const DEFAULT_LOOP: &str = "default_loop_ptr";
/// gevent's variable that holds the cffi pointer to the loop.
const POINTER: &str = "_ptr";
/// The name of gevent's class.
const CLASS: &str = "loop";
/// In a cffi object: `c_data`, what it points to.
const C_DATA: u64 = 24;
/// In a handle of cffi's: the object that it stands for.
const HANDLE_OBJECT: u64 = 40;

/// One loop.
#[derive(Debug, Clone, Copy)]
pub(super) struct UvHub {
    uv: UvLoop,
    /// gevent's handle, `data` of the loop.
    handle: Addr,
    /// gevent's object.
    object: Addr,
}

/// libuv's default loop, which gevent runs in the main thread only.
pub(super) fn of_default(sight: &Sight<'_>) -> Result<Option<UvHub>, ReadError> {
    if sight.tid.0 != sight.pid.0 {
        return Ok(None);
    }
    let mut modules = sight.modules.iter();
    let extension = modules.find(|module| module.path.contains(EXTENSION));
    let Some(pointer) = extension.and_then(|module| module.symbol(DEFAULT_LOOP)) else {
        return Ok(None);
    };
    match sight.python.memory.read_pointer(pointer)? {
        uv if uv.is_null() => Ok(None),
        uv => at(sight, uv),
    }
}

/// The loop that this object of gevent's stands for; `None` if it is another kind of object.
pub(super) fn of_object(sight: &Sight<'_>, object: Addr) -> Result<Option<UvHub>, ReadError> {
    let objects = sight.python.objects();
    let Some(pointer) = objects.attribute(object, POINTER)? else { return Ok(None) };
    let uv = sight.python.memory.read_pointer(pointer.at(C_DATA))?;
    Ok(at(sight, uv)?.filter(|hub| hub.object == object))
}

/// The loop at `uv`, if all that leads from it to gevent's object and back is as it must be.
fn at(sight: &Sight<'_>, uv: Addr) -> Result<Option<UvHub>, ReadError> {
    let python = &sight.python;
    // `data` is a `uv_loop_t`'s first member.
    let handle = python.memory.read_pointer(uv)?;
    if !handle.is_plausible() || python.memory.read_pointer(handle.at(C_DATA))? != handle {
        return Ok(None);
    }
    let object = python.memory.read_pointer(handle.at(HANDLE_OBJECT))?;
    let kind = python.objects().type_name(object)?;
    if kind.rsplit('.').next() != Some(CLASS) {
        return Ok(None);
    }
    let (from, clock) = ((sight.procfs, sight.pid), (sight.now, python.clock_offset));
    let uv = UvLoop::at(python.memory, from, uv, handle, clock)?;
    Ok(uv.map(|uv| UvHub { uv, handle, object }))
}

impl UvHub {
    /// Its clock.
    pub(super) fn clock(self) -> LibuvClock {
        LibuvClock {
            hub: self,
            poll: PollCall::guessed(self.uv.epoll),
            base: None,
            iterations: Iterations::new(coarse_step()),
            is_running: true,
            buffer: vec![0; LIBUV_SPAN],
        }
    }
}

/// The clock of one loop.
#[derive(Debug)]
pub(super) struct LibuvClock {
    hub: UvHub,
    poll: PollCall,
    /// The thread's innermost frame while the loop polls.
    base: Option<Addr>,
    iterations: Iterations,
    is_running: bool,
    buffer: Vec<u8>,
}

impl LibuvClock {
    fn thread(&mut self, state: SyscallState, top: Option<Addr>) -> Thread {
        match state {
            SyscallState::Blocked { nr, args, .. } if self.poll.is(nr, args) => {
                self.base = top.or(self.base);
                Thread::InPoll
            }
            SyscallState::Blocked { .. } | SyscallState::BlockedOutside { .. } => Thread::Out,
            // What is not the loop's own frame was called by it.
            _ if self.base.is_some() && top.is_some() && top != self.base => Thread::Out,
            _ => Thread::Between,
        }
    }
}

impl Clock for LibuvClock {
    fn look(&mut self, view: &View<'_>) -> Result<Reading, ReadError> {
        let python = &view.python;
        let UvHub { uv, handle, .. } = self.hub;
        // In this order: a thread met out of its poll may have gone back by the time its memory is
        // read, which then shows the next iteration.
        let state = view.files.syscall();
        let mut count = [0; 8];
        let mut spans: [Span<'_>; 2] = [(uv.addr, &mut self.buffer), (uv.count_at(), &mut count)];
        let filled = python.memory.read_batch(&mut spans)?;
        let count = u64::from_le_bytes(count);
        let seen = (filled == 2)
            .then(|| uv.decode(&self.buffer, count, handle, python.clock_offset))
            .flatten();
        self.is_running = seen.is_some();
        let Some(seen) = seen else { return Ok(Reading::Moving) };
        let top = innermost(python, &[view.thread.state])?.first().copied();
        let thread = self.thread(state, top);
        let step = self.iterations.see(seen, thread, view.now);
        Ok(step.reading([top.unwrap_or_default(), Addr(0), Addr(0)]))
    }

    fn polls(&self, view: &View<'_>) -> Option<u64> {
        let count = view.python.memory.read_u64(self.hub.uv.count_at()).ok()?;
        // libuv before 1.45 does not count.
        (count > 0).then_some(count)
    }

    fn waiting(&self, view: &View<'_>) -> Option<u32> {
        let objects = view.python.objects();
        let queue = objects.attribute(self.hub.object, "_callbacks").ok()??;
        u32::try_from(objects.deque_len(queue).ok()?).ok()
    }

    fn is_on(&self, _: &RawStack) -> bool {
        // The hub, which has the loop's frame, is put aside while a greenlet runs.
        self.is_running
    }

    fn loop_object(&self) -> Addr {
        self.hub.object
    }
}
