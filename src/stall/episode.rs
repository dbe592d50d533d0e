//! An episode: one loop iteration that lasted too long, with the looks that witnessed it.
//!
//! Knows when it began and ended and how far each is certain. Borrows the states it rests on, so
//! that whoever explains it reads the very looks that found it. Never holds an explanation.

use crate::model::{
    Cause, Evidence, Gap, LoopId, LoopInfo, LoopState, Particulars, Stall, TimeSplit,
};
use crate::units::{Bounds, Nanos, Timestamp};

/// One iteration of one loop that lasted at least the threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode<'a> {
    /// The loop.
    pub loop_id: LoopId,
    /// When it left its poll, by the kernel's record or its own clock.
    pub began: Bounds<Timestamp>,
    /// When it came back to its poll; of an ongoing episode, the last look (`lo`) and the end of
    /// observation (`hi`).
    pub ended: Bounds<Timestamp>,
    /// It had not ended when observation did.
    pub ongoing: bool,
    /// It had begun before observation did.
    pub before_attach: bool,
    /// How well its length is known.
    pub evidence: Evidence,
    /// The kernel's record of it, if there is one.
    pub gap: Option<&'a Gap>,
    /// The last state of the loop before it: where its scheduler clock stood.
    pub before: Option<&'a LoopState>,
    /// The states that show it, in time order; at least one unless the kernel recorded it.
    pub during: Vec<&'a LoopState>,
    /// The first state that shows it over.
    pub after: Option<&'a LoopState>,
}

impl Episode<'_> {
    /// Its length: `lo` is certain, `hi` is possible.
    #[must_use]
    pub fn length(&self) -> Bounds<Nanos> {
        Bounds { lo: self.ended.lo.since(self.began.hi), hi: self.ended.hi.since(self.began.lo) }
    }

    /// The stall it is, before anyone has asked why: no cause, no culprit.
    #[must_use]
    pub fn to_stall(&self, info: &LoopInfo) -> Stall {
        // Callbacks run in order of their index, so the highest one seen tells how many had begun.
        let last_callback = self.during.iter().filter_map(|state| state.callback).map(|c| c.index);
        Stall {
            loop_id: self.loop_id,
            occupies: !info.kind.is_loop(),
            pid: info.pid,
            tid: info.tid,
            began: self.began,
            ended: self.ended,
            ongoing: self.ongoing,
            before_attach: self.before_attach,
            evidence: self.evidence,
            cause: Cause::Unknown,
            split: TimeSplit::default(),
            callbacks: last_callback.max().map_or(1, |index| index.saturating_add(1)),
            waiting_callbacks: self.during.iter().filter_map(|state| state.waiting).max(),
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
}
