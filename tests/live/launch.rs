//! `record -- CMD`: the command is watched from its start, ended at the recording's end, and its
//! exit code is ours.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::interpreters::{Python, folder, interpreters, some_interpreters};
use crate::profiler::{Ended, Profiler, stallspy};
use crate::server::{PATIENCE, copy, ready, truth, words};
use crate::truth::Stall;
use crate::turn::each;
use crate::uvloop::with;

const STUBBORN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/targets/stubborn.py");

/// The words that start a server of `seconds`.
fn command(python: &Python, folder: &Path, seconds: &str) -> Vec<String> {
    let mut all = python.words();
    all.extend(words(python, folder, "asyncio_stalls.py"));
    let text = all.iter().map(|word| word.display().to_string());
    let more = ["--kinds", "sleep,recv", "--lengths", "20-60", "--seconds", seconds];
    text.chain(more.map(str::to_owned)).collect()
}

fn record(flags: &[&str], command: &[String]) -> Ended {
    let mut args = vec!["record", "-q", "-f", "json"];
    args.extend(flags);
    args.push("--");
    args.extend(command.iter().map(String::as_str));
    stallspy(&args)
}

fn first() -> Vec<Python> {
    some_interpreters().into_iter().take(1).collect()
}

#[test]
fn a_command_is_watched_to_its_end() {
    each(&interpreters(), |python| {
        let folder = copy(python);
        let ended = record(&[], &command(python, folder.path(), "2"));
        assert_eq!((ended.code(), ended.err.as_str()), (Some(0), ""));
        let report = ended.report();
        assert!(Stall::all(&report).len() >= 5);
        let truth = truth(folder.path());
        // Most of it was seen: it is attached to as soon as it is an interpreter.
        let attached = report["attached_ns"].as_u64().expect("a time");
        let blocks = || truth.iter().filter(|entry| entry.blocks());
        assert!(blocks().all(|entry| entry.start_ns > attached), "attached too late");
        assert!(!report["processes"][0]["ended_ns"].is_null());
    });
}

#[test]
fn its_exit_code_is_ours() {
    each(&first(), |python| {
        let folder = copy(python);
        // Behind a shell, as commands of build systems are.
        let server = command(python, folder.path(), "3").join(" ");
        let behind_shell = ["sh".to_owned(), "-c".to_owned(), format!("{server}; exit 7")];
        let ended = record(&[], &behind_shell);
        assert_eq!((ended.code(), ended.err.as_str()), (Some(7), ""));
        assert!(Stall::all(&ended.report()).len() >= 5);

        // A gate that fails comes first.
        std::fs::remove_file(folder.path().join("ready")).expect("it was ready");
        let ended = record(&["--fail-on", "stalls>1"], &behind_shell);
        assert_eq!(ended.code(), Some(3), "{}", ended.err);
    });
    let unseen = stallspy(&["record", "--", "sh", "-c", "exit 7"]);
    assert_eq!(unseen.code(), Some(7), "{}", unseen.err);
    let unstarted = stallspy(&["record", "--", "/no/such/program"]);
    assert_eq!(unstarted.code(), Some(1));
    assert_eq!(
        unstarted.err,
        "stallspy: cannot start `/no/such/program`: No such file or directory (os error 2)\n"
    );
}

#[test]
fn when_the_time_is_up_it_is_asked_to_end() {
    each(&first(), |python| {
        let folder = copy(python);
        let began = Instant::now();
        let ended = record(&["-d", "2"], &command(python, folder.path(), "600"));
        assert_eq!((ended.code(), ended.err.as_str()), (Some(0), ""));
        assert!(began.elapsed() < PATIENCE);
        // Asked, not killed: it still wrote its truth.
        assert!(!truth(folder.path()).is_empty());
    });
}

#[test]
fn its_pipes_break_as_in_any_shell() {
    // Rust programs ignore SIGPIPE; those they start should not.
    let told = stallspy(&["record", "--", "sh", "-c", "grep SigIgn /proc/$$/status"]);
    let mask = told.out.trim().strip_prefix("SigIgn:\t").expect("it tells what it ignores");
    let mask = u64::from_str_radix(mask, 16).expect("a mask");
    assert_eq!(mask & (1 << (Signal::SIGPIPE as i32 - 1)), 0);
}

#[test]
fn a_second_signal_does_not_cost_the_report() {
    each(&first(), |python| {
        let folder = folder(python);
        let file = |name: &str| folder.path().join(name);
        std::fs::copy(STUBBORN, file("stubborn.py")).expect("the folder can be written");
        let mut line = python.words();
        line.extend([python.inside(&file("stubborn.py")), python.inside(&file("pid"))]);
        let line: Vec<String> = line.iter().map(|word| word.display().to_string()).collect();
        let report = file("a.json").display().to_string();
        let mut args = vec!["record", "-o", &report, "--"];
        args.extend(line.iter().map(String::as_str));
        let mut profiler = Profiler::start(&args);
        let child: i32 = eventually(|| std::fs::read_to_string(file("pid")).ok()?.parse().ok());
        std::thread::sleep(Duration::from_secs(1));

        profiler.signal(Signal::SIGINT);
        // It is whole although the command has not ended: its end is waited for some seconds more.
        let whole: Value =
            eventually(|| serde_json::from_str(&std::fs::read_to_string(&report).ok()?).ok());
        assert!(profiler.is_running(), "the command is still waited for");
        profiler.signal(Signal::SIGINT);
        let ended = profiler.finish();
        let orphan = kill(nix::unistd::Pid::from_raw(child), Signal::SIGKILL);
        assert!(orphan.is_ok(), "the command ended before the report was written");
        assert_eq!(ended.signal(), Some(Signal::SIGINT as i32), "{:?}", ended.code());
        assert!(Stall::all(&whole).len() >= 5);
        assert!(ended.out.contains("VERDICT"), "{}", ended.out);
    });
}

/// A process that changes is asked for its server every 0.1 s, and a child searched for every 0.05 s; it was
/// 5 s where that came less and less often all along.
const TOLD_WITHIN: Duration = Duration::from_millis(1500);

/// What it becomes may show by nothing new: no file that was not seen, no thread.
#[test]
fn it_is_told_as_what_it_becomes_after_a_second_of_imports() {
    let all = with(&["flask"]);
    each(all.get(all.len().saturating_sub(1)..).unwrap_or_default(), |python| {
        let folder = copy(python);
        let mut line = python.words();
        line.extend(words(python, folder.path(), "reloaded.py"));
        let line: Vec<String> = line.iter().map(|word| word.display().to_string()).collect();
        let mut args = vec!["record", "-q", "-f", "json", "--"];
        args.extend(line.iter().map(String::as_str));
        let mut profiler = Profiler::start(&args);
        ready(folder.path(), &mut || (!profiler.is_running()).then_some(0));
        std::thread::sleep(TOLD_WITHIN);
        profiler.signal(Signal::SIGINT);
        let report = profiler.finish().report();
        let told = |process: &Value| format!("{} {}", process["server"], process["role"]);
        let mut all: Vec<String> =
            report["processes"].as_array().expect("processes").iter().map(told).collect();
        all.sort();
        assert_eq!(all, [r#""werkzeug" "master""#, r#""werkzeug" "worker""#]);
    });
}

/// Waits for something that must become true soon; a loaded machine may be slow.
fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "it never came true");
        std::thread::sleep(Duration::from_millis(10));
    }
}
