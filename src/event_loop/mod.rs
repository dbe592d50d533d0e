//! Event loops: how each family looks in memory, and how its own clock is read.
//!
//! Takes an interpreter and stacks, gives [`Reading`]s. Decides nothing about stalls. One file per
//! family; adding one is a file and a line in [`PROBES`].

pub mod asyncio;
pub mod eventlet;
pub mod float_stamp;
mod framed;
pub mod gevent;
pub mod hub;
pub mod libuv;
pub mod trio;
mod turns;
pub mod twisted;
pub mod uvloop;

use std::fmt;

pub use crate::python::tasks::TaskNames;

use crate::model::{CallbackRun, LoopKind};
use crate::python::Interpreter;
use crate::python::code_objects::CodeCache;
use crate::python::frames::{Fingerprint, RawStack};
use crate::python::running_loop::AsyncioTables;
use crate::python::threads::Thread;
use crate::target::modules::Modules;
use crate::target::{ProcFs, ReadError, ThreadFiles};
use crate::units::{Addr, Bounds, Pid, Tid, Timestamp};

/// All families stallspy knows, in the order they are asked. The first that finds a loop on a
/// thread has it.
pub const PROBES: &[&dyn Probe] = &[
    &asyncio::Asyncio,
    &uvloop::Uvloop,
    &gevent::Gevent,
    &trio::Trio,
    &eventlet::Eventlet,
    &twisted::Twisted,
];

/// What a probe may look at to find a loop: one thread, whose stack was just read.
#[derive(Debug)]
pub struct Sight<'a> {
    /// The interpreter.
    pub python: Interpreter<'a>,
    /// Code objects read so far.
    pub codes: &'a mut CodeCache,
    /// The thread's stack.
    pub stack: &'a RawStack,
    /// The thread, as the interpreter knows it.
    pub thread: &'a Thread,
    /// The thread, as the kernel knows it.
    pub tid: Tid,
    /// Its process.
    pub pid: Pid,
    /// Its files in `/proc`.
    pub files: &'a ThreadFiles,
    /// `/proc`.
    pub procfs: &'a ProcFs,
    /// The programs and libraries mapped in the process, for their symbols and sections.
    pub modules: &'a Modules,
    /// Where the process's asyncio keeps things.
    pub asyncio: &'a mut AsyncioTables,
    /// A time just before the stack was read or after.
    pub now: Timestamp,
}

/// What a clock may look at: its own thread.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The interpreter.
    pub python: Interpreter<'a>,
    /// The thread, as the interpreter knows it.
    pub thread: &'a Thread,
    /// Its files in `/proc`, kept open.
    pub files: &'a ThreadFiles,
    /// `/proc`.
    pub procfs: &'a ProcFs,
    /// The process.
    pub pid: Pid,
    /// A time just before the look.
    pub now: Timestamp,
}

/// Knows how one family of loops looks in memory.
pub trait Probe: fmt::Debug + Sync {
    /// The family.
    fn kind(&self) -> LoopKind;

    /// The loop that runs on this thread. `Ok(None)` is "none of mine here"; `Err` is "here, but
    /// unreadable", and is shown to the user rather than taken for no loop.
    ///
    /// # Errors
    /// When the loop is there but its clock cannot be read.
    fn find(&self, sight: &mut Sight<'_>) -> Result<Option<Box<dyn Clock>>, ReadError>;
}

/// What one look at a loop's clock showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Waiting for events, or taking them in.
    Polling,
    /// Callbacks run.
    Running(Running),
    /// Awake, and neither in its poll nor in Python: C code of a callback runs since then, or the
    /// loop is about to poll or just back. The kernel's record tells, where there is one.
    Between(Running),
    /// The loop's frame was being pushed or popped, or the loop is gone: look again.
    Moving,
    /// The memory changed while it was read, or is not what it must be: look again.
    Torn,
}

/// An iteration that runs callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// When it left its poll, by the loop's own clock, on the host's `CLOCK_MONOTONIC`: as wide as
    /// a step of that clock. The same for all looks at one iteration, so that it names it.
    pub began: Bounds<Timestamp>,
    /// The loop's own name of the iteration: two looks with different ones saw two iterations.
    /// `None` where the loop has none, and `began` may be set anew within one.
    pub iteration: Option<u64>,
    /// The objects that tell this callback run from any other; equal means nothing moved.
    pub identity: [Addr; 3],
}

impl Running {
    /// Whether all that is known is that the loop is awake: it may have polled any number of times
    /// since it was last seen to.
    #[must_use]
    pub fn is_anyhow(&self) -> bool {
        self.began.hi == Self::ANY_TIME
    }

    /// The end of [`Running::began`] where nothing is known of it.
    pub const ANY_TIME: Timestamp = Timestamp(u64::MAX);

    /// Whether `began` is a moment that names the iteration.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.began.lo == self.began.hi && self.iteration.is_some()
    }
}

/// One loop's clock. Holds what was found once so that a look is one system call, and one more
/// where memory alone does not tell whether the loop polls ([`ThreadFiles::syscall`]).
pub trait Clock: fmt::Debug {
    /// Looks at the loop.
    ///
    /// # Errors
    /// Only [`ReadError::Gone`] and [`ReadError::Denied`]; everything else is a [`Reading`].
    fn look(&mut self, view: &View<'_>) -> Result<Reading, ReadError>;

    /// Which callback of the iteration `running` is; `None` of a loop that does not tell.
    fn callback(&self, view: &View<'_>, running: &Running) -> Option<CallbackRun> {
        let _ = (view, running);
        None
    }

    /// How many callbacks wait in the ready queue; `None` of a loop that does not tell.
    fn waiting(&self, view: &View<'_>) -> Option<u32> {
        let _ = view;
        None
    }

    /// How often the loop has polled; `None` of one that does not count.
    fn polls(&self, view: &View<'_>) -> Option<u64> {
        let _ = view;
        None
    }

    /// A callback that runs now or will be the next, or what has it; `None` where none can be told.
    fn up(&self, view: &View<'_>) -> Option<Addr> {
        let _ = view;
        None
    }

    /// The task that the callback runs, if it runs one and the loop knows of tasks.
    fn task(&self, view: &View<'_>, running: &Running) -> TaskNames {
        let _ = (view, running);
        TaskNames::default()
    }

    /// The thread has slept ever since the last look, so that this one was spared.
    fn still(&mut self, at: Timestamp) {
        let _ = at;
    }

    /// By the kernel's record the thread sleeps in the loop's poll at `at`, though it has been round its
    /// loop since the last look. Returns whether this look can be spared: what the clock remembers of
    /// earlier looks must not be taken for news at the next.
    fn sleeps_in_poll(&mut self, at: Timestamp) -> bool {
        let _ = at;
        false
    }

    /// The stack that the last look walked, and where the thread stood in it, of a clock that walks one.
    fn walked(&self) -> Option<&(RawStack, Fingerprint)> {
        None
    }

    /// Whether the loop runs on the thread with this stack: what a loop that has ended left behind
    /// in memory does not. A loop without a frame of its own says how the last look found it.
    fn is_on(&self, stack: &RawStack) -> bool;

    /// The loop object's address: two clocks with the same one are of the same loop.
    fn loop_object(&self) -> Addr;
}
