//! A master's pid means its workers: those it has, and those it starts when one is killed.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::interpreters::{Python, some_interpreters};
use crate::judge::Trial;
use crate::profiler::{Profiler, record, stallspy};
use crate::server::Server;
use crate::truth::Stall;
use crate::turn::each;
use crate::{in_ci, say};

/// A worker is searched for every 50 ms, passed over once while it is young, and its loop found
/// within 100 ms more; on a starved machine all of that takes longer.
const FOUND_WITHIN_NS: u64 = 1_000_000_000;

fn with(package: &str) -> Vec<Python> {
    let all: Vec<Python> =
        some_interpreters().into_iter().filter(|python| python.has(package)).collect();
    assert!(!all.is_empty() || !in_ci(), "no interpreter has {package}");
    if all.is_empty() {
        say(&format!("not tested: no interpreter has {package}"));
    }
    all
}

fn processes(report: &Value) -> Vec<Value> {
    report["processes"].as_array().expect("processes").clone()
}

fn of_role(report: &Value, role: &str) -> Vec<Value> {
    processes(report).into_iter().filter(|one| one["role"] == role).collect()
}

/// Workers of a fixture, as the kernel lists children; a helper of `multiprocessing` is none.
fn workers(master: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{master}/task")).expect("it runs").flatten();
    let listed =
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<i32> = listed
        .flat_map(|text| {
            text.split(' ').filter_map(|pid| pid.trim().parse().ok()).collect::<Vec<_>>()
        })
        .collect();
    let is_worker = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|command| !command.contains("resource_tracker"))
    };
    children.into_iter().filter(is_worker).collect()
}

/// Records a master while its workers block their loops; kills one of them if `is_killed`.
fn follow(python: &Python, server: &str, is_killed: bool) {
    let mut master = Server::start(python, "masters.py", 40, &["--server", server]);
    let pid = master.pid();
    std::thread::sleep(Duration::from_secs(2));
    let profiler =
        Profiler::start(&["record", "-q", "-f", "json", "-d", "7", "-p", &pid.to_string()]);
    std::thread::sleep(Duration::from_secs(2));
    let victim = is_killed.then(|| *workers(pid).first().expect("it has workers"));
    if let Some(victim) = victim {
        kill(nix::unistd::Pid::from_raw(victim), Signal::SIGKILL).expect("it runs");
    }
    let ended = profiler.finish();
    assert_eq!(ended.code(), Some(0), "{}", ended.err);
    let report = ended.report();
    let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM);
    let truth = master.wait();

    let masters = of_role(&report, "master");
    assert_eq!(masters.len(), 1, "{}", report["processes"]);
    assert_eq!(masters[0]["pid"], pid);
    assert_eq!(masters[0]["loops"].as_array().map(Vec::len), Some(0));
    let all = of_role(&report, "worker");
    assert_eq!(all.len(), if is_killed { 3 } else { 2 }, "{}", report["processes"]);
    assert_eq!(processes(&report).len(), all.len() + 1, "nobody else");
    let stalls = Stall::all(&report);
    assert!(stalls.iter().all(|stall| stall.pid != i64::from(pid)), "a master is never blamed");
    for worker in &all {
        assert_eq!(worker["ppid"], pid);
        assert_eq!(worker["loops"][0]["kind"], "asyncio");
        let dead = victim.is_some_and(|victim| worker["pid"] == victim);
        assert_eq!(!worker["ended_ns"].is_null(), dead, "{worker}");
        let own = stalls.iter().filter(|stall| worker["pid"] == stall.pid).count();
        assert!(own >= 10, "{own} stalls of {}", worker["pid"]);
    }
    let attached = |pid: i32| {
        let own = all.iter().find(|worker| worker["pid"] == pid);
        own.and_then(|worker| worker["attached_ns"].as_u64())
    };
    let trial = Trial::new(&report, &ended, truth);
    trial.finds_all_but(100, &|entry| {
        // The loop of a successor is there before it is found.
        attached(entry.pid).is_none_or(|at| entry.start_ns < at + FOUND_WITHIN_NS)
    });
    trial.blames_rightly();
}

#[test]
fn gunicorns_workers_and_their_successors() {
    each(&with("gunicorn"), |python| follow(python, "gunicorn", true));
}

#[test]
fn uvicorns_workers_and_their_successors() {
    each(&with("uvicorn"), |python| follow(python, "uvicorn", true));
}

#[test]
fn hypercorns_workers() {
    each(&with("hypercorn"), |python| follow(python, "hypercorn", false));
}

#[test]
fn a_workers_pid_means_that_worker() {
    each(&with("gunicorn"), |python| {
        let master = Server::start(python, "masters.py", 30, &["--server", "gunicorn"]);
        std::thread::sleep(Duration::from_secs(2));
        let worker = *workers(master.pid()).first().expect("it has workers");
        let (report, _) = record(worker, 2, &[]);
        assert_eq!(processes(&report).len(), 1);
        let own = &processes(&report)[0];
        assert_eq!((&own["pid"], &own["role"]), (&worker.into(), &"worker".into()));
        assert_eq!(own["worker_class"], "uvicorn", "a class derived from uvicorn's");
    });
}

/// Records a fixture that is asked meanwhile, by three clients for two seconds: the report, and how many requests
/// were answered.
fn asked(python: &Python, kind: &str) -> (Value, u64) {
    let server = Server::start(python, "masters.py", 60, &["--server", kind]);
    std::thread::sleep(Duration::from_secs(1));
    let pid = server.pid().to_string();
    let profiler = Profiler::start(&["record", "-q", "-f", "json", "-d", "5", "-p", &pid]);
    std::thread::sleep(Duration::from_secs(1));
    let load = ["--url-mix", "1:/x", "--connections", "3", "--seconds", "2"];
    let (requests, errors) = server.load(&load).finish();
    let ended = profiler.finish();
    assert_eq!((ended.code(), errors), (Some(0), 0), "{}", ended.err);
    (ended.report(), requests)
}

#[test]
fn the_configuration_is_what_was_set_and_requests_are_counted() {
    each(&with("gunicorn"), |python| {
        let (report, requests) = asked(python, "gthread");
        let workers = of_role(&report, "worker");
        for one in &processes(&report) {
            assert_eq!(
                (&one["server"], &one["worker_class"]),
                (&"gunicorn".into(), &"gthread".into())
            );
            let settings = [
                ("threads", 3),
                ("workers", 2),
                ("backlog", 77),
                ("keepalive", 7),
                ("timeout", 60),
            ];
            for (name, value) in settings {
                let told = &one["config"][name];
                assert_eq!(
                    (&told["value"], &told["source"]),
                    (&value.into(), &"memory".into()),
                    "{name}"
                );
            }
        }
        let served: u64 = workers.iter().filter_map(|one| one["requests"].as_u64()).sum();
        assert_eq!(served, requests, "{}", report["processes"]);
        assert!(workers.iter().any(|one| one["in_flight_max"].as_u64() > Some(0)));
    });
}

#[test]
fn hypercorn_counts_requests_where_it_is_to_end_workers_after_so_many() {
    let all = with("hypercorn");
    each(&all.into_iter().rev().take(1).collect::<Vec<_>>(), |python| {
        let (report, requests) = asked(python, "hypercorn");
        let workers = of_role(&report, "worker");
        let served: Option<u64> = workers.iter().map(|one| one["requests"].as_u64()).sum();
        assert_eq!(served, Some(requests), "{}", report["processes"]);
        assert_eq!(report["servers"][0]["requests"], requests);
    });
}

#[test]
fn a_server_by_its_name() {
    each(&with("gunicorn").into_iter().take(1).collect::<Vec<_>>(), |python| {
        let server = Server::start(python, "masters.py", 30, &["--server", "gunicorn"]);
        // The name of its own folder, which nobody else has.
        let file = server.file("masters.py");
        let folder = file.rsplit('/').nth(1).expect("a folder");
        let ended = stallspy(&["record", "-q", "-f", "json", "-d", "1", "--name", folder]);
        assert_eq!(ended.code(), Some(0), "{}", ended.err);
        assert_eq!(of_role(&ended.report(), "master")[0]["pid"], server.pid());

        let other = Server::start(python, "masters.py", 30, &["--server", "gthread"]);
        let both = stallspy(&["record", "-d", "1", "--name", r"stallspy-test-.*/masters\.py"]);
        assert_eq!(both.code(), Some(2), "{}", both.err);
        for pid in [server.pid(), other.pid()] {
            assert!(both.err.contains(&format!("  {pid}  ")), "{}", both.err);
        }
        let none = stallspy(&["dump", "--name", "no such server, 7c2f"]);
        assert_eq!(none.code(), Some(4), "{}", none.err);
    });
}

/// Kills of workers while they are watched.
const KILLS: usize = 8;
/// What descriptors may differ by from one moment to another: of a worker that has just come.
const SLACK: usize = 12;

#[test]
fn nothing_is_kept_open_of_workers_that_are_gone() {
    each(&with("gunicorn").into_iter().take(1).collect::<Vec<_>>(), |python| {
        let server = Server::start(python, "masters.py", 60, &["--server", "gunicorn"]);
        let pid = server.pid();
        let args = ["record", "-q", "-f", "json", "-d", "14", "-p", &pid.to_string()];
        let profiler = Profiler::start(&args);
        let open = || {
            let listed = std::fs::read_dir(format!("/proc/{}/fd", profiler.pid()));
            listed.expect("it runs").count()
        };
        std::thread::sleep(Duration::from_secs(3));
        let before = open();
        for _ in 0..KILLS {
            let oldest = *workers(pid).first().expect("it has workers");
            kill(nix::unistd::Pid::from_raw(oldest), Signal::SIGKILL).expect("it runs");
            std::thread::sleep(Duration::from_millis(1_000));
        }
        std::thread::sleep(Duration::from_secs(1));
        let after = open();
        assert!(after <= before + SLACK, "{before} descriptors, then {after}");
        let report = profiler.finish().report();
        let ended =
            of_role(&report, "worker").iter().filter(|one| !one["ended_ns"].is_null()).count();
        assert!(ended >= KILLS, "{}", report["processes"]);
    });
}
