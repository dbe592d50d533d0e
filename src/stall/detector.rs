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
//!
//! Where the kernel recorded a time outside the poll ([`Gap`]), all stamps in it are of one
//! iteration, and its ends are the iteration's. Two stamps of the loop's own in it refute it. A gap
//! that no state tells of is an episode too, if a look vouched for it.

use std::collections::{BTreeMap, BTreeSet};

use super::Episode;
use super::gaps::Gaps;
use crate::model::{Evidence, Gap, LoopId, LoopPhase, LoopState};
use crate::units::{Bounds, Nanos, Timestamp};

/// A beginning known no better than this was not stamped by any clock: it lies between two looks. The
/// coarsest clock of a loop, libuv's, steps by 1 ms.
const COARSE: Nanos = Nanos::from_millis(2);

/// Folds loop states into episodes.
#[derive(Debug, Clone)]
pub struct Detector<'a> {
    threshold: Nanos,
    watched_from: BTreeMap<LoopId, Timestamp>,
    /// Loops that keep no time of their polls.
    timeless: BTreeSet<LoopId>,
    loops: BTreeMap<LoopId, Watch<'a>>,
    gaps: Gaps<'a>,
    /// Gaps that are spoken for, by where they begin: told as an episode, or refuted.
    settled: BTreeSet<(LoopId, Timestamp)>,
    /// Episodes that rest on the loop's own clock, which gaps must not overlap.
    counted: BTreeMap<LoopId, Vec<Bounds<Timestamp>>>,
    disagreements: u64,
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
    /// It did not begin before this, as the kernel tells.
    earliest: Timestamp,
    gap: Option<&'a Gap>,
    before: Option<&'a LoopState>,
    during: Vec<&'a LoopState>,
    after: Option<&'a LoopState>,
}

impl<'a> Detector<'a> {
    /// A detector of iterations that last `threshold` or longer.
    #[must_use]
    pub fn new(threshold: Nanos) -> Detector<'a> {
        Detector {
            threshold,
            watched_from: BTreeMap::new(),
            timeless: BTreeSet::new(),
            loops: BTreeMap::new(),
            gaps: Gaps::default(),
            settled: BTreeSet::new(),
            counted: BTreeMap::new(),
            disagreements: 0,
        }
    }

    /// Uses the kernel's record, where there is one.
    #[must_use]
    pub fn with_gaps(mut self, gaps: Gaps<'a>) -> Detector<'a> {
        self.gaps = gaps;
        self
    }

    /// Says since when a loop's process is observed, to tell episodes that began before.
    pub fn watch_from(&mut self, loop_id: LoopId, attached: Timestamp) {
        self.watched_from.insert(loop_id, attached);
    }

    /// Says that a loop keeps no time of its polls: what only looks tell of it counts as far as it is
    /// certain, since those just outside may have met other iterations.
    pub fn doubt(&mut self, loop_id: LoopId) {
        self.timeless.insert(loop_id);
    }

    /// Takes the next state. Gives an episode once the loop's next iteration has been seen.
    pub fn feed(&mut self, state: &'a LoopState) -> Option<Episode<'a>> {
        let mut gap = state.began.and_then(|began| {
            // A coarse stamp may be earlier than the poll's end. It was out of it when it was seen.
            let seen = state.at.before(state.window);
            self.open_gap(state.loop_id, began.hi.min(seen).max(began.lo))
        });
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
            (LoopPhase::Running | LoopPhase::Leaving, Some(began))
                if began.lo <= began.hi && began.lo <= state.at =>
            {
                began
            }
            (LoopPhase::Running | LoopPhase::Leaving, _) => return None,
        };
        if let (Some(one), Some(period)) = (gap, &mut watch.period)
            && period.gap == Some(one)
            && period.is_refuted_by(state)
        {
            self.settled.insert((state.loop_id, one.left));
            self.disagreements = self.disagreements.saturating_add(1);
            period.gap = None;
            gap = None;
        }
        match &mut watch.period {
            Some(period) if began.lo == period.began.lo || (gap.is_some() && gap == period.gap) => {
                period.after = None;
                period.during.push(state);
                watch.latest = Some(state);
                None
            }
            // The clock is monotonic: an older iteration cannot follow a newer one.
            Some(period) if began.lo < period.began.lo => None,
            _ => {
                let before = watch.latest.replace(state);
                let next = Period {
                    began,
                    earliest: began.lo,
                    gap,
                    before,
                    during: vec![state],
                    after: None,
                };
                let ended = watch.period.replace(next);
                ended.and_then(|period| self.close(period, state.loop_id, Some(state)))
            }
        }
    }

    /// Gives what is still held back when observation ended at `detached`: of each loop its last
    /// iteration, ongoing if no look saw it end.
    #[must_use]
    pub fn finish(self, detached: Timestamp) -> Vec<Episode<'a>> {
        self.finish_and_count(detached).0
    }

    /// The same, and how many stalls the loops' clocks and the kernel's record tell differently.
    #[must_use]
    pub fn finish_and_count(mut self, detached: Timestamp) -> (Vec<Episode<'a>>, u64) {
        let loops = std::mem::take(&mut self.loops);
        let last = loops.into_iter().filter_map(|(id, watch)| Some((id, watch.period?)));
        let mut found = Vec::new();
        for (id, period) in last {
            found.extend(
                if period.after.is_some() || period.gap.is_some_and(|gap| period.fits(gap, None)) {
                    self.close(period, id, None)
                } else {
                    self.leave_open(period, id, detached)
                },
            );
        }
        found.extend(self.untold());
        (found, self.disagreements)
    }

    /// Long gaps that no state belongs to: the looks came late, or only found the thread out of its
    /// poll.
    fn untold(&mut self) -> Vec<Episode<'a>> {
        let mut found = Vec::new();
        for gap in self.gaps.all() {
            let long = gap.length() >= self.threshold && gap.is_trusted();
            if !long || self.settled.contains(&(gap.loop_id, gap.left)) {
                continue;
            }
            let counted = self.counted.get(&gap.loop_id).into_iter().flatten();
            if { counted }.any(|other| gap.left < other.hi && other.lo < gap.entered) {
                self.disagreements = self.disagreements.saturating_add(1);
                continue;
            }
            found.push(self.traced(gap, None));
        }
        found
    }

    /// Ends an iteration that some look saw ended. `next` shows the loop's next iteration.
    fn close(
        &mut self,
        mut period: Period<'a>,
        loop_id: LoopId,
        next: Option<&'a LoopState>,
    ) -> Option<Episode<'a>> {
        period.after = period.after.or(next);
        let next_began = next.and_then(|state| state.began);
        if let Some(gap) = period.gap {
            self.settled.insert((loop_id, gap.left));
            if period.fits(gap, next_began.map(|began| began.hi)) {
                self.follow(loop_id, gap.entered);
                return (gap.length() >= self.threshold).then(|| self.traced(gap, Some(period)));
            }
            self.disagreements = self.disagreements.saturating_add(1);
        }
        // It was over before the next one left the poll.
        let next_began = next_began.map(|began| began.lo);
        let next_gap = next_began.and_then(|began| self.open_gap(loop_id, began));
        let next_left = next_gap.map(|gap| gap.left).filter(|left| *left >= period.began.hi);
        let ends = [period.after.map(|state| state.at), next_began, next_left];
        let hi = ends.into_iter().flatten().min()?;
        let lo = period.last_seen()?.min(hi);
        let only_clock = period.gap.is_none() && self.gaps.are_whole(loop_id, period.began.lo, hi);
        let certain = lo.since(period.began.hi) >= self.threshold;
        if only_clock && !certain {
            // The kernel missed nothing, and saw no such time outside the poll.
            return None;
        }
        // Between two looks that found the thread out of its poll it may have been in it.
        let doubtful = period.is_leaving() || self.timeless.contains(&loop_id);
        let episode = self.episode(period, loop_id, Bounds { lo, hi }, false)?;
        let least = if doubtful { episode.length().lo } else { episode.length().hi };
        if least < self.threshold {
            return None;
        }
        self.disagreements = self.disagreements.saturating_add(u64::from(only_clock));
        let extent = Bounds { lo: episode.began.lo, hi: episode.ended.hi };
        self.counted.entry(loop_id).or_default().push(extent);
        Some(episode)
    }

    /// The iteration that was seen last left its poll after the one before had come back to it.
    fn follow(&mut self, loop_id: LoopId, entered: Timestamp) {
        if let Some(next) = self.loops.get_mut(&loop_id).and_then(|watch| watch.period.as_mut()) {
            next.earliest = entered;
        }
    }

    /// The episode that a gap is.
    fn traced(&self, gap: &'a Gap, period: Option<Period<'a>>) -> Episode<'a> {
        let (before, during, after) = match period {
            Some(period) => (period.before, period.during, period.after),
            None => (None, Vec::new(), None),
        };
        Episode {
            loop_id: gap.loop_id,
            began: Bounds::exactly(gap.left),
            ended: Bounds::exactly(gap.entered),
            ongoing: false,
            before_attach: self.is_before_attach(gap.loop_id, gap.left),
            evidence: Evidence::Traced,
            gap: Some(gap),
            before,
            during,
            after,
        }
    }

    /// The gap that an iteration stamped `began` belongs to, unless it is spoken for.
    fn open_gap(&self, loop_id: LoopId, began: Timestamp) -> Option<&'a Gap> {
        let gap = self.gaps.at(loop_id, began)?;
        (!self.settled.contains(&(loop_id, gap.left))).then_some(gap)
    }

    fn is_before_attach(&self, loop_id: LoopId, began: Timestamp) -> bool {
        self.watched_from.get(&loop_id).is_some_and(|attached| began < *attached)
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
        // The loop's own stamp stood still: the start is exact, and no shorter iteration can have
        // hidden between the looks. Without a stamp, one can.
        let coarse = period.began.hi.since(period.began.lo) > COARSE;
        let is_sampled = coarse || period.is_leaving();
        let evidence = if is_sampled { Evidence::Sampled } else { Evidence::Counted };
        let Bounds { lo, hi } = period.began;
        period.is_confirmed().then(|| Episode {
            loop_id,
            began: Bounds { lo: lo.max(period.earliest).min(hi), hi },
            ended,
            ongoing,
            before_attach: self.is_before_attach(loop_id, period.began.lo),
            evidence,
            gap: None,
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
        let twice = self.during.iter().any(|state| Some(state.at) != first);
        twice || !self.is_leaving() && self.during.iter().any(|state| state.look.is_some())
    }

    /// Whether it can have ended as the kernel says: not before it was last seen to go on, and
    /// before the next iteration's stamp.
    fn fits(&self, gap: &Gap, next_began: Option<Timestamp>) -> bool {
        let end = gap.entered + Gaps::step();
        self.last_seen().is_some_and(|seen| end >= seen)
            && next_began.is_none_or(|next| gap.entered <= next + Gaps::step())
    }

    /// Whether nothing but the kernel says that it was out of its poll.
    fn is_leaving(&self) -> bool {
        self.during.iter().all(|state| state.phase == LoopPhase::Leaving)
    }

    /// Whether a state with another stamp of the loop's own is part of it: then the loop polled in
    /// between.
    fn is_refuted_by(&self, state: &LoopState) -> bool {
        let running = |state: &&LoopState| state.phase == LoopPhase::Running;
        running(&state)
            && self.during.iter().copied().filter(running).any(|one| one.began != state.began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn state(loop_id: u32, at_ms: u64, phase: LoopPhase, began_ms: Option<u64>) -> LoopState {
        LoopState {
            major_faults: None,
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
    fn what_looks_alone_tell_of_a_loop_without_a_clock_must_be_certain() {
        let met = |at_ms, began: (u64, u64)| {
            let began = Bounds { lo: Timestamp(began.0 * MS), hi: Timestamp(began.1 * MS) };
            LoopState { began: Some(began), ..running(at_ms, 0) }
        };
        let short = [polling(98), met(106, (98, 106)), met(110, (98, 106)), polling(111)];
        let long = [polling(98), met(106, (98, 106)), met(117, (98, 106)), polling(118)];
        let found = |states: &[LoopState], timeless: bool| {
            let mut detector = Detector::new(Nanos::from_millis(10));
            if timeless {
                detector.doubt(LoopId(0));
            }
            states.iter().for_each(|state| assert!(detector.feed(state).is_none()));
            detector.finish(Timestamp(500 * MS)).len()
        };
        assert_eq!((found(&short, false), found(&short, true)), (1, 0));
        assert_eq!(found(&long, true), 1);
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

    fn gap(left_us: u64, entered_us: u64, looks: u32) -> Gap {
        Gap {
            loop_id: LoopId(0),
            left: Timestamp(left_us * 1_000),
            entered: Timestamp(entered_us * 1_000),
            on_cpu: Nanos(0),
            off_cpu: Nanos(0),
            preempted: Nanos(0),
            looks,
            unclear_looks: 1,
        }
    }

    /// Each episode as `EVIDENCE began-ended`, in microseconds, and the disagreements.
    fn traced(states: &[LoopState], gaps: &[Gap], whole_ms: Option<(u64, u64)>) -> (String, u64) {
        let whole =
            whole_ms.map(|(lo, hi)| Bounds { lo: Timestamp(lo * MS), hi: Timestamp(hi * MS) });
        let gaps = Gaps::new(gaps, whole.map(|whole| (LoopId(0), whole)));
        let mut detector = Detector::new(Nanos::from_millis(10)).with_gaps(gaps);
        let mut found: Vec<_> = states.iter().filter_map(|state| detector.feed(state)).collect();
        let (last, disagreements) = detector.finish_and_count(Timestamp(500 * MS));
        found.extend(last);
        let said = found.iter().map(|episode| {
            let (began, ended) = (episode.began.lo.0 / 1_000, episode.ended.hi.0 / 1_000);
            format!("{:?} {began}-{ended}", episode.evidence)
        });
        (said.collect::<Vec<_>>().join(", "), disagreements)
    }

    fn leaving(at_ms: u64, began_ms: u64) -> LoopState {
        state(0, at_ms, LoopPhase::Leaving, Some(began_ms))
    }

    #[test]
    fn what_the_kernel_recorded_goes_before_what_was_looked_at() {
        let stall = [running(105, 100), running(119, 100), polling(121)];
        let leave = [leaving(108, 95), leaving(116, 95), running(119, 118), polling(121)];
        let table = [
            // Both agree.
            (&stall[..], vec![gap(99_990, 120_500, 1)], None, "Traced 99990-120500", 0),
            // The loop's clock only: it stays.
            (&stall[..], vec![], None, "Counted 100000-121000", 0),
            // The kernel missed nothing and shows none, though one is certain: it stays, counted.
            (&stall[..], vec![], Some((50, 400)), "Counted 100000-121000", 1),
            // The same where the looks came too late to be certain: there was none.
            (&[running(101, 100), running(104, 100), polling(121)], vec![], Some((50, 400)), "", 0),
            // Shorter than the threshold after all.
            (
                &[running(101, 100), running(108, 100), polling(121)],
                vec![gap(99_990, 108_500, 1)],
                None,
                "",
                0,
            ),
            // It was seen running after the kernel says it polled.
            (&stall[..], vec![gap(99_990, 112_000, 1)], None, "Counted 100000-121000", 1),
            // Two stamps in one gap: records are missing in it.
            (
                &[running(105, 100), running(119, 100), running(138, 130), polling(141)],
                vec![gap(99_990, 150_000, 1)],
                None,
                "Counted 100000-130000",
                1,
            ),
            // Waited for the interpreter lock, then ran a callback: one outing, one stall.
            (&leave[..], vec![gap(95_000, 120_500, 2)], None, "Traced 95000-120500", 0),
            // Without the kernel's record only what is certain of the wait counts.
            (&leave[..], vec![], None, "Sampled 95000-118000", 0),
            // Nobody came in time to look, but somebody saw it out of its poll.
            (&[], vec![gap(95_000, 120_500, 1)], None, "Traced 95000-120500", 0),
            (&[], vec![gap(95_000, 120_500, 0)], None, "", 0),
        ];
        for (states, gaps, whole, expected, disagreements) in table {
            let (said, counted) = traced(states, &gaps, whole);
            assert_eq!((&said[..], counted), (expected, disagreements), "{gaps:?}");
        }
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
