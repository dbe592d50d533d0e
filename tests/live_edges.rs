//! Exact edges on real servers: where the kernel records them, stalls have its ends; where it does
//! not, the same stalls are found by the loop's own clock.
//!
//! Some sandboxes refuse perf events; there these tests hold the fallback to its word. As root in CI
//! (`CI` is set) the kernel must not refuse.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]
#![allow(clippy::cast_precision_loss, clippy::print_stderr)] // a test may say how it went

#[path = "common/interpreters.rs"]
mod interpreters;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use interpreters::interpreters;
use serde_json::Value;
use stallspy::target::{Edges, PollCall, Tracepoints};
use stallspy::units::Tid;

const STALLSPY: &str = env!("CARGO_BIN_EXE_stallspy");
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/servers/asyncio_stalls.py");
const HOLDS_GIL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/targets/holds_gil.py");
const THRESHOLD_NS: u64 = 10_000_000;
/// By then it has found out how the loop polls, and how the kernel numbers its events; opening them
/// takes long while others close theirs.
const SETTLED_NS: u64 = 3_000_000_000;
/// The kernel's edges lie outside the truth's own readings of the clock, up to the clocks' steps.
const SLACK_NS: u64 = 2_000;
/// To the loop's own clock an iteration ends a little before the poll is called.
const CLOCK_SLACK_NS: u64 = 1_000_000;
const NOBODY: u32 = 65534;

/// A server that stalls and writes down when; ended when dropped.
struct Server {
    process: Child,
    folder: tempfile::TempDir,
    user: Option<u32>,
}

fn as_user(command: &mut Command, user: Option<u32>) -> &mut Command {
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command
}

impl Server {
    fn start(user: Option<u32>) -> Server {
        let folder = tempfile::tempdir().unwrap();
        if let Some(user) = user {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(user)).unwrap();
        }
        let (truth, ready) = (folder.path().join("truth"), folder.path().join("ready"));
        let mut command = Command::new("python3");
        command.args([
            "-B",
            SERVER,
            "--lengths",
            "5-60",
            "--seconds",
            "30",
            "--iterations",
            "--truth",
        ]);
        command.arg(truth).arg("--ready").arg(&ready);
        let process = as_user(&mut command, user).spawn().expect("python3 runs");
        let server = Server { process, folder, user };
        let began = Instant::now();
        while !ready.exists() {
            assert!(began.elapsed() < Duration::from_secs(20), "the server starts");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn record(&self, environment: &[(&str, &str)]) -> Value {
        let mut command = Command::new(STALLSPY);
        command.args([
            "record",
            "-q",
            "-d",
            "6",
            "-f",
            "json",
            "-p",
            &self.process.id().to_string(),
        ]);
        // A cache of its own: what another run learnt must not be needed.
        command.env("XDG_CACHE_HOME", self.folder.path()).envs(environment.iter().copied());
        let output = as_user(&mut command, self.user).output().expect("stallspy runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("the report is JSON")
    }

    /// `(start, end)` of every long iteration of the loop, as the kernel sees it or as the loop does.
    fn end(mut self, by_kernel: bool) -> Vec<(u64, u64)> {
        let pid = nix::unistd::Pid::from_raw(self.process.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.process.wait().unwrap();
        let text = std::fs::read_to_string(self.folder.path().join("truth")).expect("the truth");
        let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let entries = entries.filter(|entry| entry["kind"] == "iteration");
        let ns = |value: &Value| value.as_u64().unwrap();
        let ends = |entry: Value| match &entry["poll_edges_ns"] {
            Value::Array(edges) if by_kernel => (ns(&edges[0]), ns(&edges[1])),
            _ => (ns(&entry["start_ns"]), ns(&entry["end_ns"])),
        };
        entries.map(ends).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether the kernel lets us, and must: as root in CI it must.
fn is_allowed() -> bool {
    let opened = Tracepoints::learn()
        .and_then(|points| Edges::open(Tid(0), &PollCall::guessed(9), &points).map(drop));
    if let Err(error) = opened {
        assert!(std::env::var_os("CI").is_none(), "perf events must work in CI: {error}");
        eprintln!("perf events do not work here: {error}");
        return false;
    }
    true
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Compares a report with what really happened; returns how many stalls have the kernel's ends.
fn check(report: &Value, truth: &[(u64, u64)], tier: &str) -> usize {
    let ns = |value: &Value| value.as_u64().unwrap();
    let attached = ns(&report["attached_ns"]);
    let last = ns(&report["detached_ns"]);
    let stalls = report["stalls"].as_array().unwrap();
    let is_traced = tier == "traced";
    let slack = if is_traced { SLACK_NS } else { CLOCK_SLACK_NS };
    let first = stalls.iter().find(|stall| stall["evidence"] == "traced" || !is_traced);
    let first = ns(&first.expect("one of the tier")["start_ns"]).saturating_sub(SLACK_NS);
    assert!(first < attached + SETTLED_NS, "{} ms", (first - attached) / 1_000_000);
    let expected = truth.iter().filter(|(start, end)| {
        *start > first && *end + THRESHOLD_NS < last && end - start >= THRESHOLD_NS
    });
    let (mut errors, mut traced, mut missed) = (Vec::new(), 0, 0);
    for (start, end) in expected {
        let covers = |stall: &&Value| {
            let began = ns(&stall["start_ns"]);
            let longest = ns(&stall["duration_max_ns"]);
            began <= start + slack && *end <= began + longest + slack
        };
        let stall = stalls.iter().find(covers);
        let Some(stall) = stall else {
            eprintln!("{tier}: missed {start}..{end}, {:.3} ms", (end - start) as f64 / 1e6);
            missed += 1;
            continue;
        };
        assert_eq!(stall["evidence"], tier, "{stall}");
        if is_traced {
            assert_eq!(stall["duration_min_ns"], stall["duration_max_ns"], "{stall}");
            traced += 1;
        }
        errors.push(ns(&stall["duration_ns"]).abs_diff(end - start));
    }
    errors.sort_unstable();
    let middle = errors.get(errors.len() / 2).copied().unwrap_or_default();
    eprintln!("{tier}: {} stalls, median error {:.3} ms", errors.len(), middle as f64 / 1e6);
    assert!(errors.len() >= 10, "{} stalls", errors.len());
    // Without the kernel's record, a look that comes late can miss one: on a busy machine some do.
    let excused = if is_traced { 0 } else { errors.len() / 10 };
    assert!(missed <= excused, "{missed} missed: {}", report["losses"]);
    traced
}

#[test]
fn what_the_kernel_records_is_exact() {
    let tier = if is_allowed() { "traced" } else { "counted" };
    let server = Server::start(None);
    let report = server.record(&[]);
    check(&report, &server.end(tier == "traced"), tier);
    let losses = &report["losses"];
    assert_eq!((&losses["blind_edges"], &losses["lost_edges"]), (&0.into(), &0.into()), "{losses}");
    let of_loop = &report["processes"][0]["loops"][0]["evidence"];
    assert_eq!(of_loop, if tier == "traced" { "traced" } else { "sampled" });
}

#[test]
fn a_user_without_privileges_traces_their_own_process() {
    let runs = || {
        let mut command = Command::new(STALLSPY);
        as_user(command.arg("--version"), Some(NOBODY)).output().is_ok_and(|o| o.status.success())
    };
    if !is_root() || !runs() {
        eprintln!("this test becomes another user, and that one must be able to run stallspy");
        return;
    }
    // 2 is the kernel's own default; some distributions add levels above it that refuse all.
    let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    let level = paranoid.ok().and_then(|text| text.trim().parse::<i32>().ok()).unwrap_or(9);
    let tier = if is_allowed() && level <= 2 { "traced" } else { "counted" };
    let server = Server::start(Some(NOBODY));
    let report = server.record(&[]);
    let cache = server.folder.path().join("stallspy/tracepoints");
    let learnt =
        !Path::new("/sys/kernel/tracing/events").exists() || cache.exists() || tier != "traced";
    assert!(learnt, "no cache was made");
    check(&report, &server.end(tier == "traced"), tier);
}

#[test]
fn without_perf_events_the_same_stalls_are_found() {
    let server = Server::start(None);
    let report = server.record(&[("STALLSPY_NO_PERF", "1")]);
    assert_eq!(check(&report, &server.end(false), "counted"), 0);
    assert_eq!(report["processes"][0]["loops"][0]["evidence"], "sampled");
}

#[test]
fn a_loop_that_waits_for_the_interpreter_lock_is_seen_either_way() {
    for python in interpreters() {
        for (environment, tier) in [
            (None, if is_allowed() { "traced" } else { "sampled" }),
            (Some(("STALLSPY_NO_PERF", "1")), "sampled"),
        ] {
            let script = python.start(Path::new(HOLDS_GIL));
            let mut command = Command::new(STALLSPY);
            command.args([
                "record",
                "-q",
                "-d",
                "3",
                "-f",
                "json",
                "-p",
                &script.pid().to_string(),
            ]);
            let output = command.envs(environment).output().expect("stallspy runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            let stalls = report["stalls"].as_array().unwrap();
            let seen: Vec<&Value> = stalls
                .iter()
                .filter(|stall| stall["kind"] == "gil_wait" && stall["evidence"] == tier)
                .collect();
            // The lock is held some 17 times in 3 s; a starved machine manages fewer.
            assert!(seen.len() >= 5, "{}, {tier}: {stalls:#?}", python.version);
            for stall in &seen {
                // Where nothing but looks tells, the ends are known to two of them each.
                let shortest = stall["duration_max_ns"].as_u64().unwrap();
                assert!(shortest >= THRESHOLD_NS, "{}: {stall}", python.version);
            }
            // The first look may come while the thread gets the lock.
            let named = seen.iter().filter(|stall| {
                let culprit = &stall["culprit"];
                culprit["function"] == "hold" && culprit["tid"] != stall["tid"]
            });
            assert!(10 * named.count() >= 9 * seen.len(), "{}: {seen:#?}", python.version);
        }
    }
}
