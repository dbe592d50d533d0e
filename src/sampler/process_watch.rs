//! One process under observation: its interpreter, threads and loops.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::budget_watch::BudgetWatch;
use super::crowd_watch::Part;
use super::edge_watch::EdgeWatch;
use super::gil_watch::{GilWatch, Held};
use super::kin::Kinsman;
use super::loop_watch::{LoopWatch, Outcome};
use super::natives::Natives;
use super::notes::{Notes, WorkingDirectory};
use super::pace::{Pace, now, wall_ahead};
use super::pool_watch::PoolWatch;
use super::quiet::Quiet;
use super::request_threads::RequestThreads;
use super::request_watch::RequestWatch;
use super::socket_watch::{SocketWatch, Sockets};
use super::thread_watch::{Round, Scene, ThreadWatch};
use super::throttle_watch::ThrottleWatch;
use super::waiting_tasks::count_waiting;
use crate::event_loop::{Clock, PROBES, Probe};
use crate::model::{
    Budget, CrowdLook, GilState, GilTally, LoopId, LoopKind, NativeStacks, Occupancy, PoolInfo,
    PoolReading, ProcessInfo, RequestTally, Role, ServerConfig, StackId, ThreadInfo, Turns,
};
use crate::native::AddressSpace;
use crate::python::code_objects::CodeCache;
use crate::python::frames::RawStack;
use crate::python::locate::{LocateError, Located, locate};
use crate::python::modules::in_module;
use crate::python::running_loop::AsyncioTables;
use crate::python::threads::{ThreadIds, threads, unchanged};
use crate::server::counters::{Counts, counts};
use crate::server::hub::main_greenlet;
use crate::server::monkey::patches;
use crate::server::request_clock::{self, Known};
use crate::server::settings::settings;
use crate::server::{Facts, Place, Recognised, ServerObjects, bare, recognise};
use crate::target::modules::Modules;
use crate::target::peers::Peers;
use crate::target::{ElfError, FreezeError, Freezer, LiveMemory, ProcError, ProcFs, ReadError};
use crate::units::{Addr, Nanos, Pid, Tid, Timestamp};

/// How often threads that run no loop we know are searched for one, and the list of threads is
/// compared with the target's.
const DISCOVERY: Nanos = Nanos::from_millis(100);
/// How often slow facts (memory, thread names, server) are read again.
const REFRESH: Nanos = Nanos::from_secs(1);
/// How often a process without a loop is asked which libraries it has loaded, once it is no longer
/// [`YOUNG`]; before that at each refresh.
const LIBRARIES: Nanos = Nanos::from_secs(5);
/// A server imports its application for so long.
const YOUNG: Nanos = Nanos::from_secs(10);
/// A process whose server is not known for certain is asked again after [`DISCOVERY`], then after twice
/// that, and so on up to this: a server imports its application for seconds, and a program that is no
/// server stays one.
const RECOGNITION: Nanos = Nanos::from_secs(5);
/// Most threads whose stacks are searched for a server; the main thread is the first.
const MAX_ASKED: usize = 32;
/// A fork's birth is known to one clock tick of `/proc` (10 ms); stamps within it are not trusted.
const BIRTH_STEP: Nanos = Nanos::from_millis(10);
/// Packages of event loops that are not read yet, by the names of the folders that their libraries lie in.
const UNREAD_LOOPS: &[&str] = &["rloop"];
/// Most source files remembered for recognising the server.
const MAX_FILES: usize = 4096;

/// Why a process cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// `/proc` does not show it.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// No interpreter that can be read.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// Its threads cannot be paused.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
}

/// One process under observation.
#[derive(Debug)]
pub struct ProcessWatch {
    /// Its pid.
    pub pid: Pid,
    procfs: ProcFs,
    memory: LiveMemory,
    located: Located,
    directory: WorkingDirectory,
    codes: CodeCache,
    asyncio: AsyncioTables,
    peers: Peers,
    space: AddressSpace,
    gil: GilWatch,
    freezer: Option<Freezer>,
    throttle: ThrottleWatch,
    pools: PoolWatch,
    sockets: SocketWatch,
    threads: Vec<ThreadWatch>,
    /// Whether they have run since their list was last compared, and found to be the target's.
    quiet: Quiet,
    /// Its loops, and its threads that serve requests without one.
    loops: Vec<LoopWatch>,
    request_threads: RequestThreads,
    /// Edges of loops that went out of sight, and when: the loop may be found again at once, and then
    /// nothing of it was missed.
    out_of_sight: Vec<(Timestamp, EdgeWatch)>,
    /// Loops seen in this process, by thread and loop object: one found again keeps its id.
    known_loops: Vec<(Tid, Addr, LoopId)>,
    info: ProcessInfo,
    files: HashSet<String>,
    server: Recognised,
    /// When the server is asked for again, and how long after that once more.
    next_recognition: Timestamp,
    recognition_step: Nanos,
    /// How many source files were known when it was last asked for.
    recognised_by: usize,
    /// How many files there were when its patches were last read.
    patches_by: usize,
    requests: RequestWatch,
    /// When it was forked, if it was forked from a process that is watched.
    forked: Option<Timestamp>,
    cpu_before: Nanos,
    budget: BudgetWatch,
    next_sample: Timestamp,
    next_discovery: Timestamp,
    next_refresh: Timestamp,
    next_libraries: Timestamp,
}

/// What is in a program that we may not open cannot be told: that is no "not Python".
fn closed(error: LocateError, modules: &Modules) -> AttachError {
    let shut = modules.unreadable().iter().find(|module| {
        matches!(&module.why, ElfError::Io(why) if why.kind() == ErrorKind::PermissionDenied)
    });
    match (error, shut) {
        (LocateError::NotPython, Some(module)) => {
            ProcError::Denied { file: PathBuf::from(&module.path) }.into()
        }
        (error, _) => error.into(),
    }
}

impl ProcessWatch {
    /// Attaches to a process: reads, checks, changes nothing.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(procfs: &ProcFs, pid: Pid, is_child: bool) -> Result<ProcessWatch, AttachError> {
        let stat = procfs.stat(pid)?;
        let memory = LiveMemory::new(pid);
        let modules = Modules::load(procfs, pid)?;
        let mut located = locate(&memory, &modules).map_err(|error| closed(error, &modules))?;
        located.clock_offset = procfs.monotonic_offset(pid).unwrap_or(0);
        let space = AddressSpace::new(pid, modules, located.runtime);
        let attached = now();
        let directory = procfs.cwd(pid).map_or(String::new(), |dir| dir.display().to_string());
        let info = ProcessInfo {
            patches: None,
            tasks_waiting: None,
            pid,
            ppid: stat.ppid,
            python: located.version.clone(),
            command: procfs.cmdline(pid).unwrap_or_default().join(" "),
            topology: bare::recognised().topology,
            stdlib: None,
            unread_loop: None,
            attached,
            ended: None,
            cpu: Nanos::ZERO,
            rss_bytes: stat.rss_bytes,
            cpus: procfs.cpus_allowed(pid).unwrap_or(1),
            config: ServerConfig::new(),
            requests: RequestTally::default(),
            gil: GilTally::default(),
            pools: Vec::new(),
            listeners: Vec::new(),
            connections: Vec::new(),
            occupancy: Occupancy::default(),
            budget: Budget::default(),
            turns: Turns::default(),
            threads: Vec::new(),
        };
        Ok(ProcessWatch {
            pid,
            procfs: procfs.clone(),
            memory,
            located,
            directory: WorkingDirectory(directory),
            codes: CodeCache::default(),
            asyncio: AsyncioTables::default(),
            peers: Peers::default(),
            space,
            gil: GilWatch::default(),
            freezer: None,
            throttle: ThrottleWatch::default(),
            pools: PoolWatch::default(),
            sockets: SocketWatch::default(),
            threads: Vec::new(),
            quiet: Quiet::default(),
            loops: Vec::new(),
            request_threads: RequestThreads::new(attached),
            out_of_sight: Vec::new(),
            known_loops: Vec::new(),
            info,
            files: HashSet::new(),
            server: bare::recognised(),
            next_recognition: attached,
            recognition_step: DISCOVERY,
            recognised_by: 0,
            patches_by: 0,
            requests: RequestWatch::default(),
            forked: is_child.then(|| born(stat.started)).flatten(),
            cpu_before: stat.cpu,
            budget: BudgetWatch::new(procfs, pid),
            next_sample: attached,
            next_discovery: attached,
            next_refresh: attached,
            next_libraries: attached,
        })
    }

    /// Reads ahead what C stacks will need.
    pub fn warm(&mut self, natives: &mut Natives) {
        if natives.wanted != NativeStacks::Off {
            self.space.warm(&mut natives.binaries);
        }
    }

    /// From now on threads are paused while their stacks are read.
    ///
    /// # Errors
    /// See [`FreezeError`].
    pub fn pause_threads(&mut self) -> Result<(), AttachError> {
        self.freezer = Some(Freezer::new(&self.procfs, self.pid)?);
        Ok(())
    }

    /// Finds its threads and its server: after this it is known whether it is a master.
    ///
    /// # Errors
    /// [`ReadError::Gone`] and [`ReadError::Denied`].
    pub fn introduce(&mut self, notes: &mut Notes) -> Result<(), ReadError> {
        self.update_threads()?;
        self.recognise(notes)
    }

    /// What its children need to know of it.
    #[must_use]
    pub fn kinsman(&self) -> Kinsman {
        let is_master = self.info.topology.role == Role::Master;
        Kinsman { pid: self.pid, is_master, development: self.info.topology.development }
    }

    /// When anything of this process is due.
    #[must_use]
    pub fn due(&self, pace: &Pace) -> Timestamp {
        let loops = self.loops.iter().map(LoopWatch::due);
        let sample = pace.sample.map(|_| self.next_sample);
        let threads = self.request_threads.due(pace);
        loops
            .chain(sample)
            .chain(threads)
            .chain([self.next_discovery])
            .min()
            .unwrap_or(self.next_discovery)
    }

    /// Does what is due, loops first: a late look at a loop may miss a stall, a late sample costs
    /// nothing.
    ///
    /// # Errors
    /// [`ReadError::Gone`] when the process has ended, [`ReadError::Denied`] when it became another
    /// user's.
    pub fn run(&mut self, notes: &mut Notes, pace: &Pace) -> Result<(), ReadError> {
        let woken = now();
        let by_base = self.loops.iter().any(|watch| watch.is_base_due(woken, pace));
        self.run_loops(notes, pace)?;
        let at = now();
        if self.gil.has_met_stranger() {
            // A thread that holds the lock and is not known yet: not in 100 ms, but now.
            self.update_threads()?;
        }
        let stalled = self.loops.iter().any(LoopWatch::is_looked_into);
        self.throttle.see(&self.procfs, self.pid, notes, stalled, at);
        self.see_pools(at)?;
        self.count_requests(false);
        self.see_sockets(notes, stalled, at);
        self.request_threads.count(&self.loops, &mut self.info.occupancy, pace, at);
        if self.request_threads.are_new_ones_due(pace, at) {
            self.next_discovery = at;
        }
        if Pace::is_due(at, self.next_discovery, DISCOVERY) {
            self.next_discovery = at + DISCOVERY;
            self.discover(notes, pace)?;
        }
        if let Some(period) = pace.sample
            && pace.is_sample_due(at, self.next_sample, period, by_base)
        {
            // A sample that comes late stands for the time nobody looked, too.
            let apart = Nanos(period.0 * u64::from(pace.stride));
            let late = at.since(self.next_sample);
            let missed = if late > apart { late } else { Nanos::ZERO };
            self.next_sample = self.next_sample + apart + missed;
            let before = now();
            let period = Nanos((apart + missed).0 / u64::from(pace.stride.max(1)));
            self.sample(notes, pace, period)?;
            notes.sampling += now().since(before);
        }
        Ok(())
    }

    fn see_pools(&mut self, at: Timestamp) -> Result<(), ReadError> {
        let python = self.located.view(&self.memory);
        let who = (&self.threads[..], self.server.objects.worker);
        self.pools.see(&python, &mut self.codes, who, &mut self.info.pools, at)
    }

    fn see_sockets(&mut self, notes: &mut Notes, stalled: bool, at: Timestamp) {
        let (listeners, connections) = (&mut self.info.listeners, &mut self.info.connections);
        let mut sockets = Sockets { listeners, connections };
        let process = (&self.procfs, self.pid);
        let how = (self.info.cpu, stalled);
        self.sockets.see(process, &mut notes.sockets, &mut sockets, how, at);
    }

    /// The pools that are there now, as they are now.
    pub(super) fn pools_now(&mut self) -> Result<Vec<(PoolInfo, PoolReading)>, ReadError> {
        let python = self.located.view(&self.memory);
        let who = (&self.threads[..], self.server.objects.worker);
        PoolWatch::default().now(&python, &mut self.codes, who, now())
    }

    /// What is known of the process now; `ended` when it is over.
    #[must_use]
    pub fn info(&self) -> ProcessInfo {
        self.info.clone()
    }

    /// The oldest iteration that goes on and was looked into: since when, what it does, and whether it
    /// is a request that holds a thread of its own.
    pub(super) fn ongoing(&self) -> Option<(Timestamp, StackId, bool)> {
        let all = self.loops.iter().filter_map(|watch| {
            let (began, stack) = watch.ongoing()?;
            Some((began, stack, watch.requests.is_some()))
        });
        all.min_by_key(|(began, ..)| *began)
    }

    /// Where the standard library lies, once that is known.
    pub(super) fn stdlib(&self) -> Option<&str> {
        self.info.stdlib.as_deref()
    }

    /// Whether any loop was ever found.
    #[must_use]
    pub fn loops(&self) -> usize {
        self.loops.iter().filter(|watch| watch.requests.is_none()).count()
    }

    /// How many threads are known that serve requests without a loop.
    #[must_use]
    pub fn request_threads(&self) -> usize {
        self.loops.len().saturating_sub(self.loops())
    }

    /// What it adds to its server as a whole; `None` of a process that serves nobody by threads of its
    /// own, or from no socket that is known.
    pub(super) fn part_of_crowd(&self) -> Option<Part> {
        if self.info.topology.role == Role::Master || self.info.listeners.is_empty() {
            return None;
        }
        let mut inodes: Vec<u64> = self.info.listeners.iter().map(|one| one.inode).collect();
        inodes.sort_unstable();
        let held = self.loops.iter().filter(|watch| watch.requests.is_some() && watch.is_running());
        let held = u32::try_from(held.count()).unwrap_or(u32::MAX);
        let threads = self.info.occupancy.limit;
        // gthread takes connections in before it has a thread for them. Nobody waits while one is free,
        // and then it need not be asked.
        let is_full = threads.is_some_and(|threads| held >= threads);
        let ask = self.request_threads.in_gthread && is_full;
        let taken_in = if ask { self.counts().in_flight } else { None };
        let queued = taken_in.map_or(0, |all| all.saturating_sub(u64::from(held)));
        let queued = u32::try_from(queued).unwrap_or(u32::MAX);
        Some(Part { inodes, threads, held, queued })
    }

    /// Its server was looked at as a whole.
    pub(super) fn see_crowd(&mut self, look: CrowdLook) {
        self.info.occupancy.crowd.get_or_insert_default().add(look);
    }

    /// How many threads are known.
    pub(super) fn thread_count(&self) -> usize {
        self.threads.len()
    }

    /// Reads who holds the interpreter lock.
    pub(super) fn held(&self) -> Held {
        self.gil.look(&self.located.view(&self.memory))
    }

    /// The place among the threads of one that held it.
    pub(super) fn holder(&self, held: &Held) -> Option<usize> {
        let holds = |watch: &ThreadWatch| self.gil.state(held, &watch.thread, false);
        self.threads.iter().position(|watch| holds(watch) == GilState::Holding)
    }

    /// The process has ended: closes its loops and its account.
    pub fn end(&mut self, notes: &mut Notes) {
        let at = now();
        self.info.ended = Some(at);
        let mut loops = std::mem::take(&mut self.loops);
        let (mut scene, _) = self.scene(notes);
        for watch in &mut loops {
            watch.end(&mut scene, at);
        }
    }

    /// The recording ends: gives up held-back looks and takes the last account.
    pub fn finish(&mut self, notes: &mut Notes) {
        if self.info.ended.is_none() {
            self.refresh();
            self.budget.close(&self.procfs, self.pid, &mut self.info.budget, &mut self.info.turns);
            self.count_requests(true);
            self.throttle.see(&self.procfs, self.pid, notes, true, now());
            if self.loops.iter().any(|watch| watch.ongoing().is_some()) {
                let (mut scene, threads) = self.scene(notes);
                self.info.tasks_waiting = count_waiting(&mut scene, threads);
            }
        }
        for watch in &mut self.loops {
            watch.finish(notes);
        }
        for (_, edges) in &mut self.out_of_sight {
            edges.finish(notes);
        }
        let counts = self.memory.counts();
        notes.losses.reads += counts.reads;
        notes.losses.failed_reads += counts.failed;
    }

    pub(super) fn scene<'a>(
        &'a mut self,
        notes: &'a mut Notes,
    ) -> (Scene<'a>, &'a mut Vec<ThreadWatch>) {
        let scene = Scene {
            pid: self.pid,
            python: self.located.view(&self.memory),
            located: &self.located,
            memory: &self.memory,
            procfs: &self.procfs,
            directory: &self.directory,
            codes: &mut self.codes,
            asyncio: &mut self.asyncio,
            peers: &mut self.peers,
            space: &mut self.space,
            gil: &mut self.gil,
            freezer: self.freezer.as_ref(),
            notes,
        };
        (scene, &mut self.threads)
    }

    fn run_loops(&mut self, notes: &mut Notes, pace: &Pace) -> Result<(), ReadError> {
        let mut loops = std::mem::take(&mut self.loops);
        let mut outcome = Ok(());
        let mut missing = Vec::new();
        for (index, watch) in loops.iter_mut().enumerate() {
            if !watch.is_due(now(), pace) {
                continue;
            }
            let (mut scene, threads) = self.scene(notes);
            let Some(thread) = threads.iter_mut().find(|thread| thread.tid == watch.tid) else {
                missing.push(index);
                continue;
            };
            match watch.look(&mut scene, thread, pace) {
                Ok(Outcome::Watching) => {}
                Ok(Outcome::Missing) => {
                    // Its frame moved, or it ended: the thread's stack tells.
                    let stack = thread.walk(&mut scene);
                    if !stack.is_ok_and(|stack| watch.clock.is_on(&stack)) {
                        missing.push(index);
                    }
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        for index in missing.into_iter().rev() {
            let mut gone = loops.remove(index);
            let (mut scene, _) = self.scene(notes);
            gone.end(&mut scene, now());
            if gone.requests.is_none() {
                self.out_of_sight.push((now(), gone.edges));
            }
            self.next_discovery = now();
        }
        self.loops = loops;
        outcome
    }

    /// Background samples of all threads; looks at loops that fall due meanwhile go first.
    fn sample(&mut self, notes: &mut Notes, pace: &Pace, period: Nanos) -> Result<(), ReadError> {
        if self.threads.iter().all(|thread| thread.sits_out(pace.stride)) {
            self.threads.iter_mut().for_each(|thread| thread.skip(pace.stride));
            self.gil.leave_out();
            return Ok(());
        }
        let round = Round { period, stride: pace.stride, held: self.held() };
        let (holders, looks) = self.gil.count(&round.held, &mut self.info.gil);
        for info in self.info.threads.iter_mut().filter(|info| holders.contains(&info.tid)) {
            info.gil_held += looks;
        }
        // Who holds the lock goes first: what it does then is what is asked for.
        let mut order: Vec<usize> = (0..self.threads.len()).collect();
        order.sort_by_key(|index| {
            let tid = self.threads.get(*index).map(|thread| thread.tid);
            !tid.is_some_and(|tid| holders.contains(&tid))
        });
        for index in order {
            if self.loops.iter().any(|watch| watch.due() <= now()) {
                self.run_loops(notes, pace)?;
            }
            let (mut scene, threads) = self.scene(notes);
            let Some(thread) = threads.get_mut(index) else { break };
            let tid = thread.tid;
            if let Some(stack) = thread.sample(&mut scene, &round, now())? {
                self.find_loops(notes, tid, &stack);
            }
        }
        Ok(())
    }

    /// Brings the list of threads up to date and looks for loops in those that run none.
    fn discover(&mut self, notes: &mut Notes, pace: &Pace) -> Result<(), ReadError> {
        let at = now();
        let is_time = at >= self.next_refresh;
        // Who has not run has made no thread. One that a thread unknown to the interpreter has made is
        // met when it is time.
        let changed = if self.quiet.ask(&self.threads) && !is_time {
            self.request_threads.compared(at);
            false
        } else {
            self.update_threads()?
        };
        self.recognise(notes)?;
        // A stack that stands still is not looked at twice by samples, while a loop may have begun in
        // it that has no frame of its own.
        let wanted = is_time || pace.sample.is_none() || self.request_threads.are_short_lived;
        if changed || wanted {
            let without_loop: Vec<usize> = (0..self.threads.len())
                .filter(|index| {
                    let tid = self.threads.get(*index).map(|thread| thread.tid);
                    !self.loops.iter().any(|watch| Some(watch.tid) == tid)
                })
                .collect();
            for index in without_loop {
                let (mut scene, threads) = self.scene(notes);
                let Some(thread) = threads.get_mut(index) else { break };
                let tid = thread.tid;
                if let Ok(stack) = thread.walk(&mut scene) {
                    self.find_loops(notes, tid, &stack);
                }
                self.run_loops(notes, pace)?;
            }
        }
        self.out_of_sight.retain(|(since, _)| now().since(*since) < REFRESH);
        if is_time {
            self.next_refresh = now() + REFRESH;
            self.refresh();
            self.see_libraries(now());
        }
        Ok(())
    }

    /// Returns whether the list changed.
    pub(super) fn update_threads(&mut self) -> Result<bool, ReadError> {
        let compared = self.request_threads.compared(now());
        let python = self.located.view(&self.memory);
        let known: Vec<_> = self.threads.iter().map(|watch| watch.thread).collect();
        let are_reused = self.request_threads.are_short_lived;
        if !are_reused && unchanged(&python, &known) {
            return Ok(false);
        }
        self.quiet.forget();
        let found = threads(&python)?;
        // Where threads come and go, a new one lies where one was that has ended: its number differs.
        if are_reused && found == known && found.iter().all(|thread| thread.native.is_some()) {
            return Ok(false);
        }
        let ids = match self.procfs.namespace_tids(self.pid) {
            Ok(by_native) => ThreadIds { by_native },
            Err(ProcError::NoSuchProcess(_)) => return Err(ReadError::Gone),
            Err(_) => return Ok(false),
        };
        let mut watches = std::mem::take(&mut self.threads);
        for (index, thread) in found.iter().copied().enumerate() {
            let is_known = |watch: &ThreadWatch| {
                watch.thread == thread
                    && (!are_reused || ids.of(&self.memory, &thread) == Some(watch.tid))
            };
            if let Some(same) = watches.iter().position(is_known) {
                self.threads.push(watches.swap_remove(same));
                continue;
            }
            let Some(tid) = ids.of(&self.memory, &thread) else { continue };
            // A thread about to start has its creator's ids (CPython fills a PyThreadState in where it
            // is made), so of two that claim a kernel thread the older is right. It comes later in the
            // list; the other is missing from ours, so that the next comparison finds a difference.
            if found.iter().skip(index + 1).any(|older| ids.of(&self.memory, older) == Some(tid)) {
                continue;
            }
            let mut watch = ThreadWatch::new(&self.procfs, self.pid, tid, thread);
            watch.free_at = compared;
            self.threads.push(watch);
            if !self.info.threads.iter().any(|info| info.tid == tid) {
                let name = self.procfs.comm(self.pid, tid).unwrap_or_default();
                self.info.threads.push(ThreadInfo { tid, name, gil_held: 0 });
            }
        }
        self.gil.update(&self.located.view(&self.memory), &self.threads);
        Ok(true)
    }

    /// Looks for loops, and for signs of the server, in a stack just read.
    fn find_loops(&mut self, notes: &mut Notes, tid: Tid, stack: &RawStack) {
        self.remember_files(stack);
        if self.info.topology.role == Role::Master {
            // What a master runs of its own (gunicorn's control interface) serves nobody.
            return;
        }
        let watched = self.loops.iter().find(|watch| watch.tid == tid);
        if watched.is_some_and(|watch| watch.clock.is_on(stack)) {
            return;
        }
        let forked = self.forked;
        let at = now();
        if self.find_requests(notes, tid, stack, at) {
            return;
        }
        for probe in PROBES {
            let Some(clock) = self.probe(notes, *probe, tid, stack, at) else { continue };
            let object = clock.loop_object();
            let again = self.known_loops.iter().find(|known| known.0 == tid && known.1 == object);
            let id = match again {
                Some(known) => known.2,
                None => {
                    let id = notes.add_loop(self.pid, tid, probe.kind(), at);
                    self.known_loops.push((tid, object, id));
                    id
                }
            };
            let mut watch = LoopWatch::new(id, tid, clock, at);
            let edges = &mut self.out_of_sight;
            if let Some(index) = edges.iter().position(|(_, edges)| edges.loop_id() == id) {
                watch.edges = edges.swap_remove(index).1;
            }
            if let Some(born) = forked {
                watch.ignore_before(born);
            }
            // One thread runs one loop: the one it ran before is over.
            if let Some(index) = self.loops.iter().position(|watch| watch.tid == tid) {
                let mut gone = self.loops.remove(index);
                let (mut scene, _) = self.scene(notes);
                gone.end(&mut scene, at);
            }
            self.loops.push(watch);
            return;
        }
        if let Some(thread) = self.threads.iter_mut().find(|thread| thread.tid == tid) {
            thread.free_at = at;
        }
    }

    /// Looks for a thread that serves requests without a loop. Where the process has a loop, only a
    /// known server's threads are: what a loop hands to a thread does not hold the loop up.
    fn find_requests(
        &mut self,
        notes: &mut Notes,
        tid: Tid,
        stack: &RawStack,
        at: Timestamp,
    ) -> bool {
        if self.request_threads.is_full(&self.loops) || notes.is_full_of_loops() {
            return false;
        }
        let has_loop = self.loops() > 0;
        let (in_gthread, size) = (self.request_threads.in_gthread, self.request_threads.size());
        let (mut scene, threads) = self.scene(notes);
        let Some(thread) = threads.iter().find(|thread| thread.tid == tid) else { return false };
        let wall_ahead = wall_ahead();
        let known = Known { in_gthread, has_loop, size, free_at: thread.free_at, wall_ahead };
        let mut sight = thread.sight(&mut scene, stack, at);
        let found = request_clock::find(&mut sight, known);
        self.request_threads.learn(&mut self.info.occupancy, found.learnt);
        let Some(clock) = found.clock else { return false };
        let object = clock.loop_object();
        let again = self.known_loops.iter().find(|known| known.0 == tid && known.1 == object);
        let id = again
            .map_or_else(|| notes.add_loop(self.pid, tid, LoopKind::NoLoop, at), |known| known.2);
        if again.is_none() {
            self.known_loops.push((tid, object, id));
        }
        self.loops.push(LoopWatch::of_requests(id, tid, clock, at));
        true
    }

    /// Asks a probe; `None` if there is no such thread, or no loop of its kind on it.
    fn probe(
        &mut self,
        notes: &mut Notes,
        probe: &dyn Probe,
        tid: Tid,
        stack: &RawStack,
        at: Timestamp,
    ) -> Option<Box<dyn Clock>> {
        let (mut scene, threads) = self.scene(notes);
        let thread = threads.iter().find(|thread| thread.tid == tid)?;
        probe.find(&mut thread.sight(&mut scene, stack, at)).ok()?
    }

    pub(super) fn remember_files(&mut self, stack: &RawStack) {
        let python = self.located.view(&self.memory);
        self.codes.recheck(&python, &stack.frames, now());
        for frame in &stack.frames {
            let Ok(code) = self.codes.get(&python, frame.code, now()) else { continue };
            if self.files.len() < MAX_FILES && !self.files.contains(&code.filename) {
                self.files.insert(code.filename.clone());
            }
        }
    }

    /// Reads the slow facts again.
    pub(super) fn refresh(&mut self) {
        if let Ok(stat) = self.procfs.stat(self.pid) {
            self.info.rss_bytes = stat.rss_bytes;
            self.info.cpu = stat.cpu.saturating_sub(self.cpu_before);
        }
        if !self.known_loops.is_empty() {
            self.info.unread_loop = None;
        }
        // What patches has been imported, and what was imported shows its files sooner or later.
        if self.files.len() != self.patches_by {
            self.patches_by = self.files.len();
            if let Ok(patches) = patches(&self.located.view(&self.memory)) {
                self.info.patches = patches;
            }
        }
        if self.info.stdlib.is_none() {
            let python = self.located.view(&self.memory);
            // Every interpreter has imported it, from the folder of the standard library.
            let file = in_module(&python, "os", "__file__").ok().flatten();
            let file = file.and_then(|file| python.objects().str(file).ok());
            let folder = file.and_then(|file| Some(file.strip_suffix("/os.py")?.to_owned()));
            let suffix = "/asyncio/base_events.py";
            let seen = || self.files.iter().find_map(|file| file.strip_suffix(suffix));
            self.info.stdlib = folder.or_else(|| seen().map(str::to_owned));
        }
    }

    /// The library of a loop may have been loaded since: mostly as the process begins, and the file that
    /// says so is a long one.
    fn see_libraries(&mut self, at: Timestamp) {
        if !self.known_loops.is_empty() || at < self.next_libraries {
            return;
        }
        let is_young = at.since(self.info.attached) < YOUNG;
        self.next_libraries = at + if is_young { Nanos::ZERO } else { LIBRARIES };
        self.info.unread_loop = self.unread_loop();
        self.space.update(&self.procfs, at);
    }

    /// The library of a loop that no probe reads, if it is loaded: its name says more than that no
    /// loop was found.
    fn unread_loop(&self) -> Option<String> {
        let maps = self.procfs.maps(self.pid).ok()?;
        let mut parts = maps.iter().filter_map(|map| map.path.as_deref()).flatten();
        let found = parts.find_map(|part| UNREAD_LOOPS.iter().find(|name| part == **name));
        found.map(|name| (*name).to_owned())
    }

    /// Finds out which server runs the process, as long as that is not certain.
    ///
    /// # Errors
    /// [`ReadError::Gone`] and [`ReadError::Denied`].
    pub(super) fn recognise(&mut self, notes: &mut Notes) -> Result<(), ReadError> {
        let at = now();
        // Files not seen before may be the server's.
        let is_news = self.files.len() != self.recognised_by;
        if self.server.is_settled || (at < self.next_recognition && !is_news) {
            return Ok(());
        }
        self.recognised_by = self.files.len();
        self.next_recognition = at + self.recognition_step;
        self.recognition_step = Nanos(self.recognition_step.0.saturating_mul(2)).min(RECOGNITION);
        let stacks = self.stacks(notes)?;
        let command = self.procfs.cmdline(self.pid).unwrap_or_default();
        let parent = self.procfs.cmdline(self.info.ppid).unwrap_or_default();
        let files: Vec<String> = self.files.iter().cloned().collect();
        let python = self.located.view(&self.memory);
        let facts = Facts {
            command: &command,
            parent: &parent,
            stacks: &stacks,
            files: &files,
            python: Some(&python),
            procfs: &self.procfs,
            pid: self.pid,
        };
        self.server = recognise(&facts);
        self.info.config = settings(&facts, &self.server);
        self.info.topology = self.server.topology.clone();
        Ok(())
    }

    /// The counters of a process that began while we watched began at 0 with it.
    pub fn count_from(&mut self, began: Timestamp) {
        if self.forked.is_some_and(|born| born >= began) {
            self.info.requests.first = Some(0);
        }
    }

    /// What its server's counters say now.
    pub(super) fn counts(&self) -> Counts {
        let python = self.located.view(&self.memory);
        counts(&python, &self.server.objects, self.server.topology.class)
    }

    fn count_requests(&mut self, at_last: bool) {
        let python = self.located.view(&self.memory);
        let (objects, class) = (&self.server.objects, self.server.topology.class);
        self.requests.look(&python, objects, class, &mut self.info.requests, at_last);
    }

    /// The stacks of the first threads with their names, the main thread's first. One that does not
    /// hold still is left out.
    fn stacks(&mut self, notes: &mut Notes) -> Result<Vec<Vec<Place>>, ReadError> {
        let is_main = |watch: &ThreadWatch| watch.tid.0 == self.pid.0;
        let main = self.threads.iter().position(is_main);
        let others = (0..self.threads.len()).filter(|index| Some(*index) != main);
        let order: Vec<usize> = main.into_iter().chain(others).take(MAX_ASKED).collect();
        let mut stacks = Vec::with_capacity(order.len());
        for index in order {
            let (mut scene, threads) = self.scene(notes);
            let Some(thread) = threads.get_mut(index) else { break };
            match thread.walk(&mut scene) {
                Ok(stack) => {
                    let named = places(&mut scene, &stack);
                    let main = main_greenlet(&scene.python, &named);
                    stacks.push(named);
                    stacks.extend(main.map(|stack| places(&mut scene, &stack)));
                }
                Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(stacks)
    }

    /// Where its server's own objects lie, as far as that is known.
    #[must_use]
    pub fn server_objects(&self) -> ServerObjects {
        self.server.objects
    }
}

/// A stack's frames with their names; frames that are being pushed or popped have none.
fn places(scene: &mut Scene<'_>, stack: &RawStack) -> Vec<Place> {
    let frames = stack.frames.iter();
    let named = frames.filter_map(|raw| {
        let code = scene.codes.get(&scene.python, raw.code, now()).ok()?;
        Some(Place {
            function: code.name.clone(),
            file: code.filename.clone(),
            frame: raw.addr,
            locals: code.locals.clone(),
        })
    });
    named.collect()
}

/// When a forked child began, on `CLOCK_MONOTONIC`: `/proc` tells it on `CLOCK_BOOTTIME`, which is
/// ahead by the time the machine was suspended, so the later of the two readings is taken.
///
/// The clocks are read one after the other: what is between the two readings would be taken for age,
/// and a look at the parent's iteration for one of the child's own.
fn born(started: Nanos) -> Option<Timestamp> {
    let boot = super::pace::boot_clock()?;
    let at = now();
    let age = boot.saturating_sub(started);
    Some(at.before(age) + BIRTH_STEP)
}
