//! What a task runs in a greenlet: SQLAlchemy's asynchronous calls.
//!
//! Its synchronous code runs in a greenlet of its own, and whatever is to be awaited there is handed out to the
//! coroutine that began it, which awaits it
//! (<https://github.com/sqlalchemy/sqlalchemy/blob/rel_2_0_36/lib/sqlalchemy/util/_concurrency_py3k.py#L157>). So
//! what waits for a connection is parked in there, and not in the task's own chain of awaits.

use super::pace::now;
use super::thread_watch::Scene;
use crate::python::awaits::Chain;
use crate::python::frames::{RawFrame, local};
use crate::python::greenlets::{is_greenlet, parked_at};

/// The function that does so, the ends of its file (to 2.0, and from 2.1 on), and its variable that has the greenlet.
const SPAWNS: &str = "greenlet_spawn";
const FILES: [&str; 2] = ["sqlalchemy/util/_concurrency_py3k.py", "sqlalchemy/util/concurrency.py"];
const GREENLET: &str = "context";

/// The frames of a suspended task, the innermost first, those of a greenlet that it runs code in among them.
pub(super) fn frames_of(scene: &mut Scene<'_>, chain: &Chain) -> Vec<RawFrame> {
    let mut frames: Vec<RawFrame> = chain.frames.iter().rev().copied().collect();
    let place = frames.iter().enumerate().find_map(|(at, frame)| {
        let code = scene.codes.get(&scene.python, frame.code, now()).ok()?;
        let is_it = code.name == SPAWNS && FILES.iter().any(|file| code.filename.ends_with(file));
        let slot = code.local_index(GREENLET).filter(|_| is_it)?;
        Some((at, local(&scene.python, frame.addr, slot).ok()?))
    });
    let Some((at, greenlet)) = place.filter(|(_, one)| is_greenlet(&scene.python, *one)) else {
        return frames;
    };
    if let Ok(Some(stack)) = parked_at(&scene.python, greenlet) {
        frames.splice(at..at, stack.frames);
    }
    frames
}
