//! All tasks of asyncio that are not over, whoever runs them.
//!
//! asyncio keeps tasks in a `WeakSet` (to 3.11 one, `_all_tasks`; then `_scheduled_tasks` and a set,
//! `_eager_tasks`); from 3.14 on tasks written in C are in a list of the thread that made them, or of the
//! interpreter once that thread has ended. Gives addresses of objects that are tasks by their class.

use std::collections::HashSet;

use super::Interpreter;
use super::interpreters::interpreters;
use super::loaded::module_dict;
use super::threads::Thread;
use crate::layout::AsyncioDebug;
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// Most tasks that are read: a server of ten thousand connections has as many.
pub const MAX_TASKS: usize = 1 << 14;
/// `wr_object` of a weak reference (Include/cpython/weakrefobject.h; the same 3.8 to 3.15).
const REFERENT: u64 = 16;
/// Where a future and a task keep their loop, `fut_loop`: the first thing they keep
/// (`FutureObj_HEAD`, Modules/_asynciomodule.c; the same 3.8 to 3.15).
const LOOP: u64 = 16;
/// The class that they are, or are derived from.
const CLASS: &str = "_asyncio.Task";
/// The sets that hold them, whether weakly, in `asyncio.tasks`.
const SETS: [&str; 3] = ["_all_tasks", "_scheduled_tasks", "_eager_tasks"];

/// The tasks found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskList {
    /// Their objects, each once.
    pub tasks: Vec<Addr>,
    /// Whether there are more, or a list was torn.
    pub truncated: bool,
}

/// All tasks of the C implementation. `debug` is what asyncio publishes about itself, from 3.14 on.
///
/// # Errors
/// [`ReadError::Gone`] or [`ReadError::Denied`], or when the interpreters' tables cannot be read.
pub fn tasks(
    python: &Interpreter<'_>,
    threads: &[Thread],
    debug: Option<&AsyncioDebug>,
) -> Result<TaskList, ReadError> {
    let mut finder =
        Finder { python, found: TaskList::default(), seen: HashSet::new(), classes: Vec::new() };
    for interpreter in interpreters(python)? {
        if let Some(dict) = module_dict(python, interpreter, "asyncio.tasks")? {
            for name in SETS {
                finder.set(dict, name)?;
            }
        }
        if let Some(debug) = debug {
            finder.list(interpreter.at(debug.interpreter_tasks_head), debug)?;
        }
    }
    if let Some(debug) = debug {
        for thread in threads {
            finder.list(thread.state.at(debug.thread_tasks_head), debug)?;
        }
    }
    Ok(finder.found)
}

/// The loop object that the task at `task` is of.
///
/// # Errors
/// When it cannot be read.
pub fn loop_of(python: &Interpreter<'_>, task: Addr) -> Result<Addr, ReadError> {
    python.memory.read_pointer(task.at(LOOP))
}

/// Whether the object at `addr` is a task of the C implementation.
#[must_use]
pub fn is_task(python: &Interpreter<'_>, addr: Addr) -> bool {
    let names = python.objects().class_names(addr);
    names.is_ok_and(|names| names.iter().any(|name| name == CLASS))
}

struct Finder<'a> {
    python: &'a Interpreter<'a>,
    found: TaskList,
    seen: HashSet<Addr>,
    /// Classes that were found to be tasks': few, of very many tasks.
    classes: Vec<Addr>,
}

impl Finder<'_> {
    /// Takes the tasks in a module's set, or the weak references in its `WeakSet`.
    fn set(&mut self, dict: Addr, name: &str) -> Result<(), ReadError> {
        let objects = self.python.objects();
        let read = || {
            let Some(set) = objects.dict_get(dict, name)? else { return Ok(Vec::new()) };
            let data = match objects.type_name(set)?.as_str() {
                "set" => set,
                _ => objects.attribute(set, "data")?.ok_or(ReadError::Invalid("weak set"))?,
            };
            objects.set_items(data, MAX_TASKS)
        };
        let items = match read() {
            Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
            items => items.unwrap_or_default(),
        };
        for item in items {
            if self.take(item) {
                continue;
            }
            // A weak reference's class may be any; the object says what it is.
            if let Ok(referent) = self.python.memory.read_pointer(item.at(REFERENT)) {
                self.take(referent);
            }
        }
        Ok(())
    }

    /// Follows a list (`struct llist_node`: next, prev) that lies in its tasks.
    fn list(&mut self, head: Addr, debug: &AsyncioDebug) -> Result<(), ReadError> {
        let mut before = head;
        for _ in 0..=MAX_TASKS {
            let next = match self.python.memory.read_pointer(before) {
                Ok(next) => next,
                Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
                Err(_) => break,
            };
            // A head that was never used is null.
            if next == head || (next.is_null() && before == head) {
                return Ok(());
            }
            let Some(task) = next.0.checked_sub(debug.task_node) else { break };
            // Whoever is next knows who was before, unless the list changes.
            let back = self.python.memory.read_pointer(next.at(8));
            if back != Ok(before) || !self.take(Addr(task)) {
                break;
            }
            before = next;
        }
        self.found.truncated = true;
        Ok(())
    }

    /// Whether there is a task, which is then among those found.
    fn take(&mut self, task: Addr) -> bool {
        let Ok(kind) = self.python.objects().type_of(task) else { return false };
        if !self.classes.contains(&kind) {
            if !is_task(self.python, task) {
                return false;
            }
            self.classes.push(kind);
        }
        if self.found.tasks.len() >= MAX_TASKS {
            self.found.truncated = true;
        } else if self.seen.insert(task) {
            self.found.tasks.push(task);
        }
        true
    }
}
