//! What a spent CPU quota took of a stall.
//!
//! Takes the rises of the control groups' accounts, gives the part that lies in one stall. Only time
//! in which the thread itself was ready counts, or waited for the interpreter lock of its group: a group is throttled as
//! a whole, also while the loop's thread sleeps. Never decides a cause.

use std::collections::HashMap;

use super::weight::Span;
use crate::model::{CpuQuota, Recording, Throttle, Throttled};
use crate::units::{Nanos, Pid};

/// The rises of a recording, by process.
#[derive(Debug, Default)]
pub struct Throttles<'a>(HashMap<Pid, Vec<&'a Throttle>>);

impl<'a> Throttles<'a> {
    /// Those of this recording.
    #[must_use]
    pub fn of(recording: &'a Recording) -> Throttles<'a> {
        let mut throttles = Throttles::default();
        for rise in &recording.throttles {
            throttles.0.entry(rise.pid).or_default().push(rise);
        }
        throttles
    }

    /// What they took of a stall, of whose time so much may be lost to a quota: of several quotas the one that took
    /// most.
    #[must_use]
    pub fn within(&self, pid: Pid, span: Span, lost: Nanos) -> Option<Throttled> {
        let rises = self.0.get(&pid)?;
        let first = rises.partition_point(|rise| rise.until <= span.start);
        let rises = rises.get(first..)?.iter().take_while(|rise| rise.from < span.end);
        let mut quotas: Vec<(CpuQuota, Nanos, u64)> = Vec::new();
        for rise in rises {
            let time = overlap(span, rise);
            match quotas.iter_mut().find(|(quota, ..)| *quota == rise.quota) {
                Some((_, sum, periods)) => {
                    *sum += time;
                    *periods = periods.saturating_add(rise.periods);
                }
                None => quotas.push((rise.quota, time, rise.periods)),
            }
        }
        let (quota, time, periods) = quotas.into_iter().max_by_key(|(_, time, _)| *time)?;
        let time = time.min(lost);
        (time > Nanos::ZERO).then_some(Throttled { quota, time, periods })
    }
}

/// How much of a rise can lie in the span: it was booked between the readings, and reaches back.
fn overlap(span: Span, rise: &Throttle) -> Nanos {
    let began = rise.from.before(rise.time).max(span.start);
    rise.time.min(rise.until.min(span.end).since(began))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Timestamp;

    const SPAN: Span = Span { start: Timestamp(1_000), end: Timestamp(2_000) };

    fn rise(from: u64, until: u64, time: u64) -> Throttle {
        let quota = CpuQuota { quota: Nanos(20), period: Nanos(100) };
        let (from, until) = (Timestamp(from), Timestamp(until));
        Throttle { pid: Pid(1), from, until, periods: 1, time: Nanos(time), quota }
    }

    fn within(rises: &[Throttle], run_delay: u64) -> Option<(u64, u64)> {
        let throttles = Throttles(HashMap::from([(Pid(1), rises.iter().collect())]));
        throttles.within(Pid(1), SPAN, Nanos(run_delay)).map(|found| (found.time.0, found.periods))
    }

    #[test]
    fn what_lies_in_the_stall_counts() {
        // Booked at once when the group ran again.
        assert_eq!(within(&[rise(1_800, 1_802, 700)], 900), Some((700, 1)));
        // Part of it before the stall.
        assert_eq!(within(&[rise(1_100, 1_102, 700)], 900), Some((102, 1)));
        assert_eq!(
            within(&[rise(1_300, 1_302, 200), rise(1_900, 2_010, 300)], 900),
            Some((500, 2))
        );
    }

    #[test]
    fn what_does_not_lie_in_it_does_not() {
        assert_eq!(within(&[rise(800, 1_000, 700), rise(2_000, 2_100, 700)], 900), None);
        assert_eq!(within(&[], 900), None);
    }

    #[test]
    fn a_thread_that_slept_meanwhile_lost_nothing() {
        assert_eq!(within(&[rise(1_800, 1_802, 700)], 0), None);
        assert_eq!(within(&[rise(1_800, 1_802, 700)], 50), Some((50, 1)));
    }

    #[test]
    fn on_several_cpus_no_more_was_lost_than_there_was() {
        assert_eq!(within(&[rise(1_800, 1_802, 70_000)], 900), Some((802, 1)));
    }
}
