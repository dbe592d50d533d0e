//! A loop that hangs: seen while it lasts, at either end of the recording, and left as it was.

use std::time::Duration;

use crate::interpreters::some_interpreters;
use crate::profiler::record;
use crate::server::Server;
use crate::truth::{Entry, Stall};
use crate::turn::each;

/// Each hang of the server. The recording is longer, and begins in one and ends in the next, unless
/// the machine takes 3 s to start stallspy.
const HANG: &str = "4000-4001";
const HANG_NS: u64 = 4_000_000_000;
const SECONDS: u32 = 5;
/// Before each hang the server pauses for less than 0.1 s.
const PAUSE: Duration = Duration::from_millis(300);

#[test]
fn what_is_cut_off_says_so() {
    each(&some_interpreters(), |python| {
        let args = ["--kinds", "lock", "--lengths", HANG];
        let mut server = Server::start(python, "asyncio_stalls.py", 120, &args);
        std::thread::sleep(PAUSE);
        let (report, _) = record(server.pid(), SECONDS, &[]);
        assert!(server.is_running());
        let truth: Vec<Entry> = server.end().into_iter().filter(Entry::blocks).collect();
        let detached = report["detached_ns"].as_u64().expect("a time");
        let stalls = Stall::all(&report);
        let [first, second] = stalls.as_slice() else { panic!("{} stalls", stalls.len()) };

        assert_eq!(first.json["before_attach"], true, "{}", first.brief());
        assert_eq!(first.json["ongoing"], false, "{}", first.brief());
        assert_eq!(second.json["before_attach"], false, "{}", second.brief());
        assert_eq!(second.json["ongoing"], true, "{}", second.brief());
        for (stall, own) in [first, second].into_iter().zip(&truth) {
            assert_eq!(stall.kind, "blocking_call");
            assert_eq!(stall.json["culprit"]["function"], "lock");
            assert_eq!(stall.json["culprit"]["syscall"], "futex");
            let line = stall.json["culprit"]["line"].as_u64().expect("a line");
            assert!(own.lines.contains(&line), "line {line} of {:?}", own.lines);
        }
        // Of a hang that has not ended no more is told than was seen.
        assert!(second.number("duration_min_ns") <= detached - second.start_ns);
        assert!(second.end_ns <= detached && second.end_ns + HANG_NS / 8 > detached);
        // Its background tasks wait meanwhile.
        let waiting = report["processes"][0]["tasks_waiting"].as_u64();
        assert!(waiting.is_some_and(|tasks| tasks >= 3), "{waiting:?}");
        let findings = report["findings"].to_string();
        assert!(findings.contains(" tasks wait"), "{findings}");
        // It went on afterwards, for as long as it was to.
        let [own, next, ..] = truth.as_slice() else { panic!("{truth:?}") };
        assert!(!own.ongoing && own.length() >= HANG_NS, "{own:?}");
        assert!(next.end_ns > detached && next.start_ns.abs_diff(second.start_ns) < HANG_NS / 8);
    });
}

#[test]
fn a_hang_that_outlasts_the_recording_is_cut_off_at_both_ends() {
    let some = some_interpreters();
    each(some.get(..1).unwrap_or_default(), |python| {
        let args = ["--kinds", "pipe", "--lengths", "60000-60001"];
        let server = Server::start(python, "asyncio_stalls.py", 120, &args);
        std::thread::sleep(PAUSE);
        let (report, _) = record(server.pid(), 2, &["--threshold", "100ms"]);
        let stalls = Stall::all(&report);
        let [only] = stalls.as_slice() else { panic!("{} stalls", stalls.len()) };
        assert!(only.json["ongoing"] == true && only.json["before_attach"] == true);
        assert_eq!(only.json["culprit"]["function"], "pipe", "{}", only.json);
        let hung = |finding: &serde_json::Value| finding["id"] == "loop-hung";
        let findings = report["findings"].as_array().expect("findings");
        assert!(findings.iter().any(hung), "{findings:?}");
    });
}
