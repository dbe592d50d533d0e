//! A thread's major page faults as of its last looks, read only where there can be new ones.
//!
//! A fault that waits for a disk takes the thread off its CPU and puts it on one again
//! (`io_schedule`, kernel/sched/core.c). So one that was put on a CPU once since has been woken, and was
//! in no such fault. Takes counts, gives one that is true or a few milliseconds old. Decides nothing.

use crate::units::{Nanos, Timestamp};

/// The count before a stall may be so old. The file it is in is the dearest of those read at each look
/// (7 µs), and a fault takes the thread some 75 µs.
const FRESH: Nanos = Nanos::from_millis(6);
/// It is read this often though there can be no new ones: pages that come from memory (zram, a swap cache)
/// are counted, and nobody sleeps for them.
const ANYWAY: Nanos = Nanos::from_secs(1);

/// What was read last.
#[derive(Debug, Default)]
pub(super) struct FaultCount(Option<Reading>);

#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Timestamp,
    faults: u64,
    /// How often the thread had been put on a CPU when there were no others yet.
    runs: Option<u64>,
}

impl FaultCount {
    /// The count at `at`, when the thread has been put on a CPU `runs` times, if that is known; `read`
    /// gives the count of now.
    pub(super) fn lately(
        &mut self,
        runs: Option<u64>,
        at: Timestamp,
        read: impl FnOnce() -> Option<u64>,
    ) -> Option<u64> {
        if let Some(last) = &mut self.0 {
            let age = at.since(last.at);
            if age < FRESH {
                return Some(last.faults);
            }
            let since = runs.zip(last.runs).map(|(now, then)| now.saturating_sub(then));
            if age < ANYWAY && since.is_some_and(|times| times <= 1) {
                last.runs = runs;
                return Some(last.faults);
            }
        }
        self.0 = read().map(|faults| Reading { at, faults, runs });
        self.0.map(|last| last.faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the count is read at these milliseconds, the thread having been put on a CPU so often.
    fn read(looks: &[(u64, Option<u64>)]) -> Vec<bool> {
        let mut count = FaultCount::default();
        let mut look = |(ms, runs): &(u64, Option<u64>)| {
            let mut was_read = false;
            let at = Timestamp(0) + Nanos::from_millis(*ms);
            let seen = count.lately(*runs, at, || {
                was_read = true;
                Some(*ms)
            });
            assert!(seen.is_some());
            was_read
        };
        looks.iter().map(&mut look).collect()
    }

    #[test]
    fn read_where_the_thread_slept_more_than_once() {
        assert_eq!(read(&[(0, Some(9)), (5, Some(30)), (6, Some(30))]), [true, false, true]);
        // Woken once between looks, again and again; then it slept in between.
        let looks = [(0, Some(9)), (100, Some(10)), (200, Some(11)), (300, Some(13))];
        assert_eq!(read(&looks), [true, false, false, true]);
    }

    #[test]
    fn read_now_and_then_and_where_nothing_is_known() {
        assert_eq!(read(&[(0, Some(9)), (999, Some(9)), (1000, Some(9))]), [true, false, true]);
        assert_eq!(read(&[(0, None), (6, None), (12, Some(9)), (18, None)]), [true; 4]);
    }

    #[test]
    fn what_could_not_be_read_is_read_again() {
        let mut count = FaultCount::default();
        assert_eq!(count.lately(Some(1), Timestamp(0), || None), None);
        assert_eq!(count.lately(Some(1), Timestamp(1), || Some(4)), Some(4));
    }
}
