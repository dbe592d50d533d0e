//! One event loop under observation: looks at its clock, and a closer look when an iteration ages.

use super::account::Account;
use super::edge_watch::{EdgeWatch, Rest};
use super::gil_watch;
use super::held_thread::HeldThread;
use super::keeper::Keeper;
use super::lock_watch::lock_holder;
use super::notes::Notes;
use super::pace::{Jitter, Pace, now};
use super::standing::Standing;
use super::thread_watch::{Scene, ThreadWatch};
use crate::event_loop::{Clock, Reading, Running};
use crate::model::{
    CallbackRun, CpuState, LoopId, LoopPhase, LoopState, SchedTimes, StackId, ThreadLook,
};
use crate::python::frames::Fingerprint;
use crate::python::gc::{generation, is_collecting};
use crate::server::endpoint;
use crate::target::syscalls::is_poll_like;
use crate::target::{ReadError, SyscallState};
use crate::units::{Addr, Bounds, Nanos, Tid, Timestamp};

/// So many looks in a row that miss the loop's frame mean that it may be gone. A busy loop's frame
/// is missed in up to 3 % of looks, between two iterations (measured on a loop of 10 µs rounds).
const MISSES: u32 = 3;

/// One loop under observation, or a thread that serves requests without one: its iterations are
/// requests.
#[derive(Debug)]
pub struct LoopWatch {
    /// Its id in the recording.
    pub id: LoopId,
    /// The thread that runs it.
    pub tid: Tid,
    /// Its clock.
    pub clock: Box<dyn Clock>,
    /// The kernel's record of it.
    pub edges: EdgeWatch,
    /// What is done otherwise for a thread that serves requests.
    pub requests: Option<HeldThread>,
    next_base: Timestamp,
    next_fast: Option<Timestamp>,
    jitter: Jitter,
    keeper: Keeper,
    /// The iteration last seen running.
    iteration: Option<Bounds<Timestamp>>,
    /// A stamp inherited through fork: it is the parent's iteration, not this process's.
    inherited: Option<Timestamp>,
    captured: Option<Captured>,
    /// What was read of the loop after its thread was found asleep, and the mark of that rest: true
    /// while it sleeps on.
    resting: Option<(Reading, u64)>,
    /// The mark of the rest that the thread was at before the last reading of its clock.
    asleep_before: Option<u64>,
    account: Account,
    misses: u32,
}

/// How often it is asked who holds the lock that a thread sleeps at: the holder runs, and its stack
/// may be torn when it is read.
const HOLDER_TRIES: u8 = 4;

#[derive(Debug)]
struct Captured {
    identity: [Addr; 3],
    print: Fingerprint,
    /// When the thread was last looked into.
    at: Timestamp,
    /// When it was last asked who holds the interpreter lock.
    held_at: Timestamp,
    callback: Option<CallbackRun>,
    waiting: Option<u32>,
    sched: Option<SchedTimes>,
    faults: Option<u64>,
    look: ThreadLook,
    standing: Standing,
    /// Its C stack has only begun to be sampled.
    awaits_sample: bool,
    /// How often it was asked who holds the lock it sleeps at.
    asked: u8,
}

/// What a look at a loop led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Watching,
    /// The loop's frame is not where it was: its thread's stack should be walked.
    Missing,
}

impl LoopWatch {
    /// Begins to watch a loop. With `inherited`, a stamp that does not change belongs to the
    /// process this one was forked from.
    #[must_use]
    pub fn new(id: LoopId, tid: Tid, clock: Box<dyn Clock>, start: Timestamp) -> LoopWatch {
        LoopWatch {
            id,
            tid,
            clock,
            edges: EdgeWatch::new(id),
            requests: None,
            next_base: start,
            next_fast: None,
            jitter: Jitter::new(start),
            keeper: Keeper::default(),
            iteration: None,
            inherited: None,
            captured: None,
            resting: None,
            asleep_before: None,
            account: Account::default(),
            misses: 0,
        }
    }

    /// The same for a thread that serves requests without a loop.
    #[must_use]
    pub fn of_requests(id: LoopId, tid: Tid, clock: Box<dyn Clock>, start: Timestamp) -> LoopWatch {
        let requests = Some(HeldThread::default());
        LoopWatch { requests, ..LoopWatch::new(id, tid, clock, start) }
    }

    /// Whether an iteration was running at the last look.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.iteration.is_some()
    }

    /// Ignores iterations that began before `born`, when this process was forked: memory then shows
    /// the parent's.
    pub fn ignore_before(&mut self, born: Timestamp) {
        self.inherited = Some(born);
    }

    /// When to look next.
    #[must_use]
    pub fn due(&self) -> Timestamp {
        self.next_fast.map_or(self.next_base, |fast| fast.min(self.next_base))
    }

    /// Whether to look now, being awake.
    #[must_use]
    pub fn is_due(&self, at: Timestamp, pace: &Pace) -> bool {
        let fast = self.next_fast.is_some_and(|fast| at >= fast);
        fast || self.is_base_due(at, pace)
    }

    /// Whether it is time for an evenly spaced look.
    #[must_use]
    pub fn is_base_due(&self, at: Timestamp, pace: &Pace) -> bool {
        Pace::is_due(at, self.next_base, pace.base(self.edges.is_on()))
    }

    /// Whether its iteration is old enough to be looked into.
    #[must_use]
    pub fn is_looked_into(&self) -> bool {
        self.iteration.is_some() && self.captured.is_some()
    }

    /// The iteration that goes on, if it was looked into: since when, and what was seen last.
    #[must_use]
    pub fn ongoing(&self) -> Option<(Timestamp, StackId)> {
        Some((self.iteration?.middle(), self.captured.as_ref()?.look.stack))
    }

    /// Looks at the loop. The caller has seen that it is due.
    ///
    /// # Errors
    /// Only [`ReadError::Gone`] and [`ReadError::Denied`].
    pub fn look(
        &mut self,
        scene: &mut Scene<'_>,
        thread: &mut ThreadWatch,
        pace: &Pace,
    ) -> Result<Outcome, ReadError> {
        let before = now();
        let rested = self.rested(scene, thread, before);
        let reading = match rested {
            Some(reading) => {
                self.clock.still(before);
                reading
            }
            None => {
                (self.resting, self.asleep_before) = (None, None);
                if self.requests.is_some() || self.may_come_to_rest() {
                    // What is read after a thread was found asleep holds while it sleeps.
                    thread.settle_unasked();
                    self.asleep_before = thread.rest_mark();
                }
                self.clock.look(&thread.view(scene, before))?
            }
        };
        let at = now();
        self.next_fast = None;
        let window = at.since(before);
        let seen = reading;
        let (again, reading) = match (&self.requests, rested) {
            (Some(_), _) => (None, reading),
            (None, Some(Reading::Polling)) => {
                self.edges.still(at);
                (None, reading)
            }
            (None, _) => {
                let again = self.edges.see(scene, thread, pace, reading, before);
                (again, self.edges.refined(reading, before))
            }
        };
        if self.is_base_due(at, pace) {
            self.count(scene, counted(seen, reading), pace, at);
        }
        match reading {
            Reading::Polling if self.requests.is_some() => {
                self.iteration = None;
                self.captured = None;
                self.look_at_idle(scene, thread, rested.is_some(), at, window);
            }
            Reading::Polling => {
                self.misses = 0;
                if rested.is_none() || thread.is_sampled() {
                    thread.rest_from_samples(scene);
                }
                if rested.is_none() {
                    self.come_to_rest(thread);
                }
                self.iteration = None;
                self.next_fast = again;
                let mut state = self.state(LoopPhase::Polling, at, window);
                // The baseline of the next stall, and the account of the last.
                (state.sched, state.major_faults) = self.account.of(thread, rested.is_some(), at);
                self.keep(scene, state, false);
            }
            Reading::Running(running) if self.is_inherited(running.began) => {}
            Reading::Running(running) => {
                self.misses = 0;
                thread.stir();
                return self.look_closer(scene, thread, pace, (running, seen), at, window);
            }
            // Refined to one of the others.
            Reading::Between(_) => {}
            Reading::Torn => {
                scene.notes.losses.torn_reads += 1;
                self.look_again_soon(pace, at);
            }
            Reading::Moving => {
                self.misses += 1;
                self.look_again_soon(pace, at);
                if self.misses >= MISSES {
                    self.misses = 0;
                    return Ok(Outcome::Missing);
                }
            }
        }
        Ok(Outcome::Watching)
    }

    /// What a look would show, if that is known without one: the thread has slept ever since the last, or
    /// sleeps in its poll again.
    fn rested(
        &mut self,
        scene: &mut Scene<'_>,
        thread: &mut ThreadWatch,
        at: Timestamp,
    ) -> Option<Reading> {
        if self.requests.is_none() {
            let rest = self.edges.rest(scene.notes, at);
            let is_known = rest != Rest::None && self.clock.sleeps_in_poll(at);
            if is_known || rest == Rest::Still {
                self.account.is_stale |= rest == Rest::Again;
                return Some(Reading::Polling);
            }
        }
        let (reading, mark) = self.resting?;
        (thread.is_at_rest() && thread.rest_mark() == Some(mark)).then_some(reading)
    }

    /// Whether to find out before a look if the thread sleeps, so that the next looks may be spared:
    /// where no record of the kernel's tells, and the loop was not seen running.
    fn may_come_to_rest(&self) -> bool {
        self.edges.is_off() && self.iteration.is_none()
    }

    /// The loop polls: where its thread was asleep before that was read, and in a poll, it is so until
    /// the thread is put on a CPU.
    fn come_to_rest(&mut self, thread: &ThreadWatch) {
        let is_in_poll = |(call, _): (SyscallState, CpuState)| match call {
            SyscallState::Blocked { nr, .. } => is_poll_like(nr),
            _ => false,
        };
        if self.may_come_to_rest() && thread.found_asleep().is_some_and(is_in_poll) {
            self.resting = thread.rest_mark().map(|mark| (Reading::Polling, mark));
        }
    }

    /// A thread that serves requests waits for one. There may be many such threads.
    fn look_at_idle(
        &mut self,
        scene: &mut Scene<'_>,
        thread: &mut ThreadWatch,
        is_rested: bool,
        at: Timestamp,
        window: Nanos,
    ) {
        if !is_rested {
            self.resting = thread.rest_mark().map(|mark| (Reading::Polling, mark));
        }
        if thread.is_sampled() {
            thread.rest_from_samples(scene);
        }
        let mut state = self.state(LoopPhase::Polling, at, window);
        (state.sched, state.major_faults) = self.account.of(thread, is_rested, at);
        self.keep(scene, state, false);
    }

    /// The loop is gone: says so in the recording.
    pub fn end(&mut self, scene: &mut Scene<'_>, at: Timestamp) {
        self.edges.finish(scene.notes);
        let state = self.state(LoopPhase::Gone, at, Nanos::ZERO);
        let mut kept = Vec::new();
        self.keeper.see(state, false, &mut kept);
        self.keeper.finish(&mut kept);
        scene.notes.keep(&mut kept);
    }

    /// The recording ends while the loop goes on.
    pub fn finish(&mut self, notes: &mut Notes) {
        self.edges.finish(notes);
        let mut kept = Vec::new();
        self.keeper.finish(&mut kept);
        notes.keep(&mut kept);
    }

    fn is_inherited(&self, began: Bounds<Timestamp>) -> bool {
        self.inherited.is_some_and(|born| began.lo < born)
    }

    /// A look in the midst of an iteration that could not be read is worth repeating at once: the
    /// loop may be long in it already.
    fn look_again_soon(&mut self, pace: &Pace, at: Timestamp) {
        self.next_fast = Some(at + pace.fast(Nanos::ZERO));
    }

    /// Counts an evenly spaced look and sets the next.
    fn count(&mut self, scene: &mut Scene<'_>, reading: Reading, pace: &Pace, at: Timestamp) {
        let late = at.since(self.next_base);
        let base = pace.base(self.edges.is_on());
        scene.notes.losses.late_ticks += late.0 / base.0.max(1);
        // Where the kernel records its edges, some are farther apart than the others.
        self.next_base = match base > pace.base(false) && self.requests.is_none() {
            true => at + self.jitter.apply(base),
            false => pace.tick,
        };
        scene.notes.saw_loop(self.id, at);
        let new_iteration = match reading {
            Reading::Running(running) => self.iteration != Some(running.began),
            _ => false,
        };
        let Some(tally) = scene.notes.tally(self.id) else { return };
        match reading {
            Reading::Running(running) if self.is_inherited(running.began) => {}
            Reading::Polling => tally.polling += 1,
            Reading::Running(running) => {
                tally.count_running(at.since(running.began.middle()));
                tally.iterations_seen += u64::from(new_iteration);
            }
            Reading::Between(running) if running.is_anyhow() => tally.count_running(Nanos::ZERO),
            Reading::Between(_) | Reading::Moving | Reading::Torn => tally.unknown += 1,
        }
    }

    fn look_closer(
        &mut self,
        scene: &mut Scene<'_>,
        thread: &mut ThreadWatch,
        pace: &Pace,
        (running, seen): (Running, Reading),
        at: Timestamp,
        window: Nanos,
    ) -> Result<Outcome, ReadError> {
        let is_new = self.iteration != Some(running.began);
        if is_new {
            self.iteration = Some(running.began);
            self.captured = None;
            if let Some(requests) = &mut self.requests {
                requests.moved(at);
            }
        }
        // What may be as old as that is looked at as if it were.
        let age = at.since(running.began.lo);
        let mut state = self.state(LoopPhase::Running, at, window);
        state.began = Some(running.began);
        if age < pace.capture_age {
            if self.requests.is_none() || thread.is_sampled() {
                thread.rest_from_samples(scene);
            }
            self.next_fast = pace.aim(age).map(|left| at + left);
            if self.requests.is_some() && self.resting.is_none() {
                self.resting = self.asleep_before.map(|mark| (seen, mark));
            }
            if is_new {
                state.callback = self.clock.callback(&thread.view(scene, at), &running);
                (state.sched, state.major_faults) = thread.account(at);
            }
            self.keep(scene, state, false);
            return Ok(Outcome::Watching);
        }
        // A request calls one thing after the other: how long it has been at one counts.
        let age = self.requests.as_ref().map_or(age, |requests| age.min(requests.still_for(at)));
        match self.capture(scene, thread, pace, (running, seen), age)? {
            Capture::Look => {
                if let Some(last) = &self.captured {
                    state.look = Some(last.look.clone());
                    state.waiting = last.waiting;
                    state.sched = last.sched;
                    state.major_faults = last.faults;
                }
            }
            Capture::NotNow => {}
            // The iteration moved on under the look. What its clock said before is still true.
            Capture::Moved => {
                state.callback = self.clock.callback(&thread.view(scene, at), &running);
                scene.notes.losses.torn_reads += 1;
                self.look_again_soon(pace, at);
                self.keep(scene, state, true);
                return Ok(Outcome::Watching);
            }
            // The loop's frame is only a memory.
            Capture::Stale => return Ok(Outcome::Missing),
        }
        state.callback = match &self.captured {
            Some(last) if last.identity == running.identity => last.callback,
            _ => self.clock.callback(&thread.view(scene, at), &running),
        };
        // Where the kernel tells the end, only the stacks in between are looked for.
        let next_stack = self.until_next_stack(pace, age);
        let wait = if self.edges.is_on() {
            next_stack
        } else {
            let is_request = self.requests.is_some();
            let fast = if is_request { pace.fast_of_requests(age) } else { pace.fast(age) };
            fast.min(next_stack)
        };
        self.next_fast = Some(at + wait);
        self.keep(scene, state, true);
        Ok(Outcome::Watching)
    }

    /// Distance of two stacks of an iteration of this age: shorter where sampling has only begun.
    fn until_next_stack(&self, pace: &Pace, age: Nanos) -> Nanos {
        match &self.captured {
            Some(Captured { awaits_sample: true, .. }) => pace.first_sample(),
            _ => pace.recapture(age),
        }
    }

    /// Reads what the thread does, and proves that it was one moment: the loop's clock shows the
    /// same callback before and after. `seen` is what it showed, `running` that with the kernel's
    /// word for when the iteration began.
    fn capture(
        &mut self,
        scene: &mut Scene<'_>,
        thread: &mut ThreadWatch,
        pace: &Pace,
        (running, seen): (Running, Reading),
        age: Nanos,
    ) -> Result<Capture, ReadError> {
        let at = now();
        if self.resting.is_some()
            && let Some(last) = &mut self.captured
            && last.identity == running.identity
        {
            // Asleep ever since: all that was read holds, and the scheduler's account stood still.
            last.at = at;
            last.sched = last.sched.map(|sched| SchedTimes { at, ..sched });
            if at.since(last.held_at) >= pace.recapture(age) {
                // The lock it waits for may have gone from one thread to another.
                last.held_at = at;
                let waits = scene.notes.waits_for_gil(last.look.cpu);
                last.look.holder = waits.then(|| gil_watch::holder(scene, thread, at)).flatten();
            }
            if last.look.lock_holder.is_none() && last.asked < HOLDER_TRIES {
                last.asked += 1;
                last.look.lock_holder = lock_holder(scene, thread, at);
            }
            return Ok(Capture::Look);
        }
        let wait = self.until_next_stack(pace, age);
        if let Some(last) = &self.captured
            && at.since(last.at) < wait
        {
            let early = self.requests.is_some() && at.since(last.at) >= pace.recapture(Nanos::ZERO);
            if !early || thread.fingerprint(scene).is_ok_and(|print| print == last.print) {
                return Ok(Capture::NotNow);
            }
        }
        // In this order: what is read after a thread was found asleep holds while it sleeps.
        let cpu = thread.settle(scene);
        // Asleep ever since before the clock was read: the stack that it walked is this one.
        let slept = self.asleep_before.is_some() && self.asleep_before == thread.rest_mark();
        let walked = self.clock.walked().filter(|_| slept).cloned();
        let print = match &walked {
            Some((_, print)) => *print,
            None => match thread.fingerprint(scene) {
                Ok(print) => print,
                Err(_) => return Ok(Capture::Moved),
            },
        };
        let sched = thread.files.sched(at);
        let last = self.captured.as_ref().map(|last| last.standing);
        let standing = if cpu == CpuState::Running {
            Standing::of(scene, thread, &mut self.edges, sched, last)
        } else {
            Standing::default()
        };
        if cpu == CpuState::Running
            && let Some(last) = &mut self.captured
            && last.identity == running.identity
            && last.print == print
        {
            last.look.cpu = cpu;
            last.awaits_sample = false;
            last.look.in_call = standing.in_call;
            last.look.in_call_with_gil = with_gil(scene, thread, standing.in_call);
            last.look.native = if last.look.in_call == Some(true) {
                thread.running_leaf(scene, Some(last.at), at, pace.recapture(age))
            } else {
                None
            };
            // It wakes now and then to ask for the lock, and on a busy machine is ready for long
            // before it can: having waited in the same place, it waits until it holds the lock.
            let waited = last.look.holder.is_some();
            last.look.holder = waited.then(|| gil_watch::holder(scene, thread, at)).flatten();
            last.look.lock_holder = None;
            (last.look.collecting, last.look.generation) = collection(scene, thread);
            last.at = at;
            last.waiting = self.clock.waiting(&thread.view(scene, at));
            last.sched = sched;
            last.standing = standing;
            last.faults = thread.files.major_faults();
            thread.note_seen(at, last.look.stack, cpu);
            return Ok(Capture::Look);
        }
        let stack = match walked.map_or_else(|| thread.walk(scene), |(stack, _)| Ok(stack)) {
            Ok(stack) => stack,
            Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
            Err(_) => return Ok(Capture::Moved),
        };
        if !self.clock.is_on(&stack) {
            return Ok(Capture::Stale);
        }
        let callback = self.clock.callback(&thread.view(scene, at), &running);
        // A request's stack may not have told its endpoint when it had only begun.
        let untold = |last: &Captured| self.requests.is_some() && last.look.endpoint.is_none();
        let known = self.captured.take().filter(|last| last.identity == running.identity);
        let known = known.filter(|last| !untold(last));
        let (task, coroutine, endpoint) = match known {
            Some(Captured { look, .. }) => (look.task, look.coroutine, look.endpoint),
            None => {
                let names = self.clock.task(&thread.view(scene, at), &running);
                let endpoint = endpoint(&scene.python, scene.codes, &stack, at);
                let mut intern =
                    |text: Option<String>| text.map(|text| scene.notes.tables.name(&text));
                (intern(names.task), intern(names.coroutine), intern(endpoint))
            }
        };
        let stack = thread.written(scene, &stack, at);
        if let Some(requests) = &mut self.requests {
            requests.stands(stack, at);
        }
        let is_asleep = matches!(cpu, CpuState::Blocked { .. });
        let in_call = standing.in_call;
        let in_call_with_gil = with_gil(scene, thread, in_call);
        let native = if is_asleep {
            thread.sleeping_leaf(scene, at)
        } else if in_call == Some(true) {
            thread.running_leaf(scene, None, at, pace.recapture(age))
        } else {
            None
        };
        let waits = scene.notes.waits_for_gil(cpu);
        let holder = waits.then(|| gil_watch::holder(scene, thread, at)).flatten();
        let lock_holder = is_asleep.then(|| lock_holder(scene, thread, at)).flatten();
        let waiting = self.clock.waiting(&thread.view(scene, at));
        let (collecting, generation) = collection(scene, thread);
        // Asleep ever since before the clock was read, it need not be read again.
        let mark = self.asleep_before.filter(|_| is_asleep);
        let slept_on = mark.is_some() && mark == thread.rest_mark() && thread.is_at_rest();
        if !slept_on && self.clock.look(&thread.view(scene, now()))? != seen {
            return Ok(Capture::Moved);
        }
        if is_asleep {
            self.resting = thread.rest_mark().map(|mark| (seen, mark));
        }
        let look = ThreadLook {
            stack,
            native,
            cpu,
            in_call,
            in_call_with_gil,
            holder,
            lock_holder,
            collecting,
            generation,
            task,
            coroutine,
            endpoint,
        };
        thread.note_seen(at, stack, cpu);
        let identity = running.identity;
        let awaits_sample = in_call == Some(true) && native.is_none() && thread.is_sampled();
        self.captured = Some(Captured {
            identity,
            print,
            at,
            held_at: at,
            callback,
            waiting,
            sched,
            faults: thread.files.major_faults(),
            look,
            standing,
            awaits_sample,
            asked: 1,
        });
        Ok(Capture::Look)
    }

    fn state(&self, phase: LoopPhase, at: Timestamp, window: Nanos) -> LoopState {
        LoopState {
            loop_id: self.id,
            at,
            window,
            phase,
            began: None,
            callback: None,
            waiting: None,
            sched: None,
            major_faults: None,
            look: None,
        }
    }

    fn keep(&mut self, scene: &mut Scene<'_>, state: LoopState, old: bool) {
        let mut kept = Vec::new();
        self.keeper.see(state, old, &mut kept);
        scene.notes.keep(&mut kept);
    }
}

/// What a look counts as: a loop that was seen awake, though nobody knows since when, is busy.
fn counted(seen: Reading, refined: Reading) -> Reading {
    match (seen, refined) {
        (Reading::Between(running), Reading::Polling) if running.is_anyhow() => seen,
        _ => refined,
    }
}

/// Whether a thread in a call of C code holds the interpreter lock.
fn with_gil(scene: &Scene<'_>, thread: &ThreadWatch, in_call: Option<bool>) -> Option<bool> {
    if in_call == Some(true) { gil_watch::is_holding(scene, thread) } else { None }
}

/// Whether the collector runs, and at which generation.
fn collection(scene: &Scene<'_>, thread: &ThreadWatch) -> (bool, Option<u8>) {
    let interpreter = thread.thread.interpreter;
    let collecting = is_collecting(&scene.python, interpreter);
    (collecting, collecting.then(|| generation(&scene.python, interpreter)).flatten())
}

enum Capture {
    /// Taken, or the last one still holds: see `captured`.
    Look,
    /// Changed, but too soon after the last one.
    NotNow,
    Moved,
    Stale,
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a tree of its own
mod tests;
