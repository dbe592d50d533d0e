//! Servers that have a thread for each request: which call held it, for which request, and how many
//! threads were held; and nothing where requests are short.

use crate::interpreters::{Python, interpreters};
use crate::judge::Trial;
use crate::profiler::record;
use crate::server::Server;
use crate::turn::each;
use crate::{in_ci, say};

/// Each endpoint that holds its thread as often as the others, among requests that do not.
const MIX: &str = "6:/ok,1:/sleep?ms={12-90},1:/cpu?ms={12-90},1:/pbkdf2?ms={12-90},\
    1:/json?ms={12-90},1:/recv?ms={12-90},1:/locked?ms={12-90},1:/nested?ms={12-90},\
    1:/two?ms={20-60}";

/// Interpreters that have what the fixture needs. Without one nothing is tested, and that is said.
fn with(packages: &[&str]) -> Vec<Python> {
    let has_all = |python: &Python| packages.iter().all(|package| python.has(package));
    let all: Vec<Python> = interpreters().into_iter().filter(has_all).collect();
    assert!(!(in_ci() && all.is_empty()), "STALLSPY_INTERPRETERS lists none with {packages:?}");
    if all.is_empty() {
        say(&format!(
            "wsgi: did not run, no interpreter of STALLSPY_INTERPRETERS has {packages:?}"
        ));
    }
    all
}

/// The oldest, one in the middle, the newest: their frames lie in memory in different ways.
fn some(all: &[Python]) -> Vec<Python> {
    let middle = all.get(all.len() / 2);
    all.first().into_iter().chain(middle).chain(all.last()).cloned().collect()
}

/// Runs a server under load and compares the report with the truth.
fn occupied(python: &Python, kind: &str, connections: &str) {
    let server = Server::start(python, "wsgi_stalls.py", 90, &["--server", kind]);
    // The first requests import what is not yet imported.
    let warm = ["--url-mix", MIX, "--connections", connections, "--seconds", "1.5"];
    server.load(&warm).finish();
    let load = ["--url-mix", MIX, "--connections", connections, "--pause", "0.02"];
    let load = server.load(&[&load[..], &["--seconds", "8"]].concat());
    let (report, ended) = record(server.pid(), 7, &[]);
    let (requests, errors) = load.finish();
    assert!(requests > 40 && errors == 0, "{requests} requests, {errors} errors");
    let trial = Trial::new(&report, &ended, server.end());
    // A thread that is started for a connection has to be found first.
    let lives_on = ["sync", "gthread"].contains(&kind);
    trial.finds_most(30, if lives_on { 95 } else { 80 });
    trial.invents_hardly_any();
    trial.blames_rightly_but(if lives_on { 10 } else { 5 });
    assert!(trial.stalls().iter().all(|stall| stall.json["loop"] == "none"), "a loop was seen");

    let processes = report["processes"].as_array().expect("a report has processes");
    let held = |process: &&serde_json::Value| process["threads_busy_mean"].as_f64() > Some(0.2);
    let worker = processes.iter().find(held).expect("a process whose threads were held");
    let threads = worker["request_threads"].as_array().expect("it has threads");
    let (limit, full) = (&worker["threads_limit"], worker["threads_at_limit_fraction"].as_f64());
    match kind {
        "sync" => {
            assert!(*limit == 1 && full > Some(0.2) && threads.len() == 1, "{worker}");
        }
        "gthread" => assert!(*limit == 4 && full.is_some() && threads.len() <= 4, "{worker}"),
        _ => assert!(limit.is_null() && full.is_none(), "{worker}"),
    }
    let found = report["findings"].as_array().expect("a report has findings");
    assert!(found.iter().any(|one| one["id"] == "threads-occupied"), "{found:#?}");
}

#[test]
fn a_sync_worker_is_held_by_the_call_that_is_named() {
    each(&some(&with(&["flask", "gunicorn"])), |python| occupied(python, "sync", "2"));
}

#[test]
fn the_threads_of_gthread_are_held_by_the_calls_that_are_named() {
    each(&some(&with(&["flask", "gunicorn"])), |python| occupied(python, "gthread", "4"));
}

#[test]
fn so_are_the_threads_of_development_servers() {
    let all = with(&["flask"]);
    for kind in ["werkzeug", "wsgiref"] {
        each(&some(&all), |python| occupied(python, kind, "2"));
    }
}

#[test]
fn short_requests_hold_nothing() {
    let all = with(&["flask", "gunicorn"]);
    for kind in ["sync", "gthread"] {
        each(&some(&all), |python| {
            let server = Server::start(python, "wsgi_stalls.py", 90, &["--server", kind]);
            server.load(&["--connections", "2", "--seconds", "1"]).finish();
            let load = ["--connections", "2", "--pause", "0.02", "--seconds", "5"];
            let load = server.load(&load);
            let (report, ended) = record(server.pid(), 4, &[]);
            let (requests, errors) = load.finish();
            assert!(requests > 20 && errors == 0, "{requests} requests, {errors} errors");
            let seen = |process: &serde_json::Value| process["threads_busy_mean"].is_number();
            assert!(report["processes"].as_array().expect("processes").iter().any(seen));
            Trial::new(&report, &ended, server.end()).invents_hardly_any();
        });
    }
}
