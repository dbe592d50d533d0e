//! Threads that hold the interpreter lock: the loop waits, and who made it wait is named.

use std::process::Command;

use serde_json::Value;

use crate::interpreters::{Python, interpreters, some_interpreters};
use crate::profiler::{Profiler, STALLSPY, stallspy};
use crate::server::Server;
use crate::truth::Entry;
use crate::turn::each;

/// A hold this much longer than the threshold is a stall whatever the loop was doing when it began.
const CERTAIN_NS: u64 = 30_000_000;
/// Recorded for this long, in seconds; a hold comes every 0.15 s.
const SECONDS: &str = "8";
/// So many holds at least tell something: a machine with other work manages a few.
const ENOUGH: usize = 5;
/// Hogs in C, and in Python.
const HOGS: [&str; 2] = ["sort,power,json", "python,generator"];

/// Records a server whose hogs are these, with or without perf events.
fn record(python: &Python, hogs: &str, perf: bool, more: &[&str]) -> (Value, Vec<Entry>) {
    let server = Server::start(python, "asyncio_gil.py", 60, &["--hogs", hogs]);
    let pid = server.pid().to_string();
    let mut command = Command::new(STALLSPY);
    command.args(["record", "-q", "-p", &pid, "-d", SECONDS, "-f", "json"]).args(more);
    if !perf {
        command.env("STALLSPY_NO_PERF", "1");
    }
    let ended = Profiler::start_by(command).finish();
    assert_eq!(ended.code(), Some(0), "{}", ended.err);
    (ended.report(), server.end())
}

fn ns(value: &Value) -> u64 {
    value.as_u64().expect("nanoseconds")
}

fn overlap(stall: &Value, hold: &Entry) -> u64 {
    let start = ns(&stall["start_ns"]);
    let end = start + ns(&stall["duration_ns"]);
    hold.end_ns.min(end).saturating_sub(hold.start_ns.max(start))
}

/// Whether a stall says what was true of the hold.
fn is_right(stall: &Value, hold: &Entry) -> bool {
    let culprit = &stall["culprit"];
    stall["kind"] == "gil_wait"
        && culprit["file"] == *hold.file
        && culprit["line"].as_u64().is_some_and(|line| hold.lines.contains(&line))
        && culprit["tid"].as_i64() == hold.tid.map(i64::from)
}

/// Every hold is seen, and nine in ten stalls name the line and the thread that held the lock. Where
/// the machine let the loop or the hog wait for a CPU, it is as right to say that.
fn names_the_hog(python: &Python, perf: bool) {
    for hogs in HOGS {
        let (report, truth) = record(python, hogs, perf, &[]);
        let holds = || truth.iter().filter(|one| one.kind.starts_with("gil_"));
        let stalls = report["stalls"].as_array().expect("stalls");
        // The first look at the loop comes a little after stallspy has begun.
        let from = ns(&report["attached_ns"]) + 500_000_000;
        let until = ns(&report["detached_ns"]);
        let due: Vec<&Entry> = holds()
            .filter(|hold| hold.start_ns > from && hold.end_ns < until)
            .filter(|hold| hold.length() > CERTAIN_NS)
            .collect();
        let missed = |hold: &&&Entry| stalls.iter().all(|stall| overlap(stall, hold) == 0);
        let missed = due.iter().filter(missed).count();
        assert!(due.len() >= ENOUGH, "{python}, {hogs}: only {} holds were watched", due.len());
        // To miss one, a whole base tick must have come late: it is counted.
        let late = ns(&report["losses"]["late_ticks"]);
        assert!(
            10 * missed <= due.len() || missed as u64 <= late,
            "{python}, {hogs}: missed {missed} of {}, with {late} late looks",
            due.len()
        );

        let (mut right, mut wrong) = (0, Vec::new());
        for stall in stalls {
            let most = holds().max_by_key(|hold| overlap(stall, hold)).expect("a hold");
            let starved =
                most.was_starved() || 4 * ns(&stall["run_delay_ns"]) >= ns(&stall["duration_ns"]);
            match overlap(stall, most) {
                0 => {}
                _ if is_right(stall, most) => right += 1,
                _ if starved => {}
                _ => wrong.push(format!(
                    "{} ns {} {} of {} in {}",
                    stall["duration_ns"],
                    stall["evidence"],
                    stall["kind"],
                    stall["culprit"],
                    most.kind
                )),
            }
        }
        assert!(
            right >= ENOUGH && 9 * wrong.len() <= right,
            "{python}, {hogs}, perf {perf}: {right} right, wrong {wrong:#?}"
        );
    }
}

#[test]
fn who_holds_the_lock_is_named() {
    each(&interpreters(), |python| names_the_hog(python, true));
}

#[test]
fn who_holds_the_lock_is_named_without_perf_events() {
    each(&some_interpreters(), |python| names_the_hog(python, false));
}

/// What a thread held of the lock, by the server's own account of its holds in this time.
fn held(truth: &[Entry], from: u64, until: u64) -> f64 {
    let inside = truth.iter().filter(|one| one.kind.starts_with("gil_"));
    let held: u64 =
        inside.map(|hold| hold.end_ns.min(until).saturating_sub(hold.start_ns.max(from))).sum();
    held as f64 / (until - from) as f64
}

#[test]
fn shares_and_samples_are_of_who_held_it() {
    each(&some_interpreters(), |python| {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let raw = folder.path().join("gil.raw");
        let raw_name = raw.to_str().expect("a name");
        let more = ["-o", "-", "-g", "-t", "-f", "raw", "-o", raw_name];
        let (report, truth) = record(python, HOGS[0], true, &more);
        let ns = |key: &str| report[key].as_u64().expect("a time");
        let expected = held(&truth, ns("attached_ns"), ns("detached_ns"));
        let process = &report["processes"][0];
        let tid = truth.iter().find_map(|one| one.tid).expect("a hog");
        let share = |value: &Value| value["gil_held_fraction"].as_f64().expect("a share");
        let threads = process["threads"].as_array().expect("threads");
        let hog = threads.iter().find(|one| one["tid"] == tid).expect("the hog");
        // 500 looks: five standard deviations of their share are 0.11.
        assert!((share(hog) - expected).abs() < 0.11, "{python}: {} of {expected}", share(hog));
        let all: f64 = threads.iter().map(share).sum();
        assert!((share(process) - all).abs() < 0.02, "{python}: {process}");

        let folded = std::fs::read_to_string(&raw).expect("the samples");
        let counts = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
        let (of_hog, others): (Vec<&str>, Vec<&str>) =
            folded.lines().partition(|line| line.starts_with(&format!("thread ({tid})")));
        let sum = |lines: &[&str]| lines.iter().filter_map(|line| counts(line)).sum::<u64>();
        assert!(sum(&of_hog) > 100 && sum(&of_hog) > 5 * sum(&others), "{python}: {folded}");
        let in_hogs = of_hog.iter().filter(|line| line.contains("asyncio_gil.py")).count();
        assert_eq!(in_hogs, of_hog.len(), "{python}: {folded}");
    });
}

#[test]
fn a_dump_shows_who_holds_it_and_who_waits() {
    each(&interpreters(), |python| {
        let server = Server::start(python, "asyncio_gil.py", 60, &["--hogs", "sort"]);
        let pid = server.pid().to_string();
        let mut seen = None;
        for _ in 0..100 {
            let ended = stallspy(&["dump", "-p", &pid, "--json"]);
            assert_eq!(ended.code(), Some(0), "{}", ended.err);
            let json: Value = serde_json::from_str(&ended.out).expect("JSON");
            let threads = json["threads"].as_array().expect("threads").clone();
            let with = |gil: &str| threads.iter().filter(|one| one["gil"] == gil).count();
            assert!(with("holding") <= 1, "{python}: {json}");
            if with("holding") == 1 && with("waiting") == 1 {
                seen = Some(threads);
                break;
            }
        }
        let threads = seen.expect("the loop is seen waiting");
        let of = |gil: &str| threads.iter().find(|one| one["gil"] == gil).expect("such a thread");
        assert_eq!(of("waiting")["tid"], server.pid(), "{python}");
        assert_eq!(of("holding")["frames"][0]["function"], "sort", "{python}");

        let text = (0..100).map(|_| stallspy(&["dump", "-p", &pid]).out);
        let both = |text: &String| {
            text.contains("(running, holds the GIL): \"")
                && text.contains("(waits for the GIL): \"")
        };
        assert!({ text }.any(|text| both(&text)), "{python}");
    });
}
