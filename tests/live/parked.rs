//! What `dump` shows of those that do not run: asyncio's tasks and greenlets, each at its lines.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::gevent::with_gevent;
use crate::interpreters::{interpreters, some_interpreters};
use crate::pools::with_gunicorn;
use crate::profiler::{record, stallspy};
use crate::server::Server;
use crate::truth::Entry;
use crate::turn::each;
use crate::uvloop::with;

fn dumped(pid: i32, flags: &[&str]) -> String {
    let pid = pid.to_string();
    let mut args = vec!["dump", "-p", &pid];
    args.extend(flags);
    let ended = stallspy(&args);
    assert_eq!(ended.code(), Some(0), "{}", ended.err);
    ended.out
}

/// The lines of a task's frames that are the server's own, innermost first.
fn own_lines(task: &Value, file: &str) -> Vec<u64> {
    let frames = task["frames"].as_array().expect("frames");
    let own = frames.iter().filter(|frame| frame["file"] == file);
    own.map(|frame| frame["line"].as_u64().expect("a line")).collect()
}

fn parked(server: Server) -> BTreeMap<String, Entry> {
    let truth = server.end().into_iter().filter(|entry| entry.kind == "parked");
    truth.map(|entry| (entry.name.clone(), entry)).collect()
}

/// Compares all tasks of a dump with what the server says of them.
fn assert_tasks(json: &Value, truth: &BTreeMap<String, Entry>, file: &str, tid: i32) {
    let tasks = json["tasks"].as_array().expect("tasks");
    let name_of = |id: &Value| {
        let task = tasks.iter().find(|task| task["id"] == *id).expect("it is one of them");
        task["name"].as_str().expect("a name").to_owned()
    };
    let names = |ids: &Value| {
        let ids = ids.as_array().expect("ids");
        let mut names: Vec<String> = ids.iter().map(name_of).collect();
        names.sort();
        names
    };
    assert_eq!(tasks.len(), truth.len(), "{tasks:#?}");
    for task in tasks {
        let name = task["name"].as_str().expect("a name");
        let own = truth.get(name).unwrap_or_else(|| panic!("no task is called {name}"));
        assert_eq!(own_lines(task, file), own.lines, "{name}: {task:#}");
        assert_eq!(names(&task["awaits_tasks"]), own.waits_for, "{name}: {task:#}");
        let waiting = truth.values().filter(|other| other.waits_for.iter().any(|one| one == name));
        let waiting: Vec<&str> = waiting.map(|other| &*other.name).collect();
        assert_eq!(names(&task["awaited_by"]), waiting, "{name}: {task:#}");
        assert_eq!((&task["state"], &task["thread"]), (&"waiting".into(), &tid.into()), "{name}");
        assert_eq!(task["coroutine"], name, "{task:#}");
    }
    let task = |name: &str| tasks.iter().find(|task| task["name"] == name).expect("a task");
    let innermost = |name: &str| task(name)["frames"][0]["function"].clone();
    assert_eq!(innermost("sleeping"), "sleep");
    assert_eq!(innermost("locked"), "acquire");
    for (name, class) in
        [("chain", "Future"), ("joining", "Task"), ("gathering", "_GatheringFuture")]
    {
        let awaits = task(name)["awaits"].as_str().expect("what it waits for");
        assert!(awaits.ends_with(class), "{name} waits for a {awaits}");
    }
}

#[test]
fn every_task_is_shown_at_its_lines_and_with_whom_it_waits_for() {
    each(&interpreters(), |python| {
        let server = Server::start(python, "asyncio_tasks.py", 60, &[]);
        let (file, tid) = (server.file("asyncio_tasks.py"), server.pid());
        let json: Value = serde_json::from_str(&dumped(tid, &["--json", "-l"])).unwrap();
        let text = dumped(tid, &[]);
        let truth = parked(server);
        assert_tasks(&json, &truth, &file, tid);
        let tasks = json["tasks"].as_array().unwrap();
        let chain = tasks.iter().find(|task| task["name"] == "chain").unwrap();
        let locals = chain["frames"][0]["locals"].as_array().expect("locals");
        assert!(locals.iter().any(|local| local[1] == "'seen'"), "{locals:?}");

        assert!(text.contains("Tasks of asyncio: 11 waiting\n"), "{text}");
        let lines = &truth["chain"].lines;
        let shown = format!(
            "chain (chain) of thread {tid}: waits for a Future, awaited by joining\n    \
             deepest ({file}:{})\n    middle ({file}:{})\n    chain ({file}:{})\n",
            lines[0], lines[1], lines[2]
        );
        assert!(text.contains(&shown), "{text}");
        assert!(
            text.contains(&format!("joining (joining) of thread {tid}: waits for chain\n")),
            "{text}"
        );
    });
}

#[test]
fn every_task_of_trio_is_shown_at_its_lines_and_in_its_nursery() {
    each(&with(&["trio"]), |python| {
        let server = Server::start(python, "trio_tasks.py", 60, &[]);
        let (file, tid) = (server.file("trio_tasks.py"), server.pid());
        let json: Value = serde_json::from_str(&dumped(tid, &["--json", "-l"])).unwrap();
        let text = dumped(tid, &[]);
        let truth = parked(server);
        let tasks = json["tasks"].as_array().expect("tasks");
        let name_of = |id: &Value| {
            let task = tasks.iter().find(|task| task["id"] == *id).expect("it is one of them");
            task["name"].clone()
        };
        let names = |ids: &Value| -> Vec<Value> {
            ids.as_array().expect("ids").iter().map(name_of).collect()
        };
        // Two are trio's own: the first of all, and the one that other threads wake.
        assert_eq!(tasks.len(), truth.len() + 2, "{tasks:#?}");
        for own in truth.values() {
            let task = tasks.iter().find(|task| task["name"] == *own.name).expect("it is shown");
            assert_eq!(own_lines(task, &file), own.lines, "{}: {task:#}", own.name);
            assert_eq!(names(&task["awaits_tasks"]), own.waits_for, "{task:#}");
            assert_eq!(name_of(&task["nursery_of"]), *own.function, "{task:#}");
            assert_eq!((&task["state"], &task["thread"]), (&"waiting".into(), &tid.into()));
            assert_eq!((&task["library"], &task["coroutine"]), (&"trio".into(), &task["name"]));
        }
        let child = tasks.iter().find(|task| task["name"] == "child").unwrap();
        assert_eq!(names(&child["awaited_by"]), ["joining"]);
        let chain = tasks.iter().find(|task| task["name"] == "chain").unwrap();
        assert!(chain["frames"].to_string().contains("'seen'"), "{chain:#}");

        assert!(text.contains("Tasks of trio: 9 waiting\n"), "{text}");
        let wanted = [
            format!("chain (chain) of thread {tid}: waits, in a nursery of main\n"),
            format!("joining (joining) of thread {tid}: waits for child, in a nursery of main\n"),
            format!("child (child) of thread {tid}: waits, awaited by joining\n"),
        ];
        for wanted in wanted {
            assert!(text.contains(&wanted), "{wanted}{text}");
        }
    });
}

#[test]
fn tasks_that_come_and_go_are_shown_whole_or_not_at_all() {
    each(&some_interpreters(), |python| {
        let server = Server::start(python, "asyncio_many.py", 60, &[]);
        for _ in 0..20 {
            let json: Value = serde_json::from_str(&dumped(server.pid(), &["--json"])).unwrap();
            for task in json["tasks"].as_array().into_iter().flatten() {
                let coroutine = task["coroutine"].as_str().expect("a coroutine");
                assert!(["main", "refresh"].contains(&coroutine), "{task:#}");
                let frames = task["frames"].as_array().unwrap();
                let last = frames.last().map(|frame| &frame["function"]);
                assert!(last.is_none_or(|last| *last == coroutine), "{task:#}");
            }
        }
    });
}

#[test]
fn every_suspended_greenlet_is_shown_at_its_lines() {
    each(&with_gevent(interpreters()), |python| {
        let server = Server::start(python, "gevent_parked.py", 60, &[]);
        let (file, pid) = (server.file("gevent_parked.py"), server.pid());
        let json: Value = serde_json::from_str(&dumped(pid, &["--json", "-l"])).unwrap();
        let text = dumped(pid, &[]);
        let truth = parked(server);
        let greenlets = json["greenlets"].as_array().expect("greenlets");
        assert_eq!(json["greenlets_note"], Value::Null);
        let mut shown: Vec<Vec<u64>> =
            greenlets.iter().map(|greenlet| own_lines(greenlet, &file)).collect();
        let mut own: Vec<Vec<u64>> = truth.values().map(|entry| entry.lines.clone()).collect();
        shown.sort();
        own.sort();
        assert_eq!(shown, own, "{greenlets:#?}");
        for greenlet in greenlets {
            let class = greenlet["class"].as_str().expect("a class");
            let outermost = &greenlet["frames"].as_array().unwrap().last().unwrap()["function"];
            let wanted = if outermost == "<module>" { "greenlet.greenlet" } else { "Greenlet" };
            assert!(class.ends_with(wanted), "{class}: {outermost}");
            assert_eq!(greenlet["truncated"], false, "{greenlet:#}");
        }
        assert!(text.contains("Greenlets: 5 suspended\n"), "{text}");
        let lines = &truth["event"].lines;
        let wanted = format!(
            "Greenlet, parked at\n    inner ({file}:{})\n    <lambda> ({file}:{})\n    event \
             ({file}:{})\n",
            lines[0], lines[1], lines[1]
        );
        assert!(text.contains(&wanted), "{text}");
        assert!(text.contains("'seen'") || json.to_string().contains("'seen'"), "{json:#}");
    });
}

#[test]
fn an_idle_worker_on_greenlets_shows_its_counters_and_settings() {
    each(&with_gunicorn(), |python| {
        let server = Server::start(python, "gunicorn_pools.py", 60, &["--class", "gevent"]);
        let (report, _) = record(server.pid(), 1, &[]);
        let processes = report["processes"].as_array().expect("processes");
        let worker = processes.iter().find(|one| one["role"] == "worker").expect("a worker");
        assert_eq!(worker["worker_class"], "gevent");
        assert_eq!(worker["requests"], 0, "{worker:#}");
        let setting = &worker["config"]["worker_connections"];
        assert_eq!((&setting["value"], &setting["source"]), (&50.into(), &"memory".into()));
        server.end();
    });
}

#[test]
fn what_is_patched_is_told_and_what_is_not_is_to_be() {
    each(&with_gevent(some_interpreters()), |python| {
        let patched = |how: &str| {
            let server = Server::start(python, "gevent_parked.py", 60, &["--patch", how]);
            let json: Value = serde_json::from_str(&dumped(server.pid(), &["--json"])).unwrap();
            assert_eq!(json["patches"]["by"], "gevent", "{how}");
            let modules = json["patches"]["modules"].as_array().expect("modules").clone();
            modules.into_iter().map(|one| one.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert!(patched("none").is_empty());
        assert_eq!(patched("socket"), ["socket"]);
        let all = patched("all");
        for module in ["socket", "time", "threading", "subprocess"] {
            assert!(all.iter().any(|one| one == module), "{module} of {all:?}");
        }

        let args = ["--kinds", "sleep", "--lengths", "100-101"];
        let server = Server::start(python, "gevent_stalls.py", 60, &args);
        let (report, _) = record(server.pid(), 2, &[]);
        let patches = &report["processes"][0]["patches"];
        assert_eq!(
            (&patches["by"], patches["modules"].as_array().map(Vec::len)),
            (&"gevent".into(), Some(0))
        );
        let advice = report["findings"].to_string();
        assert!(
            advice.contains("nothing is patched: call `gevent.monkey.patch_all()`"),
            "{advice}"
        );
    });
}
