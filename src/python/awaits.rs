//! Await chains: from a coroutine to the one it waits for, and on to what all of them wait for.
//!
//! Takes a coroutine, gives the frames and the object at the end. What an `await` waits for is the top
//! of the suspended frame's stack; between two coroutines may lie objects that only pass values on.

use super::Interpreter;
use super::frames::RawFrame;
use super::generators::{Generator, state_of};
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// Most objects of one chain. CPython's own recursion limit is 1000 by default, and `send` goes
/// through all of them.
const MAX_LINKS: usize = 1000;
/// Where each of these keeps the one object it passes values on to or from, right behind its header:
/// `cw_coroutine`, `ags_gen`, `agt_gen`, `wrapped`, `fut` (Objects/genobject.c, Objects/iterobject.c
/// and Modules/_asynciomodule.c; the same 3.8 to 3.15).
const PASSED_ON: u64 = 16;
/// The types that do.
const PASS_ON: [&str; 5] = [
    "coroutine_wrapper",
    "async_generator_asend",
    "async_generator_athrow",
    "anext_awaitable",
    "_asyncio.FutureIter",
];
/// The types that have a frame of their own.
const WITH_FRAME: [&str; 3] = ["coroutine", "generator", "async_generator"];

/// What a coroutine does, as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// It has not begun.
    Created,
    /// It waits, or is of a kind that does not tell (Cython's).
    #[default]
    Suspended,
    /// A thread runs it.
    Running,
    /// It has ended.
    Finished,
}

/// A coroutine and all that it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// What the first of them does.
    pub progress: Progress,
    /// Where each of them is; the one that nothing in the chain waits for first.
    pub frames: Vec<RawFrame>,
    /// What the last of them waits for, where that is an object. It has no Python frame.
    pub awaited: Option<Addr>,
    /// Whether the chain was cut: there is more.
    pub truncated: bool,
}

/// The chain that begins with `coroutine`.
///
/// # Errors
/// When no coroutine is there, or it changes while it is read.
pub fn chain(python: &Interpreter<'_>, coroutine: Addr) -> Result<Chain, ReadError> {
    let objects = python.objects();
    let mut chain = Chain::default();
    let mut next = Some(coroutine);
    for link in 0..MAX_LINKS {
        let Some(object) = next else { return Ok(chain) };
        let kind = objects.type_name(object)?;
        if PASS_ON.contains(&kind.as_str()) {
            next = Some(python.memory.read_pointer(object.at(PASSED_ON))?);
            continue;
        }
        if !WITH_FRAME.contains(&kind.as_str()) {
            chain.awaited = Some(object);
            return Ok(chain);
        }
        let (progress, frame, delegate) = match state_of(python, object)? {
            Generator::Created(frame) => (Progress::Created, Some(frame), None),
            Generator::Suspended { frame, delegate } => {
                (Progress::Suspended, Some(frame), delegate)
            }
            Generator::Running(frame) => (Progress::Running, Some(frame), None),
            Generator::Finished => (Progress::Finished, None, None),
        };
        if link == 0 {
            chain.progress = progress;
        }
        chain.frames.extend(frame);
        next = delegate;
    }
    chain.truncated = true;
    Ok(chain)
}
