//! Properties that hold for every stream of loop states, sane or not.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

mod story;

use std::collections::BTreeMap;

use proptest::prelude::*;
use stallspy::conclusion::conclude;
use stallspy::model::{
    CallbackRun, CpuQuota, CpuState, Gap, GilHolder, LoopId, LoopPhase, LoopState, SchedTimes,
    StackId, ThreadLook, Throttle, WaitId,
};
use stallspy::stall::{Detector, Episode};
use stallspy::units::{Bounds, Nanos, Pid, Tid, Timestamp};

/// Small numbers, so that stamps meet; and a few that no clock shows.
fn moment() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0..60_000_000u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn look() -> impl Strategy<Value = ThreadLook> {
    let cpu = prop_oneof![
        Just(CpuState::Running),
        Just(CpuState::Unknown),
        (0..3u32).prop_map(|wait| CpuState::Blocked { wait: Some(WaitId(wait)) }),
    ];
    let holder = proptest::option::of((0..3i32, 0..4u32));
    (0..4u32, cpu, holder).prop_map(|(stack, cpu, holder)| ThreadLook {
        holder: holder.map(|(tid, stack)| GilHolder {
            tid: Tid(tid),
            stack: StackId(stack),
            native: None,
            cpu,
        }),
        ..ThreadLook::bare(StackId(stack), cpu)
    })
}

/// Any state at all.
fn garbage() -> impl Strategy<Value = LoopState> {
    let phase = prop_oneof![
        4 => Just(LoopPhase::Running), 1 => Just(LoopPhase::Polling), 1 => Just(LoopPhase::Gone),
        1 => Just(LoopPhase::Leaving)
    ];
    let times = (moment(), 0..2_000_000u64, moment(), 0..3u64);
    let sched = proptest::option::of((moment(), moment(), moment()));
    let callback = proptest::option::of((any::<u32>(), any::<u32>()));
    let began_known = prop::bool::weighted(0.9);
    (0..2u32, phase, times, began_known, sched, callback, proptest::option::of(look())).prop_map(
        |(id, phase, (at, window, began, width), known, sched, callback, look)| LoopState {
            major_faults: None,
            loop_id: LoopId(id),
            at: Timestamp(at),
            window: Nanos(window),
            phase,
            began: known.then_some(Bounds {
                lo: Timestamp(began),
                hi: Timestamp(began.saturating_add(width).wrapping_sub(1)),
            }),
            callback: callback.map(|(index, batch)| CallbackRun { index, batch }),
            waiting: None,
            sched: sched.map(|(at, on_cpu, run_delay)| SchedTimes {
                at: Timestamp(at),
                on_cpu: Nanos(on_cpu),
                run_delay: Nanos(run_delay),
            }),
            look,
        },
    )
}

/// Any states in order of time, with few stamps, so that runs of the same occur.
fn ordered() -> impl Strategy<Value = Vec<LoopState>> {
    prop::collection::vec((garbage(), 0..4u64), 0..60).prop_map(|drawn| {
        let mut at = 50_000_000u64;
        drawn
            .into_iter()
            .map(|(mut state, stamp)| {
                at += state.at.0 % 6_000_000;
                state.at = Timestamp(at);
                let stamp = Timestamp(50_000_000 + stamp * 20_000_000);
                // A stamp is read after it was made.
                let readable = state.began.filter(|_| stamp <= state.at);
                state.began = readable.map(|_| Bounds::exactly(stamp));
                state.callback = None;
                if state.look.as_ref().is_some_and(|look| look.stack.0 > 1) {
                    state.look = None;
                }
                state
            })
            .collect()
    })
}

const THRESHOLD: Nanos = Nanos::from_millis(5);

fn fold(states: &[LoopState]) -> Vec<Episode<'_>> {
    let mut detector = Detector::new(THRESHOLD);
    let mut found: Vec<_> = states.iter().filter_map(|state| detector.feed(state)).collect();
    found.extend(detector.finish(Timestamp(500_000_000)));
    found
}

/// Any gaps at all: overlapping, empty, at the end of time.
fn gaps() -> impl Strategy<Value = Vec<Gap>> {
    let gap = (0..2u32, moment(), 0..30_000_000u64, any::<(u64, u64, u64)>(), 0..3u32);
    let gap = gap.prop_map(|(id, left, length, split, looks)| Gap {
        loop_id: LoopId(id),
        left: Timestamp(left),
        entered: Timestamp(left.saturating_add(length)),
        on_cpu: Nanos(split.0),
        off_cpu: Nanos(split.1),
        preempted: Nanos(split.2),
        looks,
        unclear_looks: 1,
    });
    prop::collection::vec(gap, 0..8)
}

/// Any account of throttling, in no order.
fn throttles() -> impl Strategy<Value = Vec<Throttle>> {
    let rise = (moment(), moment(), any::<(u64, u64, u64, u64)>());
    let rise = rise.prop_map(|(from, until, (periods, time, quota, period))| Throttle {
        pid: Pid(100),
        from: Timestamp(from),
        until: Timestamp(until),
        periods,
        time: Nanos(time),
        quota: CpuQuota { quota: Nanos(quota), period: Nanos(period) },
    });
    prop::collection::vec(rise, 0..8)
}

/// What an episode says, without the states it rests on.
fn said(episode: &Episode<'_>) -> impl PartialEq + std::fmt::Debug + use<> {
    (episode.loop_id, episode.began, episode.ended, episode.ongoing, episode.length())
}

/// Of each run of states of one loop that show the same, the first and the last.
fn thinned(states: &[LoopState]) -> Vec<LoopState> {
    let mut per_loop: BTreeMap<LoopId, Vec<usize>> = BTreeMap::new();
    for (index, state) in states.iter().enumerate() {
        per_loop.entry(state.loop_id).or_default().push(index);
    }
    let mut kept: Vec<usize> = Vec::new();
    for indices in per_loop.values() {
        for (place, index) in indices.iter().enumerate() {
            let same = |other: Option<&usize>| {
                other.is_some_and(|other| states[*other].shows_same(&states[*index]))
            };
            let before = place.checked_sub(1).and_then(|place| indices.get(place));
            if !(same(before) && same(indices.get(place + 1))) {
                kept.push(*index);
            }
        }
    }
    kept.sort_unstable();
    kept.into_iter().map(|index| states[index].clone()).collect()
}

proptest! {
    #[test]
    fn bounds_are_the_right_way_round_and_stalls_of_a_loop_never_overlap(
        states in prop::collection::vec(garbage(), 0..60)
    ) {
        let mut last: BTreeMap<LoopId, Timestamp> = BTreeMap::new();
        for episode in fold(&states) {
            prop_assert!(episode.began.lo <= episode.began.hi);
            prop_assert!(episode.ended.lo <= episode.ended.hi);
            prop_assert!(episode.began.lo <= episode.ended.lo);
            prop_assert!(episode.length().lo <= episode.length().hi);
            prop_assert!(episode.length().hi >= THRESHOLD);
            prop_assert!(!episode.during.is_empty());
            if let Some(end) = last.insert(episode.loop_id, episode.ended.hi) {
                prop_assert!(end <= episode.began.lo);
            }
        }
    }

    #[test]
    fn with_the_kernels_record_they_never_overlap_either(
        states in prop_oneof![prop::collection::vec(garbage(), 0..60), ordered()],
        gaps in gaps(),
        whole in prop::option::of((moment(), moment())),
    ) {
        let mut story = story::Story::new(100);
        let recording = &mut story.recording;
        recording.settings.threshold = THRESHOLD;
        recording.detached = Timestamp(500_000_000);
        recording.loops[0].traced =
            whole.map(|(a, b)| Bounds::spanning(Timestamp(a), Timestamp(b)));
        recording.loop_states = states;
        recording.gaps = gaps;
        let mut found = stallspy::stall::episodes(recording);
        found.retain(|episode| !episode.ongoing);
        let mut last: BTreeMap<LoopId, Timestamp> = BTreeMap::new();
        for episode in found {
            prop_assert!(episode.began.lo <= episode.began.hi);
            prop_assert!(episode.ended.lo <= episode.ended.hi);
            prop_assert!(episode.length().hi >= THRESHOLD);
            if let Some(end) = last.insert(episode.loop_id, episode.ended.hi) {
                prop_assert!(end <= episode.began.lo, "{:?} {:?}", end, episode);
            }
        }
    }

    #[test]
    fn the_first_and_last_of_a_run_say_as_much_as_the_run(states in ordered()) {
        let thin = thinned(&states);
        let whole: Vec<_> = fold(&states).iter().map(said).collect();
        let thin: Vec<_> = fold(&thin).iter().map(said).collect();
        prop_assert_eq!(whole, thin);
    }

    #[test]
    fn nor_does_a_run_say_more_about_the_culprit(states in ordered()) {
        let report = |states: Vec<LoopState>| {
            let mut story = story::Story::new(100);
            let parse = story.stack(&[("/srv/app/views.py", 41, "render")]);
            story.stack(&[("/srv/app/views.py", 52, "render")]);
            for syscall in ["recvfrom", "futex", "read"] {
                let _ = story.asleep(1.0, parse, syscall, None);
            }
            let recording = &mut story.recording;
            recording.loop_states = states;
            recording.settings.threshold = THRESHOLD;
            recording.detached = Timestamp(500_000_000);
            // The scheduler's clock is no part of what states show.
            recording.loop_states.iter_mut().for_each(|state| state.sched = None);
            conclude(story.recording, &|_, _| false).stalls
        };
        prop_assert_eq!(report(thinned(&states)), report(states));
    }

    #[test]
    fn splitting_the_stream_changes_nothing(states in ordered(), at in 0..60usize) {
        let (head, tail) = states.split_at(at.min(states.len()));
        let mut detector = Detector::new(THRESHOLD);
        let mut halves = Vec::new();
        halves.extend(head.iter().filter_map(|state| detector.feed(state)));
        let mut rest = detector.clone();
        halves.extend(tail.iter().filter_map(|state| rest.feed(state)));
        halves.extend(rest.finish(Timestamp(500_000_000)));
        prop_assert_eq!(fold(&states), halves);
    }

    #[test]
    fn any_recording_has_a_report(
        states in prop::collection::vec(garbage(), 0..60),
        gaps in gaps(),
        throttles in throttles(),
    ) {
        let mut story = story::Story::new(100);
        let stack = story.stack(&[("/srv/app/views.py", 41, "render")]);
        let _ = story.asleep(1.0, stack, "recvfrom", None);
        story.recording.loop_states = states;
        story.recording.gaps = gaps;
        story.recording.throttles = throttles;
        let report = conclude(story.recording, &|_, stall| stall.ongoing);
        prop_assert!(!report.verdict.is_empty());
        for stall in &report.stalls {
            let split = stall.split;
            prop_assert!(split.on_cpu + split.run_delay <= stall.duration());
            let throttled = stall.particulars.throttled.map(|throttled| throttled.time);
            prop_assert!(throttled.is_none_or(|time| time <= split.run_delay));
            if let Some(culprit) = &stall.culprit {
                prop_assert!((0.0..=1.0).contains(&culprit.share));
            }
        }
        for finding in &report.findings {
            prop_assert!(finding.stalls.iter().all(|index| *index < report.stalls.len()));
        }
    }
}
