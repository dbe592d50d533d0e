//! Looks at an event loop: observation only. What they mean is decided in [`crate::stall`].

use serde::{Deserialize, Serialize};

use super::{CpuState, EdgeStatus, GilHolder, LockHolder, NameId, Spin, StackId};
use crate::units::{Bounds, Nanos, Pid, Tid, Timestamp};

/// How the endpoint of a WebSocket begins, `WS /feed`: where that of a request has its method.
pub const WEBSOCKET: &str = "WS ";

/// Index into [`Recording::loops`](super::Recording::loops).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LoopId(pub u32);

/// The family an event loop belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoopKind {
    /// The standard library's, in pure Python (`asyncio/base_events.py`).
    Asyncio,
    /// uvloop's, on libuv.
    Uvloop,
    /// gevent's hub, on libev or libuv.
    Gevent,
    /// eventlet's hub.
    Eventlet,
    /// trio's.
    Trio,
    /// twisted's reactor.
    Twisted,
    /// No loop: a thread that serves one request at a time, whose iteration is a request.
    #[serde(rename = "none")]
    NoLoop,
}

impl LoopKind {
    /// Whether it is a loop, and not a thread that serves one request after the other.
    #[must_use]
    pub fn is_loop(self) -> bool {
        self != LoopKind::NoLoop
    }

    /// Whether something in its memory says when it left its poll, to a few milliseconds at the worst.
    #[must_use]
    pub fn keeps_time(self) -> bool {
        !matches!(self, LoopKind::Eventlet | LoopKind::Twisted)
    }

    /// The name users know it by; also the JSON value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LoopKind::Asyncio => "asyncio",
            LoopKind::Uvloop => "uvloop",
            LoopKind::Gevent => "gevent",
            LoopKind::Eventlet => "eventlet",
            LoopKind::Trio => "trio",
            LoopKind::Twisted => "twisted",
            LoopKind::NoLoop => "none",
        }
    }
}

/// One event loop that was seen during the recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopInfo {
    /// Its id in this recording.
    pub id: LoopId,
    /// The process it runs in.
    pub pid: Pid,
    /// The thread that runs it.
    pub tid: Tid,
    /// Its family.
    pub kind: LoopKind,
    /// When it was found.
    pub first_seen: Timestamp,
    /// When it was last seen to exist.
    pub last_seen: Timestamp,
    /// The counts of all looks at it, also those not kept one by one.
    pub tally: LoopTally,
    /// Whether the kernel recorded when it left its poll and came back.
    #[serde(default, skip_serializing_if = "is_off")]
    pub edges: EdgeStatus,
    /// From when to when it recorded that without a break: no longer time outside the poll can be
    /// missing from [`Recording::gaps`](super::Recording::gaps) there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traced: Option<Bounds<Timestamp>>,
    /// What kept it going round while nobody asked for anything; `None` where it never seemed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spin: Option<Spin>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_off(edges: &EdgeStatus) -> bool {
    *edges == EdgeStatus::Off
}

/// What a loop was doing when we looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoopPhase {
    /// Waiting for events, or taking them in: not blocked.
    Polling,
    /// Between the poll and the next poll: callbacks run.
    Running,
    /// Out of the poll, says the kernel, while the loop's own clock still says polling: its thread
    /// waits for the interpreter lock, most likely.
    Leaving,
    /// The loop ended, its thread or process went away, or a fork took its memory along.
    Gone,
}

/// Which callback of the iteration was running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallbackRun {
    /// Its place in the batch, from 0.
    pub index: u32,
    /// How many callbacks the iteration set out to run.
    pub batch: u32,
}

/// A thread's scheduler clock (`/proc/PID/task/TID/schedstat`, Documentation/scheduler/sched-stats.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct SchedTimes {
    /// When it was read.
    pub at: Timestamp,
    /// Time spent on a CPU since the thread began.
    pub on_cpu: Nanos,
    /// Time spent runnable but waiting for a CPU since the thread began.
    pub run_delay: Nanos,
}

/// What the loop's thread was doing at a look, read once the loop had been busy for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadLook {
    /// Its Python stack, checked to be of the same callback before and after.
    pub stack: StackId,
    /// The C frames that its innermost Python frame had called, where they were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<StackId>,
    /// Whether it ran or slept, and in which call.
    pub cpu: CpuState,
    /// Of a running thread: whether it stood at one and the same instruction of Python, and so was in C
    /// code that the instruction had called, or went on in Python. Where nobody recorded when it had a
    /// CPU, it may also have waited for one; where somebody did and it had none, there is nothing here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_call: Option<bool>,
    /// Of a thread in one call of C code: whether it held the interpreter lock meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_call_with_gil: Option<bool>,
    /// Who held the interpreter lock, if it waited for that and the holder could be told. A thread
    /// that waits for it wakes now and then, so it may be seen running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<GilHolder>,
    /// Who held the lock it waited for, where that lock knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_holder: Option<LockHolder>,
    /// Whether the interpreter's garbage collector was running.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub collecting: bool,
    /// Which generation it collected, 0 to 2; 2 is all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u8>,
    /// Name of the asyncio task it ran, `Task-12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<NameId>,
    /// Qualified name of that task's coroutine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coroutine: Option<NameId>,
    /// The request it served, `GET /sandboxes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<NameId>,
}

impl ThreadLook {
    /// A thread in this stack, of which nothing else is known.
    #[must_use]
    pub fn bare(stack: StackId, cpu: CpuState) -> ThreadLook {
        ThreadLook {
            stack,
            native: None,
            cpu,
            in_call: None,
            in_call_with_gil: None,
            holder: None,
            lock_holder: None,
            collecting: false,
            generation: None,
            task: None,
            coroutine: None,
            endpoint: None,
        }
    }
}

/// One look at one event loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopState {
    /// Which loop.
    pub loop_id: LoopId,
    /// When the look ended: what it shows was true at some moment in `[at - window, at]`.
    pub at: Timestamp,
    /// How long the reads of this look took.
    pub window: Nanos,
    /// What the loop was doing.
    pub phase: LoopPhase,
    /// When the running iteration left its poll, by the loop's own clock; while leaving, by the
    /// kernel's record, or between the looks that saw it in its poll and out of it. It also identifies the iteration: two looks with the same value saw the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Bounds<Timestamp>>,
    /// Which callback ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<CallbackRun>,
    /// Callbacks waiting in the ready queue: who is made to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u32>,
    /// The thread's scheduler clock at this look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sched: Option<SchedTimes>,
    /// Major page faults of the thread so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major_faults: Option<u64>,
    /// What the thread was doing; only on looks past the capture age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look: Option<ThreadLook>,
}

impl LoopState {
    /// Whether `other` shows the same thing at a later time, so that of a run of such states the
    /// first and the last say everything.
    #[must_use]
    pub fn shows_same(&self, other: &LoopState) -> bool {
        self.loop_id == other.loop_id
            && self.phase == other.phase
            && self.began == other.began
            && self.callback == other.callback
            && self.look == other.look
    }
}

/// Number of buckets of [`LoopTally::ages`].
pub const AGE_BUCKETS: usize = 64;

/// Counts over *all* evenly spaced looks at a loop, kept as counts because there are too many to
/// keep whole. The looks are independent of what the loop does, so shares of them are shares of
/// time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopTally {
    /// Evenly spaced looks that saw the loop polling.
    pub polling: u64,
    /// Evenly spaced looks that saw callbacks running.
    pub running: u64,
    /// Evenly spaced looks that could not tell (a frame being pushed or popped, a torn read).
    pub unknown: u64,
    /// Distinct iterations seen running: a lower bound of how many there were.
    pub iterations_seen: u64,
    /// How old the running iteration was, by look: bucket `b` counts ages in
    /// `[bucket_floor(b), bucket_floor(b + 1))`.
    pub ages: Vec<u64>,
}

impl Default for LoopTally {
    fn default() -> LoopTally {
        LoopTally {
            polling: 0,
            running: 0,
            unknown: 0,
            iterations_seen: 0,
            ages: vec![0; AGE_BUCKETS],
        }
    }
}

impl LoopTally {
    /// Age at which the first bucket ends and from which buckets grow by a third of an octave.
    const FIRST: f64 = 20_000.0;

    /// Counts one look at a running iteration of this age.
    pub fn count_running(&mut self, age: Nanos) {
        self.running += 1;
        if let Some(slot) = self.ages.get_mut(bucket_of(age)) {
            *slot += 1;
        }
    }

    /// All looks that could tell.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.polling + self.running
    }

    /// Share of time outside the poll; `None` without a look.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts of looks stay far below 2^53
    pub fn utilization(&self) -> Option<f64> {
        (self.looks() > 0).then(|| self.running as f64 / self.looks() as f64)
    }

    /// The age below which a share `q` of all looks lies, a polling loop counting as age 0.
    ///
    /// This is also the delay an event meets that arrives at a random moment: in a stationary
    /// process the age and the residual life of the running interval have the same distribution
    /// (Cox, *Renewal Theory*, 1962, §5.4).
    #[must_use]
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn lag_quantile(&self, q: f64) -> Option<Nanos> {
        let looks = self.looks();
        if looks == 0 {
            return None;
        }
        let rank = (q.clamp(0.0, 1.0) * looks as f64).ceil() as u64;
        let mut seen = self.polling;
        if rank <= seen {
            return Some(Nanos::ZERO);
        }
        for (bucket, count) in self.ages.iter().enumerate() {
            if rank <= seen + count {
                // Where in the bucket is not known; ages are spread evenly over it.
                let (from, to) = (bucket_floor(bucket).0, bucket_floor(bucket + 1).0);
                let part = (rank - seen) as f64 / *count as f64;
                return Some(Nanos(from + ((to - from) as f64 * part) as u64));
            }
            seen += count;
        }
        Some(bucket_floor(AGE_BUCKETS))
    }
}

/// The age at which bucket `bucket` of [`LoopTally::ages`] begins.
#[must_use]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn bucket_floor(bucket: usize) -> Nanos {
    if bucket == 0 {
        return Nanos::ZERO;
    }
    Nanos((LoopTally::FIRST * 2f64.powf((bucket - 1) as f64 / 3.0)) as u64)
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn bucket_of(age: Nanos) -> usize {
    let age = age.0 as f64;
    if age < LoopTally::FIRST {
        return 0;
    }
    let bucket = 1 + ((age / LoopTally::FIRST).log2() * 3.0) as usize;
    bucket.min(AGE_BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_fall_into_the_bucket_that_spans_them() {
        for age in [0, 1, 19_999, 20_001, 1_000_000, 9_876_543, 2_000_000_000] {
            let bucket = bucket_of(Nanos(age));
            assert!(bucket_floor(bucket).0 <= age + 1, "{age}");
            assert!(age <= bucket_floor(bucket + 1).0 || bucket == AGE_BUCKETS - 1, "{age}");
        }
    }

    #[test]
    fn a_loop_that_mostly_polls_has_no_median_lag() {
        let mut tally = LoopTally { polling: 90, ..LoopTally::default() };
        for _ in 0..10 {
            tally.count_running(Nanos::from_millis(40));
        }
        assert_eq!(tally.lag_quantile(0.5), Some(Nanos::ZERO));
        let p99 = tally.lag_quantile(0.99).unwrap();
        assert!(p99 >= Nanos::from_millis(40) && p99 < Nanos::from_millis(52), "{p99:?}");
        assert_eq!(tally.utilization(), Some(0.1));
    }
}
