//! Which code a callback will run: the code object behind a function, a method, a task or a handle that
//! has one of them.
//!
//! Takes an object, gives the address of a code object. Where an object keeps the next one is not known
//! for every class (Cython's have no layout to look up), so its first words are asked what they point
//! to: whatever is found there is of the type it must be. Bounded.

use super::Interpreter;
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// Words searched of one object: a function's `func_code` is the seventh, a coroutine's frame the
/// twelfth with the code in its first words, a handle's callback of uvloop among the first ten.
const WORDS: usize = 24;
/// A handle has a method, that has a function, that has the code; a task has a coroutine between.
const DEPTH: usize = 4;

/// What leads on to code.
const LEADS: [&str; 6] =
    ["function", "method", "functools.partial", "coroutine", "generator", "async_generator"];

/// The code that the callback `object` runs; `None` of one in C, or that could not be read.
#[must_use]
pub fn code_of(python: &Interpreter<'_>, object: Addr) -> Option<Addr> {
    let mut object = object;
    for _ in 0..DEPTH {
        object = match next(python, object).ok()?? {
            Step::Code(code) => return Some(code),
            Step::Object(next) => next,
        };
    }
    None
}

enum Step {
    Code(Addr),
    Object(Addr),
}

fn next(python: &Interpreter<'_>, object: Addr) -> Result<Option<Step>, ReadError> {
    let objects = python.objects();
    let kind = objects.type_name(object)?;
    if kind == "code" {
        return Ok(Some(Step::Code(object)));
    }
    if kind.ends_with("Task") {
        let coroutine = object.at(python.layout.offsets.asyncio.task_coro);
        return python.memory.read_pointer(coroutine).map(|addr| Some(Step::Object(addr)));
    }
    let bytes = python.memory.read_vec(object, WORDS.saturating_mul(8))?;
    let (words, _) = bytes.as_chunks::<8>();
    // The first two are the count of references and the type.
    for word in words.iter().skip(2) {
        let addr = python.untag(Addr(u64::from_le_bytes(*word)));
        if !addr.is_plausible() || !addr.0.is_multiple_of(8) {
            continue;
        }
        let Ok(kind) = objects.type_name(addr) else { continue };
        if kind == "code" {
            return Ok(Some(Step::Code(addr)));
        }
        let is_task = ["Task", "TaskStepMethWrapper", "TaskWakeupMethWrapper"];
        if LEADS.contains(&&*kind) || is_task.iter().any(|end| kind.ends_with(end)) {
            return Ok(Some(Step::Object(addr)));
        }
    }
    Ok(None)
}
