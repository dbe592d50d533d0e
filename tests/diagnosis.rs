//! The truth table: small recordings made by hand, and what each rule says about them.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

#[path = "diagnosis/beside.rs"]
mod beside;
#[path = "diagnosis/gains.rs"]
mod gains;
#[path = "diagnosis/lines.rs"]
mod lines;
#[path = "diagnosis/loads.rs"]
mod loads;
#[path = "diagnosis/locks.rs"]
mod locks;
#[path = "diagnosis/peers.rs"]
mod peers;
#[path = "diagnosis/pools.rs"]
mod pools;
#[path = "diagnosis/sizes.rs"]
mod sizes;
mod story;
#[path = "diagnosis/two_recordings.rs"]
mod two_recordings;
#[path = "diagnosis/two_recordings_of_pools.rs"]
mod two_recordings_of_pools;

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
    reports.extend(two_recordings::rows());
    reports.extend(two_recordings_of_pools::rows());
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

/// The lines' remedies of one finding.
fn of_lines(report: &Report, rule: &str) -> Vec<String> {
    let found = report.findings.iter().find(|one| one.id == rule);
    let all = found.into_iter().flat_map(|one| &one.recommendations);
    all.filter(|one| one.line().is_some()).map(|one| one.command.clone()).collect()
}

/// The C frames of a query that waits for its turn.
const QUERY: [(&str, &str); 2] =
    [("/usr/lib/libsqlite3.so.0", "sqlite3_step"), ("/usr/lib/libc.so.6", "usleep")];

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

fn effect(report: &Report, rule: &str, name: &str) -> Option<(f64, f64)> {
    let finding = report.findings.iter().find(|finding| finding.id == rule)?;
    let all = finding.recommendations.iter().flat_map(|one| &one.predicted);
    { all }.find(|effect| effect.name == name).map(|effect| (effect.before, effect.after))
}

/// The recommendation of a rule.
fn advised<'a>(report: &'a Report, rule: &str) -> &'a Recommendation {
    let found = report.findings.iter().find(|one| one.id == rule);
    &found.unwrap_or_else(|| panic!("no {rule} in {:#?}", report.findings)).recommendations[0]
}
