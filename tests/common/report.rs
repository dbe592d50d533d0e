//! A report made by hand, with one of everything an exporter can meet. Its numbers are invented;
//! they agree with each other.
#![allow(dead_code)] // each test file uses some of it

use stallspy::model::{
    Cause, ConnectionInfo, CpuQuota, CpuState, Culprit, CulpritTotal, EdgeStatus, Evidence,
    Finding, Frame, FrameId, FrameKind, GilState, GilTally, Level, ListenerInfo, LockOwner, LoopId,
    LoopInfo, LoopKind, LoopPhase, LoopState, LoopSummary, LoopTally, Losses, Measured, Occupancy,
    Particulars, Peer, PoolInfo, PoolKind, PoolReading, ProcessInfo, Recommendation, Recording,
    Remedy, Report, RequestTally, Resident, ResidentKind, ResidentPlace, Role, Sample, SchedTimes,
    ServerConfig, Setting, SettingSource, SettingValue, Settings, Severity, Stack, StackId, Stall,
    Tables, ThreadInfo, ThreadLook, Throttled, TimeSplit, Truncation, Wait, WaitId, WorkerClass,
    WorkerTopology,
};
use stallspy::units::{Bounds, Nanos, Pid, Tid, Timestamp};

const SITE: &str = "/srv/venv/lib/python3.12/site-packages";
const STDLIB: &str = "/usr/lib/python3.12";
/// When the recording began. Every other time is so many milliseconds later.
const START: Timestamp = Timestamp(1_000_000_000_000);

/// `ms` milliseconds after the recording began.
fn at(ms: u64) -> Timestamp {
    START + Nanos::from_millis(ms)
}

/// A frame of Python code.
fn python(tables: &mut Tables, file: &str, line: u32, function: &str) -> FrameId {
    let function = tables.name(function);
    let file = Some(tables.name(file));
    tables.frame(Frame { kind: FrameKind::Python, function, file, line: Some(line), module: None })
}

/// A stack from its frames, leaf first.
fn stack(tables: &mut Tables, frames: &[FrameId]) -> StackId {
    tables.stack(Stack { frames: frames.to_vec(), truncated: None })
}

fn wait(tables: &mut Tables, syscall: &str, fd: Option<i32>, peer: Option<Peer>) -> WaitId {
    let syscall = tables.name(syscall);
    tables.wait(Wait { syscall, fd, peer })
}

/// Everything the stalls refer to.
struct Scene {
    tables: Tables,
    run: FrameId,
    list_sandboxes: FrameId,
    connection: FrameId,
    render: FrameId,
    crunch: FrameId,
    flush: FrameId,
    threading: FrameId,
    audit: FrameId,
    recv: WaitId,
    futex: WaitId,
    fsync: WaitId,
}

impl Scene {
    fn new() -> Scene {
        let mut tables = Tables::default();
        let t = &mut tables;
        let run = python(t, &format!("{STDLIB}/asyncio/base_events.py"), 1987, "_run_once");
        let list_sandboxes = python(t, "/srv/app/lifecycle.py", 88, "list_sandboxes");
        let connection = python(t, &format!("{SITE}/urllib3/connection.py"), 203, "getresponse");
        let render = python(t, "/srv/app/shop/views.py", 41, "render");
        let crunch = python(t, "/srv/app/admin/views.py", 7, "crunch");
        let flush = python(t, "/srv/app/jobs.py", 12, "flush");
        let threading = python(t, &format!("{STDLIB}/threading.py"), 355, "wait");
        let audit = python(t, "/srv/app/audit.py", 30, "append");
        let peer = t.name("10.0.0.7:443");
        let recv = wait(t, "recvfrom", Some(9), Some(Peer::Remote(peer)));
        let futex = wait(t, "futex", None, None);
        let log = t.name("/var/log/app/audit.log");
        let fsync = wait(t, "fsync", Some(5), Some(Peer::Path(log)));
        Scene {
            tables,
            run,
            list_sandboxes,
            connection,
            render,
            crunch,
            flush,
            threading,
            audit,
            recv,
            futex,
            fsync,
        }
    }
}

/// A stall of the first worker's loop, its length known to `width` microseconds.
fn stall(from_ms: u64, length_ms: u64, width_us: u64, cause: Cause) -> Stall {
    let ended = at(from_ms + length_ms);
    Stall {
        occupies: false,
        loop_id: LoopId(0),
        pid: Pid(4243),
        tid: Tid(4243),
        began: Bounds::exactly(at(from_ms)),
        ended: Bounds { lo: ended.before(Nanos::from_micros(width_us)), hi: ended },
        ongoing: false,
        before_attach: false,
        evidence: Evidence::Counted,
        cause,
        split: TimeSplit::default(),
        callbacks: 1,
        waiting_callbacks: None,
        task: None,
        coroutine: None,
        endpoint: None,
        culprit: None,
        stack: None,
        native: None,
        particulars: Particulars::default(),
        allowed: false,
    }
}

/// Half a CPU is too little.
fn throttled() -> Throttled {
    let quota = CpuQuota { quota: Nanos::from_millis(50), period: Nanos::from_millis(100) };
    Throttled { quota, time: Nanos::from_millis(58), periods: 1 }
}

fn blame(frame: FrameId) -> Culprit {
    Culprit {
        frame,
        tid: Tid(4243),
        wait: None,
        lock_owner: None,
        library: None,
        native: None,
        native_library: None,
        share: 1.0,
    }
}

/// The stalls, in the order of their beginning.
fn stalls(scene: &mut Scene) -> Vec<Stall> {
    let mut all = Vec::new();
    let t = &mut scene.tables;
    let endpoint = Some(t.name("GET /sandboxes"));
    let (task, coroutine) =
        (Some(t.name("Task-12")), Some(t.name("RequestResponseCycle.run_asgi")));
    let stacked = stack(t, &[scene.connection, scene.list_sandboxes, scene.run]);
    for (from, length) in [(1_000, 412), (2_000, 118), (3_500, 96)] {
        all.push(Stall {
            split: TimeSplit {
                on_cpu: Nanos::from_millis(3),
                off_cpu: Nanos::from_millis(length - 4),
                run_delay: Nanos::from_micros(200),
            },
            waiting_callbacks: Some(17),
            task,
            coroutine,
            endpoint,
            culprit: Some(Culprit {
                wait: Some(scene.recv),
                library: Some(scene.connection),
                share: 0.97,
                ..blame(scene.list_sandboxes)
            }),
            stack: Some(stacked),
            ..stall(from, length, 400, Cause::BlockingCall)
        });
    }
    all.push(Stall {
        evidence: Evidence::Sampled,
        began: Bounds { lo: at(4_990), hi: at(5_000) },
        endpoint: Some(t.name("POST /render")),
        culprit: Some(blame(scene.render)),
        stack: Some(stack(t, &[scene.render, scene.run])),
        split: TimeSplit { on_cpu: Nanos::from_millis(85), ..TimeSplit::default() },
        ..stall(5_000, 88, 10_000, Cause::Cpu)
    });
    all.push(Stall {
        split: TimeSplit { run_delay: Nanos::from_millis(60), ..TimeSplit::default() },
        particulars: Particulars { throttled: Some(throttled()), ..Particulars::default() },
        ..stall(6_000, 64, 300, Cause::CpuStarved)
    });
    all.push(Stall {
        culprit: Some(Culprit { tid: Tid(4250), ..blame(scene.crunch) }),
        stack: Some(stack(t, &[scene.crunch])),
        evidence: Evidence::Traced,
        ..stall(7_000, 35, 0, Cause::GilWait)
    });
    all.push(Stall {
        endpoint: Some(t.name("POST /audit")),
        culprit: Some(Culprit { wait: Some(scene.fsync), ..blame(scene.audit) }),
        stack: Some(stack(t, &[scene.audit, scene.run])),
        allowed: true,
        ..stall(8_000, 22, 200, Cause::BlockingCall)
    });
    all.push(Stall {
        ongoing: true,
        loop_id: LoopId(1),
        pid: Pid(4244),
        tid: Tid(4260),
        culprit: Some(Culprit {
            tid: Tid(4260),
            wait: Some(scene.futex),
            library: Some(scene.threading),
            lock_owner: Some(LockOwner {
                tid: Tid(4262),
                name: Some(t.name("worker")),
                frame: Some(scene.audit),
            }),
            ..blame(scene.flush)
        }),
        stack: Some(stack(t, &[scene.threading, scene.flush, scene.run])),
        ended: Bounds { lo: at(29_990), hi: at(30_000) },
        ..stall(24_800, 5_200, 0, Cause::BlockingCall)
    });
    all
}

/// Sums the stalls up as the report's table does.
fn culprits(stalls: &[Stall]) -> Vec<CulpritTotal> {
    let whole: Nanos = stalls.iter().map(Stall::duration).sum();
    let mut totals: Vec<CulpritTotal> = Vec::new();
    for stall in stalls {
        let frame = |culprit: &Option<Culprit>| culprit.as_ref().map(|culprit| culprit.frame);
        let same = totals.iter_mut().find(|total| {
            total.cause == stall.cause && frame(&total.culprit) == frame(&stall.culprit)
        });
        match same {
            Some(total) => {
                total.count += 1;
                total.total += stall.duration();
                total.max = total.max.max(stall.duration());
            }
            None => totals.push(CulpritTotal {
                occupies: stall.occupies,
                culprit: stall.culprit.clone(),
                endpoint: stall.endpoint,
                cause: stall.cause,
                count: 1,
                total: stall.duration(),
                max: stall.duration(),
                share: 0.0,
                allowed: stall.allowed,
            }),
        }
    }
    for total in &mut totals {
        total.share = total.total.share_of(whole);
    }
    totals.sort_by_key(|total| (total.allowed, std::cmp::Reverse(total.total)));
    totals
}

/// One of each kind of value, and each source.
fn config() -> ServerConfig {
    let setting = |name: &str, value, source| (name.to_owned(), Setting { value, source });
    let memory = SettingSource::Memory;
    ServerConfig::from([
        setting("workers", SettingValue::Number(2), memory),
        setting("limit_concurrency", SettingValue::None, memory),
        setting("reload", SettingValue::Switch(false), memory),
        setting("timeout_keep_alive", SettingValue::Fraction(5.5), SettingSource::CommandLine),
        setting("loop", SettingValue::Text("asyncio".to_owned()), SettingSource::Environment),
        setting("bind", SettingValue::List(vec!["127.0.0.1:8000".to_owned()]), memory),
    ])
}

/// 240 requests in 30 s, 1.5 in flight on average.
fn requests(pid: i32) -> RequestTally {
    let first = 1_000 + u64::from(pid.unsigned_abs());
    RequestTally {
        first: Some(first),
        last: Some(first + 240),
        risen: None,
        in_flight: Nanos::from_secs(45),
        looked: Nanos::from_secs(30),
        in_flight_max: 4,
    }
}

fn residents() -> Vec<Resident> {
    vec![Resident {
        kind: ResidentKind::Timer,
        name: "refresh".to_owned(),
        place: Some(ResidentPlace {
            function: "refresh".to_owned(),
            file: "/srv/app/jobs.py".to_owned(),
            line: Some(12),
        }),
        count: 1,
        period: Some(Nanos::from_secs(30)),
    }]
}

fn processes() -> Vec<ProcessInfo> {
    let topology = |role| WorkerTopology {
        server: "uvicorn".to_owned(),
        server_version: Some("0.30.1".to_owned()),
        role,
        class: WorkerClass::Uvicorn,
        class_version: None,
        development: false,
    };
    let process = |pid, ppid, role, threads: &[(i32, &str, u64)]| ProcessInfo {
        patches: None,
        killed_for_memory: None,
        tasks_waiting: None,
        occupancy: Occupancy::default(),
        budget: Default::default(),
        turns: Default::default(),
        residents: (role != Role::Master).then(residents),
        pid: Pid(pid),
        ppid: Pid(ppid),
        python: "3.12.1".to_owned(),
        command: "python -m uvicorn app.main:app --workers 2".to_owned(),
        topology: topology(role),
        stdlib: Some(STDLIB.to_owned()),
        unread_loop: None,
        drivers: Vec::new(),
        serving_children: Vec::new(),
        attached: START,
        ended: None,
        cpu: Nanos::from_millis(2_400),
        rss_bytes: 61_000_000,
        cpus: 2,
        config: config(),
        requests: if role == Role::Master { RequestTally::default() } else { requests(pid) },
        threads: threads
            .iter()
            .map(|(tid, name, gil_held)| ThreadInfo {
                tid: Tid(*tid),
                name: (*name).to_owned(),
                python_name: None,
                gil_held: *gil_held,
            })
            .collect(),
        pools: if pid == 4243 { pools() } else { Vec::new() },
        listeners: if role == Role::Master { Vec::new() } else { listeners() },
        connections: if pid == 4243 { connections() } else { Vec::new() },
        gil: GilTally {
            looks: if role == Role::Master { 0 } else { 3_000 },
            held: threads.iter().map(|thread| thread.2).sum(),
        },
    };
    vec![
        process(4242, 1, Role::Master, &[(4242, "python", 0)]),
        process(4243, 4242, Role::Worker, &[(4243, "python", 300), (4250, "crunch 1", 1_230)]),
        process(4244, 4242, Role::Worker, &[(4244, "python", 2), (4260, "loop", 450)]),
    ]
}

/// The socket that the workers share, before which clients waited; and one nobody called at.
fn listeners() -> Vec<ListenerInfo> {
    let listener = |inode, address: &str, queues: &[Option<u32>], limit| {
        let (address, queue) = (address.to_owned(), Level::default());
        let mut info = ListenerInfo { inode, address, limit: None, queue, waiting: 0 };
        queues.iter().for_each(|queue| info.add(*queue, limit));
        info
    };
    vec![
        listener(9_001, "0.0.0.0:8000", &[Some(0), Some(0), Some(5), Some(19)], Some(2_048)),
        listener(9_002, "/run/admin.sock", &[None], None),
    ]
}

/// A connection for each request, connections that are kept, and clients.
fn connections() -> Vec<ConnectionInfo> {
    let row = |peer: Option<&str>, looks, sum, max, met, fresh| ConnectionInfo {
        peer: peer.map(str::to_owned),
        open: Level { looks, sum, max },
        met,
        fresh,
        libraries: Vec::new(),
    };
    vec![
        row(Some("10.0.0.7:443"), 30, 66, 4, 64, 60),
        row(Some("10.0.0.9:5432"), 30, 150, 5, 145, 1),
        row(None, 30, 240, 12, 232, 100),
    ]
}

/// A limiter that was full half of the time, an executor with room, and one that gevent runs.
fn pools() -> Vec<PoolInfo> {
    let mut limiter = PoolInfo::new(PoolKind::AnyioLimiter, "default_thread_limiter".to_owned());
    let mut roomy = PoolInfo::new(PoolKind::ThreadPoolExecutor, "asyncio".to_owned());
    let mut unclear = PoolInfo::new(PoolKind::ThreadPoolExecutor, String::new());
    for look in 0..142 {
        let (busy, waiting) = if look % 2 == 0 { (40, 13) } else { (24, 0) };
        limiter.add(&PoolReading { limit: Some(40), busy: Some(busy), waiting: Some(waiting) });
        roomy.add(&PoolReading { limit: Some(6), busy: Some(look % 4), waiting: Some(0) });
        unclear.add(&PoolReading { limit: None, busy: None, waiting: Some(2) });
    }
    vec![limiter, roomy, unclear]
}

/// Both loops, looked at 500 times a second for 30 s: `running` of 15,000 looks saw callbacks, of
/// these `stalled` a stall of up to `longest` ms and the rest an iteration of up to 8 ms.
fn loops() -> Vec<LoopInfo> {
    let info = |id, pid, tid, running: u64, stalled: u64, longest: u64| {
        let mut tally = LoopTally {
            polling: 15_000 - running,
            unknown: 3,
            iterations_seen: 900,
            ..LoopTally::default()
        };
        for look in 0..running {
            let age = if look < stalled { look * longest / stalled } else { look % 9 };
            tally.count_running(Nanos::from_millis(age));
        }
        LoopInfo {
            id: LoopId(id),
            pid: Pid(pid),
            tid: Tid(tid),
            kind: LoopKind::Asyncio,
            first_seen: START,
            last_seen: at(30_000),
            tally,
            edges: EdgeStatus::Off,
            traced: None,
            spin: None,
        }
    };
    vec![info(0, 4243, 4243, 6_150, 430, 412), info(1, 4244, 4260, 12_900, 2_600, 5_200)]
}

/// Background samples: both workers, running and asleep, one stack cut off, one made to harm.
fn samples(scene: &mut Scene) -> Vec<Sample> {
    let t = &mut scene.tables;
    let asleep = CpuState::Blocked { wait: Some(scene.recv) };
    let list = stack(t, &[scene.connection, scene.list_sandboxes, scene.run]);
    let render = stack(t, &[scene.render, scene.run]);
    let crunch = stack(t, &[scene.crunch]);
    let cut = t.stack(Stack { frames: vec![scene.render], truncated: Some(Truncation::Torn) });
    let scan = Frame {
        kind: FrameKind::Native,
        function: t.name("scanstring_unicode"),
        file: None,
        line: None,
        module: Some(t.name("/usr/lib/python3.12/lib-dynload/_json.so")),
    };
    let scan = t.frame(scan);
    let native = stack(t, &[scan, scene.render, scene.run]);
    let hostile = python(t, "/srv/app/x\x1b[2J;</text>.py", 1, "a;b\n\"&<c>");
    let hostile = stack(t, &[hostile, scene.run]);
    let sample = |at_ms, pid, tid, stack, cpu, gil, count: u32| Sample {
        at: at(at_ms),
        pid: Pid(pid),
        tid: Tid(tid),
        stack,
        cpu,
        gil,
        count,
        weight: Nanos::from_millis(u64::from(count) * 10),
    };
    use CpuState::Running;
    use GilState::{Holding, Unknown, Waiting};
    vec![
        sample(1_000, 4243, 4243, list, asleep, Unknown, 41),
        sample(1_410, 4243, 4243, list, Running, Holding, 2),
        sample(1_410, 4243, 4250, crunch, Running, Waiting, 30),
        sample(5_000, 4243, 4243, render, Running, Holding, 5),
        sample(5_050, 4243, 4243, native, Running, Holding, 4),
        sample(5_090, 4243, 4243, cut, Running, Unknown, 1),
        sample(5_100, 4243, 4243, hostile, Running, Unknown, 1),
        sample(9_000, 4244, 4260, render, Running, Holding, 7),
    ]
}

fn loop_states(scene: &mut Scene) -> Vec<LoopState> {
    let t = &mut scene.tables;
    let look = ThreadLook {
        in_call: None,
        in_call_with_gil: None,
        lock_holder: None,
        collecting: false,
        generation: None,
        stack: stack(t, &[scene.connection, scene.list_sandboxes, scene.run]),
        native: None,
        holder: None,
        cpu: CpuState::Blocked { wait: Some(scene.recv) },
        task: Some(t.name("Task-12")),
        coroutine: Some(t.name("RequestResponseCycle.run_asgi")),
        endpoint: Some(t.name("GET /sandboxes")),
    };
    let busy = LoopState {
        major_faults: None,
        loop_id: LoopId(0),
        at: at(1_010),
        window: Nanos::from_micros(40),
        phase: LoopPhase::Running,
        began: Some(Bounds::exactly(at(1_000))),
        callback: Some(stallspy::model::CallbackRun { index: 0, batch: 1 }),
        waiting: Some(17),
        sched: Some(SchedTimes {
            at: at(1_010),
            on_cpu: Nanos::from_millis(900),
            run_delay: Nanos::from_millis(2),
        }),
        look: Some(look),
    };
    let done = LoopState {
        at: at(1_412),
        phase: LoopPhase::Polling,
        began: None,
        callback: None,
        waiting: None,
        sched: None,
        look: None,
        ..busy.clone()
    };
    vec![busy, done]
}

fn findings(scene: &Scene) -> Vec<Finding> {
    let measured = |name: &str, value, unit: &str| Measured {
        name: name.to_owned(),
        value,
        unit: unit.to_owned(),
    };
    vec![
        Finding {
            id: "loop-blocked-by-call".to_owned(),
            severity: Severity::High,
            summary: "lifecycle.py:88 blocks the loop in a synchronous call".to_owned(),
            evidence: vec![measured("blocked_share", 0.41, "ratio")],
            stalls: vec![0, 1, 2],
            recommendations: vec![Recommendation {
                remedy: Remedy::Code { frame: scene.list_sandboxes },
                command: "make the handler `def`, or `await asyncio.to_thread(…)`".to_owned(),
                reason: "the loop waits there for 10.0.0.7:443, and every other request with it"
                    .to_owned(),
                inputs: vec![measured("longest_stall", 0.412, "s")],
                predicted: Vec::new(),
            }],
        },
        Finding {
            id: "thread-pool-full".to_owned(),
            severity: Severity::Medium,
            summary: "anyio's thread pool is full at times".to_owned(),
            evidence: vec![],
            stalls: vec![],
            recommendations: vec![Recommendation {
                remedy: Remedy::Setting {
                    kind: stallspy::model::SettingKind::ThreadPool,
                    setting: "anyio.total_tokens".to_owned(),
                    current: Some(40),
                    recommended: 64,
                    suggested: Bounds { lo: 52, hi: 96 },
                    limited_by: "memory".to_owned(),
                },
                command: "`current_default_thread_limiter().total_tokens = 64` at startup"
                    .to_owned(),
                reason: "requests wait for a thread".to_owned(),
                inputs: vec![measured("arrival_rate", 8.1, "1/s"), measured("in_pool", 5.9, "s")],
                predicted: Vec::new(),
            }],
        },
        Finding {
            id: "cpu-starved".to_owned(),
            severity: Severity::Info,
            summary: "one stall was the machine's doing: other processes had the CPU".to_owned(),
            evidence: vec![],
            stalls: vec![4],
            recommendations: vec![],
        },
    ]
}

/// The report.
pub fn rich() -> Report {
    let mut scene = Scene::new();
    let stalls = stalls(&mut scene);
    let samples = samples(&mut scene);
    let loop_states = loop_states(&mut scene);
    let loops = loops();
    let summary = |info: &LoopInfo, longest| LoopSummary {
        loop_id: info.id,
        utilization: info.tally.utilization(),
        lag_p50: info.tally.lag_quantile(0.5),
        lag_p99: info.tally.lag_quantile(0.99),
        lag_max: Nanos::from_millis(longest),
    };
    let mut report = Report {
        loads: Vec::new(),
        culprits: culprits(&stalls),
        loops: vec![summary(&loops[0], 412), summary(&loops[1], 5_200)],
        findings: findings(&scene),
        undecided: vec![("pool-size", "looks at the thread pool")],
        verdict: "the event loops are blocked by synchronous calls: 10 % of the time, longest \
                  5.20 s and still going on"
            .to_owned(),
        recording: Recording {
            version: "0.1.0".to_owned(),
            settings: Settings {
                threshold: Nanos::from_millis(10),
                rate_hz: 100.0,
                rate_is_most: false,
                blocking: false,
                native: stallspy::model::NativeStacks::default(),
            },
            attached: START,
            detached: at(30_000),
            tables: scene.tables,
            processes: processes(),
            loops,
            loop_states,
            gaps: Vec::new(),
            throttles: Vec::new(),
            samples,
            losses: Losses {
                reads: 61_204,
                torn_reads: 3,
                failed_reads: 1,
                late_ticks: 2,
                dropped: 0,
                ..Losses::default()
            },
            machine: Default::default(),
            neighbours: Vec::new(),
            own_cpu: Nanos::from_millis(312),
        },
        stalls,
    };
    let loops = stallspy::load::loops::loop_loads(&report.recording, &report.stalls);
    let blocked_on = stallspy::attribution::blocked_on::blocked_on(&report.recording);
    report.loads = stallspy::load::loads(&report.recording, &loops, &blocked_on, &[], &[]);
    report
}

/// The same servers on a good day: looked at for as long, and no stall.
pub fn healthy() -> Report {
    let mut report = rich();
    report.stalls.clear();
    report.culprits.clear();
    report.findings.clear();
    report.undecided.clear();
    for summary in &mut report.loops {
        summary.utilization = Some(0.12);
        summary.lag_p50 = Some(Nanos::ZERO);
        summary.lag_p99 = Some(Nanos::from_micros(2_100));
        summary.lag_max = Nanos::ZERO;
    }
    report.verdict = "no stall of 10 ms or longer".to_owned();
    report.recording.losses.late_ticks = 0;
    report
}

/// A recording of a program in which no loop ran.
pub fn blind() -> Report {
    let mut report = healthy();
    report.loops.clear();
    report.recording.loops.clear();
    report.recording.loop_states.clear();
    report.recording.samples.clear();
    report.recording.processes.truncate(1);
    for process in &mut report.recording.processes {
        process.topology.class = WorkerClass::Bare;
        process.topology.role = Role::Single;
        process.command = "python3 batch.py".to_owned();
    }
    report.verdict = "no event loop was seen".to_owned();
    report
}
