//! Small recordings made by hand: what a sampler would have seen of a server that did this.
//!
//! A story is one process with one asyncio loop, watched for ten seconds. Times are in
//! milliseconds since the attach; the looks of each busy period come as the sampler takes them:
//! the state before, the earliest look, looks every half millisecond from 0.8 × threshold on, and
//! the state after.

#![allow(dead_code)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // small times, made by hand

use stallspy::model::{
    CallbackRun, ConnectionInfo, CpuQuota, CpuState, EdgeStatus, Frame, FrameKind, GilHolder,
    GilState, GilTally, Glimpse, Level, ListenerInfo, LoopId, LoopInfo, LoopKind, LoopPhase,
    LoopState, LoopTally, Losses, Machine, NameId, Peer, ProcessInfo, ReadyFd, Recording, Role,
    Sample, SchedTimes, Settings, Spin, Stack, StackId, Tables, ThreadLook, Throttle, Wait,
    WorkerClass, WorkerTopology,
};
use stallspy::units::{Bounds, Nanos, Pid, Tid, Timestamp};

/// When stories begin, on the host's clock.
pub const ATTACHED: Timestamp = Timestamp(1_000_000_000_000);
const THRESHOLD: Nanos = Nanos::from_millis(10);
const WINDOW: Nanos = Nanos::from_micros(20);
pub const LIB: &str = "/usr/lib/python3.12";

/// The moment `ms` after the attach.
pub fn at(ms: f64) -> Timestamp {
    Timestamp(ATTACHED.0.saturating_add_signed((ms * 1e6) as i64))
}

/// What the thread did during a stretch of a busy period.
#[derive(Clone, Copy)]
pub struct Part {
    /// How long, in milliseconds.
    pub ms: f64,
    pub stack: StackId,
    pub cpu: CpuState,
    /// Share of the stretch on a CPU, and waiting for one.
    pub on_cpu: f64,
    pub run_delay: f64,
    /// Which callback, of 100.
    pub callback: u32,
    /// Whether the garbage collector runs.
    pub collecting: bool,
    /// Who holds the interpreter lock that it waits for.
    pub holder: Option<GilHolder>,
    /// In one call of C code, with the interpreter lock or without.
    pub in_call_with_gil: Option<bool>,
    /// Seen to go on in Python.
    pub is_moving: bool,
    /// The C frames below the innermost Python one.
    pub native: Option<StackId>,
}

pub struct Story {
    pub recording: Recording,
    now: f64,
    sched: SchedTimes,
    pub endpoint: Option<NameId>,
    /// The distance of two looks at a busy period, in milliseconds.
    pub pace: f64,
}

/// A listening socket before which so many wait at each look.
pub fn listening(waiting: u32) -> ListenerInfo {
    let mut line = ListenerInfo {
        inode: 1,
        address: "127.0.0.1:8000".to_owned(),
        limit: Some(2048),
        queue: Level::default(),
        waiting: 0,
    };
    (0..50).for_each(|_| line.add(Some(waiting), None));
    line
}

impl Story {
    /// A server whose loop was seen running in `busy` of 1000 evenly spaced looks.
    pub fn new(busy: u64) -> Story {
        let tally =
            LoopTally { polling: 1000 - busy, iterations_seen: busy, ..LoopTally::default() };
        let mut info = LoopInfo {
            id: LoopId(0),
            pid: Pid(100),
            tid: Tid(100),
            kind: LoopKind::Asyncio,
            first_seen: ATTACHED,
            last_seen: at(10_000.0),
            tally,
            edges: EdgeStatus::Off,
            traced: None,
            spin: None,
        };
        for _ in 0..busy {
            info.tally.count_running(Nanos::from_millis(1));
        }
        let process = ProcessInfo {
            patches: None,
            tasks_waiting: None,
            occupancy: stallspy::model::Occupancy::default(),
            pid: Pid(100),
            ppid: Pid(1),
            python: "3.12.1".to_owned(),
            command: "python -m uvicorn app:app".to_owned(),
            topology: WorkerTopology {
                server: "uvicorn".to_owned(),
                server_version: None,
                role: Role::Single,
                class: WorkerClass::Uvicorn,
                class_version: None,
                development: false,
            },
            stdlib: Some(LIB.to_owned()),
            unread_loop: None,
            drivers: Vec::new(),
            serving_children: Vec::new(),
            attached: ATTACHED,
            ended: None,
            killed_for_memory: None,
            cpu: Nanos::ZERO,
            rss_bytes: 0,
            cpus: 2,
            pools: Vec::new(),
            config: Default::default(),
            requests: Default::default(),
            listeners: Vec::new(),
            connections: Vec::new(),
            gil: GilTally::default(),
            budget: Default::default(),
            turns: Default::default(),
            residents: Some(Vec::new()),
            threads: Vec::new(),
        };
        let recording = Recording {
            version: "0".to_owned(),
            settings: Settings {
                threshold: THRESHOLD,
                rate_hz: 100.0,
                rate_is_most: false,
                blocking: false,
                native: stallspy::model::NativeStacks::default(),
            },
            attached: ATTACHED,
            detached: at(10_000.0),
            tables: Tables::default(),
            processes: vec![process],
            loops: vec![info],
            loop_states: Vec::new(),
            gaps: Vec::new(),
            throttles: Vec::new(),
            samples: Vec::new(),
            losses: Losses::default(),
            machine: Default::default(),
            neighbours: Vec::new(),
            own_cpu: Nanos::ZERO,
        };
        Story { recording, now: 0.0, sched: SchedTimes::default(), endpoint: None, pace: 0.5 }
    }

    /// A server with a thread for each request, of which there may be `limit`, and one was watched. In
    /// half of all looks `held` of them were.
    pub fn of_threads(busy: u64, limit: u32, held: usize) -> Story {
        let mut story = Story::new(busy);
        story.recording.loops[0].kind = LoopKind::NoLoop;
        let occupancy = &mut story.recording.processes[0].occupancy;
        occupancy.limit = Some(limit);
        for look in 0..1000 {
            occupancy.count(if look % 2 == 0 { held } else { 0 });
        }
        story
    }

    /// The server as a whole: `looks` at its `threads`, in half of which `held` were while `waiting`
    /// waited.
    pub fn crowd(&mut self, class: WorkerClass, threads: u32, held: u32, waiting: u32, looks: u32) {
        let process = &mut self.recording.processes[0];
        process.topology.class = class;
        let crowd = process.occupancy.crowd.get_or_insert_default();
        for look in 0..looks {
            let (held, waiting) = if look % 2 == 0 { (held, waiting) } else { (0, 0) };
            crowd.add(stallspy::model::CrowdLook { threads, held, waiting });
        }
    }

    /// So many processes alike under a master, which becomes the first; the loop is the first worker's.
    pub fn workers(&mut self, count: i32) {
        let mut master = self.recording.processes[0].clone();
        master.topology.role = Role::Master;
        (master.pid, master.residents) = (Pid(99), None);
        let mut all = vec![master];
        for worker in 0..count {
            let mut one = self.recording.processes[0].clone();
            one.topology.role = Role::Worker;
            (one.pid, one.ppid) = (Pid(100 + worker), Pid(99));
            all.push(one);
        }
        self.recording.processes = all;
    }

    /// A machine of two CPUs that had nothing to run for so long, of both together.
    pub fn machine(&mut self, idle_ms: u64) {
        self.recording.machine = Machine {
            cpus: 2,
            busy: Nanos::from_millis(20_000 - idle_ms),
            idle: Nanos::from_millis(idle_ms),
            ..Machine::default()
        };
    }

    /// One worker of gunicorn's gthread of so many threads, of which so many are held at a time, each by a request that
    /// computes for 1 ms and else waits for a database; so many requests in 10 s. Others wait for a thread.
    pub fn asking(threads: u32, held: u32, requests: u64, waiting: u32) -> Story {
        let mut story = Story::of_threads(400, threads, 0);
        let stack = story.stack(&[("/srv/app/views.py", 41, "orders")]);
        let peer = Peer::Remote(story.recording.tables.name("10.0.0.7:5432"));
        let query = story.asleep(20.0, stack, "recvfrom", Some(peer));
        story.stall(500.0, query);
        story.sampled(stack, 1000 * held, query.cpu);
        story.crowd(WorkerClass::Gthread, threads, held, waiting, 400);
        story.machine(18_000);
        let process = &mut story.recording.processes[0];
        process.topology.server = "gunicorn".to_owned();
        process.occupancy.busy = vec![0; held as usize];
        process.occupancy.busy.push(1000);
        (process.requests.first, process.requests.last) = (Some(0), Some(requests));
        process.cpu = Nanos::from_millis(requests);
        process.gil = GilTally { looks: 10_000, held: requests };
        process.listeners.push(listening(waiting));
        story
    }

    /// A stack below the server's own frames, `(file, line, function)` root first.
    pub fn stack(&mut self, frames: &[(&str, u32, &str)]) -> StackId {
        let base = [
            ("/srv/app/main.py", 9, "<module>"),
            ("/usr/lib/python3.12/asyncio/base_events.py", 2000, "_run_once"),
            ("/usr/lib/python3.12/asyncio/events.py", 88, "_run"),
            ("/srv/venv/lib/python3.12/site-packages/starlette/routing.py", 70, "app"),
        ];
        self.frames(&[&base[..], frames].concat())
    }

    /// A stack of these frames alone, root first.
    pub fn frames(&mut self, frames: &[(&str, u32, &str)]) -> StackId {
        let tables = &mut self.recording.tables;
        let mut ids = Vec::new();
        for (file, line, function) in frames.iter().rev() {
            let (file, function) = (Some(tables.name(file)), tables.name(function));
            let kind = FrameKind::Python;
            ids.push(tables.frame(Frame { kind, function, file, line: Some(*line), module: None }));
        }
        tables.stack(Stack { frames: ids, truncated: None })
    }

    /// C frames, `(file, function)` root first.
    pub fn native(&mut self, frames: &[(&str, &str)]) -> StackId {
        let tables = &mut self.recording.tables;
        let mut ids = Vec::new();
        for (module, function) in frames.iter().rev() {
            let (module, function) = (Some(tables.name(module)), tables.name(function));
            let kind = FrameKind::Native;
            ids.push(tables.frame(Frame { kind, function, file: None, line: None, module }));
        }
        tables.stack(Stack { frames: ids, truncated: None })
    }

    /// Asleep in a system call.
    pub fn asleep(&mut self, ms: f64, stack: StackId, syscall: &str, peer: Option<Peer>) -> Part {
        let tables = &mut self.recording.tables;
        let fd = peer.as_ref().map(|_| 7);
        let wait = Wait { syscall: tables.name(syscall), fd, peer };
        let cpu = CpuState::Blocked { wait: Some(tables.wait(wait)) };
        Part { cpu, on_cpu: 0.0, ..Story::computing(ms, stack) }
    }

    /// The loop's thread at `count` background looks, 10 ms apart, running these frames.
    pub fn sampled(&mut self, stack: StackId, count: u32, cpu: CpuState) {
        self.recording.samples.push(Sample {
            at: ATTACHED,
            pid: Pid(100),
            tid: Tid(100),
            stack,
            cpu,
            gil: GilState::Unknown,
            count,
            weight: Nanos::from_millis(10 * u64::from(count)),
        });
    }

    /// A loop of asyncio's that goes round for nothing but a callback, of 1,000 looks met at work at
    /// `running`; `ready` at each of four closer looks.
    pub fn spinning(&mut self, running: u32, ready: Option<ReadyFd>) {
        let select = self.frames(&[
            ("/srv/app/main.py", 9, "<module>"),
            ("/usr/lib/python3.12/asyncio/base_events.py", 2000, "_run_once"),
            ("/usr/lib/python3.12/selectors.py", 468, "select"),
        ]);
        self.sampled(select, running, CpuState::Running);
        self.sampled(select, 1000 - running, CpuState::Blocked { wait: None });
        let again = self.frames(&[("/srv/app/watch.py", 31, "again")]);
        self.recording.loops[0].spin = Some(Spin {
            bursts: 4,
            rounds: 400,
            span: Nanos::from_millis(10),
            glimpses: vec![
                Glimpse { stack: select, count: 90 },
                Glimpse { stack: again, count: 6 },
            ],
            ready: ready.into_iter().collect(),
        });
        let requests = &mut self.recording.processes[0].requests;
        (requests.first, requests.last) = (Some(5), Some(5));
    }

    /// So many connections to a peer at each of ten looks, a second apart, of which such a share was new.
    pub fn connected(&mut self, peer: &str, open: u32, fresh: f64) {
        let process = &mut self.recording.processes[0];
        let met = u64::from(open) * 9;
        process.connections.push(ConnectionInfo {
            peer: Some(peer.to_owned()),
            open: Level { looks: 10, sum: u64::from(open) * 10, max: open },
            met,
            fresh: (fresh * met as f64) as u64,
            libraries: Vec::new(),
        });
        (process.requests.first, process.requests.last) = (Some(0), Some(400));
    }

    /// On a CPU.
    pub fn computing(ms: f64, stack: StackId) -> Part {
        Part {
            ms,
            stack,
            cpu: CpuState::Running,
            on_cpu: 1.0,
            run_delay: 0.0,
            callback: 0,
            collecting: false,
            holder: None,
            in_call_with_gil: None,
            is_moving: false,
            native: None,
        }
    }

    /// Ready, but mostly without a CPU.
    pub fn starved(ms: f64, stack: StackId) -> Part {
        Part {
            ms,
            stack,
            cpu: CpuState::Running,
            on_cpu: 0.2,
            run_delay: 0.8,
            callback: 0,
            collecting: false,
            holder: None,
            in_call_with_gil: None,
            is_moving: false,
            native: None,
        }
    }

    /// One busy period that begins at `began` and does these things, with looks as the sampler
    /// takes them. `ends`: whether the recording saw its end.
    pub fn busy(&mut self, began: f64, parts: &[Part], ends: bool) {
        let length: f64 = parts.iter().map(|part| part.ms).sum();
        self.idle_until(began - 2.0);
        self.push(LoopPhase::Polling, None, None, None);
        self.idle_until(began);
        let period = Some(Bounds::exactly(at(began)));
        let mut start = began;
        let end = began + length;
        let mut looks: Vec<f64> = vec![began + 1.5];
        let mut next = began + 8.0;
        while next < end {
            looks.push(next);
            next += self.pace;
        }
        for part in parts {
            let stop = start + part.ms;
            let last = stop >= end;
            for look in looks.iter().filter(|look| **look >= start && (**look < stop || last)) {
                self.spend(*look, part);
                let deep = *look >= began + 8.0;
                let what = deep.then_some(ThreadLook {
                    in_call: part
                        .in_call_with_gil
                        .map(|_| true)
                        .or(part.is_moving.then_some(false)),
                    in_call_with_gil: part.in_call_with_gil,
                    lock_holder: None,
                    collecting: part.collecting,
                    generation: part.collecting.then_some(2),
                    stack: part.stack,
                    native: part.native,
                    cpu: part.cpu,
                    holder: part.holder,
                    task: None,
                    coroutine: None,
                    endpoint: self.endpoint,
                });
                self.push(LoopPhase::Running, period, Some(part.callback), what);
            }
            self.spend(stop, part);
            start = stop;
        }
        if ends {
            self.idle_until(end + 0.3);
            self.push(LoopPhase::Polling, None, None, None);
        }
    }

    /// A busy period of one thing.
    pub fn stall(&mut self, began: f64, part: Part) {
        self.busy(began, &[part], true);
    }

    /// A CPU quota of half a CPU was spent: so many milliseconds, booked between two readings.
    pub fn throttled(&mut self, from: f64, until: f64, ms: f64) {
        let quota = CpuQuota { quota: Nanos::from_millis(50), period: Nanos::from_millis(100) };
        let (from, until, time) = (at(from), at(until), Nanos((ms * 1e6) as u64));
        let rise = Throttle { pid: Pid(100), from, until, periods: 1, time, quota };
        self.recording.throttles.push(rise);
    }

    fn idle_until(&mut self, ms: f64) {
        self.now = ms;
        self.sched.at = at(ms);
    }

    fn spend(&mut self, until: f64, part: &Part) {
        let spent = (until - self.now).max(0.0) * 1e6;
        self.sched.on_cpu += Nanos((spent * part.on_cpu) as u64);
        self.sched.run_delay += Nanos((spent * part.run_delay) as u64);
        self.idle_until(until);
    }

    fn push(
        &mut self,
        phase: LoopPhase,
        began: Option<Bounds<Timestamp>>,
        callback: Option<u32>,
        look: Option<ThreadLook>,
    ) {
        self.recording.loop_states.push(LoopState {
            major_faults: None,
            loop_id: LoopId(0),
            at: at(self.now),
            window: WINDOW,
            phase,
            began,
            callback: callback.map(|index| CallbackRun { index, batch: 100 }),
            waiting: Some(3),
            sched: Some(self.sched),
            look,
        });
    }
}
