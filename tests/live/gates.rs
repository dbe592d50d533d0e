//! Gates on a live server: what `--fail-on` and `--allow` make of its stalls.

use crate::interpreters::some_interpreters;
use crate::profiler::{Ended, stallspy};
use crate::server::Server;
use crate::turn::each;

const SECONDS: &str = "2";

fn record(server: &Server, gates: &[&str]) -> Ended {
    let pid = server.pid().to_string();
    let mut args = vec!["record", "-q", "-d", SECONDS, "-f", "json", "-p", &pid];
    args.extend(gates);
    stallspy(&args)
}

#[test]
fn a_gate_judges_what_was_seen() {
    let some = some_interpreters();
    each(some.get(..1).unwrap_or_default(), |python| {
        let args = ["--kinds", "sleep", "--lengths", "30-60"];
        let server = Server::start(python, "asyncio_stalls.py", 120, &args);

        let failed = record(&server, &["--fail-on", "stall>20ms", "--fail-on", "stalls>1000"]);
        assert_eq!(failed.code(), Some(3), "{}", failed.err);
        assert_eq!(failed.err.lines().count(), 1, "one of two gates failed: {}", failed.err);
        assert!(failed.err.contains("stall>20ms"), "{}", failed.err);
        // The report is written all the same.
        assert!(!failed.report()["stalls"].as_array().expect("stalls").is_empty());

        let failed = record(&server, &["--fail-on", "finding:loop-blocked-by-call"]);
        assert_eq!(failed.code(), Some(3), "{}", failed.err);

        let passed = record(&server, &["--fail-on", "stall>60s", "--fail-on", "finding:loop-hung"]);
        assert_eq!((passed.code(), passed.err.as_str()), (Some(0), ""));

        // What is known is allowed, as often as it is. A starved machine makes others, few.
        let gate = ["--allow", "stalls.py", "--fail-on", "stalls>3"];
        let passed = record(&server, &gate);
        assert_eq!((passed.code(), passed.err.as_str()), (Some(0), ""));
        let report = passed.report();
        let allowed = report["summary"]["allowed_stalls"].as_u64();
        assert!(allowed > Some(5), "{}", report["summary"]);
        let other = record(&server, &["--allow", "other.py", "--fail-on", "stalls>3"]);
        assert_eq!(other.code(), Some(3), "{}", other.err);
    });
}
