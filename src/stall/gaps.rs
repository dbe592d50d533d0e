//! The kernel's record of a recording's loops, ready to be asked: which time outside the poll a
//! moment lies in, and whether one can be missing.
//!
//! Gaps of one loop that overlap, or end before they begin, can only come from a damaged file: the
//! later one is passed over.

use std::collections::BTreeMap;

use crate::model::{Gap, LoopId, Recording};
use crate::units::{Bounds, Nanos, Timestamp};

/// A loop's own stamp is a float of seconds, made after the poll was left: it may read this much
/// too early.
const STAMP_STEP: Nanos = Nanos::from_micros(1);

/// The gaps of every loop.
#[derive(Debug, Clone, Default)]
pub struct Gaps<'a> {
    loops: BTreeMap<LoopId, Vec<&'a Gap>>,
    whole: BTreeMap<LoopId, Bounds<Timestamp>>,
}

impl<'a> Gaps<'a> {
    /// Those of a recording.
    #[must_use]
    pub fn of(recording: &'a Recording) -> Gaps<'a> {
        let traced = recording.loops.iter().filter_map(|info| Some((info.id, info.traced?)));
        Gaps::new(&recording.gaps, traced)
    }

    /// These gaps; of the loops in `whole` none is missing in that time.
    #[must_use]
    pub fn new(
        gaps: &'a [Gap],
        whole: impl IntoIterator<Item = (LoopId, Bounds<Timestamp>)>,
    ) -> Gaps<'a> {
        let mut loops: BTreeMap<LoopId, Vec<&Gap>> = BTreeMap::new();
        let mut sorted: Vec<&Gap> = gaps.iter().collect();
        sorted.sort_by_key(|gap| (gap.left, gap.entered));
        for gap in sorted {
            let before = loops.entry(gap.loop_id).or_default();
            let follows = before.last().is_none_or(|last| last.entered <= gap.left);
            if follows && gap.left <= gap.entered {
                before.push(gap);
            }
        }
        Gaps { loops, whole: whole.into_iter().collect() }
    }

    /// The gap that an iteration stamped `began` belongs to.
    #[must_use]
    pub fn at(&self, loop_id: LoopId, began: Timestamp) -> Option<&'a Gap> {
        let gaps = self.loops.get(&loop_id)?;
        let moment = began + STAMP_STEP;
        let after = gaps.partition_point(|gap| gap.left <= moment);
        let gap = gaps.get(after.checked_sub(1)?)?;
        (began <= gap.entered).then_some(*gap)
    }

    /// Whether every gap worth keeping that touches `[from, until]` is known.
    #[must_use]
    pub fn are_whole(&self, loop_id: LoopId, from: Timestamp, until: Timestamp) -> bool {
        self.whole.get(&loop_id).is_some_and(|known| known.lo <= from && until <= known.hi)
    }

    /// All of them, loop by loop, in time order.
    pub fn all(&self) -> impl Iterator<Item = &'a Gap> {
        self.loops.values().flatten().copied()
    }

    /// How far apart the kernel's edge and another view of the same moment may lie.
    #[must_use]
    pub fn step() -> Nanos {
        STAMP_STEP
    }
}
