//! Two loops in two threads of one process: each has its own stalls.

use crate::interpreters::some_interpreters;
use crate::judge::Trial;
use crate::profiler::record;
use crate::server::Server;
use crate::turn::each;

#[test]
fn each_loop_has_its_own_stalls() {
    each(&some_interpreters(), |python| {
        // Calls that let the GIL go: what blocks the one loop does not block the other.
        let args = ["--lengths", "12-120", "--kinds", "sleep,recv"];
        let server = Server::start(python, "asyncio_threads.py", 60, &args);
        let (report, ended) = record(server.pid(), 5, &[]);
        let pid = server.pid();
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(20);
        trial.invents_none();
        trial.blames_rightly();
        let loops = report["processes"][0]["loops"].as_array().expect("loops");
        let mut tids: Vec<i64> = loops.iter().filter_map(|one| one["tid"].as_i64()).collect();
        tids.sort_unstable();
        assert_eq!(tids.len(), 2, "{loops:?}");
        assert_eq!(tids.first(), Some(&i64::from(pid)));
        for tid in tids {
            let own = trial.stalls().iter().filter(|stall| stall.tid == tid).count();
            assert!(own >= 5, "thread {tid} has {own} stalls");
        }
    });
}

#[test]
fn who_holds_the_gil_all_along_blocks_both() {
    let some = some_interpreters();
    each(some.get(..1).unwrap_or_default(), |python| {
        let args = ["--lengths", "40-120", "--kinds", "json"];
        let server = Server::start(python, "asyncio_threads.py", 60, &args);
        let (report, ended) = record(server.pid(), 4, &[]);
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(10);
        trial.invents_none();
        let computes = trial.stalls().iter().filter(|one| ["cpu", "c_call"].contains(&&*one.kind));
        assert!(computes.count() > 0);
    });
}

#[test]
fn threads_that_come_and_go_hide_nothing() {
    each(&some_interpreters(), |python| {
        // Each of these calls starts a thread, and CPython fills in the new thread's state while it
        // still has its creator's ids.
        let args = ["--lengths", "20-40", "--kinds", "pipe,lock"];
        let server = Server::start(python, "asyncio_stalls.py", 60, &args);
        let (report, ended) = record(server.pid(), 8, &[]);
        let loops = report["processes"][0]["loops"].as_array().map(Vec::len);
        assert_eq!(loops, Some(1), "one loop, found once");
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(30);
        trial.invents_none();
    });
}
