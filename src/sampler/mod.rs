//! Looking, at a pace: follows processes, their threads and loops, and writes down what is seen.
//!
//! Takes pids and a [`Pace`], gives a [`Recording`]. One thread, no locks: whatever is due first
//! is done first, loops before samples. Never stops the target unless told to, never writes to it.

pub mod account;
pub mod births;
pub mod budget_watch;
mod children_left;
pub mod crowd_watch;
mod edge_guard;
pub mod edge_watch;
mod fault_count;
pub mod gil_watch;
pub mod held_thread;
pub mod keeper;
pub mod kin;
pub mod lock_watch;
pub mod loop_watch;
pub mod named;
pub mod natives;
mod neighbours;
pub mod notes;
mod oom_watch;
pub mod pace;
mod parked_greenlets;
pub mod pool_watch;
pub mod process_watch;
pub mod quiet;
pub mod request_threads;
pub mod request_watch;
pub mod resident_watch;
pub mod runner;
pub mod snapshot;
pub mod socket_watch;
pub mod spending;
pub mod spin_watch;
mod standing;
mod task_greenlets;
pub mod thread_watch;
pub mod throttle_watch;
mod waiting_tasks;
mod wake_watch;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::{ProcessInfo, Recording, Settings, StackId, Tables};
use crate::target::{CpuTotals, ProcFs, ReadError, Tracepoints};
use crate::units::{Nanos, Pid, Timestamp};
use budget_watch::machine;
use children_left::serving_children;
use crowd_watch::CrowdWatch;
use kin::{Candidates, Kin};
use neighbours::NeighbourWatch;
use notes::Notes;
use oom_watch::OomWatch;
use pace::Pace;
use process_watch::{AttachError, ProcessWatch};
use spending::Spending;

/// How often whoever waits is told how things stand.
const HOUSEKEEPING: Nanos = Nanos::from_millis(200);
/// Longest sleep: a request to stop is answered within this.
const LONGEST_SLEEP: Nanos = Nanos::from_millis(50);
/// Most processes that ended kept in a recording; the oldest go first.
const MAX_ENDED: usize = 1024;
/// Most processes watched at once.
const MAX_PROCESSES: usize = 512;

/// An iteration that goes on and was looked into.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ongoing<'a> {
    /// The process.
    pub pid: Pid,
    /// It is a request that holds a thread of its own, and no loop's.
    pub occupies: bool,
    /// How old it is.
    pub age: Nanos,
    /// What its thread was last seen doing.
    pub stack: StackId,
    /// Where the process's standard library lies.
    pub stdlib: Option<&'a str>,
    /// What the stack's id refers to.
    pub tables: &'a Tables,
}

/// How a recording stands, for a progress line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress<'a> {
    /// Time since the start.
    pub elapsed: Nanos,
    /// Processes watched now.
    pub processes: usize,
    /// Loops watched now.
    pub loops: usize,
    /// Threads watched now that serve requests without a loop.
    pub request_threads: usize,
    /// Iterations looked into so far, by kept looks.
    pub looks: usize,
    /// The oldest iteration that goes on.
    pub ongoing: Option<Ongoing<'a>>,
}

/// Watches processes and writes down what is seen.
#[derive(Debug)]
pub struct Sampler {
    procfs: ProcFs,
    pace: Pace,
    settings: Settings,
    follow_children: bool,
    attached: Timestamp,
    cpu_before: Nanos,
    machine_before: Option<CpuTotals>,
    processes: Vec<ProcessWatch>,
    ended: Vec<ProcessInfo>,
    kin: Kin,
    /// Children of masters that turned out to serve nobody, and are watched no longer.
    housekeepers: HashSet<Pid>,
    crowds: CrowdWatch,
    ooms: OomWatch,
    neighbours: NeighbourWatch,
    notes: Notes,
}

impl Sampler {
    /// A sampler that watches nothing yet.
    #[must_use]
    pub fn new(procfs: ProcFs, settings: Settings, follow_children: bool) -> Sampler {
        // Begun before our own priority rises.
        let _ = Tracepoints::known();
        pace::wake_precisely();
        let mut notes = Notes::default();
        notes.natives.wanted = settings.native;
        Sampler {
            machine_before: procfs.cpu_totals(),
            pace: Pace::new(settings.threshold, settings.rate_hz),
            procfs,
            settings,
            follow_children,
            attached: pace::now(),
            cpu_before: pace::own_cpu(),
            processes: Vec::new(),
            ended: Vec::new(),
            kin: Kin::default(),
            housekeepers: HashSet::new(),
            crowds: CrowdWatch::default(),
            ooms: OomWatch::default(),
            neighbours: NeighbourWatch::default(),
            notes,
        }
    }

    /// Attaches to a process.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(&mut self, pid: Pid) -> Result<(), AttachError> {
        let mut watch = ProcessWatch::attach(&self.procfs, pid, false)?;
        if self.settings.blocking {
            watch.pause_threads()?;
        }
        watch.warm(&mut self.notes.natives);
        // A failure shows again at the first look.
        let _ = watch.introduce(&mut self.notes);
        self.ooms.join(&self.procfs, pid);
        self.processes.push(watch);
        self.adopt_children();
        Ok(())
    }

    /// Whether anything is still being watched.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        !self.processes.is_empty()
    }

    /// Watches until `until`, until `stop` is set, or until every process has ended. `report` is
    /// told a few times a second how things stand, and may end the recording by `false`.
    pub fn run(
        &mut self,
        until: Option<Timestamp>,
        stop: &AtomicBool,
        report: &mut dyn FnMut(Progress<'_>) -> bool,
    ) {
        let mut housekeeping = pace::now();
        let (mut counted, mut following) = (housekeeping, housekeeping);
        let mut spending = Spending::from(pace::thread_cpu());
        while self.is_watching() && !stop.load(Ordering::Relaxed) {
            let at = pace::now();
            if until.is_some_and(|until| at >= until) {
                break;
            }
            if at >= housekeeping {
                if self.settings.rate_is_most {
                    let sampling = std::mem::take(&mut self.notes.sampling);
                    let spent = spending.on_samples(sampling, pace::thread_cpu());
                    self.pace.keep_to_ceiling(spent, at.since(counted));
                }
                (housekeeping, counted) = (at + HOUSEKEEPING, at);
                if !report(self.progress(at)) {
                    break;
                }
            }
            if at >= following {
                following = at + self.adopt_children();
            }
            self.pace.keep_ticking(at);
            self.look();
            let due = self.processes.iter().map(|watch| watch.due(&self.pace)).min();
            let done = pace::now();
            spending.was_awake(done.since(at));
            let limit = done + LONGEST_SLEEP;
            let next = [due, until, Some(housekeeping), Some(following), Some(limit)]
                .into_iter()
                .flatten()
                .min();
            pace::sleep_until(next.unwrap_or(limit));
        }
    }

    /// One round of whatever is due.
    fn look(&mut self) {
        let mut index = 0;
        while let Some(watch) = self.processes.get_mut(index) {
            match watch.run(&mut self.notes, &self.pace) {
                Err(ReadError::Gone | ReadError::Denied) => {
                    let gone = self.processes.remove(index);
                    self.bury(gone);
                }
                Ok(()) if !self.follow_children && watch.keeps_house() => {
                    self.housekeepers.insert(watch.pid);
                    self.processes.remove(index);
                }
                _ => index += 1,
            }
        }
        self.crowds.see(&self.procfs, &mut self.processes, &mut self.notes);
        let at = pace::now();
        self.ooms.see(at);
        self.neighbours.see(&self.procfs, &self.processes, &mut self.notes, at);
    }

    /// Keeps what is known of a process that ended, as far as there is room: a server whose workers
    /// crash at once starts thousands.
    fn bury(&mut self, mut gone: ProcessWatch) {
        gone.end(&mut self.notes);
        gone.finish(&mut self.notes);
        gone.close(&mut self.notes);
        let killed_for_memory = self.ooms.claim(gone.pid, pace::now());
        let info = ProcessInfo { killed_for_memory, ..gone.info() };
        if self.ended.len() >= MAX_ENDED {
            self.ended.remove(0);
            self.notes.losses.dropped += 1;
        }
        self.ended.push(info);
    }

    fn progress(&self, at: Timestamp) -> Progress<'_> {
        Progress {
            elapsed: at.since(self.attached),
            processes: self.processes.len(),
            loops: self.processes.iter().map(ProcessWatch::loops).sum(),
            request_threads: self.processes.iter().map(ProcessWatch::request_threads).sum(),
            looks: self.notes.states.len(),
            ongoing: self.ongoing(at),
        }
    }

    fn ongoing(&self, at: Timestamp) -> Option<Ongoing<'_>> {
        let all = self.processes.iter().filter_map(|watch| {
            let (began, stack, occupies) = watch.ongoing()?;
            let (age, tables) = (at.since(began), &self.notes.tables);
            Some(Ongoing { pid: watch.pid, occupies, age, stack, stdlib: watch.stdlib(), tables })
        });
        all.max_by_key(|ongoing| ongoing.age)
    }

    /// Attaches to the workers of masters, or to all children that are Python, as far as they are
    /// there. Returns when to look again.
    fn adopt_children(&mut self) -> Nanos {
        let family = self.processes.iter().map(ProcessWatch::kinsman).collect::<Vec<_>>();
        let Candidates { mut ready, again } =
            self.kin.candidates(&self.procfs, &family, self.follow_children);
        ready.retain(|pid| !self.housekeepers.contains(pid));
        for child in ready {
            if self.processes.len() >= MAX_PROCESSES {
                break;
            }
            match ProcessWatch::attach(&self.procfs, child, true) {
                Ok(mut watch) => {
                    if self.settings.blocking {
                        // A child that somebody traces is better seen unpaused than not at all.
                        let _ = watch.pause_threads();
                    }
                    watch.count_from(self.attached);
                    // A failure shows again at the first look.
                    let _ = watch.introduce(&mut self.notes);
                    if !self.follow_children && watch.keeps_house() {
                        self.housekeepers.insert(child);
                    } else {
                        self.ooms.join(&self.procfs, child);
                        self.processes.push(watch);
                    }
                }
                Err(_) => self.kin.failed(child),
            }
        }
        again
    }

    /// Ends the recording.
    #[must_use]
    pub fn finish(mut self) -> Recording {
        // Who launched it may have met its end before a look did.
        let has_ended = |watch: &mut ProcessWatch| {
            self.procfs.stat(watch.pid).map_or(true, |stat| stat.has_ended())
        };
        let gone: Vec<ProcessWatch> = self.processes.extract_if(.., has_ended).collect();
        gone.into_iter().for_each(|watch| self.bury(watch));
        let mut processes = std::mem::take(&mut self.processes);
        processes.iter_mut().for_each(|watch| watch.finish(&mut self.notes));
        // What follows takes its time, and watches no loop.
        let detached = pace::now();
        for mut watch in processes {
            watch.close(&mut self.notes);
            self.ended.push(watch.info());
        }
        if self.notes.loops.is_empty() && !self.follow_children {
            for info in self.ended.iter_mut().filter(|info| info.is_bare_parent()) {
                info.serving_children = serving_children(&self.procfs, info.pid);
            }
        }
        let mut states = self.notes.states;
        states.sort_by_key(|state| state.at);
        let mut gaps = self.notes.gaps;
        gaps.sort_by_key(|gap| (gap.left, gap.loop_id));
        let mut samples = self.notes.samples;
        samples.retain(|sample| !self.housekeepers.contains(&sample.pid));
        samples.sort_by_key(|sample| sample.at);
        let mut throttles = self.notes.throttles;
        throttles.sort_by_key(|rise| (rise.until, rise.pid));
        self.ended.sort_by_key(|info| info.attached);
        Recording {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings: self.settings,
            attached: self.attached,
            detached,
            tables: self.notes.tables,
            processes: self.ended,
            loops: self.notes.loops,
            loop_states: states,
            gaps,
            throttles,
            samples,
            machine: machine(&self.procfs, self.machine_before),
            neighbours: self.neighbours.finish(&self.procfs, detached),
            losses: self.notes.losses,
            own_cpu: pace::own_cpu().saturating_sub(self.cpu_before),
        }
    }
}
