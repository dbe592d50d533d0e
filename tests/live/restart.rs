//! Loops that end and begin again, and a forked child whose copied memory shows a loop that is not
//! there.

use crate::interpreters::interpreters;
use crate::judge::Trial;
use crate::profiler::Profiler;
use crate::server::Server;
use crate::truth::Entry;
use crate::turn::each;

/// A new loop is searched for, and found within this.
const FOUND_WITHIN_NS: u64 = 500_000_000;

#[test]
fn a_second_loop_is_watched_and_a_copied_one_is_not() {
    each(&interpreters(), |python| {
        let args = ["--lengths", "12-150"];
        let mut server = Server::start(python, "asyncio_restart.py", 7, &args);
        let pid = server.pid().to_string();
        // To its end: no duration is given.
        let profiler = Profiler::start(&["record", "-q", "-s", "-f", "json", "-p", &pid]);
        let ended = profiler.finish();
        assert_eq!(ended.code(), Some(0), "{}", ended.err);
        let report = ended.report();
        let truth = server.wait();
        let no_loop: Vec<Entry> =
            truth.iter().filter(|entry| entry.kind == "no_loop").cloned().collect();
        let own = |entry: &&Entry| entry.pid == server.pid();
        let pause = no_loop.iter().find(own).expect("it pauses");
        let child = no_loop.iter().find(|entry| !own(entry)).expect("it forks");
        let trial = Trial::new(&report, &ended, truth);
        let again = pause.end_ns..pause.end_ns + FOUND_WITHIN_NS;
        trial.finds_all_but(15, &|entry| again.contains(&entry.start_ns));
        trial.invents_none();
        trial.blames_rightly();
        for stall in trial.stalls() {
            let inside = stall.same_process(pause) && 2 * stall.covers(pause) > stall.length();
            assert!(!inside, "there was no loop: {}", stall.brief());
            assert!(!stall.same_process(child), "a child without a loop: {}", stall.brief());
        }
        let processes = report["processes"].as_array().expect("processes");
        assert!(processes.iter().any(|one| one["pid"] == child.pid), "-s follows children");
        assert!(processes.iter().all(|one| !one["ended_ns"].is_null()));
    });
}
