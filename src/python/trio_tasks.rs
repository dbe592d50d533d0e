//! trio's tasks: those of one runner, in whose nursery each is, and for whom each waits.
//!
//! `Runner.tasks` is a set of all that are not over. A task keeps its coroutine, its name and the nurseries
//! that it has opened; a nursery its children, the task that opened it, and whether that waits at its end.
//! `Runner` and `Task` have slots, `Nursery` has none
//! (<https://github.com/python-trio/trio/blob/v0.27.0/src/trio/_core/_run.py#L1183>; the same names from
//! 0.15 on).

use super::Interpreter;
use super::coroutines::qualname;
use super::objects::Objects;
use super::task_lists::{MAX_TASKS, TaskList};
use super::tasks::TaskNames;
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// The class of a task, by the name in its type.
const CLASS: &str = "Task";
/// Most nurseries that one task has open: each is an `async with` of its chain.
const MAX_NURSERIES: usize = 64;

/// Where a task of trio keeps what is read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrioTasks {
    kind: Addr,
    coroutine: u64,
    name: u64,
    parent: u64,
    nurseries: u64,
}

/// One task, as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrioTask {
    /// What it is called.
    pub names: TaskNames,
    /// Its coroutine.
    pub coroutine: Addr,
    /// The task that opened the nursery it is in; the first of all has none.
    pub parent: Option<Addr>,
    /// The tasks for whose end it waits, at the end of a nursery of its own.
    pub waits_for: Vec<Addr>,
}

/// All tasks of the runner at `runner`, and how to read them; `None` where there is none, or of a trio
/// whose tasks have no slots.
///
/// # Errors
/// When the runner cannot be read.
pub fn tasks_of(
    python: &Interpreter<'_>,
    runner: Addr,
) -> Result<Option<(TrioTasks, TaskList)>, ReadError> {
    let objects = python.objects();
    let Some(set) = objects.slot(runner, "tasks")? else { return Ok(None) };
    let mut tasks = objects.set_items(set, MAX_TASKS)?;
    let truncated = objects.set_len(set)? > tasks.len();
    let layout = tasks.iter().find_map(|task| TrioTasks::like(python, *task).ok().flatten());
    let Some(layout) = layout else { return Ok(None) };
    tasks.retain(|task| layout.has(python, *task));
    Ok(Some((layout, TaskList { tasks, truncated })))
}

impl TrioTasks {
    /// As the task at `task` has it.
    fn like(python: &Interpreter<'_>, task: Addr) -> Result<Option<TrioTasks>, ReadError> {
        let objects = python.objects();
        if objects.type_name(task)? != CLASS {
            return Ok(None);
        }
        let mut places = [0; 4];
        let names = ["coro", "name", "_parent_nursery", "_child_nurseries"];
        for (place, name) in places.iter_mut().zip(names) {
            let Some(found) = objects.slot_place(task, name)? else { return Ok(None) };
            *place = found;
        }
        let [coroutine, name, parent, nurseries] = places;
        let kind = objects.type_of(task)?;
        Ok(Some(TrioTasks { kind, coroutine, name, parent, nurseries }))
    }

    /// Whether such a task is at `task`.
    #[must_use]
    pub fn has(&self, python: &Interpreter<'_>, task: Addr) -> bool {
        python.objects().type_of(task) == Ok(self.kind)
    }

    /// The coroutine of the task at `task`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn coroutine(&self, python: &Interpreter<'_>, task: Addr) -> Result<Addr, ReadError> {
        python.memory.read_pointer(task.at(self.coroutine))
    }

    /// The task at `task`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, python: &Interpreter<'_>, task: Addr) -> Result<TrioTask, ReadError> {
        let objects = python.objects();
        let [name, nursery, nurseries] =
            [self.name, self.parent, self.nurseries].map(|at| task.at(at));
        let [name, nursery, nurseries] =
            python.memory.read_words([name, nursery, nurseries])?.map(Addr);
        let coroutine = self.coroutine(python, task)?;
        let parent = match objects.type_name(nursery)?.as_str() {
            "NoneType" => None,
            _ => objects.attribute(nursery, "_parent_task")?,
        };
        let mut waits_for = Vec::new();
        for nursery in objects.list_items(nurseries, MAX_NURSERIES)? {
            waits_for.extend(awaited_in(&objects, nursery)?);
        }
        let names =
            TaskNames { task: objects.str(name).ok(), coroutine: qualname(python, coroutine).ok() };
        Ok(TrioTask { names, coroutine, parent, waits_for })
    }
}

/// The tasks in a nursery, if whoever opened it waits for their end.
fn awaited_in(objects: &Objects<'_>, nursery: Addr) -> Result<Vec<Addr>, ReadError> {
    let waits = objects.attribute(nursery, "_parent_waiting_in_aexit")?;
    if waits.map(|waits| objects.int(waits)).transpose()? != Some(1) {
        return Ok(Vec::new());
    }
    let children = objects.attribute(nursery, "_children")?;
    children.map_or(Ok(Vec::new()), |children| objects.set_items(children, MAX_TASKS))
}
