//! How much time each look at a thread stands for.
//!
//! Takes the looks inside a stall, gives each the time from half-way to the look before it to
//! half-way to the look after it. Knows times only, never what a look shows but which callback.

use crate::model::{LoopState, Stall, ThreadLook};
use crate::units::{Bounds, Nanos, Timestamp};

/// The stretch of time a stall took, each end at its best single guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When it began.
    pub start: Timestamp,
    /// When it ended, or observation did.
    pub end: Timestamp,
}

impl Span {
    /// The span of a stall, as long as [`Stall::duration`].
    #[must_use]
    pub fn of(stall: &Stall) -> Span {
        let (start, end) = if stall.ongoing {
            (stall.began.lo, stall.ended.hi)
        } else {
            (stall.began.middle(), stall.ended.middle())
        };
        Span { start, end: end.max(start) }
    }

    /// Its length.
    #[must_use]
    pub fn length(self) -> Nanos {
        self.end.since(self.start)
    }

    /// The moment a look shows, kept inside the span.
    #[must_use]
    pub fn moment(self, state: &LoopState) -> Timestamp {
        let shown = Bounds { lo: state.at.before(state.window), hi: state.at };
        shown.middle().clamp(self.start, self.end)
    }
}

/// A look and the time it stands for.
#[derive(Debug, Clone, Copy)]
pub struct Weighed<'a> {
    /// What was seen.
    pub look: &'a ThreadLook,
    /// For how long.
    pub weight: Nanos,
}

/// Weighs the looks among `during`, the states of one stall in time order.
///
/// The first look reaches back to the stall's start, or to half-way to the last earlier state
/// that shows another callback running: what that one did was not seen. The last reaches forward
/// to the stall's end.
#[must_use]
pub fn weigh<'a>(span: Span, during: &[&'a LoopState]) -> Vec<Weighed<'a>> {
    let seen: Vec<(&'a ThreadLook, Timestamp)> = during
        .iter()
        .filter_map(|state| Some((state.look.as_ref()?, span.moment(state))))
        .collect();
    let mut from = first_edge(span, during);
    let mut weighed = Vec::with_capacity(seen.len());
    for (at, (look, moment)) in seen.iter().enumerate() {
        let until = match seen.get(at + 1) {
            Some((_, next)) => Bounds::spanning(*moment, *next).middle(),
            None => span.end,
        };
        weighed.push(Weighed { look, weight: until.since(from) });
        from = until.max(from);
    }
    weighed
}

fn first_edge(span: Span, during: &[&LoopState]) -> Timestamp {
    let Some(first) = during.iter().position(|state| state.look.is_some()) else {
        return span.start;
    };
    let Some(state) = during.get(first) else { return span.start };
    let index = |state: &LoopState| state.callback.map(|callback| callback.index);
    let other = during.get(..first).unwrap_or_default().iter().rev().find(|earlier| {
        index(earlier).is_some() && index(state).is_some() && index(earlier) != index(state)
    });
    other.map_or(span.start, |earlier| {
        Bounds::spanning(span.moment(earlier), span.moment(state)).middle()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CallbackRun, CpuState, LoopId, LoopPhase, StackId};

    fn state(at: u64, callback: u32, stack: Option<u32>) -> LoopState {
        LoopState {
            major_faults: None,
            loop_id: LoopId(0),
            at: Timestamp(at),
            window: Nanos(0),
            phase: LoopPhase::Running,
            began: None,
            callback: Some(CallbackRun { index: callback, batch: 9 }),
            waiting: None,
            sched: None,
            look: stack.map(|stack| ThreadLook::bare(StackId(stack), CpuState::Running)),
        }
    }

    fn weights(states: &[LoopState]) -> Vec<(u32, u64)> {
        let span = Span { start: Timestamp(100), end: Timestamp(200) };
        let states: Vec<&LoopState> = states.iter().collect();
        weigh(span, &states).iter().map(|seen| (seen.look.stack.0, seen.weight.0)).collect()
    }

    #[test]
    fn looks_share_the_stall_between_them() {
        let states = [state(110, 0, None), state(180, 0, Some(1)), state(190, 0, Some(2))];
        assert_eq!(weights(&states), [(1, 85), (2, 15)]);
        assert_eq!(weights(&[state(150, 0, Some(1))]), [(1, 100)]);
        assert_eq!(weights(&[state(110, 0, None)]), []);
    }

    #[test]
    fn a_callback_that_was_seen_over_is_not_the_first_looks() {
        let states = [state(120, 0, None), state(180, 3, Some(1)), state(190, 3, Some(1))];
        assert_eq!(weights(&states), [(1, 35), (1, 15)]);
    }

    #[test]
    fn looks_outside_the_span_weigh_nothing_beyond_it() {
        let states = [state(50, 0, Some(1)), state(150, 0, Some(2)), state(900, 0, Some(3))];
        assert_eq!(weights(&states), [(1, 25), (2, 50), (3, 25)]);
    }
}
