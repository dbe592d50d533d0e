//! hypercorn: a master with spawned workers on asyncio, uvloop or trio; with `-w 0`, or one worker
//! before 0.15, one process.
//!
//! Recognised by frames: the worker functions are under everything that a worker does.
//! <https://github.com/pgjones/hypercorn/blob/0.17.3/src/hypercorn/run.py>; the same names from 0.13 on.

use super::facts::{is_spawned, program};
use super::fork::{Side, is_child, side};
use super::settings::plain;
use super::{Facts, Probe, Recognised};
use crate::model::{Role, SettingValue, WorkerClass};
use crate::python::coroutines::frame_of;
use crate::python::frames::local;
use crate::units::Addr;

const RUN: &str = "/hypercorn/run.py";
/// Where workers begin: file and function, and the class.
const WORKERS: [(&str, &str, WorkerClass); 3] = [
    ("/hypercorn/asyncio/run.py", "asyncio_worker", WorkerClass::Asyncio),
    ("/hypercorn/asyncio/run.py", "uvloop_worker", WorkerClass::Uvloop),
    ("/hypercorn/trio/run.py", "trio_worker", WorkerClass::Trio),
];
/// Where a master starts its workers and waits for them; a reloader waits in a function of hypercorn's own.
const KEEPS: &str = "/multiprocessing/";
const RELOADS: &str = "wait_for_changes";
/// The class of what counts requests, and how many local variables of `worker_serve` are looked at to find it; it
/// has some 30.
const CONTEXT: &str = "WorkerContext";
const SERVE_LOCALS: usize = 48;

/// The probe for hypercorn.
#[derive(Debug, Clone, Copy)]
pub struct Hypercorn;

impl Probe for Hypercorn {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        let worker = WORKERS.iter().find_map(|(file, function, class)| {
            facts.frame(file, function).map(|place| (place, *class))
        });
        let mut found = if let Some((place, class)) = worker {
            let role = if is_child(facts) { Role::Worker } else { Role::Single };
            let mut found = of(facts, role, class);
            found.objects.config = facts.object(place, "config");
            let counts = found.objects.config.is_some_and(|config| counts_requests(facts, config));
            // On asyncio, it is there once the application has begun.
            if counts && class != WorkerClass::Trio {
                found.objects.context = context(facts);
                found.is_settled = found.objects.context.is_some();
            }
            found
        } else if let Some(side) =
            side(facts, |place| place.is(RUN, "run_multiple") || place.is(RUN, "run"))
        {
            by_side(facts, side)
        } else {
            by_command(facts)?
        };
        found.topology.class_version = match found.topology.class {
            WorkerClass::Uvloop => facts.version("uvloop"),
            WorkerClass::Trio => facts.version("trio"),
            _ => None,
        };
        Some(found)
    }
}

/// In `run`, or below it: a master, a worker that it forked (before 0.15), or neither yet.
fn by_side(facts: &Facts<'_>, side: Side<'_>) -> Recognised {
    let (Side::Parent(place) | Side::Either(place)) = side else {
        let class = class_of(facts, None);
        return of(facts, Role::Worker, class).unsettled();
    };
    let config = facts.object(place, "config");
    let mut found = of(facts, Role::Master, class_of(facts, config));
    found.objects.config = config;
    // It imports what its workers run, or runs that itself if there are to be none: not yet known.
    let mut frames = facts.stacks.iter().flatten();
    let keeps = frames.any(|at| at.file.contains(KEEPS) || at.is(RUN, RELOADS));
    found.is_settled = keeps && matches!(side, Side::Parent(_));
    found
}

fn of(facts: &Facts<'_>, role: Role, class: WorkerClass) -> Recognised {
    Recognised::new("hypercorn", facts.version("hypercorn"), role, class)
}

/// Whether it counts requests: only where it is to end a worker after so many.
fn counts_requests(facts: &Facts<'_>, config: Addr) -> bool {
    let Some(python) = facts.python else { return false };
    // An attribute of the class until somebody sets it.
    let value = facts.attribute(config, "max_requests");
    value.is_some_and(|value| matches!(plain(python, value), Some(SettingValue::Number(_))))
}

/// The `WorkerContext` in `worker_serve`, the coroutine that the worker's loop runs: the parameter of
/// `Runner.run`
/// (<https://github.com/pgjones/hypercorn/blob/0.17.3/src/hypercorn/asyncio/run.py#L101>).
fn context(facts: &Facts<'_>) -> Option<Addr> {
    let python = facts.python?;
    let objects = python.objects();
    let contents = |value: Addr| match objects.type_name(value).ok()?.as_str() {
        // A function inside it uses it as well.
        "cell" => objects.cell_contents(value).ok(),
        _ => Some(value),
    };
    let is_context = |addr: &Addr| objects.type_name(*addr).is_ok_and(|name| name == CONTEXT);
    facts.stacks.iter().flatten().find_map(|place| {
        let frame = frame_of(python, facts.object(place, "coro")?).ok()?;
        let values = (0..SERVE_LOCALS).filter_map(|index| local(python, frame, index).ok());
        values.filter_map(contents).find(is_context)
    })
}

/// `Config.worker_class`, which is an attribute of the class until somebody sets it.
fn class_of(facts: &Facts<'_>, config: Option<Addr>) -> WorkerClass {
    let name = config.and_then(|config| {
        let own = facts.attribute(config, "worker_class");
        let objects = facts.python?.objects();
        let value = own.or_else(|| objects.class_attribute(config, "worker_class").ok()?)?;
        objects.str(value).ok()
    });
    name.and_then(|name| named(&name)).unwrap_or(WorkerClass::Asyncio)
}

fn named(name: &str) -> Option<WorkerClass> {
    Some(match name {
        "asyncio" => WorkerClass::Asyncio,
        "uvloop" => WorkerClass::Uvloop,
        "trio" => WorkerClass::Trio,
        _ => return None,
    })
}

fn by_command(facts: &Facts<'_>) -> Option<Recognised> {
    let is_child = is_spawned(facts.command) && program(facts.parent) == Some("hypercorn");
    let (role, options) = if is_child {
        (Role::Worker, facts.parent)
    } else if facts.runs("hypercorn") {
        (Role::Master, facts.command)
    } else if facts.has_file("/hypercorn/asyncio/run.py")
        || facts.has_file("/hypercorn/trio/run.py")
    {
        // `hypercorn.asyncio.serve()` in a program of its own: a coroutine, seen while it runs.
        (Role::Single, facts.command)
    } else {
        return None;
    };
    let class = options
        .windows(2)
        .find(|pair| matches!(pair, [option, _] if option == "-k" || option == "--worker-class"))
        .and_then(|pair| named(pair.last()?));
    Some(of(facts, role, class.unwrap_or(WorkerClass::Asyncio)).unsettled())
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    fn ask(command: &str, parent: &str, stack: &[&str]) -> Option<(Role, WorkerClass, bool)> {
        let found = with(command, parent, stack, |facts| Hypercorn.recognise(facts))?;
        Some((found.topology.role, found.topology.class, found.is_settled))
    }

    #[test]
    fn a_master_a_worker_and_a_single_process() {
        let master = ["../multiprocessing/connection.py:wait", "hypercorn/run.py:run"];
        assert_eq!(
            ask("python x.py", "", &master),
            Some((Role::Master, WorkerClass::Asyncio, true))
        );
        let importing = ["hypercorn/asyncio/run.py:<module>", "hypercorn/run.py:run"];
        let unsettled = |role| Some((role, WorkerClass::Asyncio, false));
        assert_eq!(ask("python x.py", "", &importing), unsettled(Role::Master));
        let forking = [
            "../multiprocessing/popen_fork.py:_launch",
            "hypercorn/run.py:run_multiple",
            "hypercorn/run.py:run",
        ];
        assert_eq!(ask("python x.py", "", &forking), unsettled(Role::Master));
        let forked = [&["../multiprocessing/process.py:_bootstrap"], &forking[..]].concat();
        assert_eq!(ask("python x.py", "", &forked), unsettled(Role::Worker));
        let worker = [
            "hypercorn/asyncio/run.py:_run",
            "hypercorn/asyncio/run.py:uvloop_worker",
            "../multiprocessing/process.py:_bootstrap",
        ];
        assert_eq!(
            ask("python x.py", "", &worker),
            Some((Role::Worker, WorkerClass::Uvloop, true))
        );
        let single =
            ["trio/_core/_run.py:run", "hypercorn/trio/run.py:trio_worker", "hypercorn/run.py:run"];
        assert_eq!(ask("python x.py", "", &single), Some((Role::Single, WorkerClass::Trio, true)));
    }

    #[test]
    fn its_command_line_is_enough_while_it_starts() {
        let found = ask("python /venv/bin/hypercorn -k trio app:app", "bash", &[]);
        assert_eq!(found, Some((Role::Master, WorkerClass::Trio, false)));
        assert_eq!(ask("python tail.py hypercorn", "bash", &[]), None);
    }
}
