//! A worker that the kernel kills for memory, in a control group with a limit.
//!
//! Needs the right to make a control group with a memory limit, as `quota.rs` does. Where there is none this says so and
//! passes; `target/cgroup/oom.rs` and `sampler/oom_watch.rs` have their own tests over made-up groups.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::control_group::Group;
use crate::interpreters::{Python, interpreters};
use crate::profiler::record;
use crate::say;
use crate::server::Server;
use crate::turn::each;

/// Room for the server and a little more, and a request that takes twice that.
const LIMIT: u64 = 128 << 20;
const REQUEST: &str = "1:/hoard?mib=256";

fn one() -> Vec<Python> {
    let has_all = |python: &Python| ["flask", "gunicorn"].iter().all(|one| python.has(one));
    let all: Vec<Python> = interpreters().into_iter().filter(has_all).collect();
    all.get(all.len() / 2).cloned().into_iter().collect()
}

fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let words = |text: String| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    text.map(words).unwrap_or_default()
}

#[test]
fn a_worker_that_the_kernel_kills_for_memory_is_told_and_gunicorns_timeout_is_not() {
    each(&one(), |python| {
        let v1 = [("memory.limit_in_bytes", LIMIT.to_string())];
        // Else it would be swapped out.
        let v2 = [("memory.max", LIMIT.to_string()), ("memory.swap.max", "0".to_owned())];
        let Some(group) = Group::make("memory", "memory", &v1, &v2) else {
            say("no control group can be made here: nothing is told of kills for memory");
            return;
        };
        let args = ["--server", "sync", "--timeout", "30"];
        let server = Server::start(python, "wsgi_stalls.py", 60, &args);
        std::thread::sleep(Duration::from_secs(1));
        let workers = children(server.pid());
        if !workers.iter().chain([&server.pid()]).all(|pid| group.take(*pid)) {
            say(
                "no process can be moved to a control group here: nothing is told of kills for memory",
            );
            return;
        }
        let load = server.load(&["--url-mix", REQUEST, "--connections", "1", "--seconds", "20"]);
        let (report, _) = record(server.pid(), 5, &[]);
        // Without their master they end when they look for it: the group is to be empty.
        let left = children(server.pid());
        drop((load, server));
        for pid in left {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let list = |name: &str| report[name].as_array().expect("a list").clone();
        let ended: Vec<Value> =
            { list("processes").into_iter() }.filter(|one| !one["ended_ns"].is_null()).collect();
        assert!(!ended.is_empty(), "the kernel kills it");
        for one in &ended {
            assert_eq!(one["killed_for_memory"], true, "{}", one["pid"]);
        }
        let findings = list("findings");
        let found =
            |id: &str| findings.iter().find(|one| one["id"] == id && one["verdict"] == "found");
        assert!(found("worker-timeout-ahead").is_none());
        let said =
            found("oom-killed").expect("it is found")["summary"].as_str().expect("a sentence");
        assert!(said.starts_with("the kernel killed ") && said.contains(" for memory"), "{said}");
    });
}
