//! Pools of threads: how many there may be in use, how many are, how many wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;

use crate::fastapi::with_fastapi;
use crate::interpreters::{Python, ends_of, interpreters, some_of};
use crate::profiler::{record, stallspy};
use crate::server::Server;
use crate::turn::each;
use crate::uvloop::with;
use crate::{in_ci, say};

/// Distance of the looks at the kernel's table.
const CROWD_LOOK: Duration = Duration::from_millis(20);

/// Five looks a second for four seconds, at a number that goes up and down by some.
const OFF: f64 = 1.5;

fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("there is such a clock");
    time.num_nanoseconds().unsigned_abs()
}

fn pool<'a>(report: &'a Value, kind: &str, name: &str) -> &'a Value {
    let pools = report["processes"][0]["pools"].as_array().expect("pools");
    let found = pools.iter().find(|pool| pool["kind"] == kind && pool["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name} in {pools:?}"))
}

fn number(pool: &Value, key: &str) -> f64 {
    pool[key].as_f64().unwrap_or_else(|| panic!("{key} in {pool}"))
}

#[test]
fn executors_are_counted_exactly() {
    each(&interpreters(), |python| {
        let server = Server::start(python, "asyncio_pools.py", 60, &[]);
        let (report, _) = record(server.pid(), 5, &[]);
        let executor = |name| pool(&report, "thread_pool_executor", name);
        let full = executor("full");
        assert!(number(full, "looks") >= 10.0, "{full}");
        assert_eq!((&full["limit"], &full["busy_max"]), (&4.into(), &4.into()));
        // One more while a thread that has just ended a call has not taken the next.
        assert!((6.0..=7.0).contains(&number(full, "waiting_max")), "{full}");
        // Between the end of one call and the beginning of the next a thread is free for a moment.
        assert!(number(full, "busy_mean") > 3.5 && number(full, "waiting_mean") > 5.0, "{full}");
        assert!(number(full, "full_and_waiting_fraction") > 0.8, "{full}");
        let roomy = executor("roomy");
        assert_eq!((&roomy["limit"], &roomy["busy_max"]), (&8.into(), &3.into()));
        // Until an idle thread has woken up, what it will do is in the queue.
        assert!(number(roomy, "waiting_mean") < 0.5, "{roomy}");
        assert_eq!(number(roomy, "full_fraction"), 0.0, "{roomy}");
        let wave = executor("wave");
        assert_eq!((&wave["limit"], &wave["busy_max"]), (&6.into(), &6.into()));
        let half = 0.2..0.8;
        assert!(half.contains(&number(wave, "full_fraction")), "{wave}");
        assert!((1.5..4.5).contains(&number(wave, "busy_mean")), "{wave}");
        let idle = executor("idle");
        assert_eq!(
            (&idle["limit"], &idle["busy_max"], &idle["waiting_max"]),
            (&5.into(), &0.into(), &0.into())
        );
        // Named by asyncio from 3.9 on, and by the executor itself before.
        let own = if python.minor() == 8 { "ThreadPoolExecutor-0" } else { "asyncio" };
        let own = executor(own);
        // Its thread may be on its way back from one call when another takes the next.
        assert!(number(own, "busy_max") <= 2.0 && number(own, "busy_mean") < 1.5, "{own}");
        assert_eq!(own["full_and_waiting_fraction"], 0.0, "{own}");

        // What is worth a line has one, and what is not has none.
        let pid = server.pid().to_string();
        let text = stallspy(&["record", "-q", "-p", &pid, "-d", "3"]).out;
        assert!(text.contains(" pool  thread pool full: 4 of 4 in use at most, "), "{text}");
        assert!(text.contains(" waiting"), "{text}");
        assert!(text.contains("· full with others waiting "), "{text}");
        assert!(text.contains(" pool  thread pool wave: 6 of 6 "), "{text}");
        assert!(
            !text.contains("thread pool roomy") && !text.contains("thread pool idle"),
            "{text}"
        );
        let dump = stallspy(&["dump", "-p", &pid]).out;
        assert!(dump.contains("thread pool full: "), "{dump}");
        assert!(dump.contains("thread pool idle: 0 of 5 in use, 0 waiting"), "{dump}");
        assert!(dump.contains(" of 8 in use, "), "{dump}");
    });
}

#[test]
fn handlers_wait_for_a_thread_of_anyio() {
    each(&with_fastapi(), |python| {
        let server = Server::start(python, "fastapi_stalls.py", 90, &[]);
        let mix = ["--url-mix", "1:/thread?ms=300", "--connections", "60", "--seconds", "9"];
        let load = server.load(&mix);
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let (report, _) = record(server.pid(), 4, &[]);
        let (requests, errors) = load.finish();
        assert!(requests > 100 && errors == 0, "{requests} requests, {errors} errors");
        let limiter = pool(&report, "anyio_limiter", "default_thread_limiter");
        assert_eq!(limiter["limit"], 40);
        // Whoever is handed a token on may be among the borrowers before the last one has left them.
        assert!((40.0..=45.0).contains(&number(limiter, "busy_max")), "{limiter}");
        assert!(number(limiter, "looks") >= 8.0, "{limiter}");
        // 60 connections, 40 of which are served.
        assert!((13.0..=20.0).contains(&number(limiter, "waiting_max")), "{limiter}");
        assert!(number(limiter, "waiting_mean") > 5.0, "{limiter}");
        assert!(number(limiter, "full_and_waiting_fraction") > 0.6, "{limiter}");
    });
}

/// Interpreters that have gunicorn and gevent.
pub fn with_gunicorn() -> Vec<Python> {
    let both = |python: &Python| python.has("gunicorn") && python.has("gevent");
    let all: Vec<Python> = interpreters().into_iter().filter(both).collect();
    assert!(!(in_ci() && all.is_empty()), "STALLSPY_INTERPRETERS lists none with gunicorn");
    if all.is_empty() {
        say("gunicorn: did not run, STALLSPY_INTERPRETERS lists no interpreter with it and gevent");
    }
    all
}

/// How many connections there were at a time: looked at while it lives.
struct Crowd {
    ended: Arc<AtomicBool>,
    looks: JoinHandle<Vec<(u64, usize)>>,
}

impl Crowd {
    /// Begins to look at those of a port of this machine.
    fn at(port: u16) -> Crowd {
        let ended = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ended);
        let looks = std::thread::spawn(move || {
            let mut looks = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                looks.push((monotonic(), connections(port)));
                std::thread::sleep(CROWD_LOOK);
            }
            looks
        });
        Crowd { ended, looks }
    }

    /// The mean of the time that a report is of.
    fn of(self, report: &Value) -> f64 {
        self.ended.store(true, Ordering::Relaxed);
        let looks = self.looks.join().expect("it only looks");
        let time = |key: &str| report[key].as_u64().expect("a time");
        let watched = time("attached_ns")..time("detached_ns");
        let own = looks.iter().filter(|(at, _)| watched.contains(at)).map(|(_, count)| *count);
        let own: Vec<usize> = own.collect();
        assert!(own.len() > 20, "{} looks", own.len());
        own.iter().sum::<usize>() as f64 / own.len() as f64
    }
}

/// Connections at this port that somebody has accepted: `st` is 01 of those that stand, 0A of what listens,
/// whose `rx_queue` is how many wait (`Documentation/networking/proc_net_tcp.rst`).
fn connections(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("there is a network");
    let end = format!(":{port:04X}");
    let (mut stand, mut wait) = (0_usize, 0);
    for line in table.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, queues, ..] = words[..] else { continue };
        match state {
            "01" if local.ends_with(&end) => stand += 1,
            "0A" if local.ends_with(&end) => {
                let waiting = queues.split_once(':').map(|(_, received)| received);
                wait = usize::from_str_radix(waiting.expect("two queues"), 16).expect("a number");
            }
            _ => {}
        }
    }
    stand.saturating_sub(wait)
}

/// Records gunicorn's only worker under the load of so many clients. Also gives how many connections it
/// truly had on average.
fn worker(python: &Python, class: &str, connections: &str, clients: &str) -> (Value, f64) {
    let args = ["--class", class, "--worker-connections", connections];
    let server = Server::start(python, "gunicorn_pools.py", 60, &args);
    let load = server.load(&["--url-mix", "1:/", "--connections", clients, "--seconds", "9"]);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let crowd = Crowd::at(server.port);
    let (mut report, _) = record(server.pid(), 4, &["-s"]);
    let crowd = crowd.of(&report);
    let (requests, errors) = load.finish();
    assert!(requests > 20 && errors == 0, "{requests} requests, {errors} errors");
    let processes = report["processes"].as_array_mut().expect("processes");
    processes.retain(|process| process["ppid"] == server.pid());
    assert_eq!(processes.len(), 1, "{processes:?}");
    server.end();
    (report, crowd)
}

#[test]
fn threads_and_connections_of_gthread() {
    each(&some_of(with_gunicorn()), |python| {
        let (report, mean) = worker(python, "gthread", "50", "10");
        let threads = pool(&report, "thread_pool_executor", "ThreadPoolExecutor-0");
        assert_eq!((&threads["limit"], &threads["busy_max"]), (&4.into(), &4.into()));
        assert!((4.0..=7.0).contains(&number(threads, "waiting_max")), "{threads}");
        assert!(number(threads, "full_and_waiting_fraction") > 0.6, "{threads}");
        let connections = pool(&report, "gthread_connections", "");
        assert_eq!((&connections["limit"], &connections["busy_max"]), (&50.into(), &10.into()));
        let off = (number(connections, "busy_mean") - mean).abs();
        assert!(off < OFF, "{mean} on average: {connections}");
    });
}

#[test]
fn threads_of_waitress_and_cheroot() {
    let ends = ends_of(with(&["waitress", "cheroot"]));
    for kind in ["waitress", "cheroot"] {
        each(&ends, |python| {
            let server = Server::start(python, "server_pools.py", 60, &["--server", kind]);
            let load = server.load(&["--url-mix", "1:/", "--connections", "9", "--seconds", "6"]);
            std::thread::sleep(std::time::Duration::from_secs(1));
            let (report, _) = record(server.pid(), 3, &[]);
            let (requests, errors) = load.finish();
            assert!(requests > 20 && errors == 0, "{requests} requests, {errors} errors");
            let process = &report["processes"][0];
            assert_eq!((&process["server"], &process["role"]), (&kind.into(), &"single".into()));
            assert_eq!(process["worker_class"], "thread_pool");
            assert!(process["server_version"].is_string(), "{process:#}");
            let name = if kind == "waitress" { "threads" } else { "numthreads" };
            let setting = &process["config"][name];
            assert_eq!((&setting["value"], &setting["source"]), (&4.into(), &"memory".into()));
            assert_eq!(process["threads_limit"], 4, "{process:#}");
            let threads = pool(&report, "server_threads", kind);
            assert_eq!((&threads["limit"], &threads["busy_max"]), (&4.into(), &4.into()));
            assert!((4.0..=6.0).contains(&number(threads, "waiting_max")), "{threads}");
            assert!(number(threads, "full_and_waiting_fraction") > 0.6, "{threads}");
            let advice = report["findings"].to_string();
            assert!(advice.contains(&format!("{kind}'s pool of threads is full")), "{advice}");
        });
    }
}

#[test]
fn threads_of_gevent() {
    each(&some_of(with_gunicorn()), |python| {
        let (report, mean) = worker(python, "gevent", "50", "16");
        let threads = pool(&report, "gevent_thread_pool", "");
        assert_eq!((&threads["limit"], &threads["busy_max"]), (&10.into(), &10.into()));
        assert!(number(threads, "full_fraction") > 0.6, "{threads}");
        assert_eq!(threads["waiting_max"], Value::Null);
        let greenlets = pool(&report, "gevent_pool", "");
        assert_eq!((&greenlets["limit"], &greenlets["busy_max"]), (&50.into(), &16.into()));
        let off = (number(greenlets, "busy_mean") - mean).abs();
        assert!(off < OFF, "{mean} on average: {greenlets}");
        assert_eq!(greenlets["waiting_max"], Value::Null);
    });
}

#[test]
fn connections_of_eventlet() {
    // Newer ones install a gunicorn without this worker.
    let mut some = with_gunicorn();
    some.retain(|python| python.has("eventlet") && python.minor() < 10);
    each(&some, |python| {
        let (report, _) = worker(python, "eventlet", "5", "8");
        let greenlets = pool(&report, "eventlet_pool", "");
        assert_eq!((&greenlets["limit"], &greenlets["busy_max"]), (&5.into(), &5.into()));
        // Whoever accepts holds the next one until there is room.
        assert_eq!(greenlets["waiting_max"], 1, "{greenlets}");
        assert!(number(greenlets, "full_and_waiting_fraction") > 0.6, "{greenlets}");
    });
}

#[test]
fn pools_that_the_application_waits_for() {
    let ends = ends_of(with(&["gunicorn", "sqlalchemy"]));
    let newest = ends.len().saturating_sub(1);
    let pools = [
        (0, "sqlalchemy", "sqlalchemy_pool", "QueuePool"),
        (newest, "sqlalchemy", "sqlalchemy_pool", "QueuePool"),
        (0, "bounded", "semaphore", "BoundedSemaphore"),
        (newest, "semaphore", "semaphore", "Semaphore"),
    ];
    for (at, of, kind, name) in pools {
        each(ends.get(at..=at).unwrap_or_default(), |python| {
            let server = Server::start(python, "client_pools.py", 60, &["--of", of]);
            let load = server.load(&["--url-mix", "1:/", "--connections", "14", "--seconds", "6"]);
            std::thread::sleep(std::time::Duration::from_secs(1));
            let (report, _) = record(server.pid(), 3, &["-s"]);
            let (requests, errors) = load.finish();
            assert!(requests > 20 && errors == 0, "{requests} requests, {errors} errors");
            let processes = report["processes"].as_array().expect("processes");
            let pools: Vec<&Value> = { processes.iter() }
                .flat_map(|process| process["pools"].as_array().expect("pools"))
                .collect();
            let awaited = |pool: &&&Value| pool["kind"] == kind;
            // The consumer's semaphore, which its own thread waits for all the time, is none.
            assert_eq!(pools.iter().filter(awaited).count(), 1, "{pools:?}");
            let pool = pools.iter().find(awaited).expect("a pool that is waited for");
            assert_eq!(pool["name"], name);
            assert_eq!(pool["waited_in"]["function"], "query", "{pool}");
            // Eight threads, of which three have one.
            assert!((4.0..=5.0).contains(&number(pool, "waiting_max")), "{pool}");
            assert!(number(pool, "full_and_waiting_fraction") > 0.5, "{pool}");
            let is_known = of != "semaphore";
            let three = if is_known { 3.into() } else { Value::Null };
            assert_eq!((&pool["limit"], &pool["busy_max"]), (&three, &three), "{pool}");
            let findings = report["findings"].to_string();
            assert!(findings.contains("pool-saturated") && findings.contains("client_pools.py:"));
            assert!(of != "sqlalchemy" || findings.contains("create_engine(…, pool_size="));
            server.end();
        });
    }
}
