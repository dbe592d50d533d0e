//! Workers that gunicorn kills, as they give no sign of life; and those that wait as long and are not.

use serde_json::Value;

use crate::in_ci;
use crate::interpreters::{Python, interpreters};
use crate::profiler::record;
use crate::server::Server;
use crate::turn::each;

/// One interpreter that has it: what differs between versions is tested elsewhere.
fn one() -> Vec<Python> {
    let has_all = |python: &Python| ["flask", "gunicorn"].iter().all(|one| python.has(one));
    let all: Vec<Python> = interpreters().into_iter().filter(has_all).collect();
    assert!(!(in_ci() && all.is_empty()), "STALLSPY_INTERPRETERS lists none with gunicorn");
    all.get(all.len() / 2).cloned().into_iter().collect()
}

/// Requests that take longer than the timeout of 2 s; what the recording says of it, and how many workers ended.
fn recorded(python: &Python, kind: &str) -> (Option<Value>, usize) {
    let args = ["--server", kind, "--timeout", "2"];
    let server = Server::start(python, "wsgi_stalls.py", 60, &args);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let load =
        server.load(&["--url-mix", "1:/sleep?ms=60000", "--connections", "1", "--seconds", "20"]);
    let (report, _) = record(server.pid(), 6, &[]);
    drop(load);
    let list = |name: &str| report[name].as_array().expect("a list").clone();
    let ended = list("processes").iter().filter(|one| !one["ended_ns"].is_null()).count();
    let found = list("findings").into_iter();
    let mut found = found.filter(|one| one["id"] == "worker-timeout-ahead");
    (found.find(|one| one["verdict"] == "found"), ended)
}

#[test]
fn a_sync_worker_that_is_killed_is_told_with_its_request() {
    each(&one(), |python| {
        let (found, ended) = recorded(python, "sync");
        assert!(ended >= 1, "gunicorn kills it after 2 to 3 s");
        let found = found.expect("it is found");
        let figure = |name: &str| {
            let all = found["evidence"].as_array().expect("evidence");
            all.iter().find(|one| one["name"] == name).expect("it is there")["value"].as_f64()
        };
        assert_eq!(found["severity"], "high", "{found:#}");
        assert_eq!((figure("timeout"), figure("workers_killed")), (Some(2.0), Some(ended as f64)));
        assert!(figure("longest_hold") > Some(1.9), "{found:#}");
        let said = found["summary"].as_str().expect("a sentence");
        for word in ["gunicorn killed", "worker", "GET /sleep", "wsgi_stalls.py", "nanosleep()"] {
            // time.sleep is a select before 3.11.
            assert!(
                said.contains(word) || word == "nanosleep()" && said.contains("select()"),
                "{said}"
            );
        }
    });
}

#[test]
fn a_thread_of_gthread_that_waits_as_long_is_not_killed() {
    each(&one(), |python| {
        let (found, ended) = recorded(python, "gthread");
        assert_eq!((found, ended), (None, 0));
    });
}
