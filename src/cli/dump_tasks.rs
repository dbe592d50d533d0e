//! How `stallspy dump` shows tasks: each with where it waits, those that wait alike together.

use std::collections::HashMap;
use std::io::Write;

use super::dump::frame_line;
use crate::model::{SnapshotFrame, SnapshotTask, TaskState};
use crate::printable::printable;

/// Most tasks that are named in one line.
const MAX_NAMES: usize = 8;

/// Writes a section for the tasks of each library, if there are any.
pub(super) fn tasks(
    out: &mut dyn Write,
    tasks: &[SnapshotTask],
    truncated: bool,
) -> std::io::Result<()> {
    let names: HashMap<&str, &str> = tasks.iter().map(|task| (&*task.id, name(task))).collect();
    let mut libraries: Vec<&str> = tasks.iter().map(|task| task.library).collect();
    libraries.sort_unstable();
    libraries.dedup();
    for library in libraries {
        let own: Vec<_> = tasks.iter().filter(|task| task.library == library).collect();
        let count = |state| own.iter().filter(|task| task.state == state).count();
        let (waiting, new) = (count(TaskState::Waiting), count(TaskState::NotStarted));
        write!(out, "\nTasks of {library}: {waiting} waiting")?;
        for (number, what) in [(count(TaskState::Running), "running"), (new, "not started")] {
            if number > 0 {
                write!(out, ", {number} {what}")?;
            }
        }
        writeln!(out, "{}", if truncated { "; there are more" } else { "" })?;
        for alike in alike(own) {
            together(out, &alike, &names)?;
        }
    }
    Ok(())
}

/// Writes tasks that wait alike.
fn together(
    out: &mut dyn Write,
    alike: &[&SnapshotTask],
    names: &HashMap<&str, &str>,
) -> std::io::Result<()> {
    let Some(first) = alike.first() else { return Ok(()) };
    let list = |ids: &[String]| {
        let known = ids.iter().take(MAX_NAMES);
        let known: Vec<_> =
            known.map(|id| printable(names.get(&**id).copied().unwrap_or(id))).collect();
        let more = ids.len().saturating_sub(MAX_NAMES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", known.join(", "))
    };
    let ids: Vec<String> = alike.iter().map(|task| task.id.clone()).collect();
    let coroutine = first.coroutine.as_deref().map(|name| format!(" ({})", printable(name)));
    let thread = first.thread.map_or(String::new(), |tid| format!(" of thread {tid}"));
    let doing = match first.state {
        TaskState::NotStarted => "has not started".to_owned(),
        TaskState::Running => "runs".to_owned(),
        TaskState::Waiting if !first.awaits_tasks.is_empty() => {
            format!("waits for {}", list(&first.awaits_tasks))
        }
        TaskState::Waiting => match &first.awaits {
            Some(kind) => format!("waits for a {}", printable(bare(kind))),
            None => "waits".to_owned(),
        },
    };
    let by = match (first.awaited_by.as_slice(), &first.nursery_of) {
        ([], Some(parent)) => format!(", in a nursery of {}", list(std::slice::from_ref(parent))),
        ([], None) => String::new(),
        (by, _) => format!(", awaited by {}", list(by)),
    };
    let coroutine = coroutine.unwrap_or_default();
    writeln!(out, "\n{}{coroutine}{thread}: {doing}{by}", list(&ids))?;
    for frame in &first.frames {
        frame_line(out, frame)?;
    }
    if first.truncated {
        writeln!(out, "    (deeper awaits could not be read)")?;
    }
    Ok(())
}

fn name(task: &SnapshotTask) -> &str {
    task.name.as_deref().unwrap_or(&task.id)
}

/// `Future` of `_asyncio.Future`.
fn bare(kind: &str) -> &str {
    kind.rsplit('.').next().unwrap_or(kind)
}

/// Tasks that differ in their names only, in the order of the first of each.
fn alike(tasks: Vec<&SnapshotTask>) -> Vec<Vec<&SnapshotTask>> {
    grouped(tasks, |task| {
        let SnapshotTask { coroutine, thread, state, awaits, awaits_tasks, awaited_by, .. } = task;
        let (lines, nursery_of) = (lines(&task.frames), &task.nursery_of);
        format!(
            "{coroutine:?} {thread:?} {state:?} {awaits:?} {awaits_tasks:?} {awaited_by:?} \
             {nursery_of:?} {lines}"
        )
    })
}

/// Where frames are, as a key.
pub(super) fn lines(frames: &[SnapshotFrame]) -> String {
    let line = |frame: &SnapshotFrame| {
        format!("{} {} {:?} {:?}", frame.file, frame.function, frame.line, frame.locals)
    };
    frames.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Those with the same key together, in the order of the first of each.
pub(super) fn grouped<'a, T>(
    all: impl IntoIterator<Item = &'a T>,
    key: impl Fn(&T) -> String,
) -> Vec<Vec<&'a T>> {
    let mut groups: Vec<Vec<&T>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for one in all {
        let key = key(one);
        match places.get(&key).and_then(|place| groups.get_mut(*place)) {
            Some(group) => group.push(one),
            None => {
                places.insert(key, groups.len());
                groups.push(vec![one]);
            }
        }
    }
    groups
}
