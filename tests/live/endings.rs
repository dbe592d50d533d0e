//! How a recording ends: by a signal, by its target's end; always with everything written.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::interpreters::some_interpreters;
use crate::profiler::{Profiler, stallspy};
use crate::server::Server;
use crate::truth::Stall;
use crate::turn::each;

const FILES: [&str; 6] =
    ["a.txt", "a.json", "a.svg", "a.folded", "a.speedscope.json", "a.stallspy"];
const STALLS: [&str; 2] = ["--lengths", "15-60"];

/// `record` into every format, until something ends it.
fn start(server: &Server, folder: &Path) -> Profiler {
    let files = FILES.map(|name| folder.join(name).display().to_string());
    let pid = server.pid().to_string();
    let mut args = vec!["record", "-p", &pid];
    for file in &files {
        args.extend(["-o", file]);
    }
    let mut profiler = Profiler::start(&args);
    profiler.handles(Signal::SIGTERM);
    std::thread::sleep(Duration::from_secs(2));
    profiler
}

/// Everything is there and whole; gives the report.
fn written(folder: &Path) -> Value {
    for name in FILES {
        let length = std::fs::metadata(folder.join(name)).expect("it is written").len();
        assert!(length > 0, "{name} is empty");
    }
    let json = std::fs::read_to_string(folder.join("a.json")).expect("it is written");
    // The recording is whole as well: rendered again it gives the same report.
    let file = folder.join("a.stallspy").display().to_string();
    let again = stallspy(&["report", &file, "-f", "json"]);
    assert_eq!((again.code(), again.err.as_str()), (Some(0), ""));
    assert!(again.out == json, "the report of the recording differs");
    serde_json::from_str(&json).expect("it is whole")
}

#[test]
fn a_signal_ends_it_with_everything_written() {
    let some = some_interpreters();
    each(some.get(..1).unwrap_or_default(), |python| {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let folder = tempfile::tempdir().expect("a folder can be made");
            let mut server = Server::start(python, "asyncio_stalls.py", 90, &STALLS);
            let profiler = start(&server, folder.path());
            profiler.signal(signal);
            let ended = profiler.finish();
            assert_eq!(ended.code(), Some(0), "{signal}: {}", ended.err);
            assert!(ended.out.contains("VERDICT"), "{}", ended.out);
            for name in FILES {
                let file = folder.path().join(name);
                assert!(
                    ended.err.contains(&format!("wrote {}\n", file.display())),
                    "{}",
                    ended.err
                );
            }
            let report = written(folder.path());
            assert!(Stall::all(&report).len() >= 5, "{signal}");
            assert_eq!(report["processes"][0]["ended_ns"], Value::Null);
            assert!(server.is_running(), "{signal} was for stallspy only");
        }
    });
}

#[test]
fn a_target_that_is_killed_is_reported() {
    each(&some_interpreters(), |python| {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mut server = Server::start(python, "asyncio_stalls.py", 90, &STALLS);
        let profiler = start(&server, folder.path());
        server.kill();
        let ended = profiler.finish();
        assert_eq!(ended.code(), Some(0), "{}", ended.err);
        let report = written(folder.path());
        assert!(Stall::all(&report).len() >= 5);
        let end = report["processes"][0]["ended_ns"].as_u64().expect("its end was seen");
        let detached = report["detached_ns"].as_u64().expect("a time");
        assert!(end <= detached && detached - end < 5_000_000_000);
    });
}

#[test]
fn a_target_that_ends_unseen_is_an_error() {
    let ended = stallspy(&["record", "--", "true"]);
    assert_eq!(ended.code(), Some(6));
    assert_eq!(
        ended.err,
        "stallspy: `true` ended before anything was seen: record for longer, or start it under load\n"
    );
    assert_eq!(ended.out, "");
}
