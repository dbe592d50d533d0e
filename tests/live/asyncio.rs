//! One asyncio loop: blocked in every way a server can be blocked, and not blocked at all.

use crate::interpreters::{interpreters, some_interpreters};
use crate::judge::Trial;
use crate::profiler::record;
use crate::server::Server;
use crate::truth::Stall;
use crate::turn::each;

/// What the server outlives the recording by, should this machine be slow; it is ended anyway.
const MARGIN: u32 = 60;

#[test]
fn every_interpreter_shows_its_stalls() {
    each(&interpreters(), |python| {
        // Lengths up to 200 ms make some fifty stalls in these seconds.
        let args = ["--lengths", "1-200"];
        let server = Server::start(python, "asyncio_stalls.py", 7 + MARGIN, &args);
        let (report, ended) = record(server.pid(), 7, &[]);
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(15);
        trial.invents_none();
        trial.blames_rightly();
        trial.bounds_lengths();
        assert!(trial.stalls().iter().all(|stall| stall.json["evidence"] != "sampled"));
    });
}

#[test]
fn a_shorter_threshold_finds_shorter_stalls() {
    each(&some_interpreters(), |python| {
        let args = ["--lengths", "2-20", "--kinds", "sleep,recv"];
        let server = Server::start(python, "asyncio_stalls.py", 4 + MARGIN, &args);
        let (report, ended) = record(server.pid(), 4, &["--threshold", "3ms"]);
        assert_eq!(report["threshold_ns"], 3_000_000);
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(15);
        trial.invents_none();
        // A stall is reported for its length, whichever lengths were watched closely.
        assert!(trial.stalls().iter().all(|stall| stall.number("duration_max_ns") >= 3_000_000));
    });
}

#[test]
fn a_longer_threshold_leaves_out_short_stalls() {
    each(&some_interpreters(), |python| {
        let args = ["--lengths", "20-200", "--kinds", "sleep,lock"];
        let server = Server::start(python, "asyncio_stalls.py", 4 + MARGIN, &args);
        let (report, ended) = record(server.pid(), 4, &["--threshold", "80ms"]);
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(3);
        trial.invents_none();
        let possible = |stall: &&Stall| stall.number("duration_max_ns") < 80_000_000;
        let short: Vec<String> = trial.stalls().iter().filter(possible).map(Stall::brief).collect();
        assert!(short.is_empty(), "{short:#?}");
    });
}

#[test]
fn a_healthy_server_has_none() {
    each(&interpreters(), |python| {
        let server = Server::start(python, "asyncio_healthy.py", 3 + MARGIN, &[]);
        let (report, ended) = record(server.pid(), 3, &[]);
        let trial = Trial::new(&report, &ended, server.end());
        trial.invents_none();
        // It was looked at, and not just nothing seen.
        let seen = &report["processes"][0]["loops"][0];
        assert!(seen["looks"].as_u64() > Some(50), "{seen}");
        assert!(seen["utilization"].as_f64().is_some_and(|busy| busy < 0.98), "{seen}");
    });
}
