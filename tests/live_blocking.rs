//! `--blocking` on real processes: it sees what it sees without, and leaves nothing behind.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

#[path = "common/interpreters.rs"]
mod interpreters;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use interpreters::interpreters;
use nix::sys::ptrace;
use serde_json::Value;
use stallspy::target::ProcFs;
use stallspy::units::Pid;

const STALLSPY: &str = env!("CARGO_BIN_EXE_stallspy");
const TARGETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/targets");

fn command(pid: i32) -> Command {
    let mut command = Command::new(STALLSPY);
    command.args(["record", "-q", "--blocking", "-r", "500", "-f", "json", "-p", &pid.to_string()]);
    command
}

fn record(pid: i32) -> Value {
    let output = command(pid).args(["-d", "2"]).output().expect("stallspy runs");
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("the report is JSON")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The culprits' functions and kinds, of stalls that have one.
fn blamed(report: &Value) -> Vec<(String, String)> {
    let stalls = report["stalls"].as_array().expect("stalls");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let known = stalls.iter().filter(|stall| !stall["culprit"].is_null());
    known.map(|stall| (text(&stall["culprit"]["function"]), text(&stall["kind"]))).collect()
}

/// It runs, and nobody traces it.
fn is_free(pid: i32) -> bool {
    let procfs = ProcFs::host();
    let stat = procfs.stat(Pid(pid)).expect("the target lives");
    stat.state != 't' && procfs.tracer(Pid(pid)).expect("/proc tells").is_none()
}

#[test]
fn stalls_are_found_while_threads_are_paused() {
    // It computes in one line, four fifths of it in a C function: both are right.
    for (script, function, kinds) in [
        ("computes.py", "compute", &["cpu", "c_call"][..]),
        ("blocks.py", "wait_for_it", &["blocking_call"]),
    ] {
        for python in interpreters() {
            let script = python.start(&Path::new(TARGETS).join(script));
            let blamed = blamed(&record(script.pid()));
            assert!(blamed.len() >= 5, "{}: {blamed:?}", python.version);
            let right =
                blamed.iter().filter(|(f, k)| f == function && kinds.contains(&k.as_str())).count();
            // A starved machine may add a stall of another kind.
            assert!(right * 10 >= blamed.len() * 9, "{}: {blamed:?}", python.version);
            assert!(is_free(script.pid()), "{}", python.version);
        }
    }
}

#[test]
fn killing_us_lets_the_target_go_on() {
    let Some(python) = interpreters().into_iter().next() else { return };
    let script = python.start(&Path::new(TARGETS).join("computes.py"));
    for millis in [150, 170, 190, 210, 230] {
        let mut stallspy = command(script.pid()).spawn().expect("stallspy runs");
        std::thread::sleep(Duration::from_millis(millis));
        stallspy.kill().expect("it still runs");
        stallspy.wait().expect("it ends");
        assert!(is_free(script.pid()), "killed after {millis} ms");
    }
}

#[test]
fn a_target_that_is_traced_is_refused() {
    let Some(python) = interpreters().into_iter().next() else { return };
    let script = python.start(&Path::new(TARGETS).join("computes.py"));
    let pid = nix::unistd::Pid::from_raw(script.pid());
    ptrace::seize(pid, ptrace::Options::empty()).expect("it can be traced");
    let output = command(script.pid()).args(["-d", "1"]).output().expect("stallspy runs");
    assert_eq!(output.status.code(), Some(5));
    assert!(said(&output).contains("already, so --blocking cannot pause it"), "{}", said(&output));
    assert!(said(&output).contains("leave out --blocking"), "{}", said(&output));
    // The tracer is this thread and still alive: without --blocking nothing is in the way.
    let output = Command::new(STALLSPY)
        .args(["record", "-q", "-d", "1", "-f", "json", "-p", &script.pid().to_string()])
        .output()
        .expect("stallspy runs");
    assert!(output.status.success(), "{}", said(&output));
}
