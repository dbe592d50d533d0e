//! trio: the same stalls in a loop that is a generator, with a clock that nobody else reads.

use crate::interpreters::ends_of;
use crate::judge::Trial;
use crate::profiler::record;
use crate::server::Server;
use crate::truth::Stall;
use crate::turn::each;
use crate::uvloop::with;

/// What the server outlives the recording by, should this machine be slow; it is ended anyway.
const MARGIN: u32 = 60;

#[test]
fn every_interpreter_shows_its_stalls() {
    each(&with(&["trio"]), |python| {
        let server = Server::start(python, "trio_stalls.py", 6 + MARGIN, &["--lengths", "1-200"]);
        let (report, ended) = record(server.pid(), 6, &[]);
        assert_eq!(report["processes"][0]["loops"][0]["kind"], "trio");
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(12);
        trial.invents_none();
        trial.blames_rightly();
        assert!(trial.stalls().iter().all(|stall| stall.json["evidence"] != "sampled"));
        // Every stall that was looked into ran in this task.
        let looked_into = trial.stalls().iter().filter(|stall| !stall.json["culprit"].is_null());
        let named = |stall: &&Stall| {
            stall.json["coroutine"] == "handle" && stall.json["task"] == "__main__.handle"
        };
        let (named, nameless): (Vec<&Stall>, Vec<&Stall>) = looked_into.partition(named);
        let nameless: Vec<String> = nameless.into_iter().map(Stall::brief).collect();
        assert!(named.len() > 9 * nameless.len(), "without their task: {nameless:#?}");
    });
}

#[test]
fn short_tasks_are_no_stalls() {
    let all = with(&["trio"]);
    each(&ends_of(all), |python| {
        let args = ["--lengths", "0.1-2", "--kinds", "sleep,cpu"];
        let server = Server::start(python, "trio_stalls.py", 4 + MARGIN, &args);
        let (report, ended) = record(server.pid(), 4, &[]);
        Trial::new(&report, &ended, server.end()).invents_none();
        let seen = &report["processes"][0]["loops"][0];
        assert!(seen["looks"].as_u64() > Some(50), "{seen}");
    });
}
