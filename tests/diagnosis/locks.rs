//! Locks that requests queue for, SQLite's among them.

use super::*;

#[test]
fn a_loop_that_waits_for_sqlite_is_told_nothing_of_sleeping() {
    for kind in [LoopKind::Asyncio, LoopKind::Gevent, LoopKind::Twisted] {
        let mut story = Story::new(400);
        story.recording.loops[0].kind = kind;
        let stack = story.stack(&[("/srv/app/orders.py", 33, "sums")]);
        let native = Some(story.native(&QUERY));
        let call = Part { native, ..story.asleep(300.0, stack, "clock_nanosleep", None) };
        story.stall(500.0, call);
        let report = conclude(story.recording, &nothing_allowed);
        let told = &report.advice().first().unwrap().command;
        assert!(told.contains("journal_mode=WAL") && !told.contains("sleep"), "{kind:?}: {told}");
    }
}

#[test]
fn a_query_that_waits_for_its_turn_at_sqlite_now_and_then_needs_no_timeout() {
    // It waits for `waits` of its eight calls, and computes in the others.
    let told = |waits: u32| {
        let mut story = Story::of_threads(990, 4, 4);
        let stack = story.stack(&[("/srv/app/orders.py", 33, "sums")]);
        let native = Some(story.native(&QUERY));
        let sleep = Part { native, ..story.asleep(500.0, stack, "clock_nanosleep", None) };
        for n in 0..8 {
            let one = if n < waits {
                sleep
            } else {
                Part { ms: 600.0, ..Story::computing(600.0, stack) }
            };
            story.stall(500.0 + 1000.0 * f64::from(n), one);
        }
        story.recording.processes[0].occupancy.busy = vec![0, 0, 0, 0, 1000];
        let report = conclude(story.recording, &nothing_allowed);
        of_lines(&report, "threads-occupied").concat()
    };
    assert!(told(2).starts_with("make it cheaper, and `PRAGMA journal_mode=WAL`"), "{}", told(2));
    assert!(told(8).starts_with("`PRAGMA journal_mode=WAL`"), "{}", told(8));
    assert!(told(0).starts_with("make it cheaper"), "{}", told(0));
}

#[test]
fn where_requests_queue_for_a_lock_more_threads_are_no_cure() {
    const PYTHON: &str = "/usr/bin/python3.12";
    const LIBC: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    const SQLITE: &str = "/usr/lib/x86_64-linux-gnu/libsqlite3.so.0";
    let size = |report: &Report| {
        let found = report.findings.iter().find(|one| one.id == "gthread-starved").unwrap();
        found.recommendations[0].command.clone()
    };
    let told = |report: &Report| -> String {
        report.advice().iter().map(|one| format!("{} ({})\n", one.command, one.reason)).collect()
    };
    let asleep = |syscall: &'static str, python: &'static [(&str, u32, &str)], c: &'static [_]| {
        held_by(|story| {
            let stack = story.stack(python);
            let native = Some(story.native(c));
            Part { native, ..story.asleep(900.0, stack, syscall, None) }
        })
    };
    // One of its own in each process: more of those let more through.
    let acquire = &[(PYTHON, "PyThread_acquire_lock_timed"), (LIBC, "sem_clockwait")];
    let lock = asleep("futex", &[("/srv/app/views.py", 7, "index")], acquire);
    assert!(size(&lock).starts_with("`--workers "), "{}", told(&lock));
    assert!(told(&lock).contains("hold the lock that requests queue for here for less"));
    // SQLite's is one for all.
    let step = &[(SQLITE, "sqlite3_step"), (LIBC, "usleep")];
    let sqlite = asleep("clock_nanosleep", &[("/srv/app/views.py", 9, "save")], step);
    assert!(size(&sqlite).starts_with("no more workers or threads"), "{}", told(&sqlite));
    assert!(told(&sqlite).contains("what limits it is a SQLite database's lock"));
    assert!(told(&sqlite).contains("journal_mode=WAL"));
    // Who waits for an answer does so in the same system call.
    let event =
        [("/srv/app/views.py", 7, "index"), ("/usr/lib/python3.12/threading.py", 355, "wait")];
    let event: &'static [_] = Box::leak(Box::new(event));
    let answer = asleep("futex", event, acquire);
    assert!(size(&answer).contains("--threads"), "{}", told(&answer));
    assert!(!told(&answer).contains("hold the lock"));
    let blas = &[("/srv/venv/libopenblas.so", "dgemm_thread"), (LIBC, "pthread_cond_wait")];
    let library = asleep("futex", &[("/srv/app/views.py", 7, "index")], blas);
    assert!(size(&library).contains("--threads"), "{}", told(&library));
}
