//! Tasks at one moment, asyncio's and trio's: what each of them does, where it waits, and who waits for it.
//!
//! Takes a process that is looked at once, gives [`SnapshotTask`]s. The process runs on meanwhile: a task
//! that changes while it is read is read again, and left out if it never holds still.

use std::collections::HashMap;

use super::snapshot::{frame, walk};
use super::task_greenlets::frames_of;
use super::thread_watch::{Scene, ThreadWatch};
use crate::event_loop::trio;
use crate::layout::AsyncioDebug;
use crate::model::{SnapshotTask, TaskState};
use crate::python::awaits::{Chain, Progress, chain};
use crate::python::frames::{RawFrame, RawStack, local};
use crate::python::loaded::module_value;
use crate::python::running_loop::RunningLoop;
use crate::python::task_lists::{MAX_TASKS, is_task, loop_of, tasks};
use crate::python::tasks::{TaskNames, names_of};
use crate::python::trio_tasks::{TrioTask, tasks_of};
use crate::sampler::pace::now;
use crate::target::{ReadError, RemoteMemoryExt, unless_over};
use crate::units::{Addr, Tid};

/// A task that changes is read so often before it is left out.
const TRIES: usize = 5;
/// Most tasks that one is said to wait for.
const MAX_AWAITED: usize = 1000;

/// Functions of asyncio that wait for tasks through a future of their own, which keeps no reference to
/// them: the file's end, the function, the variable that has the tasks, and the attribute of it, if any.
/// <https://github.com/python/cpython/blob/v3.12.1/Lib/asyncio/tasks.py#L534>, `wait_for` to 3.11, and
/// <https://github.com/python/cpython/blob/v3.12.1/Lib/asyncio/taskgroups.py#L69>.
const WAITERS: [(&str, &str, &str, Option<&str>); 4] = [
    ("asyncio/tasks.py", "_wait", "fs", None),
    ("asyncio/tasks.py", "wait_for", "fut", None),
    ("asyncio/taskgroups.py", "__aexit__", "self", Some("_tasks")),
    ("asyncio/taskgroups.py", "_aexit", "self", Some("_tasks")),
];

/// All tasks of a process that are not over.
#[derive(Debug, Default)]
pub(super) struct WaitingTasks {
    pub(super) tasks: Vec<SnapshotTask>,
    /// Whether there are more.
    pub(super) truncated: bool,
}

/// Looks at every task once.
///
/// # Errors
/// Only [`ReadError::Gone`] and [`ReadError::Denied`].
pub(super) fn waiting_tasks(
    scene: &mut Scene<'_>,
    threads: &mut [ThreadWatch],
    locals: bool,
) -> Result<WaitingTasks, ReadError> {
    let mut found = asyncios(scene, threads, locals)?;
    for (runner, tid) in runners(scene, threads)? {
        let trios = trios(scene, (runner, tid), locals)?;
        found.truncated |= trios.truncated;
        found.tasks.extend(trios.tasks);
    }
    link(&mut found.tasks);
    Ok(found)
}

/// asyncio's.
fn asyncios(
    scene: &mut Scene<'_>,
    threads: &[ThreadWatch],
    locals: bool,
) -> Result<WaitingTasks, ReadError> {
    let python = scene.python;
    let debug = scene.asyncio.debug(&python, scene.space.modules()).copied();
    let states: Vec<_> = threads.iter().map(|thread| thread.thread).collect();
    let list = unless_over(tasks(&python, &states, debug.as_ref()))?.unwrap_or_default();
    let loops = loops(scene, threads, debug.as_ref());
    let mut found = Vec::new();
    for task in list.tasks {
        let Some(Still { names, event_loop, chain }) = hold_still(scene, task)? else { continue };
        meet(scene, &chain, false);
        let awaited = awaited(scene, &chain);
        let thread = loops.get(&event_loop).copied();
        let shown = shown(scene, ("asyncio", task, names), thread, &chain, locals);
        found.extend(shown.map(|mut shown| {
            shown.awaits_tasks = awaited.into_iter().map(id).collect();
            shown
        }));
    }
    Ok(WaitingTasks { tasks: found, truncated: list.truncated })
}

/// Most tasks that are asked what they wait for while a process is watched: where many wait for one pool, one
/// of these does.
const ASKED: usize = 64;

/// Has the pools met that asyncio's tasks wait for, of the first [`ASKED`].
///
/// # Errors
/// Only [`ReadError::Gone`] and [`ReadError::Denied`].
pub(super) fn meet_pools(scene: &mut Scene<'_>, threads: &[ThreadWatch]) -> Result<(), ReadError> {
    let python = scene.python;
    let debug = scene.asyncio.debug(&python, scene.space.modules()).copied();
    let states: Vec<_> = threads.iter().map(|thread| thread.thread).collect();
    let list = unless_over(tasks(&python, &states, debug.as_ref()))?.unwrap_or_default();
    for task in list.tasks.into_iter().take(ASKED) {
        let coroutine = task.at(python.layout.offsets.asyncio.task_coro);
        let read = python.memory.read_pointer(coroutine).and_then(|one| chain(&python, one));
        if let Some(chain) = unless_over(read)? {
            meet(scene, &chain, true);
        }
    }
    Ok(())
}

/// Has the pool met that a suspended task waits for; `noted` writes down where.
fn meet(scene: &mut Scene<'_>, chain: &Chain, noted: bool) {
    if chain.progress != Progress::Suspended {
        return;
    }
    let frames = frames_of(scene, chain);
    let Scene { python, codes, awaited, notes, directory, .. } = scene;
    let Some(place) = awaited.meet(python, codes, &frames, None, now()) else { return };
    if noted {
        let stack = RawStack { frames, truncated: None };
        *place = Some(notes.stack(python, codes, directory, &stack, now()));
    }
}

/// Those of one runner of trio's.
fn trios(
    scene: &mut Scene<'_>,
    (runner, tid): (Addr, Tid),
    locals: bool,
) -> Result<WaitingTasks, ReadError> {
    let python = scene.python;
    let list = unless_over(tasks_of(&python, runner))?.flatten();
    let Some((kept, list)) = list else { return Ok(WaitingTasks::default()) };
    let mut found = Vec::new();
    for task in list.tasks {
        let still = twice_the_same(|| {
            let of = kept.read(&python, task)?;
            let chain = chain(&python, of.coroutine)?;
            Ok((of, chain))
        })?;
        let Some((TrioTask { names, parent, waits_for, .. }, chain)) =
            still.filter(|_| kept.has(&python, task))
        else {
            continue;
        };
        let shown = shown(scene, ("trio", task, names), Some(tid), &chain, locals);
        found.extend(shown.map(|mut shown| {
            shown.awaits_tasks = waits_for.into_iter().map(id).collect();
            shown.nursery_of = parent.map(id);
            shown
        }));
    }
    Ok(WaitingTasks { tasks: found, truncated: list.truncated })
}

/// A task for people; `None` if it is over.
fn shown(
    scene: &mut Scene<'_>,
    (library, task, names): (&'static str, Addr, TaskNames),
    thread: Option<Tid>,
    chain: &Chain,
    locals: bool,
) -> Option<SnapshotTask> {
    let state = match chain.progress {
        Progress::Created => TaskState::NotStarted,
        Progress::Suspended => TaskState::Waiting,
        Progress::Running => TaskState::Running,
        Progress::Finished => return None,
    };
    let awaits = chain.awaited.and_then(|object| scene.python.objects().type_name(object).ok());
    // What a running task does is in its thread's stack.
    let raw = if state == TaskState::Running { &[][..] } else { &chain.frames };
    Some(SnapshotTask {
        library,
        id: id(task),
        name: names.task,
        coroutine: names.coroutine,
        thread,
        state,
        awaits,
        awaits_tasks: Vec::new(),
        awaited_by: Vec::new(),
        nursery_of: None,
        frames: raw.iter().rev().filter_map(|raw| frame(scene, raw, locals)).collect(),
        truncated: chain.truncated,
    })
}

/// The runners of trio's loops, and the threads that run them.
fn runners(
    scene: &mut Scene<'_>,
    threads: &mut [ThreadWatch],
) -> Result<Vec<(Addr, Tid)>, ReadError> {
    let mut found = Vec::new();
    // Walking every stack is for processes that have such a loop.
    if unless_over(module_value(&scene.python, "trio", "run"))?.flatten().is_none() {
        return Ok(found);
    }
    for thread in threads {
        let stack = walk(scene, thread)?;
        let runner = trio::runner(&mut thread.sight(scene, &stack, now()));
        found.extend(runner.map(|runner| (runner, thread.tid)));
    }
    Ok(found)
}

/// How many tasks wait or have not begun, of asyncio's and of trio's with these `loops`; `None` where they
/// cannot be read.
pub(super) fn count_waiting(
    scene: &mut Scene<'_>,
    threads: &[ThreadWatch],
    loops: &[Addr],
) -> Option<usize> {
    let python = scene.python;
    let debug = scene.asyncio.debug(&python, scene.space.modules()).copied();
    let states: Vec<_> = threads.iter().map(|thread| thread.thread).collect();
    let list = tasks(&python, &states, debug.as_ref()).ok()?;
    let coroutine = python.layout.offsets.asyncio.task_coro;
    let waits = |coroutine: Result<Addr, ReadError>| {
        let read = coroutine.and_then(|coroutine| chain(&python, coroutine));
        read.is_ok_and(|chain| matches!(chain.progress, Progress::Suspended | Progress::Created))
    };
    let asyncios = list.tasks.iter().map(|task| python.memory.read_pointer(task.at(coroutine)));
    let mut count = asyncios.filter(|read| waits(*read)).count();
    for event_loop in loops {
        let Ok(Some((kept, list))) = tasks_of(&python, *event_loop) else { continue };
        let trios = list.tasks.iter().map(|task| kept.coroutine(&python, *task));
        count = count.saturating_add(trios.filter(|read| waits(*read)).count());
    }
    Some(count)
}

/// A task as others are told of it: its address, which is `id(task)`.
fn id(task: Addr) -> String {
    format!("{:#x}", task.0)
}

/// Keeps of what tasks wait for those that are not over, and says to each who waits for it.
fn link(tasks: &mut [SnapshotTask]) {
    let places: HashMap<String, usize> =
        tasks.iter().enumerate().map(|(place, task)| (task.id.clone(), place)).collect();
    let mut waits = Vec::new();
    for task in tasks.iter_mut() {
        task.awaits_tasks.retain(|other| places.contains_key(other) && *other != task.id);
        waits.extend(task.awaits_tasks.iter().map(|other| (other.clone(), task.id.clone())));
    }
    for (awaited, by) in waits {
        if let Some(task) = places.get(&awaited).and_then(|place| tasks.get_mut(*place)) {
            task.awaited_by.push(by);
        }
    }
}

/// Which thread runs which loop.
fn loops(
    scene: &Scene<'_>,
    threads: &[ThreadWatch],
    debug: Option<&AsyncioDebug>,
) -> HashMap<Addr, Tid> {
    let running = |thread: &ThreadWatch| {
        let running = RunningLoop::of(&scene.python, &thread.thread, debug).ok()??;
        Some((running.object, thread.tid))
    };
    threads.iter().filter_map(running).collect()
}

/// What must stay the same while a task is read.
#[derive(Debug, PartialEq)]
struct Still {
    names: TaskNames,
    event_loop: Addr,
    chain: Chain,
}

/// A task as it was read twice in a row the same; `None` if it never is, or is a task no more.
fn hold_still(scene: &Scene<'_>, task: Addr) -> Result<Option<Still>, ReadError> {
    let python = &scene.python;
    let coroutine = task.at(python.layout.offsets.asyncio.task_coro);
    let still = twice_the_same(|| {
        let chain = chain(python, python.memory.read_pointer(coroutine)?)?;
        Ok(Still { names: names_of(python, task), event_loop: loop_of(python, task)?, chain })
    })?;
    // Freed objects keep what they had for a while, but not their place in a list.
    Ok(still.filter(|still| still.names.coroutine.is_some() && is_task(python, task)))
}

/// What was read twice in a row the same; `None` if it never is.
fn twice_the_same<T: PartialEq>(
    read: impl Fn() -> Result<T, ReadError>,
) -> Result<Option<T>, ReadError> {
    let mut last = None;
    for _ in 0..TRIES {
        let now = unless_over(read())?;
        if now.is_some() && now == last {
            return Ok(now);
        }
        last = now;
    }
    Ok(None)
}

/// The tasks that a chain waits for, as far as memory tells.
fn awaited(scene: &mut Scene<'_>, chain: &Chain) -> Vec<Addr> {
    let python = scene.python;
    let objects = python.objects();
    let mut found = Vec::new();
    if let Some(object) = chain.awaited {
        if is_task(&python, object) {
            found.push(object);
        } else if let Ok(Some(children)) = objects.attribute(object, "_children") {
            // `asyncio.gather`'s future.
            found.extend(objects.list_items(children, MAX_AWAITED).unwrap_or_default());
        }
    }
    if let Some(last) = chain.frames.last()
        && found.is_empty()
    {
        found = of_waiter(scene, last).unwrap_or_default();
    }
    found.truncate(MAX_AWAITED);
    found
}

/// The tasks that a function of asyncio waits for.
fn of_waiter(scene: &mut Scene<'_>, raw: &RawFrame) -> Option<Vec<Addr>> {
    let python = scene.python;
    let code = scene.codes.get(&python, raw.code, now()).ok()?;
    let (_, _, variable, attribute) = WAITERS
        .iter()
        .find(|(file, function, ..)| code.name == *function && code.filename.ends_with(file))?;
    let value = local(&python, raw.addr, code.local_index(variable)?).ok()?;
    let objects = python.objects();
    let held = match attribute {
        Some(attribute) => objects.member(value, attribute).ok()??,
        None => value,
    };
    if is_task(&python, held) {
        return Some(vec![held]);
    }
    objects.set_items(held, MAX_TASKS).ok()
}
