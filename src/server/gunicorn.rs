//! gunicorn: an arbiter that forks workers, of whichever class.
//!
//! Recognised by frames: `Arbiter.run` is under everything that a master and the workers it forked
//! do, `spawn_worker` under what a worker does. A worker on greenlets may show only its hub; then
//! the command line, or the title that `setproctitle` gave, tells.
//! <https://github.com/benoitc/gunicorn/blob/23.0.0/gunicorn/arbiter.py>; the same names from 19 to 27.

use super::facts::{MODULE, program};
use super::{Facts, Place, Probe, Recognised};
use crate::model::{Role, WorkerClass};
use crate::python::coroutines::frame_of;
use crate::python::frames::local;
use crate::units::Addr;

const ARBITER: &str = "/gunicorn/arbiter.py";
/// Where gunicorn's own worker classes are.
const WORKERS: &str = "/gunicorn/workers/";
/// gunicorn's own process for long tasks, from 25 on, and its workers
/// (<https://github.com/benoitc/gunicorn/tree/25.0.0/gunicorn/dirty>).
const DIRTY_ARBITER: &str = "/gunicorn/dirty/arbiter.py";
const DIRTY_WORKER: &str = "/gunicorn/dirty/worker.py";

/// Local variables of `UvicornWorker._serve` that are looked at; it has two.
const SERVE_LOCALS: usize = 4;

/// Files of worker classes' code, and the class.
const FILES: &[(&str, WorkerClass)] = &[
    ("/gunicorn/workers/sync.py", WorkerClass::Sync),
    ("/gunicorn/workers/gthread.py", WorkerClass::Gthread),
    ("/gunicorn/workers/ggevent.py", WorkerClass::Gevent),
    ("/gunicorn/workers/geventlet.py", WorkerClass::Eventlet),
    ("/gunicorn/workers/gtornado.py", WorkerClass::Tornado),
    ("/gunicorn/workers/gasgi.py", WorkerClass::Asgi),
    ("/uvicorn/workers.py", WorkerClass::Uvicorn),
    ("/uvicorn_worker/_workers.py", WorkerClass::Uvicorn),
    ("/aiohttp/worker.py", WorkerClass::Asyncio),
    (DIRTY_WORKER, WorkerClass::Asyncio),
    ("/gevent/hub.py", WorkerClass::Gevent),
    ("/eventlet/hubs/hub.py", WorkerClass::Eventlet),
];

/// Names of worker classes, for a class by itself, an object, or a setting.
const NAMES: &[(&str, WorkerClass)] = &[
    ("SyncWorker", WorkerClass::Sync),
    ("ThreadWorker", WorkerClass::Gthread),
    ("GeventWorker", WorkerClass::Gevent),
    ("GeventPyWSGIWorker", WorkerClass::Gevent),
    ("EventletWorker", WorkerClass::Eventlet),
    ("TornadoWorker", WorkerClass::Tornado),
    ("ASGIWorker", WorkerClass::Asgi),
    ("UvicornWorker", WorkerClass::Uvicorn),
    ("UvicornH11Worker", WorkerClass::Uvicorn),
    ("GunicornWebWorker", WorkerClass::Asyncio),
    ("GunicornUVLoopWebWorker", WorkerClass::Asyncio),
    ("sync", WorkerClass::Sync),
    ("gthread", WorkerClass::Gthread),
    ("gevent", WorkerClass::Gevent),
    ("gevent_wsgi", WorkerClass::Gevent),
    ("gevent_pywsgi", WorkerClass::Gevent),
    ("eventlet", WorkerClass::Eventlet),
    ("tornado", WorkerClass::Tornado),
    ("asgi", WorkerClass::Asgi),
];

/// The probe for gunicorn.
#[derive(Debug, Clone, Copy)]
pub struct Gunicorn;

/// What a stack says of its process.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part<'a> {
    /// In the arbiter's own loop.
    Master(&'a Place),
    /// Somewhere below `spawn_worker`, or in a worker's greenlet: where the worker is a variable.
    Worker(&'a Place, &'static str),
    /// In `spawn_worker` itself: about to fork, or just forked and not known which of the two.
    Forking(&'a Place),
}

impl Probe for Gunicorn {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        let part = facts.stacks.iter().find_map(|stack| part(stack));
        let mut found = match part {
            Some(Part::Master(run)) => {
                let arbiter = facts.object(run, "self");
                let mut found = of(facts, Role::Master, master_class(facts, arbiter));
                found.objects.master = arbiter;
                found.objects.config = arbiter.and_then(|one| facts.attribute(one, "cfg"));
                found
            }
            Some(Part::Worker(place, name)) => {
                let worker = facts.object(place, name).filter(|one| is_worker(facts, *one));
                let mut found = of(facts, Role::Worker, worker_class(facts, worker));
                found.objects.worker = worker;
                found.objects.config = worker.and_then(|one| facts.attribute(one, "cfg"));
                if found.topology.class == WorkerClass::Uvicorn {
                    found.objects.server = uvicorns(facts);
                }
                found.is_settled = worker.is_some() || facts.python.is_none();
                found
            }
            // Just forked, or about to fork: its kin tells which.
            Some(Part::Forking(place)) => {
                let mut found = by_command(facts)?;
                let arbiter = facts.object(place, "self");
                found.topology.class = master_class(facts, arbiter);
                found
            }
            None => by_command(facts)?,
        };
        found.topology.class_version =
            library(found.topology.class).and_then(|one| facts.version(one));
        Some(found)
    }
}

/// uvicorn's `Server` in `UvicornWorker._serve`, the coroutine that the worker's loop runs: a
/// parameter of `asyncio.run` or `Runner.run`.
/// <https://github.com/encode/uvicorn/blob/0.30.0/uvicorn/workers.py#L93>
fn uvicorns(facts: &Facts<'_>) -> Option<Addr> {
    let python = facts.python?;
    let objects = python.objects();
    let is_server = |addr: &Addr| {
        let names = objects.class_names(*addr).unwrap_or_default();
        names.iter().any(|name| name == "Server")
            && facts.attribute(*addr, "server_state").is_some()
    };
    facts.stacks.iter().flatten().find_map(|place| {
        let coroutine = ["main", "coro"].iter().find_map(|name| facts.object(place, name))?;
        let frame = frame_of(python, coroutine).ok()?;
        (0..SERVE_LOCALS).filter_map(|index| local(python, frame, index).ok()).find(is_server)
    })
}

fn of(facts: &Facts<'_>, role: Role, class: WorkerClass) -> Recognised {
    Recognised::new("gunicorn", facts.version("gunicorn"), role, class)
}

/// The package that a worker class of another project is in.
fn library(class: WorkerClass) -> Option<&'static str> {
    Some(match class {
        WorkerClass::Gevent => "gevent",
        WorkerClass::Eventlet => "eventlet",
        WorkerClass::Tornado => "tornado",
        WorkerClass::Uvicorn => "uvicorn",
        _ => return None,
    })
}

fn part(stack: &[Place]) -> Option<Part<'_>> {
    let mut worker = None;
    for place in stack {
        let is = |file: &str| place.file.ends_with(file);
        if is(DIRTY_WORKER) && place.function == "run" {
            return Some(Part::Worker(place, "self"));
        }
        if is(DIRTY_ARBITER) && place.function == "run" {
            return Some(Part::Master(place));
        }
        if is(ARBITER) {
            match place.function.as_str() {
                "spawn_worker" if worker.is_some() => return Some(Part::Worker(place, "worker")),
                "spawn_worker" => return Some(Part::Forking(place)),
                "run" => return Some(Part::Master(place)),
                _ => {}
            }
        }
        if place.function == MODULE {
            // A master imports the class of its workers as well.
            continue;
        }
        // A class of the application's own ends in gunicorn's `init_process`, or has its own.
        let is_workers = place.file.contains(WORKERS) || place.function == "init_process";
        if is_workers && worker.is_none_or(|known| !has_self(known)) {
            worker = Some(place);
        }
    }
    worker.filter(|place| place.file.contains(WORKERS)).map(|place| Part::Worker(place, "self"))
}

fn has_self(place: &Place) -> bool {
    place.locals.first().is_some_and(|name| name == "self")
}

/// Whether this is a worker at all: an object of the arbiter's may stand where one was.
fn is_worker(facts: &Facts<'_>, object: Addr) -> bool {
    facts.attribute(object, "nr").is_some() && facts.attribute(object, "cfg").is_some()
}

fn worker_class(facts: &Facts<'_>, worker: Option<Addr>) -> WorkerClass {
    let of_object = worker.and_then(|worker| {
        let names = facts.python?.objects().class_names(worker).ok()?;
        names.iter().find_map(|name| named(name))
    });
    of_object.or_else(|| by_files(facts)).unwrap_or(if worker.is_some() {
        WorkerClass::Other
    } else {
        WorkerClass::Unknown
    })
}

fn master_class(facts: &Facts<'_>, arbiter: Option<Addr>) -> WorkerClass {
    let class = arbiter.and_then(|arbiter| {
        let class = facts.attribute(arbiter, "worker_class")?;
        let names = facts.python?.objects().names_of_bases(class).ok()?;
        Some(names.iter().find_map(|name| named(name)).unwrap_or(WorkerClass::Other))
    });
    class.or_else(|| by_option(facts.command)).unwrap_or(WorkerClass::Unknown)
}

fn named(name: &str) -> Option<WorkerClass> {
    let last = name.rsplit(['.', ':']).next().unwrap_or(name);
    NAMES.iter().find(|(known, _)| *known == last).map(|(_, class)| *class)
}

fn by_files(facts: &Facts<'_>) -> Option<WorkerClass> {
    FILES.iter().find(|(file, _)| facts.has_file(file)).map(|(_, class)| *class)
}

/// `-k CLASS`, `-kCLASS`, `--worker-class CLASS`, `--worker-class=CLASS`.
fn by_option(command: &[String]) -> Option<WorkerClass> {
    let mut words = command.iter();
    while let Some(word) = words.next() {
        let value = match word.as_str() {
            "-k" | "--worker-class" => words.next()?.as_str(),
            word => {
                match word.strip_prefix("--worker-class=").or_else(|| word.strip_prefix("-k")) {
                    Some(value) => value,
                    None => continue,
                }
            }
        };
        return Some(named(value).unwrap_or(WorkerClass::Other));
    }
    None
}

/// By the command line: the title that gunicorn sets where `setproctitle` is installed, else by who
/// the parent is.
fn by_command(facts: &Facts<'_>) -> Option<Recognised> {
    let title = facts.command.join(" ");
    let role = if title.starts_with("gunicorn: worker") {
        Role::Worker
    } else if title.starts_with("gunicorn: master") {
        Role::Master
    } else if !facts.runs("gunicorn") {
        return None;
    } else if is_master(facts.parent) {
        Role::Worker
    } else {
        Role::Master
    };
    let by_option = || by_option(facts.command).or_else(|| by_option(facts.parent));
    let class = by_files(facts).or_else(by_option).unwrap_or(WorkerClass::Unknown);
    Some(of(facts, role, class).unsettled())
}

fn is_master(parent: &[String]) -> bool {
    program(parent) == Some("gunicorn") || parent.join(" ").starts_with("gunicorn: master")
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    const COMMAND: &str = "/srv/venv/bin/python /srv/venv/bin/gunicorn -w 4 app:app";

    fn ask(command: &str, parent: &str, stack: &[&str]) -> Option<(Role, WorkerClass, bool)> {
        let found = with(command, parent, stack, |facts| Gunicorn.recognise(facts))?;
        Some((found.topology.role, found.topology.class, found.is_settled))
    }

    #[test]
    fn a_master_waits_in_its_own_loop() {
        let stack =
            ["gunicorn/arbiter.py:sleep", "gunicorn/arbiter.py:run", "gunicorn/app/base.py:run"];
        let found = ask(COMMAND, "bash", &stack);
        assert_eq!(found, Some((Role::Master, WorkerClass::Unknown, true)));
        let found = ask(&format!("{COMMAND} -k gevent"), "bash", &stack);
        assert_eq!(found, Some((Role::Master, WorkerClass::Gevent, true)));
    }

    #[test]
    fn a_worker_is_told_by_what_runs_below_spawn_worker() {
        let class = |frames: &[&str]| {
            let root = [
                "gunicorn/workers/base.py:init_process",
                "gunicorn/arbiter.py:spawn_worker",
                "gunicorn/arbiter.py:run",
            ];
            let stack = [frames, &root].concat();
            let found = ask("python serve.py", "python serve.py", &stack).unwrap();
            assert_eq!((found.0, found.2), (Role::Worker, true));
            found.1
        };
        assert_eq!(class(&["gunicorn/workers/sync.py:run"]), WorkerClass::Sync);
        assert_eq!(class(&["gunicorn/workers/gthread.py:run"]), WorkerClass::Gthread);
        assert_eq!(
            class(&["uvicorn/server.py:run", "uvicorn/workers.py:run"]),
            WorkerClass::Uvicorn
        );
        assert_eq!(class(&["uvicorn_worker/_workers.py:run"]), WorkerClass::Uvicorn);
        assert_eq!(class(&["../../own.py:run"]), WorkerClass::Unknown);
    }

    #[test]
    fn in_the_middle_of_a_fork_the_parent_tells() {
        let stack = ["gunicorn/arbiter.py:spawn_worker", "gunicorn/arbiter.py:run"];
        assert_eq!(ask(COMMAND, "bash", &stack).unwrap().0, Role::Master);
        let child = ask(COMMAND, COMMAND, &stack).unwrap();
        assert_eq!((child.0, child.2), (Role::Worker, false));
    }

    #[test]
    fn greenlets_show_their_hub_or_the_worker_they_serve_for() {
        let hub = ["gevent/hub.py:run"];
        let found = ask(COMMAND, COMMAND, &hub).unwrap();
        assert_eq!(found, (Role::Worker, WorkerClass::Gevent, false));
        let serving = [
            "../../app.py:view",
            "gunicorn/workers/base_async.py:handle",
            "gunicorn/workers/ggevent.py:handle",
        ];
        assert_eq!(ask("python x", "", &serving).unwrap().0, Role::Worker);
        assert_eq!(ask("python x", "", &hub), None);
    }

    #[test]
    fn a_master_that_imports_the_class_of_its_workers_is_none_of_them() {
        let stack = [
            "eventlet/__init__.py:<module>",
            "gunicorn/workers/geventlet.py:<module>",
            "gunicorn/util.py:load_class",
            "gunicorn/arbiter.py:setup",
        ];
        assert_eq!(ask(COMMAND, "bash", &stack).unwrap().0, Role::Master);
    }

    #[test]
    fn titles_of_setproctitle() {
        let master = ask("gunicorn: master [app:app]", "bash", &[]).unwrap();
        assert_eq!((master.0, master.2), (Role::Master, false));
        let worker = ask("gunicorn: worker [app:app]", "gunicorn: master [app:app]", &[]).unwrap();
        assert_eq!(worker.0, Role::Worker);
    }

    #[test]
    fn a_program_that_only_mentions_it_is_not() {
        assert_eq!(ask("python tail.py gunicorn.log", "", &[]), None);
        assert_eq!(ask("grep -r gunicorn .", "", &[]), None);
    }

    #[test]
    fn the_option_in_all_its_spellings() {
        for line in ["-k gevent", "-kgevent", "--worker-class gevent", "--worker-class=gevent"] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(by_option(&words), Some(WorkerClass::Gevent), "{line}");
        }
        let own = ["-k".to_owned(), "shop.workers.Mine".to_owned()];
        assert_eq!(by_option(&own), Some(WorkerClass::Other));
        assert_eq!(named("uvicorn.workers.UvicornWorker"), Some(WorkerClass::Uvicorn));
    }
}
