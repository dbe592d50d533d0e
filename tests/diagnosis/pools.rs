//! Pools: of threads, of connections, semaphores and locks that requests wait for.

use super::*;

#[test]
fn a_semaphore_lets_no_more_through_than_the_database_it_guards_takes() {
    let told = |peer: &str, connections: u32, (is_driver_seen, is_imported): (bool, bool)| {
        let mut story = shared_pool(PoolKind::Semaphore, Some(77), 150, 50);
        story.connected(peer, connections, 0.0);
        let driver = format!("{VENV}/psycogreen/gevent.py");
        if is_imported {
            story.recording.processes[0].drivers = vec!["psycopg2".to_owned()];
        }
        if is_driver_seen {
            let query = [("/srv/app/db.py", 56, "query"), (&*driver, 30, "gevent_wait_callback")];
            let query = story.frames(&query);
            story.sampled(query, 5, CpuState::Running);
        }
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "pool-saturated").unwrap();
        found.recommendations[0].command.clone()
    };
    let (usual, other) = ("10.0.0.7:5432", "10.0.0.7:25060");
    let is_kept =
        |command: &str| command.starts_with("let more through at once where it is made, if");
    let (unknown, met, imported) = ((false, false), (true, false), (false, true));
    assert!(is_kept(&told(usual, 77, unknown)), "{}", told(usual, 77, unknown));
    assert!(told(usual, 2, unknown).starts_with("`threading.Semaphore("));
    // At another port by its driver, whose greenlets wait unseen, or which is there at least.
    assert!(is_kept(&told(other, 77, met)), "{}", told(other, 77, met));
    assert!(is_kept(&told(other, 77, imported)), "{}", told(other, 77, imported));
    assert!(told(other, 77, unknown).starts_with("`threading.Semaphore("));
}

#[test]
fn a_lock_of_asyncios_has_no_size() {
    let mut story = Story::new(400);
    let at = story.stack(&[
        ("/srv/app/views.py", 41, "orders"),
        ("/usr/lib/python3.12/asyncio/locks.py", 113, "acquire"),
    ]);
    let mut pool = PoolInfo::new(PoolKind::AsyncioLock, "Lock".to_owned());
    pool.waits_at = Some(at);
    for _ in 0..50 {
        pool.add(&PoolReading { limit: Some(1), busy: Some(1), waiting: Some(39) });
    }
    let process = &mut story.recording.processes[0];
    process.pools.push(pool);
    (process.requests.first, process.requests.last) = (Some(0), Some(400));
    let report = conclude(story.recording, &nothing_allowed);
    assert_eq!(
        report.verdict,
        "an asyncio.Lock is held while others wait 100 % of the time: 39.0 wait, on average, at \
         views.py:41 orders"
    );
    let advice = report.advice();
    assert!(advice[0].command.starts_with("hold it for less time"), "{advice:#?}");
    assert!(advice[0].reason.contains("each worker has a lock of its own"), "{advice:#?}");
    let is_size = |one: &&&Recommendation| matches!(one.remedy, Remedy::Setting { .. });
    assert_eq!(advice.iter().filter(is_size).count(), 0, "{advice:#?}");
}

#[test]
fn a_pool_of_connections_that_requests_wait_for_is_to_have_one_for_each_thread_at_most() {
    let of = |threads, waiting| {
        let story = shared_pool(PoolKind::SqlalchemyPool, Some(4), threads, waiting);
        conclude(story.recording, &nothing_allowed)
    };
    let report = of(10, 6);
    let summary = &report.findings.iter().find(|one| one.id == "pool-saturated").unwrap().summary;
    assert!(
        summary.ends_with("4.0 of 4 are in use and 6.0 wait, on average, at views.py:41 orders")
    );
    let advice = advised(&report, "pool-saturated");
    let Remedy::Setting { current, recommended, .. } = &advice.remedy else {
        panic!("{advice:#?}")
    };
    // Each keeps one for 4 / 50 = 80 ms of 200; the rest is waiting for it. Ten threads do 10 / 81 ms.
    assert_eq!((*current, *recommended), (Some(4), 10), "{advice:#?}");
    assert_eq!(advice.command, "`create_engine(…, pool_size=10, max_overflow=0)`");
    let throughput = advice.predicted.iter().find(|one| one.name == "throughput").unwrap();
    assert!((throughput.before - 50.0).abs() < 0.1, "{throughput:?}");
    assert!((110.0..=124.0).contains(&throughput.after), "{throughput:?}");
    // A little waiting at a pool that is nearly large enough is no reason for more.
    assert!(report.loads[0].shared.as_ref().unwrap().waited > 0.119);
    let few = of(4, 0);
    assert!(few.findings.iter().all(|one| one.id != "pool-saturated"));
}

#[test]
fn a_pool_with_a_connection_for_each_thread_is_no_reason_for_another_size() {
    let story = shared_pool(PoolKind::SqlalchemyPool, Some(10), 10, 1);
    let report = conclude(story.recording, &nothing_allowed);
    let advice = advised(&report, "pool-saturated");
    assert!(advice.command.starts_with("no larger pool"), "{advice:#?}");
    assert!(report.advice().iter().all(|one| !one.command.contains("--threads")), "{report:#?}");
}

#[test]
fn a_database_that_takes_no_more_is_the_limit_of_a_pool() {
    let mut story = shared_pool(PoolKind::SqlalchemyPool, Some(48), 60, 12);
    story.workers(2);
    for worker in &mut story.recording.processes[1..] {
        worker.cpu = Nanos::from_millis(500);
    }
    let call = in_request(&mut story);
    let database = story.recording.tables.name("10.0.0.7:5432");
    let query = story.asleep(400.0, call.stack, "recvfrom", Some(Peer::Remote(database)));
    story.sampled(query.stack, 50, query.cpu);
    let report = conclude(story.recording, &nothing_allowed);
    let load = report.loads.iter().find(|load| load.master.is_some()).unwrap();
    assert_eq!(load.blocked_on[0].peer, "10.0.0.7:5432", "{:#?}", load.blocked_on);
    let advice = advised(&report, "pool-saturated");
    // 97 × 0.8 / 2 are fewer than there are.
    assert!(!advice.command.contains("create_engine"), "{advice:#?}");
    // Nor do more threads help.
    assert!(report.advice().iter().all(|one| !one.command.contains("--threads")), "{report:#?}");
}

#[test]
fn more_threads_are_not_advised_where_requests_wait_for_a_semaphore() {
    let mut story = shared_pool(PoolKind::Semaphore, None, 10, 6);
    story.crowd(WorkerClass::Gthread, 10, 10, 20, 400);
    let queue = Level { looks: 40, sum: 800, max: 20 };
    let address = "0.0.0.0:8000".to_owned();
    let line = ListenerInfo { inode: 1, address, limit: None, queue, waiting: 40 };
    story.recording.processes[0].listeners.push(line);
    let report = conclude(story.recording, &nothing_allowed);
    let advice = advised(&report, "gthread-starved");
    assert!(advice.command.starts_with("`--workers 5`"), "{advice:#?}");
    assert!(advice.reason.contains("more threads only wait there"), "{advice:#?}");
    let throughput = advice.predicted.iter().find(|one| one.name == "throughput").unwrap();
    // Each of five lets through as much as the one did.
    assert!(throughput.after <= 5.0 * throughput.before + 1e-6, "{throughput:?}");
    assert!(throughput.after > 4.0 * throughput.before, "{throughput:?}");
    let pool = advised(&report, "pool-saturated");
    assert!(pool.command.starts_with("let more through at once"), "{pool:#?}");
}

#[test]
fn asgirefs_one_thread_is_told_from_other_pools_of_one() {
    let told = |thread_handler: bool| {
        let mut story = Story::new(30);
        let threading = "/usr/lib/python3.12/threading.py";
        let pool = "/usr/lib/python3.12/concurrent/futures/thread.py";
        let asgiref = format!("{VENV}/asgiref/sync.py");
        let mut frames = vec![(threading, 1012, "run"), (pool, 92, "_worker"), (pool, 58, "run")];
        if thread_handler {
            frames.push((&asgiref, 522, "thread_handler"));
        }
        frames.push(("/srv/app/users.py", 4, "load_user"));
        let stack = story.frames(&frames);
        story.sampled(stack, 900, CpuState::Blocked { wait: None });
        // At the start of its thread: not the application's.
        let idle = story.frames(&frames[..2]);
        story.sampled(idle, 100, CpuState::Blocked { wait: None });
        let process = &mut story.recording.processes[0];
        (process.requests.first, process.requests.last) = (Some(0), Some(250));
        process.cpu = Nanos::from_millis(500);
        let mut pool =
            PoolInfo::new(PoolKind::ThreadPoolExecutor, "ThreadPoolExecutor-0".to_owned());
        for _ in 0..50 {
            pool.add(&PoolReading { limit: Some(1), busy: Some(1), waiting: Some(29) });
        }
        process.pools.push(pool);
        story.machine(19_000);
        let report = conclude(story.recording, &nothing_allowed);
        assert!(
            report.verdict.ends_with("most of it in users.py:4 load_user"),
            "{}",
            report.verdict
        );
        (report.verdict.clone(), advised(&report, "pool-saturated").command.clone())
    };
    let (verdict, command) = told(true);
    assert!(verdict.contains("the one thread of asgiref's `sync_to_async`"), "{verdict}");
    assert!(command.contains("thread_sensitive=False"), "{command}");
    assert!(command.contains("set_default_executor(ThreadPoolExecutor(34))"), "{command}");
    let (verdict, command) = told(false);
    assert!(verdict.contains("the thread pool ThreadPoolExecutor-0"), "{verdict}");
    assert_eq!(command, "`ThreadPoolExecutor(max_workers=34, …)`");
}

#[test]
fn executors_that_live_for_a_request_are_no_pool_to_size() {
    let mut story = Story::new(100);
    let process = &mut story.recording.processes[0];
    for _ in 0..4 {
        let mut pool =
            PoolInfo::new(PoolKind::ThreadPoolExecutor, "ThreadPoolExecutor-17".to_owned());
        pool.add(&PoolReading { limit: Some(1), busy: Some(1), waiting: Some(1) });
        process.pools.push(pool);
    }
    let report = conclude(story.recording, &nothing_allowed);
    assert!(report.undecided.iter().all(|(rule, _)| *rule != "pool-saturated"), "{report:#?}");
}

#[test]
fn a_full_pool_is_told_without_a_loop_where_somebody_can_ask() {
    let report = |listens: bool| {
        let mut story = Story::new(0);
        story.recording.loops.clear();
        let process = &mut story.recording.processes[0];
        let name = "ThreadPoolExecutor-0".to_owned();
        let mut pool = PoolInfo::new(PoolKind::ThreadPoolExecutor, name);
        for _ in 0..50 {
            pool.add(&PoolReading { limit: Some(10), busy: Some(10), waiting: Some(30) });
        }
        process.pools.push(pool);
        if listens {
            let (queue, address) = (Level::default(), "127.0.0.1:50051".to_owned());
            let line = ListenerInfo { inode: 1, address, limit: None, queue, waiting: 0 };
            process.listeners.push(line);
        }
        conclude(story.recording, &nothing_allowed)
    };
    let asked = report(true);
    let of_pool =
        "the thread pool ThreadPoolExecutor-0 is full while others wait 100 % of the time";
    assert!(asked.verdict.starts_with(of_pool), "{}", asked.verdict);
    let advice = advised(&asked, "pool-saturated");
    assert_eq!(advice.command, "`ThreadPoolExecutor(max_workers=54, …)`");
    // A program that works through a list of its own.
    let batch = report(false);
    assert!(batch.verdict.starts_with("no event loop was found"), "{}", batch.verdict);
    assert_eq!(cell(&batch, "pool-saturated"), "?");
}
