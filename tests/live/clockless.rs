//! eventlet's hub and twisted's reactor, which keep no time of their polls: blocked in every way, where
//! something calls itself a timer's and a socket's turn; not blocked; and never idle.

use serde_json::Value;

use crate::interpreters::{Python, ends_of};
use crate::judge::Trial;
use crate::profiler::{record, record_untraced};
use crate::server::Server;
use crate::truth::Entry;
use crate::turn::each;
use crate::uvloop::with;

/// What the server outlives the recording by, should this machine be slow; it is ended anyway.
const MARGIN: u32 = 60;
/// Where only looks tell, what is shorter may not be certain to have reached the threshold.
const CERTAIN_NS: u64 = 20_000_000;

/// The oldest and the newest that have this package.
fn ends(package: &str) -> Vec<Python> {
    ends_of(with(&[package]))
}

/// When the loop was found: eventlet's once it was met while no greenlet ran.
fn found_at(report: &Value) -> u64 {
    report["processes"][0]["loops"][0]["first_seen_ns"].as_u64().unwrap()
}

fn shows_its_stalls(package: &str, server: &str) {
    each(&with(&[package]), |python| {
        let server = Server::start(python, server, 6 + MARGIN, &["--lengths", "5-200"]);
        let (report, ended) = record(server.pid(), 6, &[]);
        let seen = &report["processes"][0]["loops"];
        assert_eq!(seen.as_array().map(Vec::len), Some(1), "{seen}");
        assert_eq!(seen[0]["kind"], package);
        let trial = Trial::new(&report, &ended, server.end());
        let found = found_at(&report);
        trial.finds_all_but(12, &|entry| entry.start_ns < found);
        trial.invents_none();
        trial.blames_rightly();
        trial.bounds_lengths();
    });
}

#[test]
fn eventlet_shows_its_stalls() {
    shows_its_stalls("eventlet", "eventlet_stalls.py");
}

#[test]
fn twisted_shows_its_stalls() {
    shows_its_stalls("twisted", "twisted_stalls.py");
}

/// Without the kernel's record. `excused`: where nothing at all tells one iteration from the next.
fn looks_are_enough(package: &str, server: &str, excused: &(dyn Fn(&Entry) -> bool + Sync)) {
    each(&ends(package), |python| {
        let server = Server::start(python, server, 6 + MARGIN, &["--lengths", "5-200"]);
        let (report, ended) = record_untraced(server.pid(), 6, &[]);
        let trial = Trial::new(&report, &ended, server.end());
        let found = found_at(&report);
        trial.finds_all_but(12, &|entry| {
            entry.start_ns < found || entry.length() < CERTAIN_NS || excused(entry)
        });
        trial.invents_none();
        trial.blames_rightly();
        assert!(trial.stalls().len() >= 8, "{}", trial.stalls().len());
        assert!(trial.stalls().iter().all(|stall| stall.json["evidence"] != "traced"));
    });
}

#[test]
fn looks_are_enough_for_eventlet() {
    looks_are_enough("eventlet", "eventlet_stalls.py", &|_| false);
}

#[test]
fn looks_are_enough_for_twisted() {
    // While a delayed call is overdue the reactor has no time to sleep until, and then code that
    // computes leaves no trace.
    let computes = ["cpu", "pbkdf2", "json", "sqlite"];
    looks_are_enough("twisted", "twisted_stalls.py", &|entry| {
        computes.contains(&entry.kind.as_str())
    });
}

/// Nothing is invented, and the loop was looked at.
fn is_left_alone(python: &Python, server: &str, mode: &str, is_traced: bool) {
    let server = Server::start(python, server, 3 + MARGIN, &[mode]);
    let record = if is_traced { record } else { record_untraced };
    let (report, ended) = record(server.pid(), 3, &[]);
    Trial::new(&report, &ended, server.end()).invents_none();
    let seen = &report["processes"][0]["loops"][0];
    if mode == "--busy" {
        assert!(seen["utilization"].as_f64().is_some_and(|busy| busy > 0.3), "{seen}");
    } else {
        assert!(seen["looks"].as_u64() > Some(50), "{seen}");
        assert!(seen["utilization"].as_f64().is_some_and(|busy| busy < 0.9), "{seen}");
    }
}

#[test]
fn healthy_loops_have_no_stalls() {
    for (package, server) in [("eventlet", "eventlet_stalls.py"), ("twisted", "twisted_stalls.py")]
    {
        each(&ends(package), |python| is_left_alone(python, server, "--healthy", true));
        each(&ends(package), |python| is_left_alone(python, server, "--healthy", false));
    }
}

#[test]
fn a_loop_that_spins_does_not_stand_still() {
    for (package, server) in [("eventlet", "eventlet_stalls.py"), ("twisted", "twisted_stalls.py")]
    {
        each(&ends(package), |python| is_left_alone(python, server, "--busy", true));
        each(&ends(package), |python| is_left_alone(python, server, "--busy", false));
    }
}

/// A greenlet runs whenever its thread is looked at, so that the hub is never on top.
#[test]
fn a_hub_that_never_rests_shows_its_stalls() {
    each(&ends("eventlet"), |python| {
        let args = ["--busy", "--block", "--lengths", "12-100"];
        let server = Server::start(python, "eventlet_stalls.py", 4 + MARGIN, &args);
        let (report, ended) = record(server.pid(), 4, &[]);
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(10);
        trial.invents_none();
        trial.blames_rightly();
    });
}
