//! The stalls a rule speaks of, added up.
//!
//! Takes a recording and its stalls, gives counts, lengths and shares of time, over all and per
//! culprit. What several lines took of one iteration is added up line by line. Stalls the user accepts (`--allow`) never count. Never judges.

use std::collections::BTreeMap;

use super::greenlets::Hub;
use crate::model::origin::{Origin, origin};
use crate::model::{
    Culprit, Frame, FrameId, LoopId, LoopKind, Measured, NameId, Recording, StackId, Stall, Tables,
    WEBSOCKET, WaitId,
};
use crate::units::{Nanos, Pid};

/// Some stalls of a recording, added up.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocked {
    /// Indices of the stalls that they are, or parts of, as in the report.
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
    /// The installed package's line that called the application's code it is in, in the longest of them.
    pub caller: Option<FrameId>,
    /// Whether every one of them served a request whose endpoint is known, none over a WebSocket.
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

    /// The same of all stalls alike that `wanted` picks.
    pub(super) fn sum(
        recording: &Recording,
        stalls: &[Stall],
        wanted: impl Fn(&Stall) -> bool,
    ) -> Option<Blocked> {
        let mut picked = Vec::new();
        let mut max: Option<Nanos> = None;
        let mut per_loop: BTreeMap<LoopId, Nanos> = BTreeMap::new();
        let mut culprits: BTreeMap<FrameId, Blame> = BTreeMap::new();
        let tables = &recording.tables;
        for (index, stall) in stalls.iter().enumerate().filter(|(_, stall)| !stall.allowed) {
            let mut is_picked = false;
            for (part, time) in recording.parts(stall) {
                if !wanted(&part) {
                    continue;
                }
                is_picked = true;
                max = max.max(Some(part.duration()));
                *per_loop.entry(part.loop_id).or_default() += time;
                if let Some(culprit) = &part.culprit {
                    let kind = recording.get_loop(part.loop_id).map(|info| info.kind);
                    let blame = culprits
                        .entry(culprit.frame)
                        .or_insert_with(|| Blame::none_yet(culprit.frame));
                    if part.duration() > blame.max {
                        let stack = part.stack;
                        blame.caller = stack.and_then(|stack| caller(tables, stack, culprit.frame));
                    }
                    blame.in_request &= part.endpoint.is_some_and(|name| is_http(tables, name));
                    blame.add(&part, culprit, kind, time);
                }
            }
            if is_picked {
                picked.push(index);
            }
        }
        let max = max?;
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
    fn none_yet(frame: FrameId) -> Blame {
        Blame {
            frame,
            library: None,
            wait: None,
            releases_gil: None,
            native: [None; 2],
            process: None,
            kind: None,
            caller: None,
            in_request: true,
            count: 0,
            total: Nanos::ZERO,
            max: Nanos::ZERO,
        }
    }

    /// Adds a stall that it is to blame for, which took so much of the recording.
    fn add(&mut self, stall: &Stall, culprit: &Culprit, kind: Option<LoopKind>, time: Nanos) {
        if stall.duration() > self.max {
            (self.library, self.wait) = (culprit.library, culprit.wait);
            self.releases_gil = stall.particulars.releases_gil;
            self.native = [culprit.native, culprit.native_library];
            self.kind = kind;
            self.process = Some(stall.pid);
        }
        self.count += 1;
        self.total += time;
        self.max = self.max.max(stall.duration());
    }

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

/// Whether an endpoint is one of plain requests: what serves a WebSocket has to stay a coroutine.
fn is_http(tables: &Tables, endpoint: NameId) -> bool {
    !tables.text(endpoint).starts_with(WEBSOCKET)
}

/// The nearest frame of an installed package above a line: what called the function, or the one that called that.
fn caller(tables: &Tables, stack: StackId, line: FrameId) -> Option<FrameId> {
    let above = tables.frames_of(stack).skip_while(|(id, _)| *id != line);
    let mut files = above.filter_map(|(id, frame)| Some((id, frame, frame.file?)));
    let is_installed = |(_, frame, file): &(FrameId, &Frame, NameId)| {
        let whose = origin(tables.text(*file), tables.text(frame.function), None);
        matches!(whose, Origin::Package(_))
    };
    files.find(is_installed).map(|(id, ..)| id)
}

/// The time of a stall that is what `wanted` picks: of the line to blame, or of others that took part in it.
#[must_use]
pub fn part(recording: &Recording, stall: &Stall, wanted: impl Fn(&Stall) -> bool) -> Nanos {
    let parts = recording.parts(stall).into_iter();
    parts.filter(|(part, _)| wanted(part)).map(|(_, time)| time).sum()
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
