//! What one loop would do without one of its culprits: the delay of its events and what it can carry.

use super::gated::{Events, Gated};
use crate::model::{CallTime, LoopLoad};
use crate::units::{Nanos, to_f64};

/// From this share of the time on a loop is saturated. What arrived is not known then, only what was
/// served; and the wait, which goes with 1 / (1 - ρ), says more about the error of ρ than about the loop.
pub const SATURATED: f64 = 0.9;

/// A figure before and after.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// As it was measured.
    pub before: f64,
    /// As computed without the culprit.
    pub after: f64,
}

/// What moving one culprit off its loop is expected to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WhatIf {
    /// The share of time the loop is busy.
    pub busy: Change,
    /// The median delay of an event, in seconds; `None` where the loop is saturated, and is predicted for
    /// no load in particular then.
    pub lag_p50: Option<Change>,
    /// The 99th percentile of it.
    pub lag_p99: Option<Change>,
    /// The mean wait of an event for its own turn (Pollaczek and Khinchine), in seconds, both as computed.
    pub mean_wait: Option<Change>,
    /// How many times as much the loop can carry.
    pub capacity: f64,
    /// Calls of the culprit a second.
    pub rate: f64,
    /// The mean length of one, in seconds.
    pub length: f64,
}

/// What becomes of a loop without the calls that `is_moved` picks; `None` where it made none of them.
#[must_use]
pub fn without(load: &LoopLoad, is_moved: impl Fn(&CallTime) -> bool) -> Option<WhatIf> {
    let watched = load.watched.as_secs_f64();
    let moved: Vec<&CallTime> = load.calls.iter().filter(|call| is_moved(call)).collect();
    let calls: f64 = moved.iter().map(|call| f64::from(call.calls)).sum();
    if watched <= 0.0 || calls <= 0.0 {
        return None;
    }
    let time: f64 =
        moved.iter().map(|call| f64::from(call.calls) * call.length.as_secs_f64()).sum();
    let short = short(load);
    let slow = |is_there: &dyn Fn(&CallTime) -> bool| slow(load, is_there);
    let now = Gated::of(&slow(&|_| true), &short);
    let then = Gated::of(&slow(&|call| !is_moved(call)), &short);
    let is_known = now.busy < SATURATED;
    let lag = |measured: Option<Nanos>, q: f64| {
        let before = measured?.as_secs_f64();
        let after = then.quantile(q).min(before);
        Some(Change { before, after }).filter(|_| is_known)
    };
    Some(WhatIf {
        busy: Change { before: now.busy.min(1.0), after: then.busy.min(1.0) },
        lag_p50: lag(load.lag_p50, 0.50),
        lag_p99: lag(load.lag_p99, 0.99),
        mean_wait: Some(Change { before: now.mean_wait, after: then.mean_wait })
            .filter(|_| is_known),
        capacity: now.busy / then.busy.max(LEAST_BUSY),
        rate: calls / watched,
        length: time / calls,
    })
}

/// No loop serves anything without some time of its own: what is left is at least one part in a thousand, as
/// far as looks can tell.
const LEAST_BUSY: f64 = 0.001;

/// The short iterations of a loop.
fn short(load: &LoopLoad) -> Vec<Events> {
    let watched = load.watched.as_secs_f64();
    let all = load.lengths.iter().filter(|one| !one.is_counted && one.count > 0.0);
    let events = all
        .map(|one| Events { rate: one.count / watched, length: one.share * watched / one.count });
    events.collect()
}

/// The calls in its stalls that `is_there` picks.
fn slow(load: &LoopLoad, is_there: &dyn Fn(&CallTime) -> bool) -> Vec<Events> {
    let watched = load.watched.as_secs_f64();
    let all = load.calls.iter().filter(|call| is_there(call));
    let events = all.map(|call| Events {
        rate: to_f64(u64::from(call.calls)) / watched,
        length: call.length.as_secs_f64(),
    });
    events.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FrameId, LengthBin, LoopId};
    use crate::units::Pid;

    /// Watched for 10 s: short iterations of 1 ms, `calls` of 150 ms at one line and of 100 ms at another.
    fn load(calls: (u32, u32)) -> LoopLoad {
        let call = |frame, length, calls| CallTime {
            frame: Some(FrameId(frame)),
            calls,
            length: Nanos::from_millis(length),
        };
        LoopLoad {
            loop_id: LoopId(0),
            pid: Pid(1),
            watched: Nanos::from_secs(10),
            utilization: Some(0.75),
            lag_p50: Some(Nanos::from_millis(65)),
            lag_p99: Some(Nanos::from_millis(620)),
            lengths: vec![LengthBin {
                from: Nanos::from_micros(800),
                to: Nanos::from_millis(1),
                count: 500.0,
                share: 0.05,
                is_counted: false,
            }],
            calls: vec![call(1, 150, calls.0), call(2, 100, calls.1)],
        }
    }

    fn at(line: u32) -> impl Fn(&CallTime) -> bool {
        move |call| call.frame == Some(FrameId(line))
    }

    #[test]
    fn a_culprit_gone_leaves_the_delay_that_was_simulated() {
        // Simulated: 620 ms before, 190 ms after, until the loop polls again.
        let what = without(&load((20, 40)), at(1)).unwrap();
        let p99 = what.lag_p99.unwrap();
        assert!((p99.before - 0.62).abs() < 1e-9);
        assert!((0.16..=0.22).contains(&p99.after), "{what:?}");
        assert!((what.busy.before - 0.75).abs() < 1e-6 && (what.busy.after - 0.45).abs() < 1e-6);
        assert!((what.capacity - 0.75 / 0.45).abs() < 1e-6);
        assert!((what.rate - 2.0).abs() < 1e-9 && (what.length - 0.15).abs() < 1e-9);
    }

    #[test]
    fn the_culprit_that_costs_more_gains_more() {
        let gain = |line| without(&load((40, 10)), at(line)).unwrap().lag_p99.unwrap().after;
        assert!(gain(1) < gain(2), "{} {}", gain(1), gain(2));
    }

    #[test]
    fn a_saturated_loop_has_no_delay_to_go_by_but_a_capacity() {
        let what = without(&load((40, 40)), at(1)).unwrap();
        assert_eq!((what.lag_p50, what.lag_p99), (None, None));
        assert!(what.capacity > 1.5, "{what:?}");
    }

    #[test]
    fn who_did_nothing_changes_nothing() {
        assert_eq!(without(&load((20, 40)), at(9)), None);
        assert_eq!(without(&LoopLoad { watched: Nanos::ZERO, ..load((20, 40)) }, at(1)), None);
    }
}
