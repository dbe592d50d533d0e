//! C stacks of threads that sleep, in every interpreter there is.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use interpreters::{Python, Script, interpreters};
use serde_json::Value;
use stallspy::native::{
    AddressSpace, Binaries, End, NativeFrame, Piece, Role, Trace, leaf, merge, sleeper,
};
use stallspy::python::code_objects::CodeCache;
use stallspy::python::frames::Walker;
use stallspy::python::locate::{Located, locate};
use stallspy::python::threads::{ThreadIds, threads};
use stallspy::target::{LiveMemory, Modules, ProcFs, ThreadFiles};
use stallspy::units::{Pid, Tid, Timestamp};

#[path = "common/interpreters.rs"]
mod interpreters;

/// A process whose threads all sleep.
struct Sleepers {
    procfs: ProcFs,
    memory: LiveMemory,
    located: Located,
    space: AddressSpace,
    binaries: Binaries,
    /// By what each does.
    threads: BTreeMap<String, i32>,
    script: Script,
}

impl Sleepers {
    fn start(python: &Python) -> Sleepers {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/targets/sleepers.py");
        let script = python.start(&script);
        let threads = serde_json::from_str(&script.line).expect("it says who sleeps where");
        let (procfs, pid) = (ProcFs::host(), Pid(script.pid()));
        let memory = LiveMemory::new(pid);
        let modules = Modules::load(&procfs, pid).unwrap();
        let located = locate(&memory, &modules).unwrap();
        let space = AddressSpace::new(pid, modules, located.runtime);
        let binaries = Binaries::default();
        Sleepers { procfs, memory, located, space, binaries, threads, script }
    }

    fn trace(&mut self, tid: i32) -> Option<Trace> {
        let files = ThreadFiles::new(&self.procfs, Pid(self.script.pid()), Tid(tid));
        sleeper(
            &files,
            &self.procfs,
            &self.memory,
            &mut self.space,
            &mut self.binaries,
            Timestamp(0),
        )
    }

    fn frames(&mut self, trace: &Trace) -> Vec<NativeFrame> {
        trace.frames.iter().map(|at| self.space.frame(&mut self.binaries, *at)).collect()
    }

    /// The Python functions of a thread, leaf first, and whether C entered with them.
    fn python(&self, tid: i32) -> Vec<(String, bool)> {
        let python = self.located.view(&self.memory);
        let by_native = self.procfs.namespace_tids(Pid(self.script.pid())).unwrap();
        let ids = ThreadIds { by_native };
        let found = threads(&python).unwrap();
        let is_it = |thread: &_| ids.of(&self.memory, thread) == Some(Tid(tid));
        let thread = found.into_iter().find(is_it).expect("the thread is Python's");
        let stack = Walker::default().walk(&python, &thread).unwrap();
        let mut codes = CodeCache::default();
        let name = |code| codes.get(&python, code, Timestamp(0)).unwrap().name.clone();
        let mut name = name;
        stack.frames.iter().map(|frame| (name(frame.code), frame.is_entry)).collect()
    }
}

/// What the C function of a wait is called, and by what it is called: any of these.
fn expected(kind: &str, minor: u8) -> &'static [&'static str] {
    match kind {
        "sleep" | "nested" if minor >= 11 => &["clock_nanosleep"],
        "sleep" | "nested" => &["select"],
        "recv" => &["recv"],
        // glibc's sem_wait() jumps to a function that it does not export
        "lock" => &["PyThread_acquire_lock_timed", "_PySemaphore_Wait"],
        "wait" => &["wait4"],
        "read" => &["read"],
        "sqlite" => &["clock_nanosleep"],
        _ => &[],
    }
}

fn check(python: &Python) {
    let mut sleepers = Sleepers::start(python);
    let (mut whole, mut all) = (0, 0);
    for (kind, tid) in sleepers.threads.clone() {
        // The one that waits for sqlite's lock wakes up to try it now and then.
        let trace = (0..200).find_map(|_| {
            let trace = sleepers.trace(tid);
            trace.or_else(|| {
                std::thread::sleep(Duration::from_millis(7));
                None
            })
        });
        let trace = trace.expect("it sleeps");
        let frames = sleepers.frames(&trace);
        let roles: Vec<Role> = frames.iter().map(|frame| frame.role).collect();
        let entries = sleepers.python(tid);
        let called: Vec<&str> =
            frames[..leaf(&roles)].iter().map(|frame| frame.function.as_str()).collect();
        all += 1;
        whole += usize::from(trace.end == End::Root);
        assert!(
            called.iter().any(|name| expected(&kind, python.minor()).contains(name)),
            "{} {kind}: {called:?}",
            python.version
        );
        if kind == "sqlite" {
            assert!(frames.iter().any(|f| f.function.starts_with("sqlite3_")), "{frames:?}");
        }
        let pieces = merge(&roles, &entries.iter().map(|e| e.1).collect::<Vec<_>>(), true);
        if kind == "nested" {
            interleaved(&python.version, &frames, &entries, &pieces);
        }
    }
    assert_eq!(whole, all, "{}: stacks that reach their root", python.version);
}

/// `sorted` was called by Python and called Python.
fn interleaved(version: &str, frames: &[NativeFrame], python: &[(String, bool)], pieces: &[Piece]) {
    let names: Vec<&str> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Native(at) => frames[*at].function.as_str(),
            Piece::Python(at) => python[*at].0.as_str(),
        })
        .collect();
    let place = |wanted: &str| {
        let found = names.iter().position(|name| *name == wanted);
        found.unwrap_or_else(|| panic!("{version}: no {wanted} in {names:?}"))
    };
    // Without names the functions in between say nothing, and are not shown.
    if !frames.iter().any(|frame| frame.function == "time_sleep") {
        return;
    }
    for (callee, caller) in [("key", "values"), ("values", "nested")] {
        let between = &pieces[place(callee) + 1..place(caller)];
        let native = between.iter().any(|piece| matches!(piece, Piece::Native(_)));
        assert!(native, "{version}: {names:?}");
    }
}

#[test]
fn what_a_sleeping_thread_is_in() {
    for python in interpreters() {
        check(&python);
    }
}

const STALLSPY: &str = env!("CARGO_BIN_EXE_stallspy");

fn stallspy(args: &[&str]) -> String {
    let output = Command::new(STALLSPY).args(args).output().expect("stallspy runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_stall_names_the_c_function() {
    for python in interpreters() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/targets/blocks.py");
        let script = python.start(&script);
        let pid = script.pid().to_string();
        let record = |more: &[&str]| -> Value {
            let args = ["record", "-q", "-d", "2", "-f", "json", "-p", &pid];
            let report = stallspy(&[&args[..], more].concat());
            serde_json::from_str(&report).expect("the report is JSON")
        };
        let report = record(&[]);
        let blamed = |report: &Value| -> Vec<Value> {
            let stalls = report["stalls"].as_array().expect("stalls");
            stalls.iter().filter(|stall| !stall["culprit"].is_null()).cloned().collect()
        };
        let stalls = blamed(&report);
        let named: Vec<&Value> =
            stalls.iter().filter(|stall| !stall["culprit"]["native"].is_null()).collect();
        // One that ends while its stack is read stays without.
        assert!(named.len() * 2 > stalls.len(), "{}: {stalls:?}", python.version);
        let sleep = expected("sleep", python.minor())[0];
        for stall in named {
            let native = &stall["culprit"]["native"];
            assert_eq!(native["function"], sleep, "{}: {stall}", python.version);
            assert_eq!(native["module"], "libc.so.6", "{}", python.version);
            let stack = stall["stack"].as_array().unwrap();
            let first_python = stack.iter().position(|frame| frame["native"] == false).unwrap();
            assert!(first_python > 0, "{}: {stall}", python.version);
            assert_eq!(stack[first_python]["function"], "wait_for_it", "{}", python.version);
            assert!(stack[first_python..].iter().all(|frame| frame["native"] == false));
        }
        let without = record(&["--no-native"]);
        assert!(blamed(&without).iter().all(|stall| stall["culprit"]["native"].is_null()));
    }
}

#[test]
fn flamegraphs_and_dumps_show_c_frames() {
    for python in interpreters() {
        let sleepers = Sleepers::start(&python);
        let pid = sleepers.script.pid().to_string();
        let args = ["record", "-q", "-d", "1", "-f", "raw", "-i", "-p", &pid];
        let folded = |more: &[&str]| stallspy(&[&args[..], more].concat());
        let with = folded(&["-n"]);
        for function in [";recv (libc.so.6)", ";wait4 (libc.so.6)"] {
            assert!(with.contains(function), "{}: {with}", python.version);
        }
        assert!(!folded(&[]).contains("(libc.so.6)"), "{}", python.version);

        let dump: Value =
            serde_json::from_str(&stallspy(&["dump", "-n", "--json", "-p", &pid])).unwrap();
        let threads = dump["threads"].as_array().unwrap();
        let tid = sleepers.threads["recv"];
        let thread = threads.iter().find(|thread| thread["tid"] == tid).unwrap();
        let frames = thread["frames"].as_array().unwrap();
        let native = frames.iter().find(|frame| frame["function"] == "recv").unwrap();
        assert_eq!((&native["native"], &native["module"]), (&true.into(), &"libc.so.6".into()));
        let dump: Value = serde_json::from_str(&stallspy(&["dump", "--json", "-p", &pid])).unwrap();
        assert!(!dump["threads"].to_string().contains("libc.so.6"));
    }
}

/// `cargo test --test live_native -- --ignored --nocapture` prints what a stack costs.
#[test]
#[ignore = "measures, asserts nothing"]
#[allow(clippy::print_stdout)]
fn what_a_stack_costs() {
    for python in interpreters() {
        let mut sleepers = Sleepers::start(&python);
        for (kind, tid) in sleepers.threads.clone() {
            let first = Instant::now();
            let trace = sleepers.trace(tid);
            let first = first.elapsed();
            let names = Instant::now();
            let frames = trace.map(|trace| sleepers.frames(&trace)).unwrap_or_default();
            let names = names.elapsed();
            let mut times: Vec<_> = (0..200)
                .map(|_| {
                    let began = Instant::now();
                    let trace = sleepers.trace(tid);
                    let _ = trace.map(|trace| sleepers.frames(&trace));
                    began.elapsed()
                })
                .collect();
            times.sort();
            println!(
                "{} {kind}: median {:?}, p95 {:?}, first {first:?} + names {names:?}, {} frames",
                python.version,
                times[100],
                times[190],
                frames.len()
            );
        }
    }
}
