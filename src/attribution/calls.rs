//! A request that holds a thread of its own, taken apart into the calls that held it.
//!
//! A loop's iteration is one stall, as nothing else runs meanwhile. A request holds only its own
//! thread, and what a reader wants to know is which call it waits in: so each stretch in which it
//! was at one call is told by itself (docs/decisions/0011). Takes a long request and its witnesses,
//! gives the stretches that were long. Never blames: what a look means is asked of whoever knows.

use std::ops::Range;

use super::Witnesses;
use super::application::Site;
use crate::model::{
    CpuState, Evidence, Frame, FrameId, LoopState, NameId, Particulars, Peer, StackId, Stall,
    Tables, ThreadLook, WholeRequest,
};
use crate::units::{Bounds, Nanos, Timestamp};

/// The part of a request from which on a stretch of many short calls is told, too: then nothing else
/// can be said of most of its time.
const MOST_OF_IT: (u64, u64) = (1, 2);

/// Where a look met the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    site: Option<Site>,
    /// The function of the line to blame.
    function: Option<(NameId, Option<NameId>)>,
    /// On a CPU, or waiting to be: for one, or for the interpreter lock.
    computes: bool,
    /// The C function it was in for long enough to be seen.
    native: Option<FrameId>,
}

/// Consecutive looks that met the thread at one call.
#[derive(Debug, Clone)]
struct Stretch {
    /// Places among the states.
    states: Range<usize>,
    began: Bounds<Timestamp>,
    ended: Bounds<Timestamp>,
    is_last: bool,
}

impl Stretch {
    fn length(&self) -> Nanos {
        self.ended.middle().since(self.began.middle())
    }

    /// Whether it lasted as long as the threshold, most likely, and half of that for certain: a look
    /// that came late leaves both ends open.
    fn is_long(&self, threshold: Nanos) -> bool {
        let certain = self.ended.lo.since(self.began.hi);
        self.length() >= threshold && certain.scaled(2, 1) >= threshold
    }
}

/// The long calls of a request.
#[must_use]
pub fn apart<'w>(
    tables: &Tables,
    threshold: Nanos,
    stall: Stall,
    witnesses: Witnesses<'w>,
    mut blame: impl FnMut(StackId) -> Option<Site>,
) -> Vec<(Stall, Witnesses<'w>)> {
    let all = stretches(&stall, witnesses.during, |look| place(tables, look, blame(look.stack)));
    if all.len() <= 1 {
        let certain = stall.length().lo;
        let is_long = stall.duration() >= threshold && certain.scaled(2, 1) >= threshold;
        return if is_long { vec![(stall, witnesses)] } else { Vec::new() };
    }
    let whole = stall.duration();
    let mut told = Vec::new();
    let mut short: Option<Stretch> = None;
    let is_most = |stretch: &Stretch| {
        let length = stretch.length();
        stretch.is_long(threshold) && length >= whole.scaled(MOST_OF_IT.0, MOST_OF_IT.1)
    };
    for stretch in all {
        if stretch.is_long(threshold) {
            told.extend(short.take().filter(is_most));
            told.push(stretch);
            continue;
        }
        short = Some(match short.take() {
            None => stretch,
            Some(before) => Stretch {
                states: before.states.start..stretch.states.end,
                began: before.began,
                ended: stretch.ended,
                is_last: stretch.is_last,
            },
        });
    }
    told.extend(short.filter(is_most));
    told.into_iter().map(|stretch| part(&stall, witnesses, &stretch)).collect()
}

/// Cuts a request where it goes from one call to another.
fn stretches(
    stall: &Stall,
    during: &[&LoopState],
    mut place: impl FnMut(&ThreadLook) -> Place,
) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    let mut last: Option<(Place, &LoopState)> = None;
    for (index, state) in during.iter().enumerate() {
        let Some(look) = &state.look else { continue };
        let here = place(look);
        let is_same = last.is_some_and(|(before, _)| before.is_same_call(&here));
        let cut = match last {
            Some((_, before)) if !is_same => {
                Some(Bounds::spanning(before.at.before(before.window), state.at))
            }
            _ => None,
        };
        last = Some((here, state));
        let Some(cut) = cut else { continue };
        match all.last_mut() {
            Some(open) => (open.ended, open.states.end, open.is_last) = (cut, index, false),
            None => all.push(Stretch {
                states: 0..index,
                began: stall.began,
                ended: cut,
                is_last: false,
            }),
        }
        all.push(Stretch {
            states: index..during.len(),
            began: cut,
            ended: stall.ended,
            is_last: true,
        });
    }
    all
}

/// The entry that a stretch of a request is.
fn part<'w>(stall: &Stall, witnesses: Witnesses<'w>, stretch: &Stretch) -> (Stall, Witnesses<'w>) {
    let is_first = stretch.states.start == 0;
    let during = witnesses.during.get(stretch.states.clone()).unwrap_or_default();
    let before = stretch.states.start.checked_sub(1);
    let before = before.and_then(|index| witnesses.during.get(index)).copied();
    let after = witnesses.during.get(stretch.states.end).copied();
    let whole = WholeRequest { began: stall.began, length: stall.duration() };
    let part = Stall {
        particulars: Particulars { request: Some(whole), ..stall.particulars.clone() },
        began: stretch.began,
        ended: stretch.ended,
        ongoing: stall.ongoing && stretch.is_last,
        before_attach: stall.before_attach && is_first,
        evidence: if is_first { stall.evidence } else { Evidence::Sampled },
        ..stall.clone()
    };
    let witnesses = Witnesses {
        gap: None,
        before: if is_first { witnesses.before } else { before },
        during,
        after: if stretch.is_last { witnesses.after } else { after },
    };
    (part, witnesses)
}

fn place(tables: &Tables, look: &ThreadLook, site: Option<Site>) -> Place {
    let frame: Option<&Frame> = site.and_then(|site| tables.get_frame(site.culprit));
    let waits_for_gil =
        |wait| tables.get_wait(wait).is_some_and(|wait| wait.peer == Some(Peer::Gil));
    Place {
        site,
        function: frame.map(|frame| (frame.function, frame.file)),
        computes: match look.cpu {
            CpuState::Running => true,
            CpuState::Blocked { wait } => wait.is_some_and(waits_for_gil),
            CpuState::Unknown => false,
        },
        native: look.native.and_then(|stack| tables.frames_of(stack).next()).map(|(id, _)| id),
    }
}

impl Place {
    /// Whether both are of one call: the same line, or two of a function that computes. Each line that
    /// waits is a call of its own; a computation goes from line to line.
    fn is_same_call(&self, other: &Place) -> bool {
        let line = |place: &Place| place.site.map(|site| (site.is_application, site.culprit));
        if line(self) == line(other) {
            return true;
        }
        // One C function after the other, each of its own line.
        let in_two = self.native.zip(other.native).is_some_and(|(one, two)| one != two);
        self.function == other.function && self.computes && other.computes && !in_two
    }
}
