//! Whether an iteration was long because one callback was, or because there were many.
//!
//! Takes the callback indices that the states of a stall show, gives the longest run of one
//! callback: as seen while the stack was looked at, and as estimated over the whole stall. Knows
//! nothing of what the callbacks do.

use super::weight::Span;
use crate::model::LoopState;
use crate::units::{Bounds, Nanos, Timestamp};

/// What the callback indices of one iteration tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// How many callbacks were ready at once: no more than these ran.
    pub callbacks: u32,
    /// How long the stall was looked into: from the first look at the thread to the end.
    pub window: Nanos,
    /// The longest run of one callback in that window.
    pub longest_seen: Nanos,
    /// The longest run of one callback over the whole stall, by estimate.
    pub longest_estimated: Nanos,
    /// The longest that any one callback can have run: from the last mark of one before it, or the
    /// stall's start, to the first mark of one after it, or the stall's end.
    pub longest_possible: Nanos,
}

impl Batch {
    /// What `during`, the states of one stall in time order, tell; `None` if no state shows an
    /// index or the batch was of one callback.
    #[must_use]
    pub fn of(span: Span, during: &[&LoopState]) -> Option<Batch> {
        let marks: Vec<(Timestamp, u32)> = during
            .iter()
            .filter_map(|state| Some((span.moment(state), state.callback?.index)))
            .collect();
        let batches = during.iter().filter_map(|state| state.callback).map(|run| run.batch);
        let callbacks = batches.max().filter(|batch| *batch > 1)?;
        let first_look = during.iter().find(|state| state.look.is_some())?;
        let from = span.moment(first_look);
        Some(Batch {
            callbacks,
            window: span.end.since(from),
            longest_seen: longest_seen(Span { start: from, end: span.end }, &marks),
            longest_estimated: longest_estimated(span, &marks),
            longest_possible: longest_possible(span, &marks),
        })
    }
}

/// The longest stretch of the window in which one index was seen, each reaching half-way to its
/// neighbours.
fn longest_seen(window: Span, marks: &[(Timestamp, u32)]) -> Nanos {
    let (mut longest, mut run) = (Nanos::ZERO, Nanos::ZERO);
    let (mut from, mut running) = (window.start, None);
    let inside: Vec<_> = marks.iter().filter(|(at, _)| *at >= window.start).collect();
    for (place, (at, index)) in inside.iter().enumerate() {
        let until = match inside.get(place + 1) {
            Some((next, _)) => Bounds::spanning(*at, *next).middle(),
            None => window.end,
        };
        run = if running == Some(*index) { run } else { Nanos::ZERO };
        run += until.since(from);
        running = Some(*index);
        from = until.max(from);
        longest = longest.max(run);
    }
    longest
}

/// The longest run if every stretch in which the index went from `j` to `k` is shared equally
/// among the callbacks `j + 1 ..= k`. Callback 0 starts with the iteration.
fn longest_estimated(span: Span, marks: &[(Timestamp, u32)]) -> Nanos {
    let (mut longest, mut run) = (Nanos::ZERO, Nanos::ZERO);
    let (mut from, mut running) = (span.start, None::<u32>);
    for (at, index) in marks {
        let stretch = at.since(from);
        let begun = match running {
            None => u64::from(*index) + 1,
            Some(before) => u64::from(index.saturating_sub(before)),
        };
        if begun == 0 {
            run += stretch;
        } else {
            run = stretch.scaled(1, begun);
        }
        longest = longest.max(run);
        (from, running) = (*at, Some(*index));
    }
    // What ran at the last look ran on to the end, as far as anyone saw.
    longest.max(run + span.end.since(from))
}

/// What one that was never seen can have run at most lies within what its neighbours can.
fn longest_possible(span: Span, marks: &[(Timestamp, u32)]) -> Nanos {
    let mut longest = Nanos::ZERO;
    let (mut from, mut before) = (span.start, span.start);
    let mut running = None::<u32>;
    for (at, index) in marks {
        if running.is_some_and(|running| running != *index) {
            longest = longest.max(at.since(from));
            from = before;
        }
        (before, running) = (*at, Some(*index));
    }
    longest.max(span.end.since(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span { start: Timestamp(0), end: Timestamp(100) };

    fn estimated(marks: &[(u64, u32)]) -> u64 {
        let marks: Vec<_> = marks.iter().map(|(at, index)| (Timestamp(*at), *index)).collect();
        longest_estimated(SPAN, &marks).0
    }

    fn seen(marks: &[(u64, u32)]) -> u64 {
        let marks: Vec<_> = marks.iter().map(|(at, index)| (Timestamp(*at), *index)).collect();
        longest_seen(Span { start: Timestamp(80), end: Timestamp(100) }, &marks).0
    }

    #[test]
    fn an_unseen_stretch_is_shared_among_those_that_can_have_run_in_it() {
        assert_eq!(estimated(&[(80, 0), (90, 0)]), 100);
        assert_eq!(estimated(&[(80, 7), (90, 8)]), 20);
        assert_eq!(estimated(&[(5, 4), (80, 4), (90, 5)]), 76);
    }

    #[test]
    fn in_the_window_a_run_reaches_half_way_to_its_neighbours() {
        assert_eq!(seen(&[(10, 0), (80, 4), (90, 4), (96, 5)]), 13);
        assert_eq!(seen(&[(80, 4)]), 20);
    }

    #[test]
    fn no_callback_ran_longer_than_between_the_marks_of_others() {
        let possible = |marks: &[(u64, u32)]| {
            let marks: Vec<_> = marks.iter().map(|(at, index)| (Timestamp(*at), *index)).collect();
            longest_possible(SPAN, &marks).0
        };
        assert_eq!(possible(&[]), 100);
        assert_eq!(possible(&[(80, 3)]), 100);
        assert_eq!(possible(&[(80, 3), (90, 4)]), 90);
        assert_eq!(possible(&[(30, 1), (80, 3), (90, 4)]), 80);
        assert_eq!(possible(&[(30, 1), (40, 2), (60, 3), (80, 4), (90, 5)]), 40);
        assert_eq!(possible(&[(30, 1), (40, 1), (60, 1), (80, 4)]), 80);
    }

    #[test]
    fn indices_that_make_no_sense_do_no_harm() {
        assert_eq!(estimated(&[(80, u32::MAX), (90, 3), (95, u32::MAX)]), 10);
    }
}
