//! Sanic's own server: a manager with spawned or forked workers, or one process (`single_process=True`).
//!
//! Recognised by frames: `worker_serve` is under everything that a worker does, `WorkerManager.run`
//! under the manager's; before 22.9 `serve` and `serve_multiple`. A spawned child that still imports
//! the application is told by the name that the manager put into its environment. The reloader and
//! the inspector are children of the manager as well, and serve nobody.
//! <https://github.com/sanic-org/sanic/blob/v23.12.0/sanic/worker/manager.py>,
//! <https://github.com/sanic-org/sanic/blob/v21.12.0/sanic/server/runners.py>

use super::{Facts, Place, Probe, Recognised};
use crate::model::{Role, WorkerClass};
use crate::units::Addr;

/// Where a process begins that serves; the newest first.
const SERVING: [(&str, &str); 4] = [
    ("/sanic/worker/serve.py", "worker_serve"),
    ("/sanic/server/runners.py", "_serve_http_1"),
    ("/sanic/server/runners.py", "serve"),
    ("/sanic/server.py", "serve"),
];
/// Where a manager waits for its workers.
const MANAGING: [(&str, &str); 4] = [
    ("/sanic/worker/manager.py", "run"),
    ("/sanic/mixins/startup.py", "serve"),
    ("/sanic/server/runners.py", "serve_multiple"),
    ("/sanic/server.py", "serve_multiple"),
];
/// What its other children run; the inspector is an application of Sanic's own.
const KEEPING_HOUSE: [(&str, &str); 2] =
    [("/sanic/worker/reloader.py", "__call__"), ("/sanic/worker/inspector.py", "__call__")];
/// Where `multiprocessing`'s children begin.
const CHILD: (&str, &str) = ("/multiprocessing/process.py", "_bootstrap");
/// The file of Sanic's protocol: an application with a loop of its own (`create_server()`) serves
/// by it.
const PROTOCOL: &str = "/sanic/server/protocols/http_protocol.py";

/// The variable by which a manager names its children (from 22.9 on), and how its workers' names
/// begin.
const NAME: &str = "SANIC_WORKER_NAME";
const WORKER: &str = "Sanic-Server-";

/// The probe for Sanic.
#[derive(Debug, Clone, Copy)]
pub struct Sanic;

impl Probe for Sanic {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        if any(facts, &KEEPING_HOUSE).is_some() {
            return Some(of(facts, Role::Worker, WorkerClass::Unknown).that_keeps_house());
        }
        let mut found = if let Some(place) = any(facts, &SERVING) {
            let is_child = facts.frame(CHILD.0, CHILD.1).is_some();
            let role = if is_child { Role::Worker } else { Role::Single };
            let mut found = of(facts, role, class_of(facts, facts.object(place, "loop")));
            found.objects.config = facts.object(place, "app");
            // Its loop and its application are known once they are made.
            found.is_settled = found.objects.config.is_some();
            found
        } else if let Some(place) = any(facts, &MANAGING) {
            let main = facts.frame(MANAGING[1].0, MANAGING[1].1);
            let of_main = |name| main.and_then(|main| facts.object(main, name));
            let mut found = of(facts, Role::Master, class_of(facts, of_main("loop")));
            found.objects.config = of_main("primary").or_else(|| facts.object(place, "app"));
            // What it starts before it manages is not known to be a worker.
            found.is_settled = place.function != MANAGING[1].1;
            found
        } else {
            by_command(facts)?
        };
        let state = || facts.member(found.objects.config?, "_state");
        found.topology.development |= state()
            .and_then(|state| facts.attribute(state, "auto_reload"))
            .is_some_and(|value| facts.is_true(value));
        if found.topology.class == WorkerClass::Uvloop {
            found.topology.class_version = facts.version("uvloop");
        }
        Some(found)
    }
}

fn any<'a>(facts: &Facts<'a>, places: &[(&str, &str)]) -> Option<&'a Place> {
    places.iter().find_map(|(file, function)| facts.frame(file, function))
}

fn of(facts: &Facts<'_>, role: Role, class: WorkerClass) -> Recognised {
    Recognised::new("sanic", facts.version("sanic"), role, class)
}

/// By the class of the loop. A manager makes one, too, of the kind its workers run.
fn class_of(facts: &Facts<'_>, running: Option<Addr>) -> WorkerClass {
    match running.and_then(|one| facts.type_name(one)).as_deref() {
        // `uvloop.Loop`; all of asyncio's have longer names.
        Some("Loop") => WorkerClass::Uvloop,
        _ => WorkerClass::Asyncio,
    }
}

/// While it starts, or where its frames are out of sight.
fn by_command(facts: &Facts<'_>) -> Option<Recognised> {
    let names = facts.procfs.variables(facts.pid, &[NAME]);
    if let Some((_, name)) = names.first().filter(|_| facts.is_spawned()) {
        let found = of(facts, Role::Worker, WorkerClass::Asyncio).unsettled();
        return Some(if name.starts_with(WORKER) { found } else { found.that_keeps_house() });
    }
    let role = if facts.runs("sanic") {
        let is_alone = facts.command.iter().any(|word| word == "--single-process");
        if is_alone { Role::Single } else { Role::Master }
    } else if facts.has_file(PROTOCOL) {
        Role::Single
    } else {
        return None;
    };
    let mut found = of(facts, role, WorkerClass::Asyncio).unsettled();
    found.topology.development = facts.runs("sanic")
        && facts.command.iter().any(|word| {
            matches!(word.as_str(), "-r" | "--reload" | "--auto-reload" | "-d" | "--dev")
        });
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    fn ask(command: &str, parent: &str, stack: &[&str]) -> Option<(Role, bool, bool)> {
        let found = with(command, parent, stack, |facts| Sanic.recognise(facts))?;
        assert_eq!(found.topology.server, "sanic");
        Some((found.topology.role, found.is_settled, found.keeps_house))
    }

    const SPAWNED: &str = "python -c from_multiprocessing.spawn --multiprocessing-fork";

    #[test]
    fn a_manager_its_workers_and_a_single_process() {
        let startup = "sanic/mixins/startup.py:serve";
        let managing = ["sanic/worker/manager.py:monitor", "sanic/worker/manager.py:run", startup];
        assert_eq!(ask("python x.py", "bash", &managing), Some((Role::Master, true, false)));
        assert_eq!(ask("python x.py", "bash", &[startup]), Some((Role::Master, false, false)));
        let serving = [
            "sanic/server/runners.py:_serve_http_1",
            "sanic/worker/serve.py:worker_serve",
            "../multiprocessing/process.py:_bootstrap",
        ];
        let (role, _, keeps_house) = ask(SPAWNED, "python x.py", &serving).unwrap();
        assert_eq!((role, keeps_house), (Role::Worker, false));
        // A forked one has the frames of its manager below its own.
        let forked = [&serving[..], &managing[1..]].concat();
        assert_eq!(ask("python x.py", "python x.py", &forked).unwrap().0, Role::Worker);
        let single = ["sanic/worker/serve.py:worker_serve", "sanic/mixins/startup.py:serve_single"];
        assert_eq!(ask("python x.py", "bash", &single).unwrap().0, Role::Single);
    }

    #[test]
    fn older_ones() {
        for file in ["sanic/server.py", "sanic/server/runners.py"] {
            let manager = format!("{file}:serve_multiple");
            let stack = ["../multiprocessing/popen_fork.py:wait", &manager];
            assert_eq!(ask("python x.py", "bash", &stack), Some((Role::Master, true, false)));
            let serve = format!("{file}:serve");
            let stack = [&serve, "../multiprocessing/process.py:_bootstrap", manager.as_str()];
            assert_eq!(ask("python x.py", "python x.py", &stack).unwrap().0, Role::Worker);
        }
    }

    #[test]
    fn a_reloader_and_an_inspector_serve_nobody() {
        for file in ["reloader", "inspector"] {
            let stack = [
                "sanic/worker/serve.py:worker_serve".to_owned(),
                format!("sanic/worker/{file}.py:__call__"),
                "../multiprocessing/process.py:_bootstrap".to_owned(),
            ];
            let stack: Vec<&str> = stack.iter().map(String::as_str).collect();
            assert_eq!(ask(SPAWNED, "python x.py", &stack).map(|one| one.2), Some(true));
        }
    }

    #[test]
    fn its_command_line_is_enough_while_it_starts() {
        let found = ask("python /venv/bin/sanic app:app", "bash", &[]);
        assert_eq!(found, Some((Role::Master, false, false)));
        let found = ask("python -m sanic app:app --single-process", "bash", &[]);
        assert_eq!(found, Some((Role::Single, false, false)));
        assert_eq!(ask("python tail.py sanic", "bash", &[]), None);
        assert_eq!(ask("python x.py", "bash", &["sanic/app.py:handle_request"]), None);
        let dev = with("sanic app:app --dev", "bash", &[], |facts| Sanic.recognise(facts)).unwrap();
        assert!(dev.topology.development);
    }
}
