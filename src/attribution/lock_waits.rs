//! Where the threads of requests queue for a lock: what their waits have in common is that one is let through at a
//! time, so that more threads only wait there.
//!
//! Takes explained stalls, gives those that were such a wait. A thread that waits for an answer sleeps in the same
//! system call: by the Python code that waits (`Condition`, `Event`, `Queue`, a future) and by the C code that does
//! (an extension with threads of its own) it is told apart.

use super::application::origin_of;
use super::native;
use crate::model::origin::Origin;
use crate::model::{Cause, Culprit, FrameKind, LockKind, LockWait, Recording, StackId, Stall};

/// Modules of the standard library whose code waits for somebody to do something, and not for a turn.
const WAITERS: [&str; 6] =
    ["threading", "queue", "concurrent", "multiprocessing", "asyncio", "subprocess"];

/// The waits, in the order of the stalls.
#[must_use]
pub fn lock_waits(recording: &Recording, stalls: &[Stall]) -> Vec<LockWait> {
    let waits = stalls.iter().filter_map(|stall| {
        let culprit = stall.culprit.as_ref()?;
        let kind = kind(recording, stall, culprit)?;
        let (from, until) = recording.observed_span(stall);
        Some(LockWait { pid: stall.pid, kind, frame: culprit.frame, from, until })
    });
    waits.collect()
}

fn kind(recording: &Recording, stall: &Stall, culprit: &Culprit) -> Option<LockKind> {
    let tables = &recording.tables;
    let wait = tables.get_wait(culprit.wait?)?;
    if !stall.occupies || stall.allowed || stall.cause != Cause::BlockingCall {
        return None;
    }
    if wait.is_for_sqlite(tables, [culprit.native, culprit.native_library].into_iter().flatten()) {
        return Some(LockKind::Sqlite);
    }
    let is_futex = tables.text(wait.syscall) == "futex" && wait.peer.is_none();
    let takes_turns = || is_taken_by_python(recording, stall) && !is_in_c(recording, stall.native);
    (is_futex && takes_turns()).then_some(LockKind::Thread)
}

/// Whether the innermost Python code asked for the lock itself.
fn is_taken_by_python(recording: &Recording, stall: &Stall) -> bool {
    let (tables, process) = (&recording.tables, recording.get_process(stall.pid));
    let stdlib = process.and_then(|process| process.stdlib.as_deref());
    let mut frames = stall.stack.into_iter().flat_map(|stack| tables.frames_of(stack));
    let leaf = frames.find(|(_, frame)| frame.kind == FrameKind::Python);
    leaf.is_some_and(|(_, frame)| match origin_of(tables, stdlib, frame) {
        Origin::Stdlib(module) => !module.is_empty() && !WAITERS.contains(&module),
        Origin::Application | Origin::Package(_) => true,
        Origin::Foreign => false,
    })
}

/// Whether an extension or a library waits, and not the interpreter.
fn is_in_c(recording: &Recording, native: Option<StackId>) -> bool {
    let tables = &recording.tables;
    native.is_some_and(|stack| {
        tables.frames_of(stack).any(|(_, frame)| !native::is_interpreters(tables, frame))
    })
}
