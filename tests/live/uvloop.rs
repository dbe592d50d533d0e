//! uvloop: the same stalls on libuv's loop, which has neither a frame nor a clock in Python.

use crate::interpreters::{Python, ends_of, interpreters};
use crate::judge::Trial;
use crate::profiler::{record, record_untraced};
use crate::server::Server;
use crate::truth::Stall;
use crate::turn::each;
use crate::{in_ci, say};

/// What the server outlives the recording by, should this machine be slow; it is ended anyway.
const MARGIN: u32 = 60;

/// Interpreters that have these packages. Without one nothing is tested, and that is said.
pub fn with(packages: &[&str]) -> Vec<Python> {
    let has = |python: &Python| packages.iter().all(|package| python.has(package));
    let all: Vec<Python> = interpreters().into_iter().filter(has).collect();
    assert!(!(in_ci() && all.is_empty()), "STALLSPY_INTERPRETERS lists none with {packages:?}");
    if all.is_empty() {
        say(&format!("did not run: STALLSPY_INTERPRETERS lists none with {packages:?}"));
    }
    all
}

#[test]
fn every_interpreter_shows_its_stalls() {
    each(&with(&["uvloop"]), |python| {
        let args = ["--lengths", "1-200"];
        let server = Server::start(python, "uvloop_stalls.py", 7 + MARGIN, &args);
        let (report, ended) = record(server.pid(), 7, &[]);
        let seen = &report["processes"][0]["loops"];
        assert_eq!(seen.as_array().map(Vec::len), Some(1), "{seen}");
        assert_eq!(seen[0]["kind"], "uvloop");
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(15);
        trial.invents_none();
        trial.blames_rightly();
        // Every stall that was looked into ran in a task of this coroutine.
        let looked_into = trial.stalls().iter().filter(|stall| !stall.json["culprit"].is_null());
        let named = |stall: &&Stall| {
            let task = stall.json["task"].as_str().unwrap_or_default();
            stall.json["coroutine"] == "handle" && task.starts_with("Task-")
        };
        let (named, nameless): (Vec<&Stall>, Vec<&Stall>) = looked_into.partition(named);
        let nameless: Vec<String> = nameless.into_iter().map(Stall::brief).collect();
        assert!(named.len() > 9 * nameless.len(), "without their task: {nameless:#?}");
        // libuv counts its polls, so what it says stands without the kernel's record, too.
        assert!(trial.stalls().iter().all(|stall| stall.json["evidence"] != "sampled"));
    });
}

#[test]
fn its_own_clock_is_enough() {
    let all = with(&["uvloop"]);
    each(&ends_of(all), |python| {
        let args = ["--lengths", "12-100", "--kinds", "sleep,cpu,recv,lock"];
        let server = Server::start(python, "uvloop_stalls.py", 6 + MARGIN, &args);
        let (report, ended) = record_untraced(server.pid(), 6, &[]);
        let trial = Trial::new(&report, &ended, server.end());
        assert!(trial.stalls().iter().all(|stall| stall.json["evidence"] == "counted"));
        trial.finds_all(15);
        trial.invents_none();
        trial.blames_rightly();
    });
}

#[test]
fn a_healthy_server_has_none() {
    each(&with(&["uvloop"]), |python| {
        let server = Server::start(python, "uvloop_healthy.py", 3 + MARGIN, &[]);
        let (report, ended) = record(server.pid(), 3, &[]);
        Trial::new(&report, &ended, server.end()).invents_none();
        // It was looked at, and not just nothing seen.
        let seen = &report["processes"][0]["loops"][0];
        assert_eq!(seen["kind"], "uvloop");
        assert!(seen["looks"].as_u64() > Some(50), "{seen}");
        assert!(seen["utilization"].as_f64().is_some_and(|busy| busy < 0.98), "{seen}");
    });
}
