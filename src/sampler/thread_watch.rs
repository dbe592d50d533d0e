//! One thread under observation: its frames, its files, and what it was last seen doing.

use super::fault_count::FaultCount;
use super::gil_watch::{GilWatch, Held};
use super::natives::NativeStack;
use super::notes::{Notes, WorkingDirectory};
use super::pace::now;
use super::runner::Runner;
use crate::event_loop::{Sight, View};
use crate::model::{CpuState, GilState, NativeStacks, Sample, SchedTimes, StackId};
use crate::native::{AddressSpace, Registers, StackBytes};
use crate::python::Interpreter;
use crate::python::code_objects::CodeCache;
use crate::python::frames::{Fingerprint, RawStack, Stand, Walker};
use crate::python::locate::Located;
use crate::python::running_loop::AsyncioTables;
use crate::python::threads::Thread;
use crate::server::pools::awaited::Awaited;
use crate::target::edges::StackSampler;
use crate::target::{Freezer, Peers, ProcFs, ReadError, RemoteMemory, SyscallState, ThreadFiles};
use crate::units::{Addr, Nanos, Pid, Tid, Timestamp};

/// A thread that slept unmoved for this many samples in a row is looked at less often.
const IDLE_AFTER: u32 = 20;
/// An idle thread is looked at so many times less often than others, each look standing for all samples
/// in between: the shares stay true, and forty idle pool threads cost as much as five.
const IDLE_STRIDE: u32 = 8;

/// A thread found in the same call, with the same arguments and stack, so soon after is taken to be
/// in it still: what is behind its descriptor is not looked up again.
const SAME_CALL: Nanos = Nanos::from_millis(25);

/// A background sample that falls due so soon after the thread was looked into for its loop, at the
/// same wake-up, is of what was seen then.
const SAME_LOOK: Nanos = Nanos::from_micros(500);

/// A running thread stands still if it is met so many times more, a few microseconds
/// apart, at the same instruction of Python with the same values. A loop that asks for the time and
/// counts spends four fifths of its time at one instruction, and half of that with equal values: it
/// seems to stand still in 1 % of cases.
const STANDS: u32 = 5;
/// C stacks copied between two background samples of a thread that runs, so that there mostly is one.
const SAMPLES_IN_PERIOD: u64 = 2;
/// A C stack so old is of what the thread does now, if it is in one call.
const FRESH: Nanos = Nanos::from_micros(2_500);

/// What every observer of one process needs: borrowed together, for one look.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The process.
    pub pid: Pid,
    /// Its interpreter, ready to be read.
    pub python: Interpreter<'a>,
    /// The same, as found.
    pub located: &'a Located,
    /// Its memory.
    pub memory: &'a dyn RemoteMemory,
    /// `/proc`.
    pub procfs: &'a ProcFs,
    /// Where its relative paths begin.
    pub directory: &'a WorkingDirectory,
    /// Code objects read so far.
    pub codes: &'a mut CodeCache,
    /// Its code, for C stacks.
    pub space: &'a mut AddressSpace,
    /// Where its asyncio keeps things.
    pub asyncio: &'a mut AsyncioTables,
    /// Peers of descriptors.
    pub peers: &'a mut Peers,
    /// Pools of its that somebody was met waiting for.
    pub awaited: &'a mut Awaited,
    /// Its interpreter lock.
    pub gil: &'a mut GilWatch,
    /// Holds a thread still while its stack is read, if the user asked for that.
    pub freezer: Option<&'a Freezer>,
    /// Where to write down.
    pub notes: &'a mut Notes,
}

/// One thread under observation.
#[derive(Debug)]
pub struct ThreadWatch {
    /// As the interpreter knows it.
    pub thread: Thread,
    /// As the kernel knows it.
    pub tid: Tid,
    /// Its files in `/proc`.
    pub files: ThreadFiles,
    /// It ran no loop and served no request at this time, or did not exist.
    pub free_at: Timestamp,
    /// The last stack of it in which neither a loop nor a request was found.
    pub searched: Option<RawStack>,
    /// The kernel knows it no longer.
    pub has_ended: bool,
    runner: Runner,
    walker: Walker,
    /// The last stack walked, and its id in the notes.
    known: Option<(RawStack, StackId)>,
    blocked: Option<Blocked>,
    rest: Option<Rest>,
    /// How often the kernel had put it on a CPU when that was found to have changed.
    peeked: Option<u64>,
    /// When it was looked into for its loop, and what it did then.
    seen: Option<(Timestamp, StackId, CpuState)>,
    faults: FaultCount,
    last_sample: Option<usize>,
    sampled_at: Timestamp,
    idle: u32,
    skipped: u32,
}

/// A thread found asleep, and what was read of it since. It holds while the kernel has not put the
/// thread on a CPU again: nothing of a sleeping thread moves.
#[derive(Debug, Clone, Copy)]
struct Rest {
    /// [`ThreadFiles::runs`], read before the thread was found asleep.
    runs: u64,
    call: SyscallState,
    cpu: CpuState,
    /// Whether it was asked what it waits for.
    asked: bool,
    /// Whether the stack in `known` was walked after that.
    walked: bool,
    /// That stack with its C frames, once it was read for a sample.
    merged: Option<StackId>,
}

/// What all background samples taken at one time have in common.
#[derive(Debug)]
pub struct Round {
    /// The time each of them stands for.
    pub period: Nanos,
    /// How many of them one look stands for.
    pub stride: u32,
    /// Who held the interpreter lock when it began.
    pub held: Held,
}

/// The call a thread was last found in.
#[derive(Debug)]
struct Blocked {
    state: SyscallState,
    at: Timestamp,
    cpu: CpuState,
}

impl ThreadWatch {
    /// Begins to watch a thread.
    #[must_use]
    pub fn new(procfs: &ProcFs, pid: Pid, tid: Tid, thread: Thread) -> ThreadWatch {
        ThreadWatch {
            thread,
            tid,
            files: ThreadFiles::new(procfs, pid, tid),
            free_at: Timestamp::default(),
            searched: None,
            has_ended: false,
            runner: Runner::default(),
            walker: Walker::default(),
            known: None,
            blocked: None,
            rest: None,
            peeked: None,
            seen: None,
            faults: FaultCount::default(),
            last_sample: None,
            sampled_at: Timestamp::default(),
            idle: 0,
            skipped: 0,
        }
    }

    /// Whether this stack, met `at` this time, was searched in vain before: then it is not a second time.
    pub fn was_searched(&mut self, stack: &RawStack, at: Timestamp) -> bool {
        let was = self.searched.as_ref() == Some(stack);
        if was {
            self.free_at = at;
        }
        was
    }

    /// What the clock of this thread's loop may look at.
    #[must_use]
    pub fn view<'a>(&'a self, scene: &Scene<'a>, now: Timestamp) -> View<'a> {
        let (thread, files) = (&self.thread, &self.files);
        View { python: scene.python, thread, files, procfs: scene.procfs, pid: scene.pid, now }
    }

    /// What probes may look at to find this thread's loop.
    #[must_use]
    pub fn sight<'a>(
        &'a self,
        scene: &'a mut Scene<'_>,
        stack: &'a RawStack,
        now: Timestamp,
    ) -> Sight<'a> {
        Sight {
            python: scene.python,
            codes: scene.codes,
            stack,
            thread: &self.thread,
            tid: self.tid,
            pid: scene.pid,
            files: &self.files,
            procfs: scene.procfs,
            modules: scene.space.modules(),
            asyncio: scene.asyncio,
            now,
        }
    }

    /// Its scheduler clock, and its major page faults so far as of a few milliseconds ago: the baseline of
    /// a stall that may begin.
    pub fn account(&mut self, at: Timestamp) -> (Option<SchedTimes>, Option<u64>) {
        let (sched, runs) = self.files.sched_and_runs(at).unzip();
        (sched, self.faults.lately(runs, at, || self.files.major_faults()))
    }

    /// The thread's fingerprint now.
    ///
    /// # Errors
    /// See [`Walker::fingerprint`].
    pub fn fingerprint(&mut self, scene: &Scene<'_>) -> Result<Fingerprint, ReadError> {
        self.walker.fingerprint(&scene.python, &self.thread)
    }

    /// Finds out whether the thread runs or what it waits for. What is read after this of a thread
    /// that waits stays true as long as [`ThreadWatch::is_at_rest`].
    pub fn settle(&mut self, scene: &mut Scene<'_>) -> CpuState {
        let runs = self.runs_before();
        let call = self.files.syscall();
        let cpu = self.cpu_state_in(scene, call);
        self.come_to_rest(runs, call, cpu, true);
        cpu
    }

    /// The same for whoever need not know what it waits for: to find out whom a connection leads to takes
    /// milliseconds.
    pub fn settle_unasked(&mut self) {
        let runs = self.runs_before();
        let call = self.files.syscall();
        let cpu = match call {
            SyscallState::Running => CpuState::Running,
            SyscallState::Blocked { .. } | SyscallState::BlockedOutside { .. } => {
                CpuState::Blocked { wait: None }
            }
            SyscallState::Ended | SyscallState::Denied => CpuState::Unknown,
        };
        self.has_ended |= call == SyscallState::Ended;
        self.come_to_rest(runs, call, cpu, false);
    }

    /// How often it has been put on a CPU, read before it is found asleep. A count read earlier makes its
    /// rest end sooner, never later.
    fn runs_before(&mut self) -> Option<u64> {
        self.peeked.take().or_else(|| self.files.runs())
    }

    fn come_to_rest(&mut self, runs: Option<u64>, call: SyscallState, cpu: CpuState, asked: bool) {
        let asleep = matches!(cpu, CpuState::Blocked { .. });
        let rest = |runs| Rest { runs, call, cpu, asked, walked: false, merged: None };
        self.rest = runs.filter(|_| asleep).map(rest);
    }

    /// Whether the thread has slept ever since [`ThreadWatch::settle`] found it asleep.
    pub fn is_at_rest(&mut self) -> bool {
        self.rest.is_some_and(|rest| {
            let runs = self.files.runs();
            let still = runs == Some(rest.runs);
            if !still {
                self.rest = None;
                self.peeked = runs;
            }
            still
        })
    }

    /// What tells the rest that the thread is at from any other: a background sample may have found
    /// it asleep anew, in another call.
    #[must_use]
    pub fn rest_mark(&self) -> Option<u64> {
        self.rest.map(|rest| rest.runs)
    }

    /// The call it was last found asleep in, while it may sleep on.
    #[must_use]
    pub fn found_asleep(&self) -> Option<(SyscallState, CpuState)> {
        self.rest.map(|rest| (rest.call, rest.cpu))
    }

    /// The thread's stack now.
    ///
    /// # Errors
    /// See [`Walker::walk`].
    pub fn walk(&mut self, scene: &mut Scene<'_>) -> Result<RawStack, ReadError> {
        let mut walk = || self.walker.walk(&scene.python, &self.thread);
        match scene.freezer {
            Some(freezer) => freezer.hold(&self.files, self.tid, &mut walk),
            None => walk(),
        }
    }

    /// The id of a stack of this thread; one that equals the last need not be written down again.
    pub fn written(&mut self, scene: &mut Scene<'_>, stack: &RawStack, at: Timestamp) -> StackId {
        if let Some(rest) = &mut self.rest {
            rest.walked = true;
        }
        match &self.known {
            Some((known, id)) if known == stack => *id,
            _ => {
                let (codes, directory) = (&mut *scene.codes, scene.directory);
                let id = scene.notes.stack(&scene.python, codes, directory, stack, at);
                let (python, awaited) = (&scene.python, &mut *scene.awaited);
                if let Some(place) = awaited.meet(python, codes, &stack.frames, Some(self.tid), at)
                {
                    *place = Some(id);
                }
                self.known = Some((stack.clone(), id));
                id
            }
        }
    }

    /// Whether the thread runs, or what it waits for.
    pub fn cpu_state(&mut self, scene: &mut Scene<'_>) -> CpuState {
        self.cpu_state_in(scene, self.files.syscall())
    }

    fn cpu_state_in(&mut self, scene: &mut Scene<'_>, call: SyscallState) -> CpuState {
        match call {
            SyscallState::Running => CpuState::Running,
            state @ SyscallState::Blocked { args: [first, ..], .. } => {
                let at = now();
                if let Some(known) = &self.blocked
                    && known.state == state
                    && at.since(known.at) < SAME_CALL
                {
                    return known.cpu;
                }
                let (procfs, memory) = (scene.procfs, scene.memory);
                let waiting = scene.peers.describe(procfs, memory, scene.pid, &state, at);
                let Some(waiting) = waiting else { return CpuState::Blocked { wait: None } };
                // A futex inside the lock, or anywhere in the runtime's own data, is the
                // interpreter lock's.
                let is_gil = waiting.syscall.starts_with("futex")
                    && (scene.located.runtime_contains(Addr(first))
                        || scene.gil.contains(Addr(first)));
                let cpu = scene.notes.wait(&waiting, is_gil);
                self.blocked = Some(Blocked { state, at, cpu });
                cpu
            }
            SyscallState::BlockedOutside { .. } => CpuState::Blocked { wait: None },
            SyscallState::Ended => {
                self.has_ended = true;
                CpuState::Unknown
            }
            SyscallState::Denied => CpuState::Unknown,
        }
    }

    /// It was looked into for its loop: a background sample that falls due now need not do it again.
    pub fn note_seen(&mut self, at: Timestamp, stack: StackId, cpu: CpuState) {
        self.seen = Some((at, stack, cpu));
    }

    /// Whether it has slept unmoved for so long that the next sample, one look in `stride`, need not be
    /// taken: a later one will stand for it.
    #[must_use]
    pub fn sits_out(&self, stride: u32) -> bool {
        let skipped = self.skipped.saturating_add(stride);
        self.idle >= IDLE_AFTER && skipped < IDLE_STRIDE.saturating_mul(stride)
    }

    /// Samples fell due, and a later look will stand for them.
    pub fn skip(&mut self, samples: u32) {
        self.skipped = self.skipped.saturating_add(samples);
    }

    /// It was met at work: it is idle no longer.
    pub fn stir(&mut self) {
        self.idle = 0;
    }

    /// Takes a background sample. Returns the stack if it is not the one of the last sample, for
    /// whoever looks for loops in it.
    ///
    /// # Errors
    /// Only [`ReadError::Gone`] and [`ReadError::Denied`]; a torn sample is counted and dropped.
    pub fn sample(
        &mut self,
        scene: &mut Scene<'_>,
        round: &Round,
        at: Timestamp,
    ) -> Result<Option<RawStack>, ReadError> {
        let sits_out = self.sits_out(round.stride);
        self.skip(round.stride);
        let holds = scene.gil.state(&round.held, &self.thread, false) == GilState::Holding;
        if sits_out && !holds {
            return Ok(None);
        }
        // What was skipped before it took the interpreter lock stays for a look at which it does not
        // hold it: nobody saw it hold it then.
        let count = if holds { round.stride.min(self.skipped) } else { self.skipped };
        self.skipped -= count;
        if self.is_at_rest()
            && let (Some(Rest { cpu, asked: true, walked: true, .. }), Some((_, stack))) =
                (self.rest, &self.known)
        {
            self.idle = self.idle.saturating_add(1);
            let stack = self.with_native(scene, *stack, at);
            (self.sampled_at, self.free_at) = (at, at);
            self.write_sample(scene, round, at, count, stack, cpu);
            return Ok(None);
        }
        if let Some((when, stack, cpu)) = self.seen.take()
            && at.since(when) < SAME_LOOK
            && scene.notes.natives.wanted != NativeStacks::All
        {
            self.sampled_at = at;
            self.write_sample(scene, round, at, count, stack, cpu);
            return Ok(None);
        }
        let cpu = self.settle(scene);
        let raw = match self.walk(scene) {
            Ok(raw) => raw,
            Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
            Err(_) => {
                scene.notes.losses.torn_reads += 1;
                return Ok(None);
            }
        };
        let fresh = self.known.as_ref().is_none_or(|(known, _)| *known != raw);
        if !fresh {
            self.free_at = at;
        }
        let stack = self.written(scene, &raw, at);
        let asleep = matches!(cpu, CpuState::Blocked { .. });
        self.idle = if asleep && !fresh { self.idle.saturating_add(1) } else { 0 };
        let stack = match cpu {
            CpuState::Running => self.with_running(scene, stack, round.period, fresh, at),
            _ => self.with_native(scene, stack, at),
        };
        self.sampled_at = at;
        self.write_sample(scene, round, at, count, stack, cpu);
        Ok(fresh.then_some(raw))
    }

    /// Where the thread, found running, stands in Python, and whether it stood still there for a
    /// moment: then it is in C code that one instruction has called, or waits for a CPU.
    pub fn stand(&mut self, scene: &Scene<'_>) -> Option<(Stand, bool)> {
        let first = self.walker.stand(&scene.python, &self.thread).ok()?;
        let mut again = || match first.has_values() {
            true => self.walker.stands_still(&scene.python, &self.thread, &first),
            false => self.walker.stand(&scene.python, &self.thread) == Ok(first),
        };
        Some((first, (0..STANDS).all(|_| again())))
    }

    /// What C code the innermost Python frame is in, of a thread just found asleep.
    pub fn sleeping_leaf(&self, scene: &mut Scene<'_>, at: Timestamp) -> Option<StackId> {
        if scene.notes.natives.wanted == NativeStacks::Off || self.rest.is_none() {
            return None;
        }
        NativeStack::of_sleeper(scene, &self.files, at)?.written_leaf(scene)
    }

    /// The same of a thread found running in one call, in which it has been since `since` if that is
    /// known. From now on the thread is sampled for this, every now and then until the next look,
    /// which comes after `next`.
    pub fn running_leaf(
        &mut self,
        scene: &mut Scene<'_>,
        since: Option<Timestamp>,
        at: Timestamp,
        next: Nanos,
    ) -> Option<StackId> {
        if scene.notes.natives.wanted == NativeStacks::Off {
            return None;
        }
        self.runner.switch_on(self.tid, Nanos(next.0 / StackSampler::ROOM));
        self.running_stack(scene, since.unwrap_or(at.before(FRESH)), at)?.written_leaf(scene)
    }

    /// Whether its C stack is being sampled.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.runner.is_on()
    }

    /// Makes ready what [`ThreadWatch::running_leaf`] will need, and samples the thread no more.
    pub fn rest_from_samples(&mut self, scene: &Scene<'_>) {
        match scene.notes.natives.wanted {
            NativeStacks::Off => {}
            // Background samples use it, too.
            NativeStacks::All => self.runner.prepare(self.tid),
            NativeStacks::Stalls => {
                self.runner.prepare(self.tid);
                self.runner.switch_off();
            }
        }
    }

    /// Samples the thread no more.
    pub fn stop_samples(&mut self) {
        self.runner.switch_off();
    }

    fn running_stack(
        &mut self,
        scene: &mut Scene<'_>,
        since: Timestamp,
        at: Timestamp,
    ) -> Option<NativeStack> {
        let sample = self.runner.latest(since)?;
        let link = sample.lr.map(|link| link.0);
        let registers = Registers::running(sample.pc, sample.sp, sample.fp.0, link);
        let stack = StackBytes { base: sample.sp.0, bytes: &sample.bytes };
        Some(NativeStack::of_runner(scene, registers, &stack, at))
    }

    /// The stack just written, with its C frames where they are wanted and the thread sleeps. They
    /// are read once in each of its rests.
    fn with_native(&mut self, scene: &mut Scene<'_>, stack: StackId, at: Timestamp) -> StackId {
        let (Some(rest), Some((raw, _))) = (&mut self.rest, &self.known) else { return stack };
        if scene.notes.natives.wanted != NativeStacks::All {
            return stack;
        }
        if rest.merged.is_none() {
            let native = NativeStack::of_sleeper(scene, &self.files, at);
            let merged = native.and_then(|native| native.written_whole(scene, raw, stack));
            rest.merged = Some(merged.unwrap_or(stack));
        }
        rest.merged.unwrap_or(stack)
    }

    /// The same of a thread that runs, if it has stood at one instruction of Python since the last
    /// sample (it is not `fresh`): what the kernel copied in between is of the call it is in.
    fn with_running(
        &mut self,
        scene: &mut Scene<'_>,
        stack: StackId,
        period: Nanos,
        fresh: bool,
        at: Timestamp,
    ) -> StackId {
        if scene.notes.natives.wanted != NativeStacks::All {
            return stack;
        }
        self.runner.switch_on(self.tid, Nanos(period.0 / SAMPLES_IN_PERIOD));
        let native = if fresh { None } else { self.running_stack(scene, self.sampled_at, at) };
        let Some((raw, _)) = &self.known else { return stack };
        native.and_then(|native| native.written_whole(scene, raw, stack)).unwrap_or(stack)
    }

    fn write_sample(
        &mut self,
        scene: &mut Scene<'_>,
        round: &Round,
        at: Timestamp,
        count: u32,
        stack: StackId,
        cpu: CpuState,
    ) {
        let is_waiting = scene.notes.waits_for_gil(cpu);
        let sample = Sample {
            at,
            pid: scene.pid,
            tid: self.tid,
            stack,
            cpu,
            gil: scene.gil.state(&round.held, &self.thread, is_waiting),
            count,
            weight: Nanos(round.period.0.saturating_mul(u64::from(count))),
        };
        self.last_sample = Some(scene.notes.sample(self.last_sample, sample));
    }
}
