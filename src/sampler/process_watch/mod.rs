//! One process under observation: its interpreter, threads and loops.

mod attachment;
mod background;
mod counters;
mod libraries;
mod loop_search;
mod pools;
mod recognition;
mod residents;
mod slow_facts;
mod spins;
mod thread_list;

use std::collections::HashSet;

pub use attachment::AttachError;
use libraries::Libraries;
use recognition::Asking;

use super::births::Complete;
use super::budget_watch::BudgetWatch;
use super::edge_watch::EdgeWatch;
use super::gil_watch::{GilWatch, Held};
use super::kin::Kinsman;
use super::loop_watch::{LoopWatch, Outcome};
use super::notes::{Notes, WorkingDirectory};
use super::pace::{Pace, now};
use super::pool_watch::PoolWatch;
use super::quiet::Quiet;
use super::request_threads::RequestThreads;
use super::request_watch::RequestWatch;
use super::resident_watch::ResidentWatch;
use super::socket_watch::{SocketWatch, Sockets};
use super::spin_watch::SpinWatch;
use super::thread_watch::{Scene, ThreadWatch};
use super::throttle_watch::ThrottleWatch;
use super::waiting_tasks::count_waiting;
use crate::model::{GilState, LoopId, ProcessInfo, Role, StackId};
use crate::native::AddressSpace;
use crate::python::Interpreter;
use crate::python::code_objects::CodeCache;
use crate::python::locate::Located;
use crate::python::objects::TypeCache;
use crate::python::running_loop::AsyncioTables;
use crate::server::Recognised;
use crate::server::pools::awaited::Awaited;
use crate::target::peers::Peers;
use crate::target::{Freezer, LiveMemory, ProcFs, ReadError, Stat};
use crate::units::{Addr, Nanos, Pid, Tid, Timestamp};

/// How often threads that run no loop we know are searched for one, and the list of threads is
/// compared with the target's.
const DISCOVERY: Nanos = Nanos::from_millis(100);
/// How often slow facts (memory, thread names, server) are read again.
const REFRESH: Nanos = Nanos::from_secs(1);

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
    types: TypeCache,
    asyncio: AsyncioTables,
    peers: Peers,
    awaited: Awaited,
    space: AddressSpace,
    gil: GilWatch,
    freezer: Option<Freezer>,
    throttle: ThrottleWatch,
    pools: PoolWatch,
    sockets: SocketWatch,
    spins: SpinWatch,
    threads: Vec<ThreadWatch>,
    /// Whether they have run since their list was last compared, and found to be the target's.
    quiet: Quiet,
    /// Whether they are all that there are.
    complete: Complete,
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
    asking: Asking,
    /// How many files there were when its patches were last read.
    patches_by: usize,
    requests: RequestWatch,
    residents: ResidentWatch,
    /// When it was forked, if it was forked from a process that is watched.
    forked: Option<Timestamp>,
    cpu_before: Nanos,
    budget: BudgetWatch,
    next_sample: Timestamp,
    next_discovery: Timestamp,
    next_refresh: Timestamp,
    /// What the kernel said last.
    stat: Option<Stat>,
    libraries: Libraries,
}

impl ProcessWatch {
    /// Finds its threads and its server: after this it is known whether it is a master.
    ///
    /// # Errors
    /// [`ReadError::Gone`] and [`ReadError::Denied`].
    pub fn introduce(&mut self, notes: &mut Notes) -> Result<(), ReadError> {
        self.update_threads()?;
        self.recognise(notes).map(|_| ())
    }

    /// What its children need to know of it.
    #[must_use]
    pub fn kinsman(&self) -> Kinsman {
        let is_master = self.info.topology.role == Role::Master;
        Kinsman { pid: self.pid, is_master, development: self.info.topology.development }
    }

    /// Whether it was followed from its parent and turned out to serve nobody; not once a loop was found in it.
    #[must_use]
    pub fn keeps_house(&self) -> bool {
        self.forked.is_some() && self.server.keeps_house && self.known_loops.is_empty()
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
        self.see_pools(notes, at)?;
        self.count_requests(at, false);
        self.see_sockets(notes, stalled, at);
        self.see_residents(notes, stalled, at);
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
            self.next_sample = pace.sample_time(self.next_sample + apart + missed);
            let before = now();
            let period = Nanos((apart + missed).0 / u64::from(pace.stride.max(1)));
            self.sample(notes, pace, period)?;
            notes.sampling += now().since(before);
        }
        Ok(())
    }

    fn see_sockets(&mut self, notes: &mut Notes, stalled: bool, at: Timestamp) {
        let (listeners, connections) = (&mut self.info.listeners, &mut self.info.connections);
        let mut sockets = Sockets { listeners, connections };
        let process = (&self.procfs, self.pid);
        let how = (self.info.cpu, stalled);
        self.sockets.see(process, &mut notes.sockets, &mut sockets, how, at);
    }

    /// Its sockets that are connected, and the ports it listens at.
    pub(super) fn connected(&self) -> (&HashSet<u64>, &[u16]) {
        self.sockets.connected()
    }

    /// Whether an event loop of it is being looked into.
    pub(super) fn is_stalled(&self) -> bool {
        self.loops.iter().any(|watch| watch.requests.is_none() && watch.is_looked_into())
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
            self.count_requests(now(), true);
            self.throttle.see(&self.procfs, self.pid, notes, true, now());
            if self.loops.iter().any(|watch| watch.ongoing().is_some()) {
                let loops: Vec<_> =
                    self.loops.iter().map(|watch| watch.clock.loop_object()).collect();
                let (mut scene, threads) = self.scene(notes);
                self.info.tasks_waiting = count_waiting(&mut scene, threads, &loops);
            }
        }
        for watch in &mut self.loops {
            watch.finish(notes);
        }
        for (_, edges) in &mut self.out_of_sight {
            edges.finish(notes);
        }
    }

    pub(super) fn scene<'a>(
        &'a mut self,
        notes: &'a mut Notes,
    ) -> (Scene<'a>, &'a mut Vec<ThreadWatch>) {
        let scene = Scene {
            pid: self.pid,
            python: Interpreter { types: Some(&self.types), ..self.located.view(&self.memory) },
            located: &self.located,
            memory: &self.memory,
            procfs: &self.procfs,
            directory: &self.directory,
            codes: &mut self.codes,
            asyncio: &mut self.asyncio,
            peers: &mut self.peers,
            awaited: &mut self.awaited,
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
}
