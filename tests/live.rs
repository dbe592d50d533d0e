//! The main job on real servers: every interpreter (see `common/interpreters.rs`) runs a server that
//! blocks its loop and writes the truth down; stallspy must find it.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

#[path = "common/interpreters.rs"]
mod interpreters;

use std::path::Path;
use std::process::Command;

use interpreters::interpreters;
use serde_json::Value;

const STALLSPY: &str = env!("CARGO_BIN_EXE_stallspy");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/targets/blocks.py");
/// What the script sleeps each time.
const STALL_NS: u64 = 50_000_000;

fn record(pid: i32) -> Value {
    let pid = pid.to_string();
    let output = Command::new(STALLSPY)
        .args(["record", "-q", "-d", "2", "-f", "json", "-p", &pid])
        .output()
        .expect("stallspy runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the report is JSON")
}

#[test]
fn in_ci_every_version_is_there() {
    if std::env::var_os("CI").is_none() {
        return;
    }
    let minors: Vec<u8> = interpreters().iter().map(interpreters::Python::minor).collect();
    for minor in 8..=15 {
        assert!(minors.contains(&minor), "no CPython 3.{minor} in {minors:?}");
    }
}

#[test]
fn every_interpreter_shows_its_stalls() {
    for python in interpreters() {
        let script = python.start(Path::new(SCRIPT));
        let line: u64 = script.line.trim().parse().expect("the script tells the blocking line");
        let report = record(script.pid());
        let stalls = report["stalls"].as_array().expect("stalls");
        let blamed: Vec<&Value> = stalls.iter().filter(|s| !s["culprit"].is_null()).collect();
        // One every 100 ms or so for 2 s; a starved machine makes fewer, never none.
        assert!(blamed.len() >= 5, "{}: {} stalls", python.version, blamed.len());
        for stall in blamed {
            let (lo, hi) = (&stall["duration_min_ns"], &stall["duration_max_ns"]);
            let whole = stall["before_attach"] == false && stall["ongoing"] == false;
            assert!(!whole || hi.as_u64() >= Some(STALL_NS), "{}: {stall}", python.version);
            assert!(lo.as_u64() <= hi.as_u64(), "{}: {stall}", python.version);
            assert_eq!(stall["culprit"]["line"], line, "{}: {stall}", python.version);
            assert_eq!(stall["culprit"]["function"], "wait_for_it", "{}", python.version);
            assert_eq!(stall["endpoint"], "GET /slow", "{}: {stall}", python.version);
            assert_eq!(stall["kind"], "blocking_call", "{}: {stall}", python.version);
            // Which of the two, tests/live_edges.rs asks.
            let evidence = stall["evidence"].as_str();
            assert!(matches!(evidence, Some("traced" | "counted")), "{}: {stall}", python.version);
        }
    }
}

#[test]
fn errors_have_their_exit_codes() {
    let mut sleep = Command::new("sleep").arg("30").spawn().expect("sleep runs");
    let pid = sleep.id().to_string();
    let code = |args: &[&str]| Command::new(STALLSPY).args(args).output().unwrap().status.code();
    assert_eq!(code(&["record", "-p", &pid]), Some(4));
    assert_eq!(code(&["record", "-p", "2147483647"]), Some(4));
    assert_eq!(code(&["record", "-p", &pid, "-o", "/nonexistent/x.json"]), Some(1));
    assert_eq!(code(&["record", "-p", &pid, "--no-such-flag"]), Some(2));
    assert_eq!(code(&["record", "-p", &pid, "-g"]), Some(2));
    sleep.kill().unwrap();
    sleep.wait().unwrap();
}
