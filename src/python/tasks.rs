//! asyncio's tasks: which one a thread runs, and what a task is called.
//!
//! To 3.13 asyncio keeps the running tasks in a dict by loop, from 3.14 on each thread keeps its own.

use super::Interpreter;
use super::coroutines::qualname;
use super::loaded::module_value;
use super::threads::Thread;
use crate::layout::AsyncioDebug;
use crate::layout::shape::RunningLoop as Kept;
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// Most loops that have a running task at once: one a thread.
const MAX_LOOPS: usize = 4096;

/// What a task is called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskNames {
    /// The task's name, `Task-12`.
    pub task: Option<String>,
    /// Its coroutine's qualified name.
    pub coroutine: Option<String>,
}

/// Where the running task of one loop is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunningTask {
    /// In a dict, under the loop.
    Dict {
        /// `asyncio.tasks._current_tasks`.
        dict: Addr,
        /// The loop object.
        of: Addr,
    },
    /// In a word of the thread's state.
    Word(Addr),
}

impl RunningTask {
    /// Where the running task of the loop object `of`, run by `thread`, will be found. `None` if
    /// asyncio does not keep it where it should.
    ///
    /// # Errors
    /// When the interpreter's tables cannot be read.
    pub fn of(
        python: &Interpreter<'_>,
        thread: &Thread,
        of: Addr,
        debug: Option<&AsyncioDebug>,
    ) -> Result<Option<RunningTask>, ReadError> {
        match python.layout.shape.running_loop {
            Kept::ThreadDict | Kept::AfterThreadState => {
                let dict = module_value(python, "asyncio.tasks", "_current_tasks")?;
                Ok(dict.map(|dict| RunningTask::Dict { dict, of }))
            }
            Kept::DebugSection => {
                Ok(debug.map(|debug| RunningTask::Word(thread.state.at(debug.running_task))))
            }
        }
    }

    /// The task; `None` between two tasks, and while the loop runs something else.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, python: &Interpreter<'_>) -> Result<Option<Addr>, ReadError> {
        let task = match self {
            RunningTask::Dict { dict, of } => {
                let items = python.objects().dict_items(*dict, MAX_LOOPS)?;
                items.into_iter().find(|(key, _)| key == of).map(|(_, task)| task)
            }
            RunningTask::Word(word) => Some(python.memory.read_pointer(*word)?),
        };
        Ok(task.filter(|task| task.is_plausible()))
    }

    /// A word that is another one whenever another task runs.
    #[must_use]
    pub fn mark(&self, python: &Interpreter<'_>) -> Addr {
        match self {
            // `ma_version_tag`, which lies between these (Include/cpython/dictobject.h), to 3.13.
            RunningTask::Dict { dict, .. } => {
                dict.at(python.layout.offsets.object.dict_used.wrapping_add(8))
            }
            RunningTask::Word(word) => *word,
        }
    }
}

/// What a task of the C implementation is called.
#[must_use]
pub fn names_of(python: &Interpreter<'_>, task: Addr) -> TaskNames {
    let offsets = &python.layout.offsets.asyncio;
    let objects = python.objects();
    let name = python.memory.read_pointer(task.at(offsets.task_name)).ok();
    // From 3.12 on an unnamed task keeps only its number, an int, until its name is asked for.
    let task_name = name.and_then(|name| match objects.type_name(name).ok()?.as_str() {
        "str" => objects.str(name).ok(),
        "int" => objects.int(name).ok().map(|number| format!("Task-{number}")),
        _ => None,
    });
    let coroutine = python.memory.read_pointer(task.at(offsets.task_coro));
    let coroutine = coroutine.and_then(|coroutine| qualname(python, coroutine));
    TaskNames { task: task_name, coroutine: coroutine.ok() }
}
