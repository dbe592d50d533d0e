//! A loop that begins after the recording did, and one that is blocked after it was idle for long: both of its
//! stalls are found, in full length.

use crate::interpreters::Python;
use crate::judge::Trial;
use crate::profiler::record;
use crate::server::Server;
use crate::turn::each;
use crate::uvloop::with;

/// Late by 2.5 s, 0.3 s to the first stall, idle for 12 s, and the last stall.
const SECONDS: u32 = 16;

fn both_stalls(kind: &str, packages: &[&str]) {
    let some: Vec<Python> = with(packages).into_iter().rev().take(1).collect();
    each(&some, |python| {
        let server = Server::start(python, "late_and_idle.py", 60, &["--loop", kind]);
        let (report, ended) = record(server.pid(), SECONDS, &[]);
        let seen = &report["processes"][0]["loops"];
        assert_eq!(seen.as_array().map(Vec::len), Some(1), "{seen}");
        assert_eq!(seen[0]["kind"], kind);
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(2);
        trial.invents_none();
        trial.blames_rightly();
        trial.bounds_lengths();
        assert_eq!(trial.stalls().len(), 2, "{:?}", trial.stalls());
    });
}

#[test]
fn of_asyncio() {
    both_stalls("asyncio", &[]);
}

#[test]
fn of_gevent() {
    both_stalls("gevent", &["gevent"]);
}
