//! The stalls a rule speaks of, added up.
//!
//! Takes a recording and its stalls, gives counts, lengths and shares of time, over all and per
//! culprit. Stalls the user accepts (`--allow`) never count. Never judges.

use std::collections::BTreeMap;

use super::greenlets::Hub;
use crate::model::{FrameId, LoopId, LoopKind, Measured, Recording, Stall, WaitId};
use crate::units::{Nanos, Pid};

/// Some stalls of a recording, added up.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocked {
    /// Indices of the stalls, as in the report.
    pub stalls: Vec<usize>,
    /// The share of the recording that the most blocked loop spent in them, 0 to 1.
    pub share: f64,
    /// The longest.
    pub max: Nanos,
    /// Loops they struck.
    pub loops: usize,
    /// The lines to blame, the costliest first.
    pub culprits: Vec<Blame>,
}

/// The part one line has in some stalls.
#[derive(Debug, Clone, PartialEq)]
pub struct Blame {
    /// The line.
    pub frame: FrameId,
    /// The library below it, in the longest of them.
    pub library: Option<FrameId>,
    /// The wait of the longest of them.
    pub wait: Option<WaitId>,
    /// Whether the longest of them did without the interpreter lock, of C code that computed.
    pub releases_gil: Option<bool>,
    /// The C frame it was in, and the one that the library called, in the longest of them.
    pub native: [Option<FrameId>; 2],
    /// The process of the longest of them.
    pub process: Option<Pid>,
    /// The loop that the longest of them blocked.
    pub kind: Option<LoopKind>,
    /// Whether every one of them served a request whose endpoint is known.
    pub in_request: bool,
    /// How many.
    pub count: usize,
    /// The time they took of the recording, over all loops.
    pub total: Nanos,
    /// The longest.
    pub max: Nanos,
}

impl Blocked {
    /// Adds up the stalls of loops that `wanted` picks among those not allowed; `None` if there are
    /// none.
    #[must_use]
    pub fn of(
        recording: &Recording,
        stalls: &[Stall],
        wanted: impl Fn(&Stall) -> bool,
    ) -> Option<Blocked> {
        Blocked::sum(recording, stalls, |stall| !stall.occupies && wanted(stall))
    }

    /// The same of threads that requests held, one thread each.
    #[must_use]
    pub fn of_threads(recording: &Recording, stalls: &[Stall]) -> Option<Blocked> {
        Blocked::sum(recording, stalls, |stall| stall.occupies)
    }

    fn sum(
        recording: &Recording,
        stalls: &[Stall],
        wanted: impl Fn(&Stall) -> bool,
    ) -> Option<Blocked> {
        let mut picked = Vec::new();
        let mut per_loop: BTreeMap<LoopId, Nanos> = BTreeMap::new();
        let mut culprits: BTreeMap<FrameId, Blame> = BTreeMap::new();
        for (index, stall) in stalls.iter().enumerate() {
            if stall.allowed || !wanted(stall) {
                continue;
            }
            let time = recording.observed(stall);
            picked.push(index);
            *per_loop.entry(stall.loop_id).or_default() += time;
            if let Some(culprit) = &stall.culprit {
                let blame = culprits.entry(culprit.frame).or_insert(Blame {
                    frame: culprit.frame,
                    library: None,
                    wait: None,
                    releases_gil: None,
                    native: [None; 2],
                    process: None,
                    kind: None,
                    in_request: true,
                    count: 0,
                    total: Nanos::ZERO,
                    max: Nanos::ZERO,
                });
                if stall.duration() > blame.max {
                    (blame.library, blame.wait) = (culprit.library, culprit.wait);
                    blame.releases_gil = stall.particulars.releases_gil;
                    blame.native = [culprit.native, culprit.native_library];
                    let info = recording.loops.iter().find(|info| info.id == stall.loop_id);
                    blame.kind = info.map(|info| info.kind);
                    blame.process = info.map(|info| info.pid);
                }
                blame.in_request &= stall.endpoint.is_some();
                blame.count += 1;
                blame.total += time;
                blame.max = blame.max.max(stall.duration());
            }
        }
        let longest = picked.iter().filter_map(|index| stalls.get(*index)).map(Stall::duration);
        let max = longest.max()?;
        let mut culprits: Vec<Blame> = culprits.into_values().collect();
        culprits.sort_by(|a, b| b.total.cmp(&a.total).then(a.frame.cmp(&b.frame)));
        let worst = per_loop.values().copied().max().unwrap_or_default();
        Some(Blocked {
            stalls: picked,
            share: worst.share_of(recording.length()).min(1.0),
            max,
            loops: per_loop.len(),
            culprits,
        })
    }

    /// The figures a finding rests on.
    #[must_use]
    pub fn measured(&self) -> Vec<Measured> {
        vec![ratio("blocked_share", self.share), count("stalls", self.stalls.len()), max(self.max)]
    }
}

impl Blame {
    /// The hub of greenlets that the longest of them blocked, if it was one.
    #[must_use]
    pub fn hub(&self) -> Option<&'static Hub> {
        self.kind.and_then(Hub::of)
    }

    /// The figures a recommendation about this line rests on.
    #[must_use]
    pub fn measured(&self, recording: &Recording) -> Vec<Measured> {
        vec![
            ratio("blocked_share", self.total.share_of(recording.length())),
            count("stalls", self.count),
            max(self.max),
        ]
    }
}

/// A share, 0 to 1.
#[must_use]
pub fn ratio(name: &str, value: f64) -> Measured {
    Measured::new(name, value, "ratio")
}

/// A number of things.
#[must_use]
#[allow(clippy::cast_precision_loss)] // counts stay far below 2^53
pub fn count(name: &str, value: usize) -> Measured {
    Measured::new(name, value as f64, "count")
}

fn max(value: Nanos) -> Measured {
    Measured::new("longest_stall", value.as_secs_f64(), "s")
}
