//! Event loops: how each family looks in memory, and how its own clock is read.
//!
//! Takes an interpreter and stacks, gives [`Reading`]s. Decides nothing about stalls. One file per
//! family; adding one is a file and a line in [`PROBES`].

pub mod asyncio;

use std::fmt;

use crate::model::{CallbackRun, LoopKind};
use crate::python::Interpreter;
use crate::python::code_objects::CodeCache;
use crate::python::frames::RawStack;
use crate::target::ReadError;
use crate::units::{Addr, Timestamp};

/// All families stallspy knows.
pub const PROBES: &[&dyn Probe] = &[&asyncio::Asyncio];

/// Knows how one family of loops looks in memory.
pub trait Probe: fmt::Debug + Sync {
    /// The family.
    fn kind(&self) -> LoopKind;

    /// The loop that runs on this stack. `Ok(None)` is "none of mine here"; `Err` is "here, but
    /// unreadable", and is shown to the user rather than taken for no loop.
    ///
    /// # Errors
    /// When the loop's frame is there but its variables cannot be read.
    fn find(
        &self,
        python: &Interpreter<'_>,
        codes: &mut CodeCache,
        stack: &RawStack,
        now: Timestamp,
    ) -> Result<Option<Box<dyn Clock>>, ReadError>;
}

/// What one look at a loop's clock showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Waiting for events, or taking them in.
    Polling,
    /// Callbacks run.
    Running(Running),
    /// The loop's frame was being pushed or popped, or is gone: look again.
    Moving,
    /// The memory changed while it was read, or is not what it must be: look again.
    Torn,
}

/// An iteration that runs callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// When it left its poll, by the loop's own clock, on the host's `CLOCK_MONOTONIC`.
    pub began: Timestamp,
    /// The objects that tell this callback run from any other; equal means nothing moved.
    pub identity: [Addr; 3],
}

/// The task a callback runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskNames {
    /// The task's name, `Task-12`.
    pub task: Option<String>,
    /// Its coroutine's qualified name.
    pub coroutine: Option<String>,
}

/// One loop's clock. Holds what was found once so that a look is one system call.
pub trait Clock: fmt::Debug {
    /// Looks at the loop. `now` is a time just before the look.
    ///
    /// # Errors
    /// Only [`ReadError::Gone`] and [`ReadError::Denied`]; everything else is a [`Reading`].
    fn look(&mut self, python: &Interpreter<'_>, now: Timestamp) -> Result<Reading, ReadError>;

    /// Which callback of the iteration `running` is.
    fn callback(&self, python: &Interpreter<'_>, running: &Running) -> Option<CallbackRun>;

    /// How many callbacks wait in the ready queue.
    fn waiting(&self, python: &Interpreter<'_>) -> Option<u32>;

    /// The task that the callback runs, if it runs one.
    fn task(&self, python: &Interpreter<'_>, running: &Running) -> TaskNames;

    /// Whether the loop's own frame is in this stack: what a loop that has ended left behind in
    /// memory is not.
    fn is_on(&self, stack: &RawStack) -> bool;

    /// The loop object's address: two clocks with the same one are of the same loop.
    fn loop_object(&self) -> Addr;
}
