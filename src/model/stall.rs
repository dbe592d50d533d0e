//! Stalls: what the looks at a loop add up to.

use serde::{Deserialize, Serialize};

use super::{FrameId, LockOwner, LoopId, NameId, StackId, Throttled, WaitId};
use crate::units::{Bounds, Nanos, Pid, Tid, Timestamp};

/// How well a stall's length is known, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// From looks alone: each end is known to the distance between two looks.
    Sampled,
    /// From the loop's own clock, which did not move: the start is exact.
    Counted,
    /// From the kernel's record of both ends.
    Traced,
}

/// Why the loop stood still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A callback slept in a system call.
    BlockingCall,
    /// A callback computed, in Python or in C code it called.
    Cpu,
    /// A callback computed in C code that we can name.
    CCall,
    /// Another thread held the interpreter lock.
    GilWait,
    /// The collector ran.
    Gc,
    /// The thread was ready and got no CPU: not the application's doing.
    CpuStarved,
    /// Memory was not there and had to be fetched.
    PageFault,
    /// No callback was long; there were many.
    ManyCallbacks,
    /// Seen, but not seen into.
    Unknown,
}

impl Cause {
    /// The JSON value of this cause.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Cause::BlockingCall => "blocking_call",
            Cause::Cpu => "cpu",
            Cause::CCall => "c_call",
            Cause::GilWait => "gil_wait",
            Cause::Gc => "gc",
            Cause::CpuStarved => "cpu_starved",
            Cause::PageFault => "page_fault",
            Cause::ManyCallbacks => "many_callbacks",
            Cause::Unknown => "unknown",
        }
    }
}

/// Where a stall's time went. The three need not add up to its length: they are read at looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeSplit {
    /// On a CPU.
    pub on_cpu: Nanos,
    /// Asleep in the kernel.
    pub off_cpu: Nanos,
    /// Ready, waiting for a CPU.
    pub run_delay: Nanos,
}

/// The place a reader must change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Culprit {
    /// The deepest application frame of the looks inside the stall, weighted by time.
    pub frame: FrameId,
    /// The thread it ran in: the loop's own, or the one that held the interpreter lock.
    pub tid: Tid,
    /// The system call most of its time was spent in.
    pub wait: Option<WaitId>,
    /// Who held the lock it waited for, where that lock knows.
    #[serde(default)]
    pub lock_owner: Option<LockOwner>,
    /// The deepest frame below it that belongs to a library: who made the call.
    pub library: Option<FrameId>,
    /// The C function it was in: the innermost one whose name says something.
    #[serde(default)]
    pub native: Option<FrameId>,
    /// The function of a C library that was called to do it, where one was.
    #[serde(default)]
    pub native_library: Option<FrameId>,
    /// Its share of the stall's observed time, 0 to 1.
    pub share: f64,
}

/// One loop iteration that lasted at least the threshold; where requests have threads of their own,
/// one call of a request's that did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stall {
    /// The loop that stood still, or the thread that was held.
    pub loop_id: LoopId,
    /// It is no loop's: one request held a thread of its own.
    #[serde(default)]
    pub occupies: bool,
    /// Its process.
    pub pid: Pid,
    /// Its thread.
    pub tid: Tid,
    /// When it began.
    pub began: Bounds<Timestamp>,
    /// When it ended; of a stall still going on, the last look (`lo`) and the end of observation.
    pub ended: Bounds<Timestamp>,
    /// It had not ended when observation did.
    pub ongoing: bool,
    /// It had begun before observation did.
    pub before_attach: bool,
    /// How well its length is known.
    pub evidence: Evidence,
    /// Why the loop stood still.
    pub cause: Cause,
    /// Where its time went.
    pub split: TimeSplit,
    /// How many callbacks of the iteration were seen, at least 1.
    pub callbacks: u32,
    /// The longest ready queue seen during it: who was made to wait.
    pub waiting_callbacks: Option<u32>,
    /// The asyncio task that ran longest.
    pub task: Option<NameId>,
    /// That task's coroutine.
    pub coroutine: Option<NameId>,
    /// The request it served.
    pub endpoint: Option<NameId>,
    /// Who to blame; `None` where no one is to blame.
    pub culprit: Option<Culprit>,
    /// The culprit's stack.
    pub stack: Option<StackId>,
    /// The C frames that the innermost Python frame of that stack had called.
    #[serde(default)]
    pub native: Option<StackId>,
    /// What else is known of its cause.
    #[serde(default)]
    pub particulars: Particulars,
    /// An `--allow` pattern accepts it: listed apart, not gated.
    #[serde(default)]
    pub allowed: bool,
}

/// What is known of a stall's cause beyond its kind, where it is of a kind that has more to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Particulars {
    /// What a spent CPU quota took of it.
    pub throttled: Option<Throttled>,
    /// Major page faults of the loop's thread in it and until the looks around it, where counted.
    pub major_faults: Option<u64>,
    /// Of a call of C code: whether it let go of the interpreter lock, so that a thread would do.
    pub releases_gil: Option<bool>,
    /// The generation that was collected, for most of the time: 0 to 2, where 2 is all objects.
    pub generation: Option<u8>,
    /// Callbacks its iteration set out to run, where no callback was long.
    pub batch: Option<u32>,
    /// What ran in it, where no callback was long: the largest shares first.
    pub contributors: Vec<Contributor>,
    /// How its time was shared among the lines of the application that took part in it.
    #[serde(default)]
    pub lines: Vec<LineTime>,
    /// Lines that took enough of it for a stall of their own, beside the culprit; in the order in which they were met.
    #[serde(default)]
    pub others: Vec<OtherLine>,
    /// Of a loop's that goes on: when its server last counted a request in it. One iteration of a hub may serve many.
    #[serde(default)]
    pub served: Option<Timestamp>,
    /// Of one call of a request that had several: the whole request.
    #[serde(default)]
    pub request: Option<WholeRequest>,
}

/// A line of the application that took enough of a loop's stall for one of its own, beside the culprit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OtherLine {
    /// The line and what it led to, with its share of the stall's observed time.
    pub culprit: Culprit,
    /// Why it took its time.
    pub cause: Cause,
    /// Of a call of C code: whether it let go of the interpreter lock.
    pub releases_gil: Option<bool>,
    /// The request it served.
    pub endpoint: Option<NameId>,
    /// How many calls of it that was, at least.
    pub calls: u32,
    /// The time they took together.
    pub time: Nanos,
}

/// A request that held a thread of its own, as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholeRequest {
    /// When it began; the same of all its calls.
    pub began: Bounds<Timestamp>,
    /// For how long it held its thread.
    pub length: Nanos,
}

/// What one line of the application took of a stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineTime {
    /// The line.
    pub frame: FrameId,
    /// How many calls of it that was, at least.
    pub calls: u32,
    /// The time its looks stand for.
    pub time: Nanos,
}

/// What was met in an iteration of many callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Contributor {
    /// The coroutine of the task that ran, or the function of a callback without one.
    pub name: NameId,
    /// Its line, of the first look that met it.
    pub frame: Option<FrameId>,
    /// Its share of the time looked into, 0 to 1.
    pub share: f64,
}

impl Stall {
    /// The length the evidence supports: `lo` is certain, `hi` is possible.
    #[must_use]
    pub fn length(&self) -> Bounds<Nanos> {
        Bounds { lo: self.ended.lo.since(self.began.hi), hi: self.ended.hi.since(self.began.lo) }
    }

    /// What its other lines took, each as a stall of its own that ended with it.
    pub fn others(&self) -> impl Iterator<Item = Stall> {
        let end = if self.ongoing { self.ended.hi } else { self.ended.middle() };
        self.particulars.others.iter().map(move |other| Stall {
            began: Bounds::exactly(end.before(other.time)),
            ended: Bounds::exactly(end),
            ongoing: false,
            cause: other.cause,
            endpoint: other.endpoint,
            culprit: Some(other.culprit.clone()),
            particulars: Particulars { releases_gil: other.releases_gil, ..Particulars::default() },
            ..self.clone()
        })
    }

    /// For how long its thread was kept from everything else: of a request's call, by the whole request.
    #[must_use]
    pub fn held(&self) -> Nanos {
        self.particulars.request.map_or_else(|| self.duration(), |request| request.length)
    }

    /// The best single figure for its length.
    #[must_use]
    pub fn duration(&self) -> Nanos {
        if self.ongoing {
            return self.length().hi;
        }
        self.ended.middle().since(self.began.middle())
    }
}
