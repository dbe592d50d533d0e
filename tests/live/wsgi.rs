//! Servers that have a thread for each request: which call held it, for which request, and how many
//! threads were held; and nothing where requests are short.

use std::time::Duration;

use crate::interpreters::{Python, interpreters};
use crate::judge::Trial;
use crate::profiler::{record, stallspy};
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
    // A thread that is started for a connection has to be found first: of calls that last a few looks
    // only, some are over by then on a machine that is busy with other servers.
    let lives_on = kind != "werkzeug";
    trial.finds_most(30, if lives_on { 95 } else { 85 });
    trial.finds_most_from(50_000_000, 10, 95);
    trial.invents_hardly_any();
    trial.blames_rightly_but(if kind == "wsgiref" { 5 } else { 10 });
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

/// Requests that take longer than the recording, more of them than there are threads.
fn starved(python: &Python, kind: &str) {
    let args = ["--server", kind, "--workers", "2", "--threads", "2"];
    let server = Server::start(python, "wsgi_stalls.py", 60, &args);
    std::thread::sleep(Duration::from_secs(1));
    let load = ["--url-mix", "1:/sleep?ms=10000", "--connections", "7", "--seconds", "1"];
    let load = server.load(&load);
    std::thread::sleep(Duration::from_secs(1));
    let (report, _) = record(server.pid(), 4, &[]);
    let text = stallspy(&["record", "-q", "-d", "3", "-p", &server.pid().to_string()]).out;
    let threads = if kind == "sync" { 2 } else { 4 };
    let held = report["stalls"].as_array().expect("a report has stalls").iter().filter(|stall| {
        let is_whole =
            stall["ongoing"] == true && stall["duration_ns"].as_u64() > Some(3_000_000_000);
        is_whole && stall["endpoint"] == "GET /sleep" && stall["culprit"]["function"] == "sleep"
    });
    // gthread's workers take what comes and do not share it: a thread may be left.
    let held = held.count();
    assert!(held >= 2 && held <= threads && (kind == "gthread" || held == threads), "{report:#}");
    let found = report["findings"].as_array().expect("a report has findings");
    let id = format!("{kind}-starved");
    let one = found.iter().find(|one| one["id"] == *id).expect("it is found");
    assert_eq!(one["severity"], "high");
    let figure = |name: &str| {
        let all = one["evidence"].as_array().expect("evidence");
        all.iter().find(|measured| measured["name"] == name).expect("it is there")["value"].as_f64()
    };
    assert_eq!(figure("threads_limit"), Some(threads as f64), "{one:#}");
    // Those who wait are the others of the seven, from the first look to the last.
    assert!(figure("starved_share") > Some(0.9), "{one:#}");
    assert_eq!(figure("waiting_mean"), Some((7 - held) as f64), "{one:#}");
    assert!(text.contains("others wait") && text.contains("GET /sleep"), "{text}");
    let words = if kind == "sync" { "VERDICT  all 2 workers" } else { "VERDICT  requests waited" };
    assert!(text.contains(words) && !text.contains("0 stalls"), "{text}");
    drop(load);
    server.end();
}

#[test]
fn where_every_worker_is_stuck_that_is_what_is_said() {
    let all = with(&["flask", "gunicorn"]);
    let newest: Vec<Python> = all.last().cloned().into_iter().collect();
    for kind in ["sync", "gthread"] {
        each(&newest, |python| starved(python, kind));
    }
}

/// A thread of the application's that holds the interpreter lock for most of the time.
fn beside(python: &Python) {
    let args = ["--server", "gthread", "--beside"];
    let server = Server::start(python, "wsgi_stalls.py", 60, &args);
    let load = ["--url-mix", "1:/cpu?ms=3", "--connections", "6", "--seconds", "6"];
    let load = server.load(&load);
    std::thread::sleep(Duration::from_millis(500));
    let (report, _) = record(server.pid(), 4, &[]);
    drop(load);
    server.end();
    let found = report["findings"].as_array().expect("a report has findings");
    let one = found.iter().find(|one| one["id"] == "gil-held-elsewhere");
    let one = one.unwrap_or_else(|| panic!("it is not found: {found:#?}"));
    let summary = one["summary"].as_str().expect("a sentence");
    assert!(summary.contains("(prices)") && summary.contains("compute_beside"), "{summary}");
    let command = one["recommendations"][0]["command"].as_str().expect("something to do");
    assert!(command.contains("a process of its own"), "{command}");
    // What it computes is no request's, which all have a few milliseconds to do.
    let costs = &report["servers"][0]["per_request"];
    assert!(costs["cpu_with_gil_s"].as_f64() < Some(0.02), "{costs}");
}

#[test]
fn what_computes_beside_requests_is_named() {
    let all = with(&["flask", "gunicorn"]);
    let newest: Vec<Python> = all.last().cloned().into_iter().collect();
    each(&newest, beside);
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
            let found = report["findings"].as_array().expect("a report has findings");
            let is_starved = |one: &serde_json::Value| one["id"] == format!("{kind}-starved");
            assert!(!found.iter().any(is_starved), "{found:#?}");
            Trial::new(&report, &ended, server.end()).invents_hardly_any();
        });
    }
}
