//! Threads that have left their poll and are not back in Python: they wait for the interpreter lock.
//!
//! The loop's own clock says polling all that time. With the kernel's record of edges
//! (`edge_watch.rs`) such a wait is known exactly and only looked into here. Without it, a
//! run of looks that find the thread in some other call than its poll tells, as long as the thread
//! hardly computed meanwhile: one that computed has been round its loop.

use super::gil_watch;
use super::pace::{Pace, now};
use super::thread_watch::{Scene, ThreadWatch};
use crate::event_loop::Reading;
use crate::model::{CpuState, LoopId, LoopPhase, LoopState, SchedTimes, ThreadLook};
use crate::target::SyscallState;
use crate::target::syscalls::is_poll_like;
use crate::units::{Bounds, Nanos, Timestamp};

/// A thread that waits for the interpreter lock wakes every 5 ms to ask for it
/// (`DEFAULT_INTERVAL`, Python/ceval_gil.c), for some 20 µs; a round of a loop takes longer than
/// that by itself. So: at most a fiftieth of the time on a CPU.
const COMPUTED_PART: u64 = 50;

/// What a run of looks without edges has shown.
#[derive(Debug, Default)]
pub(super) struct WakeWatch {
    /// When the loop was last known to be all right.
    fine_at: Option<Timestamp>,
    out: Option<Out>,
}

/// A thread found out of its poll while its loop says polling.
#[derive(Debug, Clone, Copy)]
struct Out {
    since: Bounds<Timestamp>,
    sched: Option<SchedTimes>,
    /// The last look at it that was written down.
    told: Option<Timestamp>,
}

impl WakeWatch {
    /// The thread has slept in its poll ever since the last look, which met it there.
    pub(super) fn still(&mut self, at: Timestamp) {
        if self.out.is_none() {
            self.fine_at = Some(at);
        }
    }

    /// Takes a look at the loop's clock. Returns when to look again, if soon.
    pub(super) fn see(
        &mut self,
        scene: &mut Scene<'_>,
        thread: &mut ThreadWatch,
        pace: &Pace,
        loop_id: LoopId,
        reading: Reading,
        before: Timestamp,
    ) -> Option<Timestamp> {
        let waits = match reading {
            Reading::Polling => match thread.files.syscall() {
                SyscallState::Blocked { nr, .. } => Some(!is_poll_like(nr)),
                // On its way from one to the other: it says nothing either way.
                SyscallState::Running => None,
                _ => Some(false),
            },
            Reading::Running(_) => Some(false),
            Reading::Between(_) | Reading::Moving | Reading::Torn => None,
        };
        let at = now();
        match (waits, self.out) {
            (Some(false), _) => {
                // What it runs now began when the wait was over.
                let over = match reading {
                    Reading::Running(running) => running.began.lo,
                    _ => at,
                };
                self.fine_at = Some(at);
                if let Some(Out { told: Some(told), .. }) = self.out.take()
                    && told < over
                {
                    let state = state(loop_id, over, LoopPhase::Polling);
                    scene.notes.keep(&mut vec![state]);
                }
                None
            }
            (None, None) => None,
            (None, Some(_)) => Some(at + pace.fast(Nanos::ZERO)),
            (Some(true), Some(out)) if has_hardly_computed(thread, out, at) => {
                let (next, state) = look(scene, thread, pace, loop_id, out.since);
                let told = state.as_ref().map(|state| state.at).or(out.told);
                self.out = Some(Out { told, ..out });
                scene.notes.keep(&mut state.into_iter().collect());
                next
            }
            (Some(true), _) => {
                let since = Bounds { lo: self.fine_at.unwrap_or(before).min(before), hi: before };
                self.out = Some(Out { since, sched: thread.files.sched(at), told: None });
                pace.aim(Nanos::ZERO).map(|left| at + left)
            }
        }
    }
}

fn has_hardly_computed(thread: &ThreadWatch, out: Out, at: Timestamp) -> bool {
    let (Some(then), Some(now)) = (out.sched, thread.files.sched(at)) else { return false };
    let computed = now.on_cpu.saturating_sub(then.on_cpu);
    computed.0 <= at.since(out.since.hi).0 / COMPUTED_PART
}

/// Looks into a thread that has been out of its poll since `began`, if that is long enough: when to
/// look again, and the state to write down.
pub(super) fn look(
    scene: &mut Scene<'_>,
    thread: &mut ThreadWatch,
    pace: &Pace,
    loop_id: LoopId,
    began: Bounds<Timestamp>,
) -> (Option<Timestamp>, Option<LoopState>) {
    let before = now();
    let age = before.since(began.hi);
    if age < pace.capture_age {
        return (pace.aim(age).map(|left| before + left), None);
    }
    let cpu = thread.settle(scene);
    let stack = thread.walk(scene).ok().map(|stack| thread.written(scene, &stack, before));
    // Between its poll and Python there is nothing but the wait for the lock, in which it wakes now
    // and then, and may have to wait for a CPU as well.
    let waits = cpu == CpuState::Running || scene.notes.waits_for_gil(cpu);
    let holder = waits.then(|| gil_watch::holder(scene, thread, before)).flatten();
    let look = stack.map(|stack| ThreadLook { holder, ..ThreadLook::bare(stack, cpu) });
    let at = now();
    let state = LoopState {
        window: at.since(before),
        began: Some(began),
        sched: thread.files.sched(at),
        look,
        ..state(loop_id, at, LoopPhase::Leaving)
    };
    (Some(at + pace.recapture(age)), Some(state))
}

fn state(loop_id: LoopId, at: Timestamp, phase: LoopPhase) -> LoopState {
    LoopState {
        major_faults: None,
        loop_id,
        at,
        window: Nanos::ZERO,
        phase,
        began: None,
        callback: None,
        waiting: None,
        sched: None,
        look: None,
    }
}
