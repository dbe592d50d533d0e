//! Which looks at a loop are worth keeping: those of long iterations, and the looks around them.
//!
//! Of each iteration that reached the capture age: the last look before it, the first look at it,
//! all looks past the capture age in which something changed, and the first look after it. Of a run
//! of looks that show the same, the first and the last.

use crate::model::{LoopPhase, LoopState};

/// Thins one loop's looks.
#[derive(Debug, Default)]
pub struct Keeper {
    /// The last look that belongs to no iteration, or to one that is over.
    before: Option<Held>,
    /// The first look at the running iteration.
    first: Option<Held>,
    /// The look that began the present run of like looks; set once the iteration is being kept.
    run: Option<LoopState>,
    /// The latest look of that run, if it is not the first.
    pending: Option<LoopState>,
}

/// A look held back, or remembered though it has been given up already.
#[derive(Debug)]
struct Held {
    state: LoopState,
    kept: bool,
}

impl Held {
    fn give(&mut self, kept: &mut Vec<LoopState>) {
        if !self.kept {
            self.kept = true;
            kept.push(self.state.clone());
        }
    }
}

impl Keeper {
    /// Takes a look; `keep` says that its iteration has reached the capture age. Looks worth
    /// keeping go to `kept`.
    pub fn see(&mut self, state: LoopState, keep: bool, kept: &mut Vec<LoopState>) {
        let running = state.phase == LoopPhase::Running;
        let continues =
            running && self.first.as_ref().is_some_and(|first| first.state.began == state.began);
        if !continues {
            let closes = self.run.take().is_some();
            kept.extend(self.pending.take());
            let mut held = Held { state: state.clone(), kept: false };
            if closes {
                held.give(kept);
            }
            if running {
                self.before = self.first.take().or(self.before.take());
                self.first = Some(held);
            } else {
                self.before = Some(held);
                self.first = None;
            }
        }
        if running && (keep || self.run.is_some()) {
            self.add(state, kept);
        }
    }

    /// Gives up what is still held back; for the end of the recording.
    pub fn finish(&mut self, kept: &mut Vec<LoopState>) {
        kept.extend(self.pending.take());
    }

    fn add(&mut self, state: LoopState, kept: &mut Vec<LoopState>) {
        match &self.run {
            Some(run) if run.shows_same(&state) => {
                self.pending = Some(state);
                return;
            }
            // Looked at, but not into: it only says that the iteration went on.
            Some(run) if state.look.is_none() && run.callback == state.callback => {
                kept.extend(self.pending.take().filter(|pending| pending.look.is_some()));
                self.pending = Some(state);
                return;
            }
            Some(_) => {
                let says_more = |pending: &LoopState| pending.look.is_some();
                self.pending = self.pending.take().filter(says_more);
            }
            None => {
                for held in [&mut self.before, &mut self.first].into_iter().flatten() {
                    held.give(kept);
                }
            }
        }
        kept.extend(self.pending.take());
        if self.first.as_ref().is_none_or(|first| first.state != state) {
            kept.push(state.clone());
        }
        self.run = Some(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LoopId;
    use crate::units::{Bounds, Nanos, Timestamp};

    fn polling(at: u64) -> LoopState {
        LoopState {
            major_faults: None,
            loop_id: LoopId(0),
            at: Timestamp(at),
            window: Nanos(1),
            phase: LoopPhase::Polling,
            began: None,
            callback: None,
            waiting: None,
            sched: None,
            look: None,
        }
    }

    fn running(at: u64, began: u64) -> LoopState {
        LoopState {
            phase: LoopPhase::Running,
            began: Some(Bounds::exactly(Timestamp(began))),
            ..polling(at)
        }
    }

    fn kept(looks: Vec<(LoopState, bool)>) -> Vec<u64> {
        let (mut keeper, mut kept) = (Keeper::default(), Vec::new());
        for (state, keep) in looks {
            keeper.see(state, keep, &mut kept);
        }
        keeper.finish(&mut kept);
        kept.iter().map(|state| state.at.0).collect()
    }

    #[test]
    fn short_iterations_are_not_kept() {
        let looks = vec![(polling(1), false), (running(2, 2), false), (running(4, 3), false)];
        assert!(kept(looks).is_empty());
    }

    #[test]
    fn a_long_one_is_kept_with_the_looks_around_it_and_thinned() {
        let looks = vec![
            (polling(1), false),
            (polling(2), false),
            (running(3, 3), false),
            (running(10, 3), true),
            (running(11, 3), true),
            (running(12, 3), true),
            (polling(13), false),
            (polling(14), false),
        ];
        assert_eq!(kept(looks), [2, 3, 10, 12, 13]);
    }

    #[test]
    fn the_look_between_two_long_ones_is_kept_once() {
        let looks = vec![
            (running(10, 1), true),
            (running(20, 15), true),
            (running(21, 15), true),
            (polling(30), false),
        ];
        assert_eq!(kept(looks), [10, 20, 21, 30]);
    }

    #[test]
    fn one_still_running_at_the_end_is_kept() {
        let looks = vec![(polling(1), false), (running(10, 2), true), (running(11, 2), true)];
        assert_eq!(kept(looks), [1, 10, 11]);
    }
}
