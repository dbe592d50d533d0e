//! The detector: a fold over loop states that knows, per loop, the iteration now running.
//!
//! Takes states in time order (those of different loops may alternate), gives an [`Episode`] for
//! each iteration that lasted at least the threshold. Tolerates states that contradict earlier
//! ones, as a damaged file or a torn read may hold: they are passed over. Never panics, never
//! gives two episodes of one loop that overlap, never concludes why.
//!
//! An iteration is known by its stamp, the moment the loop left its poll. A state with the same
//! stamp shows the same iteration, whatever was read in between: an iteration that has ended
//! cannot be resumed, so a "polling" look inside one was a misreading.

use std::collections::BTreeMap;

use super::Episode;
use crate::model::{Evidence, LoopId, LoopPhase, LoopState};
use crate::units::{Bounds, Nanos, Timestamp};

/// Folds loop states into episodes.
#[derive(Debug, Clone)]
pub struct Detector<'a> {
    threshold: Nanos,
    watched_from: BTreeMap<LoopId, Timestamp>,
    loops: BTreeMap<LoopId, Watch<'a>>,
}

/// What is known of one loop so far.
#[derive(Debug, Clone, Default)]
struct Watch<'a> {
    latest: Option<&'a LoopState>,
    /// The latest iteration seen. It stays here after its end until the next one is seen, whose
    /// stamp may tell the end more closely than the look that found the loop polling.
    period: Option<Period<'a>>,
}

/// One iteration of one loop.
#[derive(Debug, Clone)]
struct Period<'a> {
    began: Bounds<Timestamp>,
    before: Option<&'a LoopState>,
    during: Vec<&'a LoopState>,
    after: Option<&'a LoopState>,
}

impl<'a> Detector<'a> {
    /// A detector of iterations that last `threshold` or longer.
    #[must_use]
    pub fn new(threshold: Nanos) -> Detector<'a> {
        Detector { threshold, watched_from: BTreeMap::new(), loops: BTreeMap::new() }
    }

    /// Says since when a loop's process is observed, to tell episodes that began before.
    pub fn watch_from(&mut self, loop_id: LoopId, attached: Timestamp) {
        self.watched_from.insert(loop_id, attached);
    }

    /// Takes the next state. Gives an episode once the loop's next iteration has been seen.
    pub fn feed(&mut self, state: &'a LoopState) -> Option<Episode<'a>> {
        let watch = self.loops.entry(state.loop_id).or_default();
        if watch.latest.is_some_and(|latest| state.at < latest.at) {
            return None;
        }
        let began = match (state.phase, state.began) {
            (LoopPhase::Polling | LoopPhase::Gone, _) => {
                if let Some(period) = &mut watch.period {
                    period.after.get_or_insert(state);
                }
                watch.latest = Some(state);
                return None;
            }
            // A stamp from the future, or bounds the wrong way round, is no stamp; and without
            // one we cannot tell which iteration is running.
            (LoopPhase::Running, Some(began)) if began.lo <= began.hi && began.lo <= state.at => {
                began
            }
            (LoopPhase::Running, _) => return None,
        };
        match &mut watch.period {
            Some(period) if began.lo == period.began.lo => {
                period.after = None;
                period.during.push(state);
                watch.latest = Some(state);
                None
            }
            // The clock is monotonic: an older iteration cannot follow a newer one.
            Some(period) if began.lo < period.began.lo => None,
            _ => {
                let before = watch.latest.replace(state);
                let next = Period { began, before, during: vec![state], after: None };
                let ended = watch.period.replace(next);
                ended.and_then(|period| self.close(period, state.loop_id, Some(state)))
            }
        }
    }

    /// Gives what is still held back when observation ended at `detached`: of each loop its last
    /// iteration, ongoing if no look saw it end.
    #[must_use]
    pub fn finish(mut self, detached: Timestamp) -> Vec<Episode<'a>> {
        let loops = std::mem::take(&mut self.loops);
        let last = loops.into_iter().filter_map(|(id, watch)| Some((id, watch.period?)));
        last.filter_map(|(id, period)| {
            if period.after.is_some() {
                self.close(period, id, None)
            } else {
                self.leave_open(period, id, detached)
            }
        })
        .collect()
    }

    /// Ends an iteration that some look saw ended. `next` shows the loop's next iteration.
    fn close(
        &self,
        mut period: Period<'a>,
        loop_id: LoopId,
        next: Option<&'a LoopState>,
    ) -> Option<Episode<'a>> {
        period.after = period.after.or(next);
        let next_began = next.and_then(|state| state.began).map(|began| began.lo);
        let hi = [period.after.map(|state| state.at), next_began].into_iter().flatten().min()?;
        let lo = period.last_seen()?.min(hi);
        let episode = self.episode(period, loop_id, Bounds { lo, hi }, false)?;
        (episode.length().hi >= self.threshold).then_some(episode)
    }

    /// Keeps an iteration that nobody saw end, if what was seen of it is long enough.
    fn leave_open(
        &self,
        period: Period<'a>,
        loop_id: LoopId,
        detached: Timestamp,
    ) -> Option<Episode<'a>> {
        let lo = period.last_seen()?;
        let ended = Bounds { lo, hi: detached.max(lo) };
        let episode = self.episode(period, loop_id, ended, true)?;
        (episode.length().lo >= self.threshold).then_some(episode)
    }

    fn episode(
        &self,
        period: Period<'a>,
        loop_id: LoopId,
        ended: Bounds<Timestamp>,
        ongoing: bool,
    ) -> Option<Episode<'a>> {
        let watched_from = self.watched_from.get(&loop_id);
        period.is_confirmed().then(|| Episode {
            loop_id,
            began: period.began,
            ended,
            ongoing,
            before_attach: watched_from.is_some_and(|attached| period.began.lo < *attached),
            // The loop's own stamp stood still: the start is exact, and no shorter iteration
            // can have hidden between the looks.
            evidence: Evidence::Counted,
            before: period.before,
            during: period.during,
            after: period.after,
        })
    }
}

impl Period<'_> {
    /// A moment at which it certainly was still running.
    fn last_seen(&self) -> Option<Timestamp> {
        self.during.last().map(|state| state.at.before(state.window).max(self.began.lo))
    }

    /// Whether more than one read vouches for it: a stack that was checked against the stamp, or
    /// the same stamp at two times. A single read of a busy loop's memory can be torn.
    fn is_confirmed(&self) -> bool {
        let first = self.during.first().map(|state| state.at);
        self.during.iter().any(|state| state.look.is_some() || Some(state.at) != first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn state(loop_id: u32, at_ms: u64, phase: LoopPhase, began_ms: Option<u64>) -> LoopState {
        LoopState {
            loop_id: LoopId(loop_id),
            at: Timestamp(at_ms * MS),
            window: Nanos(20_000),
            phase,
            began: began_ms.map(|ms| Bounds::exactly(Timestamp(ms * MS))),
            callback: None,
            waiting: None,
            sched: None,
            look: None,
        }
    }

    fn polling(at_ms: u64) -> LoopState {
        state(0, at_ms, LoopPhase::Polling, None)
    }

    fn running(at_ms: u64, began_ms: u64) -> LoopState {
        state(0, at_ms, LoopPhase::Running, Some(began_ms))
    }

    fn fold(states: &[LoopState], detached_ms: u64) -> Vec<Episode<'_>> {
        let mut detector = Detector::new(Nanos::from_millis(10));
        detector.watch_from(LoopId(0), Timestamp(50 * MS));
        let mut found: Vec<_> = states.iter().filter_map(|state| detector.feed(state)).collect();
        found.extend(detector.finish(Timestamp(detached_ms * MS)));
        found
    }

    #[test]
    fn a_stall_lies_between_its_stamp_and_the_look_that_saw_it_over() {
        let states = [polling(99), running(105, 100), running(119, 100), polling(121)];
        let found = fold(&states, 500);
        let [episode] = &found[..] else { panic!("{found:#?}") };
        assert_eq!(episode.began, Bounds::exactly(Timestamp(100 * MS)));
        let ended = Bounds { lo: Timestamp(119 * MS - 20_000), hi: Timestamp(121 * MS) };
        assert_eq!(episode.ended, ended);
        assert!(!episode.ongoing && !episode.before_attach);
        assert_eq!(episode.before, Some(&states[0]));
        assert_eq!(episode.during, [&states[1], &states[2]]);
        assert_eq!(episode.after, Some(&states[3]));
    }

    #[test]
    fn the_next_stamp_bounds_the_end_more_closely_than_the_look_that_read_it() {
        let found_at = |states: &[LoopState]| fold(states, 500).first().map(|e| e.ended.hi);
        let next = [running(105, 100), running(119, 100), running(125, 120), polling(126)];
        assert_eq!(found_at(&next), Some(Timestamp(120 * MS)));
        // Also when a slow look saw the poll that ended while it was being read.
        let torn = [running(105, 100), running(119, 100), polling(125), running(126, 124)];
        assert_eq!(found_at(&torn), Some(Timestamp(124 * MS)));
    }

    #[test]
    fn a_polling_look_inside_an_iteration_is_a_misreading() {
        let states = [running(105, 100), polling(106), running(119, 100), polling(121)];
        let found = fold(&states, 500);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].ended.hi, Timestamp(121 * MS));
    }

    #[test]
    fn one_read_without_a_stack_is_not_enough() {
        assert_eq!(fold(&[running(119, 100), polling(121)], 500).len(), 0);
    }

    #[test]
    fn a_short_iteration_is_no_stall() {
        assert_eq!(fold(&[running(102, 100), running(108, 100), polling(109)], 500).len(), 0);
    }

    #[test]
    fn what_is_still_running_at_the_end_is_ongoing() {
        let states = [running(105, 100), running(119, 100)];
        let found = fold(&states, 140);
        assert!(found[0].ongoing);
        assert_eq!(found[0].ended.hi, Timestamp(140 * MS));
        // Not certain to have reached the threshold: not reported.
        assert_eq!(fold(&[running(105, 100), running(109, 100)], 140).len(), 0);
    }

    #[test]
    fn a_stall_older_than_the_attach_says_so() {
        let states = [running(51, 20), running(60, 20), polling(61)];
        assert!(fold(&states, 500)[0].before_attach);
    }

    #[test]
    fn loops_do_not_disturb_each_other() {
        let states = [
            running(105, 100),
            state(1, 106, LoopPhase::Polling, None),
            running(119, 100),
            state(1, 120, LoopPhase::Running, Some(119)),
            polling(121),
        ];
        assert_eq!(fold(&states, 500).len(), 1);
    }

    #[test]
    fn impossible_stamps_are_passed_over() {
        let states = [
            running(105, 100),
            running(110, 900), // from the future
            running(112, 40),  // older than what runs
            running(119, 100),
            polling(121),
        ];
        let found = fold(&states, 500);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].during.len(), 2);
    }
}
