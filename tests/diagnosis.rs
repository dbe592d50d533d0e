//! The truth table: small recordings made by hand, and what each rule says about them.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

#[path = "diagnosis/beside.rs"]
mod beside;
#[path = "diagnosis/peer_places.rs"]
mod peer_places;
#[path = "diagnosis/peers.rs"]
mod peers;
mod story;

use stallspy::conclusion::conclude;
use stallspy::diagnosis::RULES;
use stallspy::model::{
    Budget, Cause, ConnectionInfo, Cores, CpuQuota, CpuState, CrowdLook, GilHolder, GilState,
    GilTally, Level, ListenerInfo, LoopId, LoopKind, LoopState, LoopTally, Neighbour, Patches,
    Peer, PoolInfo, PoolKind, PoolReading, ProcessInfo, Readiness, ReadyFd, Recommendation,
    Recording, Remedy, Report, Resident, ResidentKind, ResidentPlace, Role, Setting, SettingSource,
    SettingValue, Severity, Stall, ThreadInfo, WorkerClass,
};
use stallspy::units::{Nanos, Pid, Tid};
use story::{Part, Story, at, listening};

/// Every rule has a column. A new rule fails the test until it has one.
const COLUMNS: [&str; 27] = [
    "oom-killed",
    "worker-timeout-ahead",
    "loop-hung",
    "peer-saturated",
    "sync-starved",
    "gthread-starved",
    "threads-occupied",
    "loop-blocked-by-call",
    "loop-blocked-by-cpu",
    "loop-blocked-by-native",
    "wrong-worker-class",
    "gil-held-elsewhere",
    "many-small-callbacks",
    "gc-pause",
    "page-faults",
    "cpu-starved",
    "busy-idle",
    "pool-saturated",
    "connection-limit",
    "connection-churn",
    "too-few-workers",
    "too-many-workers",
    "slow-loop-implementation",
    "dev-server",
    "healthy",
    "not-under-load",
    "single-process-state",
];

const VENV: &str = "/srv/venv/lib/python3.12/site-packages";

/// A limiter of `limit` that is all in use at every look, with so many more that wait.
fn full_pool(limit: u32, waiting: u32, looks: u32) -> PoolInfo {
    let mut pool = PoolInfo::new(PoolKind::AnyioLimiter, "default_thread_limiter".to_owned());
    for _ in 0..looks {
        let (busy, waiting) = (Some(limit), Some(waiting));
        pool.add(&PoolReading { limit: busy, busy, waiting });
    }
    pool
}

/// A gthread worker of `threads`, all of them held by requests half of the time, of which there are 25 a second. Those
/// wait for a pool of the application's: `kind` of `limit`, all in use at the same looks, with `waiting` that wait.
fn shared_pool(kind: PoolKind, limit: Option<u32>, threads: u32, waiting: u32) -> Story {
    let held = usize::try_from(threads).unwrap();
    let mut story = Story::of_threads(400, threads, held);
    let call = in_request(&mut story);
    story.stall(500.0, call);
    story.crowd(WorkerClass::Gthread, threads, threads, 0, 40);
    story.machine(18_000);
    let at = story.stack(&[
        ("/srv/app/views.py", 41, "orders"),
        ("/srv/venv/lib/python3.12/site-packages/sqlalchemy/pool/impl.py", 155, "_do_get"),
    ]);
    let process = &mut story.recording.processes[0];
    process.occupancy.busy = vec![0; held];
    process.occupancy.busy.push(1000);
    (process.requests.first, process.requests.last) = (Some(0), Some(500));
    process.cpu = Nanos::from_millis(500);
    let name = if kind == PoolKind::SqlalchemyPool { "QueuePool" } else { "Semaphore" };
    let mut pool = PoolInfo::new(kind, name.to_owned());
    pool.waits_at = Some(at);
    for _ in 0..50 {
        pool.add(&PoolReading { limit, busy: limit, waiting: Some(waiting) });
    }
    process.pools.push(pool);
    story
}

/// Makes it a gevent worker of 20 connections, with so many open and so many before it.
fn take_connections(process: &mut ProcessInfo, open: u32, waiting: u32) {
    process.topology.class = WorkerClass::Gevent;
    let setting = Setting { value: SettingValue::Number(20), source: SettingSource::Memory };
    process.config.insert("worker_connections".to_owned(), setting);
    let mut incoming = ConnectionInfo {
        peer: None,
        open: Level::default(),
        met: 0,
        fresh: 0,
        libraries: Vec::new(),
    };
    (0..5).for_each(|_| incoming.open.add(Some(open)));
    process.connections.push(incoming);
    process.listeners.push(listening(waiting));
    (process.requests.first, process.requests.last) = (Some(0), Some(400));
}

fn nothing_allowed(_: &Recording, _: &Stall) -> bool {
    false
}

fn in_request(story: &mut Story) -> Part {
    story.endpoint = Some(story.recording.tables.name("GET /sandboxes"));
    let urllib3 = format!("{VENV}/urllib3/connection.py");
    let stack = story.stack(&[
        ("/srv/app/lifecycle.py", 88, "list_sandboxes"),
        (&urllib3, 203, "getresponse"),
        ("/usr/lib/python3.12/socket.py", 707, "readinto"),
    ]);
    let peer = Peer::Remote(story.recording.tables.name("10.0.0.7:443"));
    story.asleep(400.0, stack, "recvfrom", Some(peer))
}

fn rendering(story: &mut Story, ms: f64) -> Part {
    let stack = story.stack(&[
        ("/srv/app/views.py", 41, "render"),
        ("/usr/lib/python3.12/json/encoder.py", 258, "iterencode"),
    ]);
    Story::computing(ms, stack)
}

/// A loop that is nearly always at work, on a machine of two CPUs.
fn computing(idle_ms: u64, cpu_ms: u64) -> Story {
    let mut story = Story::new(980);
    let process = &mut story.recording.processes[0];
    (process.requests.first, process.requests.last) = (Some(0), Some(400));
    process.cpu = Nanos::from_millis(cpu_ms);
    story.machine(idle_ms);
    story
}

/// One sync worker whose requests compute, and others wait, on a machine of two CPUs.
fn starved_workers() -> Story {
    let mut story = Story::of_threads(400, 1, 1);
    let render = rendering(&mut story, 60.0);
    story.stall(500.0, render);
    story.crowd(WorkerClass::Sync, 1, 1, 3, 40);
    let process = &mut story.recording.processes[0];
    (process.requests.first, process.requests.last) = (Some(0), Some(400));
    process.cpu = Nanos::from_millis(9_500);
    process.occupancy.busy = vec![0, 1000];
    let queue = Level { looks: 40, sum: 120, max: 3 };
    let address = "0.0.0.0:8000".to_owned();
    process.listeners.push(ListenerInfo { inode: 1, address, limit: None, queue, waiting: 40 });
    story.machine(10_000);
    story
}

/// So many sync workers on a machine of two CPUs, all of them held all the time; each used so much CPU time, and
/// was ready and waited for a CPU for so long.
fn many_workers(count: i32, delay_ms: u64, cpu_ms: u64) -> Story {
    let mut story = starved_workers();
    story.workers(count);
    for worker in &mut story.recording.processes[1..] {
        worker.cpu = Nanos::from_millis(cpu_ms);
        worker.turns.run_delay = Nanos::from_millis(delay_ms);
        (worker.requests.first, worker.requests.last) = (Some(0), Some(50));
        worker.budget.private_bytes = Some(30 << 20);
    }
    story
}

/// What keeps a hub of greenlets.
#[derive(Clone, Copy)]
enum Keeps {
    /// C code without the interpreter lock.
    NativeCode,
    /// Python, for so many milliseconds at a time.
    Computing(f64),
    /// A call of a client: the package that makes it.
    Client(&'static str),
}

/// A gevent worker of gunicorn's that is patched and kept for 6 of the 9.8 s that it is busy, on a machine of two
/// CPUs; so many connections at a time, 400 requests.
fn kept_hub(keeps: Keeps, connections: u32) -> Story {
    let (mut story, length) =
        (Story::new(980), if let Keeps::Computing(ms) = keeps { ms } else { 300.0 });
    story.recording.loops[0].kind = LoopKind::Gevent;
    story.pace = 4.0;
    let mut ms = 100.0;
    while ms < 100.0 + 6_000.0 / length * (length + 20.0) {
        let part = match keeps {
            Keeps::NativeCode => {
                let render = rendering(&mut story, length);
                Part { in_call_with_gil: Some(false), ..render }
            }
            Keeps::Computing(_) => Part { is_moving: true, ..rendering(&mut story, length) },
            Keeps::Client(package) => {
                let library = format!("{VENV}/{package}/cursor.py");
                let stack =
                    story.stack(&[("/srv/app/orders.py", 33, "sums"), (&library, 9, "execute")]);
                let peer = Peer::Remote(story.recording.tables.name("10.0.0.7:1521"));
                story.asleep(length, stack, "recvfrom", Some(peer))
            }
        };
        story.stall(ms, part);
        ms += length + 20.0;
    }
    let process = &mut story.recording.processes[0];
    process.topology.server = "gunicorn".to_owned();
    process.topology.class = WorkerClass::Gevent;
    let modules = ["socket", "time", "threading"].map(str::to_owned).to_vec();
    process.patches = Some(Patches { by: "gevent".to_owned(), modules });
    let held = if matches!(keeps, Keeps::Computing(_)) { 9_500 } else { 2_000 };
    process.gil = GilTally { looks: 10_000, held };
    (process.requests.first, process.requests.last) = (Some(0), Some(400));
    process.cpu = Nanos::from_millis(if matches!(keeps, Keeps::Client(_)) { 3_500 } else { 9_500 });
    let mut pool = PoolInfo::new(PoolKind::GeventPool, String::new());
    for _ in 0..50 {
        let (limit, busy) = (Some(1_000), Some(connections));
        pool.add(&PoolReading { limit, busy, waiting: None });
    }
    process.pools.push(pool);
    story.machine(10_000);
    story
}

/// One worker of gunicorn's gthread with 8 threads, all of them held, whose 400 requests took so much CPU time.
fn taking_turns(cpu_ms: u64) -> Story {
    let mut story = Story::of_threads(400, 8, 8);
    let process = &mut story.recording.processes[0];
    process.topology.server = "gunicorn".to_owned();
    process.topology.class = WorkerClass::Gthread;
    process.occupancy.busy = vec![0, 0, 0, 0, 0, 0, 0, 0, 1000];
    process.turns.run_delay = Nanos::ZERO;
    (process.requests.first, process.requests.last) = (Some(0), Some(400));
    process.cpu = Nanos::from_millis(cpu_ms);
    // Each of eight threads waits for the lock for seven eighths of the time.
    let work = story.stack(&[("/srv/app/views.py", 41, "render")]);
    story.sampled(work, 7_000, CpuState::Blocked { wait: None });
    story.recording.samples[0].gil = GilState::Waiting;
    story.machine(10_000);
    story
}

/// The frames of a thread that a scheduler's executor runs a job in, root first.
const JOB: [(&str, u32, &str); 5] = [
    ("/usr/lib/python3.12/threading.py", 1030, "_bootstrap"),
    ("/usr/lib/python3.12/concurrent/futures/thread.py", 92, "_worker"),
    ("/srv/venv/lib/python3.12/site-packages/apscheduler/executors/base.py", 131, "run_job"),
    ("/srv/app/jobs.py", 6, "report"),
    ("/srv/app/rates.py", 31, "compute"),
];

/// Those of a thread of gunicorn's pool that serves a request.
const POOL_OF_SERVER: [(&str, u32, &str); 4] = [
    ("/usr/lib/python3.12/threading.py", 1030, "_bootstrap"),
    ("/usr/lib/python3.12/concurrent/futures/thread.py", 92, "_worker"),
    ("/srv/venv/lib/python3.12/site-packages/gunicorn/workers/gthread.py", 350, "handle_request"),
    ("/srv/app/rates.py", 31, "compute"),
];

/// The same beside a thread that runs these frames and held the interpreter lock at so many of 1,000 looks; the
/// requests' own thread held it at 200. Both together used 6 s of CPU in 10 s.
fn computing_beside(frames: &[(&str, u32, &str)], held: u32) -> Story {
    let mut story = taking_turns(6_000);
    story.crowd(WorkerClass::Gthread, 8, 8, 12, 40);
    let job = story.frames(frames);
    story.sampled(job, held, CpuState::Running);
    let sample = story.recording.samples.last_mut().unwrap();
    (sample.tid, sample.gil) = (Tid(200), GilState::Holding);
    let render = story.stack(&[("/srv/app/views.py", 41, "render")]);
    let wait = story.asleep(60.0, render, "futex", Some(Peer::Gil));
    let (cpu, native) = (CpuState::Running, None);
    let holder = Some(GilHolder { tid: Tid(200), stack: job, native, cpu });
    story.stall(500.0, Part { holder, ..wait });
    for state in &mut story.recording.loop_states {
        state.sched = None;
    }
    let thread = |tid: i32, python_name: Option<&str>, gil_held| ThreadInfo {
        tid: Tid(tid),
        name: "gunicorn".to_owned(),
        python_name: python_name.map(str::to_owned),
        gil_held,
    };
    let process = &mut story.recording.processes[0];
    process.gil = GilTally { looks: 1000, held: 200 + u64::from(held) };
    process.threads = vec![thread(100, None, 200), thread(200, Some("jobs_0"), u64::from(held))];
    story
}

/// Two timers, one of them a scheduler's, and a watch.
fn residents() -> Vec<Resident> {
    let one = |kind, name: &str, line| {
        let (function, file) = ("run".to_owned(), "/srv/app/jobs.py".to_owned());
        let place = Some(ResidentPlace { function, file, line: Some(line) });
        Resident { kind, name: name.to_owned(), place, count: 1, period: None }
    };
    vec![
        one(ResidentKind::Scheduler, "APScheduler (sync_users)", 12),
        Resident { period: Some(Nanos::from_secs(30)), ..one(ResidentKind::Timer, "refresh", 30) },
        one(ResidentKind::Watch, "Kubernetes watch", 44),
        Resident { count: 3, ..one(ResidentKind::WebSockets, "", 0) },
    ]
}

/// A worker of gunicorn's of this class under a master, with this `timeout`, or with none that is known. `held`: for
/// how many seconds one request does, or blocks its loop, and whether the recording saw that end.
fn supervised(class: WorkerClass, timeout: Option<i64>, held: f64, ends: bool) -> Story {
    let has_threads = matches!(class, WorkerClass::Sync | WorkerClass::Gthread);
    let mut story = if has_threads { Story::of_threads(400, 1, 1) } else { Story::new(400) };
    let call = in_request(&mut story);
    let began = if ends { 1_000.0 } else { 10_000.0 - held * 1e3 };
    story.busy(began, &[Part { ms: held * 1e3, ..call }], ends);
    under_gunicorn(story, class, timeout)
}

/// Puts it under a master of gunicorn's with this `timeout`.
fn under_gunicorn(mut story: Story, class: WorkerClass, timeout: Option<i64>) -> Story {
    story.workers(1);
    for process in &mut story.recording.processes {
        (process.topology.server, process.topology.class) = ("gunicorn".to_owned(), class);
        process.command = "gunicorn -t 4 app:app".to_owned();
        let value = timeout.map(SettingValue::Number);
        let setting = value.map(|value| Setting { value, source: SettingSource::Memory });
        process.config.extend(setting.map(|setting| ("timeout".to_owned(), setting)));
    }
    story
}

/// The worker ended so many seconds after the attach, and its arbiter started another one.
fn killed(mut story: Story, after: f64) -> Story {
    let worker = &mut story.recording.processes[1];
    let mut next = worker.clone();
    worker.ended = Some(at(after * 1e3));
    (next.pid, next.attached) = (Pid(101), at(after * 1e3 + 20.0));
    story.recording.processes.push(next);
    story
}

/// A worker of uvicorn's supervisor whose loop runs C code for so many seconds.
fn in_c_under_uvicorn(seconds: f64, with_gil: Option<bool>, version: &str) -> Story {
    let mut story = Story::new(400);
    let render = rendering(&mut story, seconds * 1e3);
    story.stall(1_000.0, Part { in_call_with_gil: with_gil, ..render });
    story.workers(2);
    for process in &mut story.recording.processes {
        process.topology.server_version = Some(version.to_owned());
    }
    story
}

/// Workers that gave no sign of life for long.
fn silent_workers() -> Vec<(&'static str, Story)> {
    let mut gthread = Story::of_threads(400, 1, 1);
    let render = rendering(&mut gthread, 2_500.0);
    gthread.stall(1_000.0, Part { in_call_with_gil: Some(true), ..render });
    let gthread = under_gunicorn(gthread, WorkerClass::Gthread, Some(4));
    let (sync, gevent, uvicorn) = (WorkerClass::Sync, WorkerClass::Gevent, WorkerClass::Uvicorn);
    vec![
        ("sync, 1 s of 4 s", supervised(sync, Some(4), 1.0, true)),
        ("sync, 2.5 s of 4 s", supervised(sync, Some(4), 2.5, true)),
        ("sync, 3.5 s of 4 s, ongoing", supervised(sync, Some(4), 3.5, false)),
        ("sync, killed after 4.6 s", killed(supervised(sync, Some(4), 4.6, true), 5.61)),
        ("sync, 5 s without a timeout", supervised(sync, Some(0), 5.0, true)),
        ("sync, 5 s, timeout unknown", supervised(sync, None, 5.0, true)),
        ("gthread, 5 s of 4 s", supervised(WorkerClass::Gthread, Some(4), 5.0, true)),
        ("gevent, 2.5 s of 4 s", supervised(gevent, Some(4), 2.5, true)),
        ("gevent, killed after 3.7 s", killed(supervised(gevent, Some(4), 3.7, true), 4.71)),
        ("UvicornWorker, 2 s of 4 s", supervised(uvicorn, Some(4), 2.0, true)),
        ("uvicorn, 4 s of C with the lock", in_c_under_uvicorn(4.0, Some(true), "0.34.3")),
        ("uvicorn, 4 s of C without", in_c_under_uvicorn(4.0, Some(false), "0.34.3")),
        ("uvicorn, computes for 6 s", in_c_under_uvicorn(6.0, None, "0.34.3")),
        ("uvicorn, killed after 5.2 s", killed(in_c_under_uvicorn(5.2, None, "0.34.3"), 6.21)),
        ("gthread, 2.5 s of C with lock", gthread),
        ("old uvicorn, 4 s of C", in_c_under_uvicorn(4.0, Some(true), "0.29.0")),
    ]
}

/// Workers that ended: whether the kernel killed them for memory, and after how long in one request.
fn ended_workers() -> Vec<(&'static str, Story)> {
    let of = |held: f64, for_memory: Option<bool>| {
        let story = supervised(WorkerClass::Sync, Some(4), held, true);
        let mut story = killed(story, 1.0 + held + 0.01);
        let worker = &mut story.recording.processes[1];
        (worker.killed_for_memory, worker.rss_bytes) = (for_memory, 480 << 20);
        story.recording.processes[0].budget.memory_limit_bytes = Some(512 << 20);
        story
    };
    vec![
        ("sync, killed for memory in 0.4 s", of(0.4, Some(true))),
        ("sync, killed for memory in 5 s", of(5.0, Some(true))),
        ("sync, ended for another reason", of(0.4, Some(false))),
        ("sync, ended, nobody counts", of(0.4, None)),
    ]
}

/// A recording, and the name of what it shows.
fn stories() -> Vec<(&'static str, Report)> {
    let mut rows: Vec<(&'static str, Story)> = Vec::new();

    let mut story = Story::new(0);
    story.recording.loops.clear();
    rows.push(("no loop in the process", story));

    for (name, waiting, looks) in [
        ("anyio's tokens are all taken", 20, 50),
        ("anyio's tokens are taken, nobody waits", 0, 50),
        ("a pool looked at twice", 20, 2),
    ] {
        let mut story = Story::new(400);
        let process = &mut story.recording.processes[0];
        (process.requests.first, process.requests.last) = (Some(0), Some(400));
        process.pools.push(full_pool(40, waiting, looks));
        rows.push((name, story));
    }

    for (name, kind, limit, waiting) in [
        ("requests wait for a connection", PoolKind::SqlalchemyPool, Some(4), 6),
        ("all connections are used, none waits", PoolKind::SqlalchemyPool, Some(4), 0),
        ("requests wait for a semaphore", PoolKind::Semaphore, None, 6),
    ] {
        rows.push((name, shared_pool(kind, limit, 10, waiting)));
    }

    for (name, idle_ms, cpu_ms) in [
        ("a loop that computes, and CPUs are idle", 9_000, 9_500),
        ("a loop that computes, and none is", 0, 9_500),
        ("a loop that waits, and CPUs are idle", 9_000, 2_000),
    ] {
        rows.push((name, computing(idle_ms, cpu_ms)));
    }

    for (name, open, waiting) in [
        ("a full hub, others wait", 20, 30),
        ("a full hub, nobody waits", 20, 0),
        ("a hub with room, some wait", 12, 3),
    ] {
        let mut story = Story::new(400);
        take_connections(&mut story.recording.processes[0], open, waiting);
        rows.push((name, story));
    }
    let mut story = computing(9_000, 9_500);
    story.recording.processes[0].residents = Some(residents());
    rows.push(("it computes, and timers live there", story));

    let mut story = Story::new(400);
    story.recording.processes[0].residents = Some(residents());
    rows.push(("timers live in the one worker", story));
    let mut story = Story::new(400);
    story.recording.processes[0].residents = None;
    rows.push(("nobody looked what lives there", story));

    let mut story = Story::new(400);
    story.workers(2);
    for worker in &mut story.recording.processes[1..] {
        worker.residents = Some(residents());
    }
    rows.push(("timers live in each of two", story));

    let mut story = starved_workers();
    story.recording.processes[0].residents = Some(residents());
    rows.push(("all busy, and timers live there", story));
    let mut story = starved_workers();
    story.recording.processes[0].residents = Some(residents());
    story.recording.processes[0].turns.run_delay = Nanos::from_millis(4_000);
    story.recording.processes[0].cpu = Nanos::from_millis(6_000);
    story.recording.processes[0].gil = GilTally { looks: 10_000, held: 6_000 };
    rows.push(("all busy, timers, CPUs are short", story));

    for (name, workers, delay_ms, cpu_ms) in [
        ("16 sync workers compute on 2 CPUs", 16, 8_000, 1_200),
        ("16 sync workers wait", 16, 10, 100),
        ("5 sync workers compute on 2 CPUs", 5, 6_000, 3_800),
    ] {
        rows.push((name, many_workers(workers, delay_ms, cpu_ms)));
    }

    for (name, keeps, connections) in [
        ("a hub is kept by C code", Keeps::NativeCode, 24),
        ("a hub is kept, 1,000 connections", Keeps::NativeCode, 1_000),
        ("a hub computes for long", Keeps::Computing(300.0), 24),
        ("a hub computes, evenly", Keeps::Computing(25.0), 24),
        ("a hub is kept by a driver in C", Keeps::Client("oracledb"), 24),
        ("a hub is kept by psycopg2", Keeps::Client("psycopg2"), 24),
    ] {
        rows.push((name, kept_hub(keeps, connections)));
    }
    let mut story = kept_hub(Keeps::Client("oracledb"), 24);
    story.recording.processes[0].patches.as_mut().unwrap().modules.clear();
    rows.push(("a hub is kept, and not patched", story));
    let mut story = kept_hub(Keeps::NativeCode, 24);
    story.recording.processes[0].residents = Some(residents());
    rows.push(("a hub is kept, timers live there", story));
    let mut story = kept_hub(Keeps::NativeCode, 24);
    story.recording.processes[0].requests.last = Some(19);
    rows.push(("a hub is kept, 19 requests", story));
    let mut story = kept_hub(Keeps::NativeCode, 24);
    story.recording.processes[0].pools.clear();
    rows.push(("a hub is kept, nobody looked", story));
    let mut story = kept_hub(Keeps::NativeCode, 1);
    // It polls for the rest of the time: one client at a time has nobody before it.
    story.recording.loops[0].tally.polling = 600;
    story.recording.processes[0].requests.last = Some(20);
    rows.push(("a hub is kept, for one client", story));

    for (name, cpu_ms) in [("8 threads compute in turns", 9_500), ("8 threads wait", 400)] {
        let mut story = taking_turns(cpu_ms);
        if cpu_ms < 1_000 {
            story.recording.samples.clear();
        }
        rows.push((name, story));
    }
    let mut story = taking_turns(9_500);
    story.recording.processes[0].residents = Some(residents());
    rows.push(("8 threads compute, timers there", story));
    let mut story = taking_turns(9_500);
    story.recording.processes[0].requests.last = Some(19);
    rows.push(("8 threads compute, 19 requests", story));

    let mut story = starved_workers();
    story.recording.processes[0].topology.server = "gunicorn".to_owned();
    story.recording.processes[0].cpu = Nanos::from_millis(400);
    story.crowd(WorkerClass::Sync, 1, 1, 30, 400);
    story.recording.processes[0].listeners[0].queue = Level { looks: 40, sum: 1_200, max: 30 };
    rows.push(("the sync worker mostly waits", story));

    let unread =
        || ReadyFd { fd: 7, what: "10.0.0.7:5432".to_owned(), why: Readiness::Unread, bursts: 4 };
    let mut story = Story::new(100);
    story.spinning(990, Some(unread()));
    rows.push(("a loop spins over a descriptor", story));
    let mut story = Story::new(990);
    story.spinning(990, Some(ReadyFd { bursts: 3, ..unread() }));
    story.recording.processes[0].cpu = Nanos::from_millis(9_900);
    rows.push(("a loop spins over a callback", story));
    let mut story = Story::new(400);
    story.spinning(600, Some(unread()));
    rows.push(("a loop that sleeps now and then", story));
    let mut story = Story::new(400);
    story.spinning(990, None);
    // Of 400,000 rounds in ten seconds a request has ten.
    story.recording.processes[0].requests.last = Some(40_005);
    rows.push(("a loop that is busy with requests", story));
    let mut story = Story::new(400);
    story.spinning(400, None);
    let job = story.stack(&[("/srv/app/stream.py", 12, "publish")]);
    story.recording.samples[1].cpu = CpuState::Running;
    story.recording.samples[1].stack = job;
    rows.push(("a loop that is busy with a stream", story));
    for (name, requests) in [("a thread spins", 0), ("a thread computes for requests", 4_000)] {
        let mut story = Story::new(400);
        let poll = story.frames(&[
            ("/usr/lib/python3.12/threading.py", 1010, "run"),
            ("/srv/app/jobs.py", 36, "poll"),
            ("/usr/lib/python3.12/queue.py", 199, "get_nowait"),
        ]);
        story.sampled(poll, 500, CpuState::Running);
        story.recording.samples[0].tid = Tid(101);
        let counted = &mut story.recording.processes[0].requests;
        (counted.first, counted.last) = (Some(0), Some(requests));
        rows.push((name, story));
    }

    for (name, open, fresh) in [
        ("a connection for each request", 2, 1.0),
        ("connections that are kept", 2, 0.0),
        ("a pool of 20 connections", 20, 0.0),
        ("80 connections to a database", 80, 0.0),
    ] {
        let mut story = Story::new(400);
        story.connected("10.0.0.7:5432", open, fresh);
        rows.push((name, story));
    }
    for (name, open, in_flight, worker_connections) in [
        ("a connection for each greenlet", 30, 30, 1_000),
        ("a pool shared by greenlets", 30, 40, 1_000),
        ("greenlets that fit", 97, 97, 97),
    ] {
        let mut story = Story::new(400);
        story.connected("10.0.0.7:5432", open, 0.0);
        let process = &mut story.recording.processes[0];
        process.topology.class = WorkerClass::Gevent;
        let mut pool = PoolInfo::new(PoolKind::GeventPool, "worker_connections".to_owned());
        let limit = Some(worker_connections);
        pool.add(&PoolReading { limit, busy: Some(in_flight), waiting: None });
        process.pools.push(pool);
        rows.push((name, story));
    }
    for (name, in_loop, of_h11) in
        [("asyncio's loop takes much", 300, 100), ("asyncio's loop takes little", 60, 20)]
    {
        let mut story = Story::new(900);
        let requests = &mut story.recording.processes[0].requests;
        (requests.first, requests.last) = (Some(0), Some(4_000));
        let of_loop =
            story.frames(&[("/usr/lib/python3.12/asyncio/base_events.py", 1987, "_run_once")]);
        let h11 = story.stack(&[(&format!("{VENV}/h11/_connection.py"), 469, "next_event")]);
        let work = story.stack(&[("/srv/app/views.py", 41, "render")]);
        story.sampled(of_loop, in_loop, CpuState::Running);
        story.sampled(h11, of_h11, CpuState::Running);
        story.sampled(work, 900 - in_loop - of_h11, CpuState::Running);
        story.sampled(of_loop, 100, CpuState::Blocked { wait: None });
        rows.push((name, story));
    }

    let mut story = Story::new(400);
    story.recording.processes[0].topology.development = true;
    rows.push(("uvicorn with --reload", story));

    let mut story = Story::new(0);
    story.recording.loops[0].tally = LoopTally::default();
    rows.push(("a loop that could not be read", story));

    rows.push(("a loop that only polled", Story::new(0)));
    rows.push(("nearly idle", Story::new(12)));
    rows.push(("well-behaved under load", Story::new(400)));

    let mut story = Story::new(400);
    for n in 0..10 {
        let call = in_request(&mut story);
        story.stall(500.0 + 900.0 * f64::from(n), call);
    }
    rows.push(("a handler calls requests.get", story));

    let mut story = Story::new(400);
    let stack = story.stack(&[("/srv/app/jobs.py", 12, "poll")]);
    let nap = story.asleep(25.0, stack, "clock_nanosleep", None);
    story.stall(500.0, nap);
    rows.push(("one time.sleep", story));

    let mut story = Story::new(400);
    for n in 0..20 {
        let render = rendering(&mut story, 60.0);
        story.stall(500.0 + 400.0 * f64::from(n), render);
    }
    rows.push(("json.dumps of much", story));

    let mut story = Story::new(400);
    let (call, render) = (in_request(&mut story), rendering(&mut story, 60.0));
    story.stall(500.0, call);
    story.stall(1500.0, render);
    rows.push(("a call and a computation", story));

    for (name, with_gil) in [("C code without the lock", false), ("C code with the lock", true)] {
        let mut story = Story::new(400);
        let render = rendering(&mut story, 60.0);
        story.stall(500.0, Part { in_call_with_gil: Some(with_gil), ..render });
        rows.push((name, story));
    }

    let mut story = Story::new(400);
    let stack = story.stack(&[("/srv/app/model.py", 7, "load")]);
    let fault = Part {
        cpu: CpuState::Blocked { wait: None },
        on_cpu: 0.0,
        ..Story::computing(60.0, stack)
    };
    story.stall(500.0, fault);
    for (state, faults) in story.recording.loop_states.iter_mut().zip(0..) {
        state.major_faults = Some(faults);
    }
    rows.push(("memory is read from a disk", story));

    let mut story = Story::new(400);
    let render = rendering(&mut story, 0.0);
    story.stall(500.0, Story::starved(30.0, render.stack));
    rows.push(("no CPU for it", story));

    let mut story = Story::new(400);
    let render = rendering(&mut story, 0.0);
    story.stall(500.0, Story::starved(110.0, render.stack));
    story.throttled(600.0, 605.0, 85.0);
    rows.push(("the CPU quota is spent", story));

    let mut story = Story::new(400);
    let render = rendering(&mut story, 30.0);
    story.stall(500.0, Part { collecting: true, ..render });
    rows.push(("the collector runs", story));

    let mut story = Story::new(400);
    let render = rendering(&mut story, 0.4);
    let parts: Vec<Part> = (0..100).map(|n| Part { callback: n, ..render }).collect();
    story.busy(500.0, &parts, true);
    rows.push(("a hundred callbacks of 0.4 ms", story));

    let mut story = Story::new(400);
    let call = in_request(&mut story);
    story.busy(5_000.0, &[Part { ms: 5_000.0, ..call }], false);
    rows.push(("a call that did not return", story));

    let mut story = Story::new(400);
    let render = rendering(&mut story, 500.0);
    story.busy(9_500.0, &[render], false);
    rows.push(("cut off by the end after 0.5 s", story));

    let mut story = Story::new(400);
    let stack = story.stack(&[("/srv/app/views.py", 41, "render")]);
    let gil = story.asleep(40.0, stack, "futex", Some(Peer::Gil));
    story.stall(500.0, gil);
    rows.push(("another thread holds the lock", story));

    let mut story = Story::new(400);
    let render = rendering(&mut story, 30.0);
    story.stall(500.0, Part { cpu: CpuState::Unknown, ..render });
    for state in &mut story.recording.loop_states {
        state.look = None;
        state.sched = None;
    }
    rows.push(("a stall not seen into", story));

    rows.push(("a job holds the lock", computing_beside(&JOB, 500)));
    rows.push(("a job holds it now and then", computing_beside(&JOB, 30)));
    rows.push(("the server's own holds it", computing_beside(&POOL_OF_SERVER, 500)));

    for (name, limit, held) in
        [("a thread is held", 4, 1), ("no thread is left", 4, 4), ("the only thread is held", 1, 1)]
    {
        let mut story = Story::of_threads(400, limit, held);
        let call = in_request(&mut story);
        story.stall(500.0, call);
        rows.push((name, story));
    }

    rows.push(("threads that serve nobody", Story::of_threads(0, 4, 0)));
    rows.push(("short requests", Story::of_threads(400, 4, 2)));

    let mut story = Story::of_threads(400, 4, 1);
    let call = in_request(&mut story);
    story.busy(5_000.0, &[Part { ms: 5_000.0, ..call }], false);
    rows.push(("a request that does not end", story));

    for (name, class, free, waiting) in [
        ("all workers busy, others wait", WorkerClass::Sync, 0, 3),
        ("all workers busy, nobody waits", WorkerClass::Sync, 0, 0),
        ("requests wait in a thread pool", WorkerClass::Gthread, 1, 3),
        ("all threads busy, nobody waits", WorkerClass::Gthread, 0, 0),
    ] {
        let mut story = Story::of_threads(400, 1, 1);
        let call = in_request(&mut story);
        story.stall(500.0, call);
        story.crowd(class, 4, 4 - free, waiting, 40);
        rows.push((name, story));
    }

    let mut story = Story::of_threads(400, 1, 1);
    story.crowd(WorkerClass::Sync, 1, 1, 3, 5);
    rows.push(("few looks at the line", story));

    let mut story = Story::of_threads(400, 1, 1);
    let call = in_request(&mut story);
    story.stall(500.0, call);
    story.crowd(WorkerClass::Sync, 1, 1, 1, 2);
    story.crowd(WorkerClass::Sync, 1, 0, 0, 16);
    rows.push(("one of 18 looks at the line", story));

    let mut story = Story::of_threads(400, 1, 1);
    story.crowd(WorkerClass::Sync, 1, 1, 3, 40);
    story.recording.processes[0].topology.role = Role::Worker;
    rows.push(("one of several workers, alone", story));

    rows.extend(silent_workers());
    rows.extend(ended_workers());
    let mut reports: Vec<_> = rows
        .into_iter()
        .map(|(name, story)| (name, conclude(story.recording, &nothing_allowed)))
        .collect();

    let mut story = Story::new(400);
    let call = in_request(&mut story);
    story.stall(500.0, call);
    reports.push(("a call that --allow accepts", conclude(story.recording, &|_, _| true)));
    reports.extend(peers::rows());
    reports.extend(peer_places::rows());
    reports
}

fn cell(report: &Report, rule: &str) -> &'static str {
    if report.findings.iter().any(|finding| finding.id == rule) {
        "FOUND"
    } else if report.undecided.iter().any(|(id, _)| *id == rule) {
        "?"
    } else {
        "-"
    }
}

#[test]
fn truth_table() {
    let ids: Vec<&str> = RULES.iter().map(|rule| rule.id()).collect();
    assert_eq!(ids, COLUMNS, "every rule needs a column here, and a story in which it is found");

    let mut table = format!("{:32}", "");
    for column in COLUMNS {
        table += &format!(" {column:>22}");
    }
    let reports = stories();
    for (name, report) in &reports {
        table += &format!("\n{name:32}");
        for column in COLUMNS {
            table += &format!(" {:>22}", cell(report, column));
        }
    }
    for column in COLUMNS {
        assert!(reports.iter().any(|(_, r)| cell(r, column) == "FOUND"), "{column}: never found");
    }
    insta::assert_snapshot!("truth_table", table);
}

#[test]
fn verdicts() {
    let lines: Vec<String> =
        stories().iter().map(|(name, report)| format!("{name:32} {}", report.verdict)).collect();
    insta::assert_snapshot!("verdicts", lines.join("\n"));
}

#[test]
fn who_watches_a_parent_alone_is_told_which_children_serve() {
    let said = |children: &[i32]| {
        let mut story = Story::new(0);
        story.recording.loops.clear();
        story.recording.processes[0].serving_children = children.iter().copied().map(Pid).collect();
        conclude(story.recording, &nothing_allowed).verdict
    };
    assert!(!said(&[]).contains("-s"), "{}", said(&[]));
    let two = said(&[101, 102]);
    let what = "; below pid 100, processes 101 and 102 run event loops or serve requests: \
                `stallspy record -s -p 100` watches them too";
    assert!(two.ends_with(what), "{two}");
    let one = said(&[101]);
    assert!(one.contains("process 101 runs an event loop or serves requests"), "{one}");
    let many = said(&[101, 102, 103, 104, 105, 106]);
    assert!(many.contains("processes 101, 102, 103, 104 and 2 more run"), "{many}");
}

#[test]
fn recommendations() {
    let mut lines = Vec::new();
    for (name, report) in stories() {
        for finding in &report.findings {
            lines.push(format!("{name}: {} {:?}", finding.id, finding.severity));
            for measured in &finding.evidence {
                lines.push(format!(
                    "    {} = {:.4} {}",
                    measured.name, measured.value, measured.unit
                ));
            }
            for advice in &finding.recommendations {
                let place = match advice.remedy {
                    Remedy::Code { frame } => {
                        stallspy::diagnosis::wording::place(&report.recording, frame)
                    }
                    Remedy::Config => "config".to_owned(),
                    Remedy::Platform => "platform".to_owned(),
                    Remedy::Setting { ref setting, recommended, .. } => {
                        format!("{setting} {recommended}")
                    }
                };
                lines.push(format!("  > {place}: {}", advice.command));
            }
        }
    }
    insta::assert_snapshot!("recommendations", lines.join("\n"));
}

#[test]
fn what_explains_most_comes_first_with_stalls_or_without() {
    let ids = |story: Story| -> Vec<String> {
        let report = conclude(story.recording, &nothing_allowed);
        report.findings.into_iter().map(|finding| finding.id).collect()
    };
    // A pool that is full all the time, and a stall of 40 ms in ten seconds.
    let mut story = Story::new(400);
    let render = rendering(&mut story, 40.0);
    story.stall(500.0, render);
    story.recording.processes[0].pools.push(full_pool(40, 20, 50));
    assert_eq!(ids(story), ["pool-saturated", "loop-blocked-by-cpu"]);
    // A loop that has nothing to do, as all that there is waits for the pool, is no lack of load.
    let mut story = Story::new(10);
    let requests = &mut story.recording.processes[0].requests;
    (requests.first, requests.last) = (Some(0), Some(400));
    story.recording.processes[0].pools.push(full_pool(40, 20, 50));
    assert_eq!(ids(story), ["pool-saturated"]);
    // A note comes last, however long the calls are that it speaks of.
    let mut story = Story::of_threads(400, 4, 1);
    let call = in_request(&mut story);
    story.stall(500.0, call);
    story.recording.processes[0].topology.development = true;
    assert_eq!(ids(story), ["dev-server", "threads-occupied"]);
}

#[test]
fn lines_of_one_function_are_one_thing_to_do() {
    let mut story = Story::new(400);
    for (n, line) in [41, 42, 43, 41].into_iter().enumerate() {
        let stack = story.stack(&[("/srv/app/views.py", line, "render")]);
        story.stall(500.0 + 900.0 * n as f64, Story::computing(60.0, stack));
    }
    for (at, length, line, function) in [
        (5000.0, 30.0, 90, "other"),
        // What is defined on a line is changed with it.
        (5100.0, 25.0, 90, "<genexpr>"),
        // A rare and short one is not worth the words.
        (5200.0, 12.0, 200, "seldom"),
    ] {
        let stack = story.stack(&[("/srv/app/views.py", line, function)]);
        story.stall(at, Story::computing(length, stack));
    }
    for n in 0..20 {
        let stack = story.stack(&[("/srv/app/views.py", 41, "render")]);
        story.stall(6000.0 + 100.0 * f64::from(n), Story::computing(70.0, stack));
    }
    let report = conclude(story.recording, &nothing_allowed);
    let lines = report.findings[0].recommendations.iter().map(|advice| match advice.remedy {
        Remedy::Code { frame } => report.recording.tables.get_frame(frame).unwrap().line,
        _ => None,
    });
    assert_eq!(lines.collect::<Vec<_>>(), [Some(41), Some(90)]);
}

/// Concluded, where samples met a thread in these frames: waiting for a peer, or running.
fn met(mut story: Story, frames: &[(&str, u32, &str)], peer: Option<&str>) -> Report {
    let frames = story.frames(frames);
    let cpu = match peer {
        Some(peer) => {
            let peer = Some(Peer::Remote(story.recording.tables.name(peer)));
            let stack = story.stack(&[]);
            story.asleep(1.0, stack, "poll", peer).cpu
        }
        None => CpuState::Running,
    };
    story.sampled(frames, 5, cpu);
    conclude(story.recording, &nothing_allowed)
}

#[test]
fn the_line_that_connects_is_named_where_it_was_seen() {
    let told = |peers: &[&str], frames: &[(&str, u32, &str)], peer: Option<&str>| {
        let mut story = Story::new(400);
        for peer in peers {
            story.connected(peer, 2, 1.0);
        }
        let report = met(story, frames, peer);
        let found = report.findings.iter().find(|one| one.id == "connection-churn").unwrap();
        let (_, place) = found.summary.split_once("a second before").unwrap();
        place.to_owned()
    };
    let driver = format!("{VENV}/psycopg2/__init__.py");
    let client = format!("{VENV}/urllib3/util/connection.py");
    let by_driver = [("/srv/app/db.py", 25, "open"), (&*driver, 122, "connect")];
    let by_client = [("/srv/app/api.py", 12, "get"), (&*client, 60, "create_connection")];
    let query = [("/srv/app/db.py", 56, "query"), (&*driver, 130, "execute")];
    let (database, service) = ("10.0.0.7:5432", "10.0.0.9:8080");
    let unseen = "; the line that connects was not seen";
    assert_eq!(told(&[database], &by_driver, None), ", in db.py:25 open");
    assert_eq!(told(&[database], &query, None), unseen);
    // A client of something else, and two that may be meant.
    assert_eq!(told(&[database], &by_client, None), unseen);
    assert_eq!(told(&[service], &by_client, None), ", in api.py:12 get");
    assert_eq!(told(&[service, "10.0.0.8:9200"], &by_client, None), unseen);
    // A database at another port.
    assert_eq!(told(&["10.0.0.7:5433"], &by_driver, None), ", in db.py:25 open");
    assert_eq!(told(&["10.0.0.7:5433"], &by_client, Some("10.0.0.7:5433")), ", in api.py:12 get");
}

#[test]
fn a_database_at_another_port_is_told_by_its_driver() {
    let told = |peers: &[&str], frames: &[(&str, u32, &str)], peer: Option<&str>| {
        let mut story = Story::new(400);
        for peer in peers {
            story.connected(peer, 80, 0.0);
        }
        let report = met(story, frames, peer);
        let found = report.findings.iter().find(|one| one.id == "connection-limit");
        found.map(|found| found.summary.split(", ").next().unwrap().to_owned())
    };
    let (driver, pure) =
        (format!("{VENV}/psycopg2/__init__.py"), format!("{VENV}/pymysql/connections.py"));
    let connects = [("/srv/app/db.py", 25, "open"), (&*driver, 122, "connect")];
    let asks = [("/srv/app/db.py", 56, "query"), (&*pure, 700, "_read_bytes")];
    let (database, other) = ("10.0.0.7:25060", "10.0.0.8:9200");
    let of = |name: &str, how: &str| {
        let (count, whose) = (80, format!("{how} that is {name}"));
        Some(format!("up to {count} connections to {database}; {whose}"))
    };
    let mysql = told(&[database, other], &asks, Some(database));
    assert_eq!(mysql, None, "80 of 151 are far from the limit");
    let postgres = of("PostgreSQL", "as psycopg2 talks to it");
    assert_eq!(told(&[database, other], &connects, Some(database)), postgres);
    // Greenlets wait unseen: it is the only one that can be meant.
    assert_eq!(told(&[database], &connects, None), postgres);
    assert_eq!(told(&[database, other], &connects, None), None);
    let at_its_port = told(&[database, "10.0.0.7:5432"], &connects, None).unwrap();
    assert!(at_its_port.contains("by its port"), "{at_its_port}");
}

#[test]
fn a_worker_that_others_keep_from_a_cpu_gains_by_another() {
    let told = |cpu_ms: u64, delay_ms: u64, requests: u64| {
        let mut story = starved_workers();
        story.machine(0);
        let process = &mut story.recording.processes[0];
        process.cpu = Nanos::from_millis(cpu_ms);
        process.turns.run_delay = Nanos::from_millis(delay_ms);
        process.requests.last = Some(requests);
        let report = conclude(story.recording, &nothing_allowed);
        let starved = report.findings.iter().find(|one| one.id == "sync-starved").unwrap();
        starved.recommendations[0].command.clone()
    };
    assert_eq!(told(5_000, 4_500, 250), "`--workers 3`");
    // It has the one CPU that is its own.
    let no_more = "no more workers or threads: make requests cheaper, or give the server more CPUs";
    assert_eq!(told(9_800, 0, 490), no_more);
}

#[test]
fn what_clients_on_the_machine_take_of_the_cpus_grows_with_what_is_predicted() {
    let told = |neighbours: &[(i32, u64)], quota: Option<u64>| {
        let mut story = starved_workers();
        // One CPU each for it and for its clients.
        story.machine(0);
        let process = &mut story.recording.processes[0];
        process.cpu = Nanos::from_millis(2_000);
        process.budget.quotas.extend(quota.map(|millis| CpuQuota {
            quota: Nanos::from_millis(millis),
            period: Nanos::from_millis(100),
        }));
        let (pid, length) = (process.pid, story.recording.length());
        story.recording.machine.busy = Nanos::from_millis(6_000);
        story.recording.neighbours = neighbours
            .iter()
            .map(|(of, millis)| Neighbour {
                pid: Pid(77),
                name: "python3".to_owned(),
                of: vec![Pid(pid.0 + of)],
                cpu: Nanos::from_millis(*millis),
                known: length,
            })
            .collect();
        let report = conclude(story.recording, &nothing_allowed);
        let starved = report.findings.iter().find(|one| one.id == "sync-starved").unwrap();
        let advice = &starved.recommendations[0];
        let of =
            |name: &str| advice.inputs.iter().find(|one| one.name == name).map(|one| one.value);
        let throughput = advice.predicted.iter().find(|one| one.name == "throughput");
        (throughput.map(|one| one.after), of("cpu_of_neighbours"), of("usable_cpus"))
    };
    let (alone, none, usable) = told(&[], None);
    assert_eq!((none, usable), (None, Some(1.6)), "{alone:?}");
    // What others use stays; what its clients use grows with what they ask for.
    let (together, each, usable) = told(&[(0, 4_000)], None);
    assert_eq!((each.map(|each| (each * 1e6).round()), usable), (Some(10_000.0), Some(2.0)));
    assert!(together.unwrap() < alone.unwrap() * 0.8, "{together:?} {alone:?}");
    // Nobody's neighbour, and one that has no part in the quota.
    assert_eq!(told(&[(1, 4_000)], None).1, None);
    assert_eq!(told(&[(0, 4_000)], Some(100)).1, None);
}

#[test]
fn a_hub_that_turns_round_a_callback_spins() {
    let found = |in_hub: u32| {
        let mut story = Story::new(990);
        let hub = story.frames(&[(&format!("{VENV}/gevent/hub.py"), 647, "run")]);
        let again = story.frames(&[
            (&format!("{VENV}/gevent/hub.py"), 647, "run"),
            ("/srv/app/poll.py", 12, "again"),
        ]);
        story.sampled(again, 1000 - in_hub, CpuState::Running);
        story.sampled(hub, in_hub, CpuState::Running);
        story.recording.loops[0].kind = LoopKind::Gevent;
        let requests = &mut story.recording.processes[0].requests;
        (requests.first, requests.last) = (Some(0), Some(0));
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "busy-idle");
        found.map(|one| one.summary.clone())
    };
    let summary = found(400).unwrap();
    assert!(summary.ends_with(": each round runs poll.py:12 again"), "{summary}");
    // A greenlet that computes lets others in now and then.
    assert_eq!(found(40), None);
}

#[test]
fn no_finding_explains_more_than_the_whole() {
    let mut story = Story::new(400);
    story.connected("10.0.0.7:5432", 97, 0.0);
    let stack = story.stack(&[("/srv/app/views.py", 41, "render")]);
    for n in 0..60 {
        story.stall(f64::from(n) * 150.0 + 100.0, Story::computing(100.0, stack));
    }
    // The same on a second and a third loop.
    let all = story.recording.clone();
    for id in [1, 2] {
        let (mut info, states) = (all.loops[0].clone(), all.loop_states.iter().cloned());
        info.id = LoopId(info.id.0 + id);
        story
            .recording
            .loop_states
            .extend(states.map(|state| LoopState { loop_id: info.id, ..state }));
        story.recording.loops.push(info);
    }
    story.recording.loop_states.sort_by_key(|state| state.at);
    let report = conclude(story.recording, &nothing_allowed);
    let ids: Vec<&str> = report.findings.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids[..2], ["connection-limit", "loop-blocked-by-cpu"], "{ids:?}");
    assert!(report.findings[1].summary.starts_with("3 event loops"), "{report:#?}");
}

#[test]
fn a_stall_is_explained_by_what_its_looks_saw() {
    let reports = stories();
    let report = |name: &str| &reports.iter().find(|(story, _)| *story == name).unwrap().1;

    let calls = report("a handler calls requests.get");
    assert_eq!(calls.stalls.len(), 10);
    let [total] = &calls.culprits[..] else { panic!("{:#?}", calls.culprits) };
    assert_eq!((total.count, total.cause), (10, Cause::BlockingCall));
    assert_eq!(total.endpoint.map(|e| calls.recording.tables.text(e)), Some("GET /sandboxes"));
    let culprit = total.culprit.as_ref().unwrap();
    let place = |frame| stallspy::diagnosis::wording::place(&calls.recording, frame);
    assert_eq!(place(culprit.frame), "lifecycle.py:88 list_sandboxes");
    assert_eq!(culprit.library.map(place).as_deref(), Some("connection.py:203 getresponse"));
    assert!(culprit.wait.is_some() && culprit.share > 0.99);
    let stall = &calls.stalls[0];
    assert!(stall.length().lo.0 <= 400_000_000 && 400_000_000 <= stall.length().hi.0);
    assert!(stall.split.off_cpu.0 > 395_000_000, "{:?}", stall.split);

    let starved = report("no CPU for it");
    assert_eq!(starved.stalls[0].cause, Cause::CpuStarved);
    assert_eq!(starved.stalls[0].culprit, None);

    let spent = report("the CPU quota is spent");
    assert_eq!(spent.stalls[0].cause, Cause::CpuStarved);
    assert_eq!(spent.stalls[0].culprit, None);
    let throttled = spent.stalls[0].particulars.throttled.unwrap();
    assert_eq!((throttled.periods, throttled.quota.name()), (1, "0.5 CPUs".to_owned()));
    assert!(throttled.time.0.abs_diff(85_000_000) < 1_000_000, "{throttled:?}");

    let many = report("a hundred callbacks of 0.4 ms");
    assert_eq!(many.stalls[0].cause, Cause::ManyCallbacks);
    // The last of them had not begun at the last look.
    assert_eq!(many.stalls[0].callbacks, 99);
    assert_eq!(many.stalls[0].particulars.batch, Some(100));
    let [only] = &many.stalls[0].particulars.contributors[..] else { panic!("{many:#?}") };
    assert_eq!(many.recording.tables.text(only.name), "app");
    assert!(only.share > 0.99, "{only:?}");

    let unseen = report("a stall not seen into");
    assert_eq!(unseen.stalls[0].cause, Cause::Unknown);

    let hung = report("a call that did not return");
    assert!(hung.stalls[0].ongoing && hung.stalls[0].ended.hi == at(10_000.0));

    let allowed = report("a call that --allow accepts");
    assert!(allowed.culprits[0].allowed);
}

#[test]
fn the_line_that_took_longest_is_to_blame() {
    let mut story = Story::new(400);
    let call = in_request(&mut story);
    let render = rendering(&mut story, 60.0);
    story.busy(500.0, &[render, Part { ms: 100.0, callback: 1, ..call }], true);
    let report = conclude(story.recording, &nothing_allowed);
    let [stall] = &report.stalls[..] else { panic!("{:#?}", report.stalls) };
    let culprit = stall.culprit.as_ref().unwrap();
    assert!((culprit.share - 100.0 / 160.0).abs() < 0.01, "{}", culprit.share);
    assert_eq!(stall.cause, Cause::BlockingCall);
}

/// Waits in the limiter of the story `control-plane`.
fn throttled(story: &mut Story, ms: f64) -> Part {
    let stack = story.stack(&[
        ("/srv/app/lifecycle.py", 80, "list_sandboxes"),
        ("/srv/app/throttle.py", 12, "wait"),
    ]);
    Part { callback: 1, ..story.asleep(ms, stack, "clock_nanosleep", None) }
}

#[test]
fn another_line_of_the_same_iteration_is_told_with_its_own_time() {
    let mut story = Story::new(400);
    for n in 0..5 {
        let (call, sleep) = (in_request(&mut story), throttled(&mut story, 20.0));
        let render = rendering(&mut story, 60.0);
        let little = story.stack(&[("/srv/app/views.py", 90, "log")]);
        let little = Part { callback: 3, ..story.asleep(3.0, little, "write", None) };
        let parts =
            [Part { ms: 150.0, ..call }, sleep, Part { callback: 2, ..render }, little, call];
        story.busy(100.0 + 700.0 * f64::from(n), &parts, true);
    }
    let report = conclude(story.recording, &nothing_allowed);
    let tables = &report.recording.tables;
    let place = |frame| stallspy::diagnosis::wording::place_in(tables, frame);
    let told: Vec<String> = { report.culprits.iter() }
        .map(|total| {
            let frame = total.culprit.as_ref().unwrap().frame;
            let [sum, max] = [total.total, total.max].map(|time| time.as_millis_f64().round());
            format!(
                "{} {} × {}, {sum} ms, at most {max} ms",
                total.cause.id(),
                place(frame),
                total.count
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            // Twice in each iteration, and what no line took enough of.
            "blocking_call lifecycle.py:88 list_sandboxes × 5, 2764 ms, at most 633 ms",
            "cpu views.py:41 render × 5, 300 ms, at most 60 ms",
            "blocking_call throttle.py:12 wait × 5, 100 ms, at most 20 ms",
        ]
    );
    let stalled: Nanos = report.stalls.iter().map(Stall::duration).sum();
    assert_eq!(report.culprits.iter().map(|total| total.total).sum::<Nanos>(), stalled);
    let share = |id: &str| {
        let finding = report.findings.iter().find(|finding| finding.id == id).unwrap();
        let lines = finding.recommendations.iter().filter_map(|advice| match advice.remedy {
            Remedy::Code { frame } => Some(place(frame)),
            _ => None,
        });
        (finding.figure("blocked_share").unwrap(), finding.stalls.len(), lines.collect::<Vec<_>>())
    };
    let (calls, stalls, lines) = share("loop-blocked-by-call");
    assert!((calls - 0.2865).abs() < 0.001 && stalls == 5, "{calls}");
    assert_eq!(lines, ["lifecycle.py:88 list_sandboxes", "throttle.py:12 wait"]);
    let (computing, stalls, lines) = share("loop-blocked-by-cpu");
    assert!((computing - 0.03).abs() < 0.001 && stalls == 5, "{computing}");
    assert_eq!(lines, ["views.py:41 render"]);
    // What explains most comes first, and a part of a stall explains no more than its time.
    assert!(
        report.verdict.contains("synchronous calls: 29 % of the time, longest 633 ms"),
        "{}",
        report.verdict
    );

    let mut text = Vec::new();
    let exporter = stallspy::export::Format::Text.exporter();
    exporter.write(&report, &stallspy::export::View::default(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let row = text.lines().find(|line| line.contains("throttle.py:12 wait")).unwrap();
    assert!(row.contains("~100 ms") && row.contains("~20 ms") && row.contains("sleeps"), "{row}");
    assert!(text.contains("within stalls of other lines that took longer"), "{text}");
}

#[test]
fn other_lines_of_a_stall_that_nobody_or_another_thread_is_to_blame_for_are_not_told() {
    let others = |parts: &dyn Fn(&mut Story) -> Vec<Part>| {
        let mut story = Story::new(400);
        let parts = parts(&mut story);
        story.busy(500.0, &parts, true);
        let report = conclude(story.recording, &nothing_allowed);
        report.stalls[0].particulars.others.len()
    };
    let with_sleep = |first: Part, story: &mut Story| vec![first, throttled(story, 20.0)];
    assert_eq!(others(&|story| with_sleep(in_request(story), story)), 1);
    assert_eq!(others(&|story| with_sleep(rendering(story, 60.0), story)), 1);
    let waits_for_gil = |story: &mut Story| {
        let render = rendering(story, 0.0);
        story.asleep(60.0, render.stack, "futex", Some(Peer::Gil))
    };
    assert_eq!(others(&|story| with_sleep(waits_for_gil(story), story)), 0);
    // It was ready and got no CPU: no line took that time.
    let starved = |story: &mut Story| {
        let render = rendering(story, 0.0);
        vec![in_request(story), Part { callback: 1, ..Story::starved(40.0, render.stack) }]
    };
    assert_eq!(others(&starved), 0);
}

#[test]
fn a_request_of_several_calls_keeps_its_sync_worker_as_a_whole() {
    let mut story = Story::of_threads(400, 1, 1);
    let lines = [10, 11, 12].map(|line| {
        let stack = story.stack(&[("/srv/app/views.py", line, "view")]);
        story.asleep(1_000.0 + f64::from(line) * 10.0, stack, "recvfrom", None)
    });
    story.busy(1_000.0, &lines, true);
    let story = under_gunicorn(story, WorkerClass::Sync, Some(4));
    let report = conclude(story.recording, &nothing_allowed);
    assert_eq!(report.stalls.len(), 3);
    let found = report.findings.iter().find(|one| one.id == "worker-timeout-ahead").unwrap();
    assert!((found.figure("longest_hold").unwrap() - 3.33).abs() < 0.01, "{found:#?}");
    assert_eq!((found.figure("holds"), found.stalls.len()), (Some(1.0), 3));
    assert!(found.summary.contains("views.py:12 view"), "the longest of them: {}", found.summary);
}

#[test]
fn a_stall_from_before_the_attach_counts_only_for_what_was_observed() {
    let mut story = Story::new(400);
    let call = in_request(&mut story);
    story.busy(-60_000.0, &[Part { ms: 61_000.0, ..call }], true);
    story.recording.loop_states.retain(|state| state.at >= at(0.0));
    let report = conclude(story.recording, &nothing_allowed);
    assert!(report.stalls[0].before_attach);
    assert!(report.stalls[0].duration().0 > 60_000_000_000);
    assert!(report.verdict.contains(": 10 % of the time"), "{}", report.verdict);
}

#[test]
fn what_was_not_told_goes_by_the_others_of_its_line() {
    let mut story = Story::new(400);
    let render = rendering(&mut story, 60.0);
    let native = Part { in_call_with_gil: Some(false), ..render };
    story.stall(500.0, native);
    story.stall(1000.0, Part { ms: 15.0, ..render });
    let stack = story.stack(&[("/srv/app/other.py", 3, "loop")]);
    story.stall(1500.0, Story::computing(15.0, stack));
    let report = conclude(story.recording, &nothing_allowed);
    let causes: Vec<Cause> = report.stalls.iter().map(|stall| stall.cause).collect();
    assert_eq!(causes, [Cause::CCall, Cause::CCall, Cause::Cpu]);
}

#[test]
fn nothing_is_advised_twice() {
    for (name, report) in stories() {
        let words: Vec<&str> = report.advice().iter().map(|one| one.command.as_str()).collect();
        assert!(words.iter().all(|one| !one.is_empty()), "{name}: {words:#?}");
        let mut once = words.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), words.len(), "{name}: {words:#?}");
    }
}

#[test]
fn a_line_does_the_same_in_each_of_its_stalls() {
    let told = |in_c: f64, in_python: f64| {
        let mut story = Story::new(400);
        let render = rendering(&mut story, in_c);
        story.stall(500.0, Part { in_call_with_gil: Some(false), ..render });
        story.stall(1500.0, Part { ms: in_python, is_moving: true, ..render });
        let report = conclude(story.recording, &nothing_allowed);
        let told = |stall: &Stall| (stall.cause, stall.particulars.releases_gil);
        report.stalls.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(told(60.0, 40.0), [(Cause::CCall, Some(true)); 2]);
    assert_eq!(told(40.0, 60.0), [(Cause::Cpu, None); 2]);
}

#[test]
fn a_worker_and_its_successor_are_not_two_at_a_time() {
    let mut story = Story::of_threads(400, 1, 1);
    let call = in_request(&mut story);
    story.stall(500.0, call);
    let mut successor = story.recording.processes[0].clone();
    (successor.pid, successor.attached) = (stallspy::units::Pid(101), at(4_000.0));
    story.recording.processes[0].ended = Some(at(4_000.0));
    story.recording.processes.push(successor);
    let report = conclude(story.recording, &nothing_allowed);
    // Each held its thread for half of the time that it was there.
    assert!(report.verdict.contains("the only thread is held 50 % of the time"), "{report:#?}");
}

#[test]
fn what_lives_in_another_server_keeps_no_workers() {
    let told = |own: Vec<Resident>, others: Vec<Resident>| {
        let mut story = Story::of_threads(400, 1, 1);
        let render = rendering(&mut story, 60.0);
        for n in 0..20 {
            story.stall(f64::from(n) * 450.0 + 500.0, Part { ms: 400.0, ..render });
        }
        let mut other = story.recording.processes[0].clone();
        other.pid = stallspy::units::Pid(101);
        other.residents = Some(others);
        story.recording.processes[0].residents = Some(own);
        story.recording.processes.push(other);
        let report = conclude(story.recording, &nothing_allowed);
        let advice: String = report.advice().iter().map(|one| one.command.as_str()).collect();
        advice.contains("no more workers, which would repeat what lives in each")
    };
    assert!(told(residents(), Vec::new()));
    assert!(!told(Vec::new(), residents()));
}

#[test]
fn a_handler_is_made_def_only_where_that_puts_it_on_a_thread() {
    let told_of = |endpoint: &str, framework: &str| -> String {
        let mut story = Story::new(400);
        story.endpoint = Some(story.recording.tables.name(endpoint));
        let framework = format!("{VENV}/{framework}");
        let stack = story.frames(&[
            ("/usr/lib/python3.12/asyncio/base_events.py", 2000, "_run_once"),
            (&framework, 70, "app"),
            ("/srv/app/lifecycle.py", 88, "list_sandboxes"),
        ]);
        let call = story.asleep(400.0, stack, "recvfrom", None);
        story.stall(500.0, call);
        let report = conclude(story.recording, &nothing_allowed);
        report.advice().first().unwrap().command.clone()
    };
    let told = |framework: &str| told_of("GET /sandboxes", framework);
    assert!(told("starlette/routing.py").starts_with("make the handler `def`"));
    // What serves a WebSocket awaits what comes.
    let of_socket = told_of("WS /sandboxes", "starlette/routing.py");
    assert!(of_socket.starts_with("`await asyncio.to_thread(…)`"), "{of_socket}");
    let litestar = told("litestar/routes/http.py");
    assert!(
        litestar.starts_with("make the handler `def`, with `sync_to_thread=True`"),
        "{litestar}"
    );
    assert!(told("quart/app.py").starts_with("make the handler `def`"));
    assert!(told("tornado/web.py").starts_with("`await asyncio.to_thread(…)`"));
    assert!(told("sanic/app.py").starts_with("`await asyncio.to_thread(…)`"));
}

#[test]
fn more_workers_are_typed_as_the_server_takes_them() {
    let told = |server: &str| {
        let mut story = computing(9_000, 9_500);
        story.recording.processes[0].topology.server = server.to_owned();
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "too-few-workers").unwrap();
        found.recommendations[0].command.clone()
    };
    assert_eq!(told("hypercorn"), "`--workers 2`");
    assert!(told("tornado").contains("fork_processes(2)"));
    assert!(told("aiohttp").contains("aiohttp.GunicornWebWorker --workers 2"));
    assert_eq!(told("python"), "2 processes of it behind one proxy");
}

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
fn to_keep_a_connection_is_told_beside_what_its_line_waits_for() {
    let mut story = Story::of_threads(400, 2, 2);
    let call = in_request(&mut story);
    story.stall(500.0, call);
    story.connected("10.0.0.7:443", 5, 1.0);
    let report = conclude(story.recording, &nothing_allowed);
    let (call, keep) = (advised(&report, "threads-occupied"), advised(&report, "connection-churn"));
    assert!(call.line().is_some() && call.line() == keep.line(), "{call:#?} {keep:#?}");
    let all = report.advice();
    assert!(all.contains(&call) && all.contains(&keep), "{all:#?}");
}

#[test]
fn a_turn_of_the_interpreter_lock_is_no_reason_for_a_process() {
    let told = |ms: f64| {
        let mut story = Story::new(400);
        let stack = story.stack(&[("/srv/app/views.py", 41, "render")]);
        let waits = story.asleep(ms, stack, "futex", Some(Peer::Gil));
        let other = story.frames(&[("/srv/app/export.py", 12, "rows")]);
        let cpu = CpuState::Running;
        let holder = GilHolder { tid: Tid(7), stack: other, native: None, cpu };
        story.stall(500.0, Part { holder: Some(holder), ..waits });
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "gil-held-elsewhere").unwrap();
        (found.severity, found.recommendations.len())
    };
    assert_eq!(told(15.0), (Severity::Low, 0));
    assert_eq!(told(900.0), (Severity::Medium, 1));
}

#[test]
fn what_computes_gets_no_more_done_elsewhere_where_the_cpus_are_used_up() {
    let told = |idle_ms| {
        let mut story = computing(idle_ms, 9_500);
        let render = rendering(&mut story, 40.0);
        story.stall(500.0, render);
        let report = conclude(story.recording, &nothing_allowed);
        let advice = advised(&report, "loop-blocked-by-cpu");
        (advice.command.clone(), advice.predicted.len())
    };
    assert_eq!(told(0), ("make it cheaper, or give the server more CPUs".to_owned(), 0));
    let (command, _) = told(9_000);
    assert!(command.contains("process pool"), "{command}");
}

#[test]
fn a_server_that_makes_its_threads_itself_is_not_told_to_have_more() {
    let told = |limit| {
        let mut story = Story::of_threads(400, 2, 2);
        let call = in_request(&mut story);
        story.stall(500.0, call);
        let process = &mut story.recording.processes[0];
        process.topology.class = WorkerClass::Bare;
        (process.occupancy.limit, process.occupancy.busy) = (limit, vec![0, 0, 1000]);
        let report = conclude(story.recording, &nothing_allowed);
        advised(&report, "threads-occupied").command.clone()
    };
    assert!(told(Some(2)).contains("more threads"), "{}", told(Some(2)));
    assert!(!told(None).contains("more threads"), "{}", told(None));
}

#[test]
fn of_one_line_one_remedy_is_told() {
    let mut story = Story::new(600);
    let (call, render) = (in_request(&mut story), rendering(&mut story, 40.0));
    story.stall(500.0, Part { cpu: render.cpu, on_cpu: 1.0, ms: 40.0, ..call });
    story.stall(1500.0, call);
    let report = conclude(story.recording, &nothing_allowed);
    let lines = report.advice().iter().filter(|one| one.line().is_some()).count();
    let found: Vec<&str> = report.findings.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(found, ["loop-blocked-by-call", "loop-blocked-by-cpu"]);
    assert_eq!(lines, 1, "{:#?}", report.advice());
}

#[test]
fn an_iteration_in_which_requests_are_counted_is_no_hang() {
    let told = |counted_at: Option<f64>, loops: usize| {
        let mut story = Story::new(400);
        let render = rendering(&mut story, 5_000.0);
        story.busy(5_000.0, &[render], false);
        story.recording.processes[0].requests.risen = counted_at.map(at);
        for n in 1..loops {
            let mut another = story.recording.loops[0].clone();
            another.id = LoopId(u32::try_from(n).unwrap());
            story.recording.loops.push(another);
        }
        conclude(story.recording, &nothing_allowed).findings[0].id.clone()
    };
    assert_eq!(told(Some(9_700.0), 1), "loop-blocked-by-cpu");
    assert_eq!(told(Some(7_000.0), 1), "loop-hung", "the last one hangs");
    assert_eq!(told(Some(4_900.0), 1), "loop-hung", "that was before");
    assert_eq!(told(None, 1), "loop-hung");
    assert_eq!(told(Some(9_700.0), 2), "loop-hung", "another loop may have served it");
}

#[test]
fn requests_before_eventlets_hub_are_others_than_those_on_it() {
    let told = |class: WorkerClass, kind: LoopKind, pool: PoolKind| {
        let mut story = kept_hub(Keeps::Client("oracledb"), 12);
        story.recording.loops[0].kind = kind;
        let process = &mut story.recording.processes[0];
        process.topology.class = class;
        process.pools[0].kind = pool;
        let (queue, limit) = (Level { looks: 40, sum: 440, max: 23 }, Some(2048));
        let address = "127.0.0.1:8000".to_owned();
        process.listeners.push(ListenerInfo { inode: 1, address, limit, queue, waiting: 40 });
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "wrong-worker-class").unwrap();
        found.recommendations[0].reason.clone()
    };
    let gevent = told(WorkerClass::Gevent, LoopKind::Gevent, PoolKind::GeventPool);
    assert!(gevent.contains("12 requests are there at once"), "{gevent}");
    let eventlet = told(WorkerClass::Eventlet, LoopKind::Eventlet, PoolKind::EventletPool);
    assert!(eventlet.contains("23 requests are there at once"), "{eventlet}");
}

/// What is advised of a line that waits on a loop of this kind: in which library, in which system call.
fn told_of_a_wait(kind: LoopKind, library: &str, syscall: &str, ms: f64) -> String {
    let mut story = Story::new(400);
    story.recording.loops[0].kind = kind;
    let library = format!("{VENV}/{library}");
    let stack =
        story.stack(&[("/srv/app/lifecycle.py", 88, "list_sandboxes"), (&library, 9, "get")]);
    let call = story.asleep(ms, stack, syscall, None);
    story.stall(500.0, call);
    let report = conclude(story.recording, &nothing_allowed);
    report.advice().first().unwrap().command.clone()
}

#[test]
fn each_family_of_loops_has_ways_of_its_own() {
    let told = |kind, syscall| told_of_a_wait(kind, "requests/api.py", syscall, 300.0);
    let nap = "clock_nanosleep";
    for (kind, thread, client, sleep) in [
        (LoopKind::Asyncio, "`await asyncio.to_thread(…)`", "aiohttp", "`await asyncio.sleep(…)`"),
        (LoopKind::Trio, "`await trio.to_thread.run_sync(…)`", "httpx", "`await trio.sleep(…)`"),
        (
            LoopKind::Twisted,
            "`twisted.internet.threads.deferToThread(…)`",
            "treq",
            "`twisted.internet.task",
        ),
    ] {
        let (call, sleeps) = (told(kind, "recvfrom"), told(kind, nap));
        assert!(call.starts_with(thread) && call.contains(client), "{kind:?}: {call}");
        assert!(sleeps.starts_with(sleep), "{kind:?}: {sleeps}");
        let foreign =
            kind != LoopKind::Asyncio && [call, sleeps].iter().any(|one| one.contains("asyncio"));
        assert!(!foreign, "{kind:?}");
    }
    // What computes, too.
    for (kind, word) in [(LoopKind::Trio, "trio."), (LoopKind::Twisted, "task.cooperate")] {
        let mut story = Story::new(400);
        story.recording.loops[0].kind = kind;
        let render = rendering(&mut story, 60.0);
        story.stall(500.0, render);
        let report = conclude(story.recording, &nothing_allowed);
        let told = &report.advice().first().unwrap().command;
        assert!(told.contains(word) && !told.contains("asyncio"), "{kind:?}: {told}");
    }
}

/// The lines' remedies of one finding.
fn of_lines(report: &Report, rule: &str) -> Vec<String> {
    let found = report.findings.iter().find(|one| one.id == rule);
    let all = found.into_iter().flat_map(|one| &one.recommendations);
    all.filter(|one| one.line().is_some()).map(|one| one.command.clone()).collect()
}

#[test]
fn who_was_killed_for_memory_was_not_killed_for_a_timeout() {
    let told = |report: &Report, rule: &str| {
        let found = report.findings.iter().find(|one| one.id == rule);
        found.map_or(String::new(), |one| one.summary.clone())
    };
    let all = ended_workers().into_iter();
    let all: Vec<Report> =
        all.map(|(_, story)| conclude(story.recording, &nothing_allowed)).collect();
    assert_eq!(
        told(&all[0], "oom-killed"),
        "the kernel killed worker 100 for memory, in GET /sandboxes, lifecycle.py:88 list_sandboxes: it had 480 MiB \
         when last looked at; its control group may use 512 MiB"
    );
    // The request was old enough for gunicorn, too.
    assert!(told(&all[1], "worker-timeout-ahead").starts_with("a worker was held for 5.0 s"));
    assert!(told(&all[1], "oom-killed").starts_with("the kernel killed worker 100"));
    assert_eq!(told(&all[2], "oom-killed"), "");
    assert!(all[3].undecided.iter().any(|(rule, _)| *rule == "oom-killed"));
}

#[test]
fn how_long_a_call_may_take_is_told_once_and_with_a_number() {
    let story = supervised(WorkerClass::Sync, Some(4), 2.5, true);
    let report = conclude(story.recording, &nothing_allowed);
    let timeout = of_lines(&report, "worker-timeout-ahead");
    // Less than half of the 4 s.
    assert_eq!(timeout, ["give the call a timeout of at most 1.9 s, or do it after the answer"]);
    assert_eq!(of_lines(&report, "threads-occupied"), [""; 0]);
    let advice = report.advice();
    let one = advice.iter().find(|one| one.line().is_some()).unwrap();
    assert!(one.reason.contains("it took 2.5 s, 62 % of what gunicorn may kill"), "{}", one.reason);
    // A sleep has no timeout; a lock of SQLite's has a cure.
    let near = |syscall: &'static str, native: &[(&str, &str)]| {
        let mut story = Story::of_threads(400, 1, 1);
        let stack = story.stack(&[("/srv/app/orders.py", 33, "sums")]);
        let native = Some(story.native(native));
        let part = Part { native, ..story.asleep(2_500.0, stack, syscall, None) };
        story.stall(1_000.0, part);
        let story = under_gunicorn(story, WorkerClass::Sync, Some(4));
        let report = conclude(story.recording, &nothing_allowed);
        of_lines(&report, "worker-timeout-ahead").concat()
    };
    let sleep = near("clock_nanosleep", &[("/usr/bin/python3.12", "time_sleep")]);
    assert_eq!(sleep, "sleep for at most 1.9 s, or do it after the answer");
    assert!(near("clock_nanosleep", &QUERY).contains("journal_mode=WAL"));
    // Where the timeout is far it is told without a number, by the other.
    let story = supervised(WorkerClass::Sync, Some(30), 2.5, true);
    let report = conclude(story.recording, &nothing_allowed);
    assert_eq!(of_lines(&report, "worker-timeout-ahead"), [""; 0]);
    assert_eq!(of_lines(&report, "threads-occupied").len(), 1);
}

#[test]
fn what_keeps_a_loop_from_its_sign_is_taken_off_it_and_the_gain_is_told() {
    let mut story = supervised(WorkerClass::Asgi, Some(4), 3.5, true);
    story.recording.processes[1].requests.first = Some(0);
    story.recording.processes[1].requests.last = Some(400);
    let report = conclude(story.recording, &nothing_allowed);
    let own = of_lines(&report, "worker-timeout-ahead");
    assert_eq!(own, of_lines(&report, "loop-blocked-by-call"), "the same words");
    let advice = report.advice();
    let lines: Vec<_> = advice.iter().filter(|one| one.line().is_some()).collect();
    assert!(lines.len() == 1 && lines[0].gain().is_some(), "{lines:#?}");
}

#[test]
fn no_line_is_to_be_changed_for_what_the_collector_does() {
    let mut story = Story::new(400);
    let render = rendering(&mut story, 2_500.0);
    story.stall(1_000.0, Part { collecting: true, ..render });
    let story = under_gunicorn(story, WorkerClass::Asgi, Some(4));
    let report = conclude(story.recording, &nothing_allowed);
    assert!(report.findings.iter().any(|one| one.id == "worker-timeout-ahead"));
    assert_eq!(of_lines(&report, "worker-timeout-ahead"), [""; 0]);
}

/// The C frames of a query that waits for its turn.
const QUERY: [(&str, &str); 2] =
    [("/usr/lib/libsqlite3.so.0", "sqlite3_step"), ("/usr/lib/libc.so.6", "usleep")];

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
fn more_threads_and_workers_are_told_as_the_server_takes_them() {
    let told = |server: &str, class: WorkerClass, computes: bool| {
        let mut story = Story::of_threads(400, 4, 4);
        let part = if computes { rendering(&mut story, 400.0) } else { in_request(&mut story) };
        story.stall(500.0, part);
        let process = &mut story.recording.processes[0];
        (process.topology.server, process.topology.class) = (server.to_owned(), class);
        process.occupancy.busy = vec![0, 0, 0, 0, 1000];
        let report = conclude(story.recording, &nothing_allowed);
        of_lines(&report, "threads-occupied").concat()
    };
    let plain = "give the call a timeout, or do it after the answer";
    assert_eq!(told("werkzeug", WorkerClass::ThreadPerRequest, false), plain);
    let cheaper = "make it cheaper, or do it after the answer";
    assert_eq!(told("werkzeug", WorkerClass::ThreadPerRequest, true), cheaper);
    assert!(told("gunicorn", WorkerClass::Gthread, false).ends_with("more threads (`--threads`)"));
    assert!(told("waitress", WorkerClass::ThreadPool, false).ends_with("(`threads`)"));
    assert!(told("waitress", WorkerClass::ThreadPool, true).contains("behind one proxy"));
    assert!(told("granian", WorkerClass::Granian, false).contains("--blocking-threads"));
}

/// A gthread worker of four threads, all held while others wait, whose requests do this nearly all the time.
fn held_by(part: impl Fn(&mut Story) -> Part) -> Report {
    let mut story = Story::of_threads(990, 4, 4);
    let part = part(&mut story);
    for second in 0..9 {
        let one = Part { ms: 990.0, ..part };
        story.stall(500.0 + 1000.0 * f64::from(second), one);
    }
    story.crowd(WorkerClass::Gthread, 4, 4, 3, 40);
    let process = &mut story.recording.processes[0];
    (process.requests.first, process.requests.last) = (Some(0), Some(200));
    process.cpu = Nanos::from_millis(200);
    process.occupancy.busy = vec![0, 0, 0, 0, 1000];
    let queue = Level { looks: 40, sum: 480, max: 12 };
    let address = "0.0.0.0:8000".to_owned();
    process.listeners.push(ListenerInfo { inode: 1, address, limit: None, queue, waiting: 40 });
    story.machine(19_000);
    conclude(story.recording, &nothing_allowed)
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

#[test]
fn a_request_is_told_call_by_call() {
    let told = |parts: &dyn Fn(&mut Story) -> Vec<Part>| {
        let mut story = Story::of_threads(400, 4, 1);
        let parts = parts(&mut story);
        story.busy(500.0, &parts, true);
        let report = conclude(story.recording, &nothing_allowed);
        let tables = &report.recording.tables;
        let place = |stall: &Stall| {
            stallspy::diagnosis::wording::place_in(tables, stall.culprit.as_ref().unwrap().frame)
        };
        let length = |stall: &Stall| (stall.duration().0 + 500_000) / 1_000_000;
        assert!(report.stalls.iter().all(|stall| stall.occupies));
        report
            .stalls
            .iter()
            .map(|one| format!("{} {}", place(one), length(one)))
            .collect::<Vec<_>>()
    };
    let line = |story: &mut Story, ms: f64, line: u32| {
        let stack = story.stack(&[("/srv/app/views.py", line, "view")]);
        story.asleep(ms, stack, "recvfrom", None)
    };
    let loops = |story: &mut Story, ms: f64, line: u32| {
        let stack = story.stack(&[("/srv/app/views.py", line, "view")]);
        Story::computing(ms, stack)
    };
    // Two long calls, and a short one between them.
    let two = told(&|story| vec![line(story, 40.0, 7), line(story, 4.0, 8), line(story, 30.0, 9)]);
    assert_eq!(two, ["views.py:7 view 40", "views.py:9 view 30"]);
    // One computation goes from line to line.
    let one = told(&|story| {
        let lines = [7, 8, 7, 8, 7].map(|at| loops(story, 12.0, at));
        lines.to_vec()
    });
    assert_eq!(one, ["views.py:7 view 60"]);
    // None of them is long, but the request is: its heaviest line stands for it.
    let many = told(&|story| (0..16).map(|at| line(story, 3.0, 20 + at % 3)).collect());
    assert_eq!(many, ["views.py:22 view 48"]);
    // What is between two long calls, if it is not most of the request, is not told.
    let some = told(&|story| {
        let mut parts = vec![line(story, 60.0, 7)];
        parts.extend([8, 9, 10].map(|at| line(story, 6.0, at)));
        parts
    });
    assert_eq!(some, ["views.py:7 view 60"]);
}

/// A recording of 10 s with two lines that block: `waits` calls of 400 ms and `renders` of 60 ms.
fn two_culprits(waits: u32, renders: u32) -> Report {
    two_culprits_with_cpu(waits, renders, Nanos::ZERO)
}

/// The same of a process that used so much CPU time.
fn two_culprits_with_cpu(waits: u32, renders: u32, cpu: Nanos) -> Report {
    let mut story = Story::new(0);
    let tally = &mut story.recording.loops[0].tally;
    let busy = u64::from(waits) * 40 + u64::from(renders) * 6 + 50;
    tally.polling = 1000 - busy;
    (0..busy).for_each(|_| tally.count_running(Nanos::from_millis(1)));
    let process = &mut story.recording.processes[0];
    (process.requests.first, process.requests.last) = (Some(0), Some(400));
    process.cpu = cpu;
    for n in 0..waits {
        let call = in_request(&mut story);
        story.stall(100.0 + 420.0 * f64::from(n), call);
    }
    for n in 0..renders {
        let render = rendering(&mut story, 60.0);
        story.stall(100.0 + 420.0 * f64::from(waits) + 70.0 * f64::from(n), render);
    }
    conclude(story.recording, &nothing_allowed)
}

fn effect(report: &Report, rule: &str, name: &str) -> Option<(f64, f64)> {
    let finding = report.findings.iter().find(|finding| finding.id == rule)?;
    let all = finding.recommendations.iter().flat_map(|one| &one.predicted);
    { all }.find(|effect| effect.name == name).map(|effect| (effect.before, effect.after))
}

#[test]
fn each_culprit_says_what_the_loop_would_do_without_it() {
    let report = two_culprits(6, 20);
    let lag = |rule| effect(&report, rule, "loop_lag_p99").unwrap();
    let (without_calls, without_renders) =
        (lag("loop-blocked-by-call"), lag("loop-blocked-by-cpu"));
    // Σ (400 - t)⁺ × 6 = 1 % of 10 s: 383 ms, by hand.
    assert!((without_calls.0 - 0.383).abs() < 0.005, "{without_calls:?}");
    // What is left are calls of 60 ms, 2 a second, that sometimes meet.
    assert!((0.05..=0.08).contains(&without_calls.1), "{without_calls:?}");
    assert!(without_renders.1 > 0.35, "{without_renders:?}");
    // 40 requests/s in (2.4 + 1.2 + 0.5) s of 10; without the calls in 1.7 s.
    let capacity = effect(&report, "loop-blocked-by-call", "capacity").unwrap();
    assert!((capacity.0 - 40.0 / 0.41).abs() < 2.0, "{capacity:?}");
    assert!((capacity.1 - 40.0 / 0.17).abs() < 10.0, "{capacity:?}");
    // Off the loop they take as much CPU time: 22.5 ms of each request, on what there is of CPUs.
    let report_of_cpu = two_culprits_with_cpu(6, 20, Nanos::from_millis(9_000));
    let bound = effect(&report_of_cpu, "loop-blocked-by-call", "capacity").unwrap();
    let cores = report_of_cpu.loads[0].cores.usable();
    assert!((bound.0 - capacity.0).abs() < 2.0, "{bound:?}");
    assert!((bound.1 - (cores / 0.0225).max(bound.0)).abs() < 1.0, "{bound:?}, {cores} CPUs");
    assert!(bound.1 < capacity.1, "{bound:?} {capacity:?}");
    // What gains more is first, and what to keep is last.
    let advice = report.advice();
    let gains: Vec<f64> = advice.iter().filter_map(|one| one.gain()).collect();
    assert!(gains.windows(2).all(|two| two[0] >= two[1]), "{gains:?}");
    assert!(advice.last().unwrap().keeps(), "{advice:#?}");
    assert_eq!(advice.last().unwrap().command, "keep 1 worker");
}

#[test]
fn the_pool_that_takes_the_calls_over_is_the_next_limit_where_it_is_too_small() {
    let report = two_culprits(6, 0);
    let call = &report.findings.iter().find(|one| one.id == "loop-blocked-by-call").unwrap();
    // 0.6/s × 0.4 s are a quarter of one: there is room.
    assert!(call.recommendations[0].reason.contains("1 of its 40 are needed"), "{call:#?}");

    let mut story = Story::new(0);
    let tally = &mut story.recording.loops[0].tally;
    tally.polling = 400;
    (0..600).for_each(|_| tally.count_running(Nanos::from_millis(1)));
    let process = &mut story.recording.processes[0];
    (process.requests.first, process.requests.last) = (Some(0), Some(400));
    process.pools.push(full_pool(1, 1, 50));
    for n in 0..12 {
        let call = in_request(&mut story);
        story.stall(100.0 + 500.0 * f64::from(n), call);
    }
    let report = conclude(story.recording, &nothing_allowed);
    let call = &report.findings.iter().find(|one| one.id == "loop-blocked-by-call").unwrap();
    let [_, pool, ..] = &call.recommendations[..] else { panic!("{call:#?}") };
    let Remedy::Setting { current, recommended, suggested, .. } = &pool.remedy else {
        panic!("{pool:#?}")
    };
    // 1.2/s × 0.4 s and the 2 that are there, at 75 % use.
    assert_eq!((*current, *recommended), (Some(1), 4));
    assert!(suggested.lo <= 4 && suggested.hi >= 4);
}

/// The recommendation of a rule.
fn advised<'a>(report: &'a Report, rule: &str) -> &'a Recommendation {
    let found = report.findings.iter().find(|one| one.id == rule);
    &found.unwrap_or_else(|| panic!("no {rule} in {:#?}", report.findings)).recommendations[0]
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
fn a_saturated_loop_is_told_what_it_can_carry_and_no_delay() {
    let report = two_culprits(20, 18);
    assert_eq!(effect(&report, "loop-blocked-by-call", "loop_lag_p99"), None);
    let (before, after) = effect(&report, "loop-blocked-by-call", "capacity").unwrap();
    assert!(after > 3.0 * before, "{before} {after}");
    let call = report.findings.iter().find(|one| one.id == "loop-blocked-by-call").unwrap();
    assert!(call.recommendations[0].reason.contains("known from below only"), "{call:#?}");
}

#[test]
fn fewer_than_twenty_requests_are_not_a_load() {
    let of = |requests| {
        let mut story = Story::new(400);
        let process = &mut story.recording.processes[0];
        (process.requests.first, process.requests.last) = (Some(0), Some(requests));
        let report = conclude(story.recording, &nothing_allowed);
        (cell(&report, "healthy"), cell(&report, "not-under-load"), report.verdict.clone())
    };
    let (healthy, idle, verdict) = of(19);
    assert_eq!((healthy, idle), ("-", "FOUND"), "{verdict}");
    let (healthy, idle, verdict) = of(20);
    assert_eq!((healthy, idle), ("FOUND", "-"), "{verdict}");
    assert!(verdict.ends_with("at 2.0 requests/s"), "{verdict}");
}

#[test]
fn another_class_is_advised_in_one_command_and_its_effect_predicted() {
    let advised = |story: Story| {
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "wrong-worker-class").unwrap();
        let [advice] = &found.recommendations[..] else { panic!("{found:#?}") };
        let throughput = advice.predicted.iter().find(|one| one.name == "throughput").unwrap();
        let said = report.advice().iter().filter(|one| one.command == advice.command).count();
        let place = report.findings.iter().position(|one| one.id == "wrong-worker-class");
        (advice.clone(), throughput.before, throughput.after, said, place.unwrap())
    };
    // 24.5 ms of the hub each, of which two CPUs do 2 / 23.75 ms; and four threads for each CPU.
    let (advice, before, after, said, place) = advised(kept_hub(Keeps::NativeCode, 24));
    assert!(advice.command.starts_with("`-k gthread --workers "), "{}", advice.command);
    assert!(advice.reason.contains("WebSocket") && advice.reason.contains("safe for threads"));
    assert!(advice.reason.contains("what is predicted is the most"), "{}", advice.reason);
    assert!((before - 40.0).abs() < 0.1 && (after - 2.0 / 0.02375).abs() < 4.0, "{after}");
    // The line comes first, and nothing is said twice.
    assert_eq!((said, place), (1, 1));
    let Remedy::Setting { recommended, suggested, current: None, .. } = advice.remedy else {
        panic!("{advice:#?}")
    };
    assert!(suggested.lo <= recommended && recommended <= suggested.hi);
    // What lives in the worker keeps it one.
    let mut story = kept_hub(Keeps::NativeCode, 24);
    story.recording.processes[0].residents = Some(residents());
    let (advice, ..) = advised(story);
    assert_eq!(advice.command, "`-k gthread --workers 1 --threads 8`");
    // Workers whose number comes from the environment get theirs from there.
    let mut story = kept_hub(Keeps::NativeCode, 24);
    let setting = Setting { value: SettingValue::Number(1), source: SettingSource::Environment };
    story.recording.processes[0].config.insert("workers".to_owned(), setting);
    let (advice, ..) = advised(story);
    assert_eq!(advice.command, "`WEB_CONCURRENCY=2` and `-k gthread --threads 4`");
}

#[test]
fn a_spent_quota_is_what_requests_wait_for() {
    let mut story = starved_workers();
    let render = rendering(&mut story, 60.0);
    for n in 0..9 {
        let began = 1_000.0 + 500.0 * f64::from(n);
        story.stall(began, Story::starved(110.0, render.stack));
        story.throttled(began + 100.0, began + 105.0, 85.0);
    }
    let quota = CpuQuota { quota: Nanos::from_millis(50), period: Nanos::from_millis(100) };
    let process = &mut story.recording.processes[0];
    process.budget.quotas = vec![quota];
    process.cpu = Nanos::from_millis(5_000);
    process.turns.run_delay = Nanos::from_millis(5_000);
    let report = conclude(story.recording, &nothing_allowed);
    assert!(report.verdict.contains("CPU quota (0.5 CPUs) was spent"), "{}", report.verdict);
    let advice = advised(&report, "sync-starved");
    assert!(advice.command.starts_with("raise the CPU limit to 1 CPU"), "{advice:#?}");
    // More time on a CPU for each of them.
    assert!(advice.predicted[0].after > 1.2 * advice.predicted[0].before, "{advice:#?}");
    // Of a quota that is there and hardly spent nothing is said.
    let mut story = starved_workers();
    story.recording.processes[0].budget.quotas = vec![quota];
    let report = conclude(story.recording, &nothing_allowed);
    assert!(!report.verdict.contains("quota"), "{}", report.verdict);
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
fn a_middleware_is_no_handler() {
    let told = |caller: &str, function: &str| {
        let mut story = Story::new(400);
        story.endpoint = Some(story.recording.tables.name("GET /"));
        let folder = if caller.starts_with("dependencies") { "fastapi" } else { "starlette" };
        let caller = format!("{VENV}/{folder}/{caller}");
        let stack = story.stack(&[(&caller, 191, "app"), ("/srv/app/auth.py", 9, function)]);
        let part = story.asleep(100.0, stack, "recvfrom", None);
        story.stall(500.0, part);
        let report = conclude(story.recording, &nothing_allowed);
        advised(&report, "loop-blocked-by-call").command.clone()
    };
    assert!(told("middleware/base.py", "dispatch").starts_with("`await asyncio.to_thread(…)`"));
    assert!(told("middleware/errors.py", "__call__").starts_with("`await asyncio.to_thread(…)`"));
    assert!(told("routing.py", "orders").starts_with("make the handler `def`"));
    // Nor are a dependency and a task, which are made `def` themselves.
    let (dependency, task) = (told("dependencies/utils.py", "user"), told("background.py", "mail"));
    assert!(dependency.starts_with("make the dependency `def`, or `await"), "{dependency}");
    assert!(task.starts_with("make the task `def`, or `await"), "{task}");
}

#[test]
fn a_development_server_before_which_others_wait_comes_first() {
    let report = |waiting: u64| {
        let mut story = Story::of_threads(400, 4, 1);
        let call = in_request(&mut story);
        story.stall(500.0, call);
        let process = &mut story.recording.processes[0];
        process.topology.server = "werkzeug".to_owned();
        process.topology.development = true;
        let (queue, address) = (Level { looks: 40, sum: 120, max: 9 }, "127.0.0.1:5000".to_owned());
        process.listeners.push(ListenerInfo { inode: 1, address, limit: None, queue, waiting });
        story.connected("10.0.0.7:443", 5, 1.0);
        conclude(story.recording, &nothing_allowed)
    };
    let crowded = report(38);
    assert!(crowded.verdict.starts_with("werkzeug runs as a development server: one process"));
    assert!(crowded.verdict.ends_with("others waited to be accepted 95 % of the time"));
    assert!(!report(1).verdict.starts_with("werkzeug"));
}

#[test]
fn a_platforms_numbers_are_typed_where_it_takes_them() {
    let told = |variables: &[&str]| {
        let mut story = starved_workers();
        let process = &mut story.recording.processes[0];
        process.cpu = Nanos::from_millis(500);
        process.listeners[0].queue = Level { looks: 40, sum: 800, max: 20 };
        for name in variables {
            let setting =
                Setting { value: SettingValue::Number(1), source: SettingSource::Environment };
            process.config.insert((*name).to_owned(), setting);
        }
        story.machine(19_000);
        let report = conclude(story.recording, &nothing_allowed);
        advised(&report, "sync-starved").command.clone()
    };
    let platforms = ["PYTHON_ENABLE_GUNICORN_MULTIWORKERS", "PYTHON_GUNICORN_CUSTOM_WORKER_NUM"];
    let command = told(&platforms);
    assert!(command.contains("`PYTHON_GUNICORN_CUSTOM_THREAD_NUM="), "{command}");
    assert!(!command.contains("--") && !command.contains("MULTIWORKERS"), "{command}");
    assert!(told(&[]).contains("`--threads "));
}

#[test]
fn a_socket_that_was_too_new_at_first_is_the_one_that_was_found() {
    let mut story = Story::new(400);
    let call = in_request(&mut story);
    let too_new = story.asleep(60.0, call.stack, "recvfrom", None);
    let lock = story.asleep(70.0, call.stack, "futex", Some(Peer::Gil));
    story.busy(500.0, &[too_new, Part { ms: 40.0, ..call }, lock], true);
    let report = conclude(story.recording, &nothing_allowed);
    let [stall] = &report.stalls[..] else { panic!("{:#?}", report.stalls) };
    let wait = stall.culprit.as_ref().and_then(|culprit| culprit.wait).unwrap();
    let tables = &report.recording.tables;
    let words = tables.get_wait(wait).unwrap().in_words(tables);
    assert_eq!(words, "recvfrom() from 10.0.0.7:443");
    assert_eq!(stall.cause, Cause::BlockingCall);
}

#[test]
fn threads_that_keep_the_cpus_busy_gain_by_no_other_size() {
    let told = |cpu_ms: u64| {
        let mut story = taking_turns(cpu_ms);
        story.recording.samples.clear();
        story.recording.processes[0].occupancy.busy = vec![0, 0, 1000];
        story.recording.processes[0].occupancy.limit = Some(2);
        story.crowd(WorkerClass::Gthread, 2, 2, 18, 40);
        story.recording.processes[0].gil = GilTally { looks: 10_000, held: 800 };
        story.machine(20_000 - cpu_ms.min(20_000));
        let report = conclude(story.recording, &nothing_allowed);
        advised(&report, "gthread-starved").command.clone()
    };
    // 19.5 of the 20 s that two CPUs have, most of it without the interpreter lock.
    let no_more = "no more workers or threads: make requests cheaper, or give the server more CPUs";
    assert_eq!(told(19_500), no_more);
    assert_ne!(told(9_000), no_more);
}

#[test]
fn a_row_names_the_other_end_that_any_of_its_stalls_found() {
    let mut story = Story::new(400);
    let call = in_request(&mut story);
    let too_new = story.asleep(500.0, call.stack, "recvfrom", None);
    story.stall(500.0, call);
    story.stall(2_000.0, too_new);
    let report = conclude(story.recording, &nothing_allowed);
    let [row] = &report.culprits[..] else { panic!("{:#?}", report.culprits) };
    let wait = row.culprit.as_ref().and_then(|culprit| culprit.wait).unwrap();
    let tables = &report.recording.tables;
    assert!(row.count == 2 && row.max > Nanos::from_millis(450), "{row:?}");
    assert_eq!(tables.get_wait(wait).unwrap().in_words(tables), "recvfrom() from 10.0.0.7:443");
}

#[test]
fn websockets_that_keep_a_loop_busy_are_a_load() {
    let told = |busy: u64, in_flight: u64| {
        let mut story = Story::new(busy);
        story.recording.processes[0].cpu = Nanos::from_millis(500);
        let requests = &mut story.recording.processes[0].requests;
        (requests.first, requests.last) = (Some(0), Some(0));
        requests.looked = Nanos::from_secs(10);
        requests.in_flight = requests.looked.scaled(in_flight, 1);
        let report = conclude(story.recording, &nothing_allowed);
        (cell(&report, "healthy"), cell(&report, "not-under-load"))
    };
    assert_eq!(told(400, 12), ("FOUND", "-"));
    assert_eq!(told(400, 0), ("-", "FOUND"));
    // Nobody sends anything.
    assert_eq!(told(20, 12), ("-", "FOUND"));
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

#[test]
fn nothing_is_moved_away_while_cpus_are_idle() {
    let starved = |idle_ms: u64, times: u32| {
        let mut story = Story::new(400);
        let render = rendering(&mut story, 0.0);
        for n in 0..times {
            story.stall(500.0 + 100.0 * f64::from(n), Story::starved(30.0, render.stack));
        }
        story.machine(idle_ms);
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "cpu-starved").unwrap();
        (found.summary.clone(), found.recommendations.clone())
    };
    let (summary, advice) = starved(1_000, 20);
    assert!(advice[0].command.starts_with("move other programs away"), "{advice:#?}");
    assert!(!summary.contains("idle"), "{summary}");
    assert_eq!(starved(1_000, 1).1, [], "too little for anybody to move anything");
    let (summary, advice) = starved(18_000, 1);
    assert!(summary.contains("though 1.8 of 2 CPUs are idle on average"), "{summary}");
    assert_eq!(advice, []);
    // Often, it is a limit that is not seen.
    let (_, advice) = starved(18_000, 20);
    assert!(advice[0].command.contains("`nr_throttled`"), "{advice:#?}");
}

#[test]
fn a_server_that_reloads_is_told_one_number_of_workers() {
    let told = |cpu_ms: u64| {
        let mut story = computing(9_000, cpu_ms);
        if cpu_ms < 5_000 {
            story.recording.loops[0].tally = Story::new(200).recording.loops[0].tally.clone();
        }
        story.recording.processes[0].topology.development = true;
        let report = conclude(story.recording, &nothing_allowed);
        let commands: Vec<String> = report.advice().iter().map(|one| one.command.clone()).collect();
        (advised(&report, "dev-server").command.clone(), commands)
    };
    let (command, all) = told(1_000);
    assert!(command.starts_with("`uvicorn MODULE:APP`, without `--reload`"), "{command}");
    assert!(all.iter().all(|one| !one.contains("--workers 2")), "{all:?}");
    let (command, _) = told(9_500);
    assert!(command.starts_with("`uvicorn MODULE:APP --workers 2`"), "{command}");
}

#[test]
fn what_a_line_gains_is_not_what_another_cause_takes_in_the_same_function() {
    let mut story = Story::new(0);
    let tally = &mut story.recording.loops[0].tally;
    tally.polling = 500;
    (0..500).for_each(|_| tally.count_running(Nanos::from_millis(1)));
    let line = |story: &mut Story, line| story.stack(&[("/srv/app/feed.py", line, "handle")]);
    let (waits, computes) = (line(&mut story, 10), line(&mut story, 13));
    for n in 0..9 {
        let call = story.asleep(400.0, waits, "recvfrom", None);
        story.stall(100.0 + 1000.0 * f64::from(n), call);
    }
    story.stall(9_300.0, Story::computing(60.0, computes));
    let report = conclude(story.recording, &nothing_allowed);
    let (before, after) = effect(&report, "loop-blocked-by-call", "capacity").unwrap();
    assert!(after > 2.0 * before, "{before} {after}");
    let (before, after) = effect(&report, "loop-blocked-by-cpu", "capacity").unwrap();
    assert!(after < 1.1 * before, "{before} {after}");
}

#[test]
fn a_request_that_waits_for_the_lock_of_a_group_without_cpu_time_waits_for_the_quota() {
    let verdict = |throttled: bool| {
        let mut story = Story::of_threads(990, 4, 4);
        let stack = story.stack(&[("/srv/app/views.py", 41, "render")]);
        let waits = story.asleep(110.0, stack, "futex", Some(Peer::Gil));
        for n in 0..9 {
            let began = 1_000.0 + 500.0 * f64::from(n);
            story.stall(began, waits);
            if throttled {
                story.throttled(began + 100.0, began + 105.0, 85.0);
            }
        }
        story.crowd(WorkerClass::Gthread, 4, 4, 3, 40);
        let report = conclude(story.recording, &nothing_allowed);
        (report.verdict.clone(), advised(&report, "gthread-starved").command.clone())
    };
    let (told, command) = verdict(true);
    assert!(told.contains("while their CPU quota (0.5 CPUs) was spent"), "{told}");
    assert!(command.starts_with("raise the CPU limit"), "{command}");
    let (told, _) = verdict(false);
    assert!(!told.contains("quota"), "{told}");
}

#[test]
fn short_pauses_of_the_collector_are_no_reason_to_change_anything() {
    let told = |times: u32| {
        let mut story = Story::new(400);
        let render = rendering(&mut story, 30.0);
        for n in 0..times {
            story.stall(500.0 + 300.0 * f64::from(n), Part { collecting: true, ..render });
        }
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "gc-pause").unwrap();
        (found.severity, found.recommendations.len())
    };
    assert_eq!(told(3), (Severity::Info, 0));
    assert_eq!(told(8), (Severity::Medium, 1));
}

#[test]
fn a_full_loop_makes_room_in_the_pool_for_those_before_it() {
    let told = |queued: u64| {
        let mut story = Story::new(950);
        let process = &mut story.recording.processes[0];
        (process.requests.first, process.requests.last) = (Some(0), Some(400));
        process.requests.looked = Nanos::from_secs(10);
        process.requests.in_flight = Nanos::from_secs(20);
        let queue = Level { looks: 40, sum: 40 * queued, max: 60 };
        let address = "0.0.0.0:8000".to_owned();
        let line = ListenerInfo { inode: 1, address, limit: None, queue, waiting: 40 };
        process.listeners.push(line);
        for n in 0..22 {
            let call = in_request(&mut story);
            story.stall(50.0 + 440.0 * f64::from(n), call);
        }
        let report = conclude(story.recording, &nothing_allowed);
        let call = report.findings.iter().find(|one| one.id == "loop-blocked-by-call").unwrap();
        let pool = call.recommendations.get(1).map(|one| one.command.clone());
        (call.recommendations[0].reason.clone(), pool)
    };
    let (reason, _) = told(0);
    assert!(reason.contains("at least 3 of its 40 are needed"), "{reason}");
    let (_, pool) = told(58);
    assert!(pool.unwrap().contains("total_tokens = 80"));
}

#[test]
fn a_request_that_waits_for_the_interpreter_lock_needs_no_timeout() {
    let waiting = held_by(|story| {
        let stack = story.stack(&[("/srv/app/views.py", 41, "render")]);
        let waits = story.asleep(400.0, stack, "futex", Some(Peer::Gil));
        // Who held it when that was read waits for it by now.
        let holder = GilHolder { tid: Tid(7), stack, native: None, cpu: waits.cpu };
        Part { holder: Some(holder), ..waits }
    });
    let commands: Vec<&str> = waiting.advice().iter().map(|one| one.command.as_str()).collect();
    assert!(commands.iter().all(|one| !one.contains("timeout")), "{commands:#?}");
    let in_c = held_by(|story| {
        let render = rendering(story, 400.0);
        Part { in_call_with_gil: Some(false), ..render }
    });
    let reasons: Vec<&str> = in_c.advice().iter().map(|one| one.reason.as_str()).collect();
    assert!(
        reasons.iter().any(|one| one.contains("lets go of the interpreter lock")),
        "{reasons:#?}"
    );
}

#[test]
fn a_size_for_bursts_is_for_those_that_are_there_while_they_last() {
    // One gthread worker of two threads: for `looks` of 40 both are held and 18 wait, else nobody is there.
    let told = |starved: u32, held_beside: usize| {
        let mut story = Story::of_threads(400, 2, 0);
        let call = in_request(&mut story);
        story.stall(500.0, call);
        let process = &mut story.recording.processes[0];
        process.topology.class = WorkerClass::Gthread;
        let crowd = process.occupancy.crowd.get_or_insert_default();
        for look in 0..40 {
            let (held, waiting) = if look < starved { (2, 18) } else { (0, 0) };
            crowd.add(CrowdLook { threads: 2, held, waiting });
        }
        let share = u64::from(starved);
        process.occupancy.busy = vec![0; 3];
        process.occupancy.busy[2] = share;
        process.occupancy.busy[held_beside] += 40 - share;
        let mut pool =
            PoolInfo::new(PoolKind::ThreadPoolExecutor, "ThreadPoolExecutor-0".to_owned());
        for look in 0..40 {
            let waiting = if look < starved { 18 } else { 0 };
            pool.add(&PoolReading { limit: Some(2), busy: Some(2), waiting: Some(waiting) });
        }
        process.pools.push(pool);
        let queue = Level { looks: 40, sum: 0, max: 0 };
        let address = "0.0.0.0:8000".to_owned();
        process.listeners.push(ListenerInfo { inode: 1, address, limit: None, queue, waiting: 0 });
        (process.requests.first, process.requests.last) = (Some(0), Some(500));
        process.cpu = Nanos::from_millis(500);
        story.machine(19_000);
        let report = conclude(story.recording, &nothing_allowed);
        advised(&report, "gthread-starved").clone()
    };
    let there = |advice: &Recommendation| {
        advice.inputs.iter().find(|one| one.name == "requests_at_once").unwrap().value
    };
    let bursts = told(20, 0);
    assert_eq!(there(&bursts), 20.0, "{bursts:#?}");
    assert!(bursts.reason.contains("while anybody is, 50 % of the time"), "{}", bursts.reason);
    // 50 requests a second, in half of the time.
    assert!((bursts.predicted[0].before - 100.0).abs() < 0.1, "{:?}", bursts.predicted);
    // All the time, or with somebody there in between, it is the mean.
    let always = told(40, 0);
    assert!(!always.reason.contains("while anybody is"), "{}", always.reason);
    let between = told(8, 2);
    assert!((there(&between) - (2.0 + 3.6)).abs() < 0.01, "{between:#?}");
}

#[test]
fn workers_have_to_fit_into_memory_while_they_load_their_data() {
    let told = |peak: Option<u64>| {
        let mut story = starved_workers();
        story.machine(10_000);
        story.recording.processes[0].budget = Budget {
            memory_limit_bytes: Some(300 << 20),
            memory_used_bytes: Some(130 << 20),
            private_bytes: Some(100 << 20),
            private_peak_bytes: peak.map(|mebibytes| mebibytes << 20),
            ..Budget::default()
        };
        let report = conclude(story.recording, &nothing_allowed);
        advised(&report, "sync-starved").clone()
    };
    // One more of 100 MiB fits, but of 195 MiB each there is no room for two at once.
    assert_eq!(told(None).command, "`--workers 2`");
    assert_eq!(told(Some(120)).command, "`--workers 2`");
    let none = told(Some(195));
    assert!(
        none.command.starts_with("no more workers or threads: make workers smaller"),
        "{none:#?}"
    );
    assert!(none.reason.contains("what limits it is memory"), "{none:#?}");
    assert!(
        none.inputs
            .iter()
            .any(|one| one.name == "memory_of_a_worker_at_most" && one.value == 195.0)
    );
}

#[test]
fn a_spent_quota_is_told_by_what_a_larger_one_does() {
    let quota =
        |ms: u64| CpuQuota { quota: Nanos::from_millis(ms), period: Nanos::from_millis(100) };
    // A loop that is kept off the CPUs for half of each period.
    let mut story = Story::new(960);
    let render = rendering(&mut story, 0.0);
    for n in 0..90 {
        let began = 500.0 + 100.0 * f64::from(n);
        story.stall(began, Story::starved(60.0, render.stack));
        story.throttled(began + 50.0, began + 55.0, 45.0);
    }
    let process = &mut story.recording.processes[0];
    process.budget.quotas = vec![quota(50)];
    (process.requests.first, process.requests.last) = (Some(0), Some(400));
    process.cpu = Nanos::from_millis(5_000);
    story.machine(14_000);
    let report = conclude(story.recording, &nothing_allowed);
    let advice = advised(&report, "cpu-starved");
    assert!(advice.command.starts_with("raise the CPU limit to 1 CPU (Kubernetes"), "{advice:#?}");
    let [capacity] = &advice.predicted[..] else { panic!("{advice:#?}") };
    assert!((capacity.after / capacity.before - 2.0).abs() < 1e-9, "{capacity:?}");

    // One that computes on all that a quota of one CPU gives.
    let told = |quotas: Vec<CpuQuota>| {
        let mut story = computing(9_000, 9_900);
        story.recording.processes[0].budget.quotas = quotas;
        story.machine(9_000);
        conclude(story.recording, &nothing_allowed)
    };
    let full = told(vec![quota(100)]);
    let said = "the only worker is busy 98 % of the time, computing, which uses its CPU quota up, while 0.9 CPUs";
    assert!(full.verdict.starts_with(said), "{}", full.verdict);
    let advice = advised(&full, "too-few-workers");
    assert!(
        advice.command.starts_with("`--workers 2` and a CPU limit of 2 (Kubernetes"),
        "{advice:#?}"
    );
    let advice = advised(&told(Vec::new()), "too-few-workers").command.clone();
    assert_eq!(advice, "`--workers 2`");
}

#[test]
fn what_others_use_is_not_taken_off_a_quota_that_leaves_it_room() {
    let cores = |quota: Option<f64>, others| Cores {
        affinity: 8,
        quota,
        budget: quota.unwrap_or(8.0),
        others: Some(others),
        neighbours: 0.0,
        idle: None,
    };
    assert_eq!(cores(Some(1.0), 6.0).usable(), 1.0);
    assert_eq!(cores(Some(4.0), 6.0).usable(), 2.0);
    assert_eq!(cores(None, 6.0).usable(), 4.0);
    assert_eq!(cores(None, 1.5).usable(), 6.5);
}

#[test]
fn a_line_that_hardly_blocks_is_nothing_to_change_beside_one_that_does() {
    let told = |call_ms: f64| {
        let mut story = Story::new(900);
        let call = in_request(&mut story);
        for n in 0..9 {
            story.stall(100.0 + 900.0 * f64::from(n), Part { ms: call_ms, ..call });
        }
        let render = rendering(&mut story, 20.0);
        story.stall(9_000.0, render);
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "loop-blocked-by-cpu").unwrap();
        found.recommendations.len()
    };
    assert_eq!(told(400.0), 0, "20 ms beside 3.6 s");
    assert_eq!(told(60.0), 1, "20 ms beside 0.54 s");
}

#[test]
fn an_idle_loop_with_requests_in_flight_is_under_load() {
    let told = |in_flight_ms: u64| {
        let mut story = Story::new(20);
        let process = &mut story.recording.processes[0];
        (process.requests.first, process.requests.last) = (Some(0), Some(200));
        process.requests.looked = Nanos::from_secs(10);
        process.requests.in_flight = Nanos::from_millis(in_flight_ms);
        let report = conclude(story.recording, &nothing_allowed);
        (cell(&report, "healthy"), cell(&report, "not-under-load"), report.verdict.clone())
    };
    let (healthy, idle, verdict) = told(300_000);
    assert_eq!((healthy, idle), ("FOUND", "-"));
    assert!(verdict.contains("20.0 requests/s, while 30.0 are in flight on average"), "{verdict}");
    let (healthy, idle, _) = told(9_000);
    assert_eq!((healthy, idle), ("-", "FOUND"));
}
