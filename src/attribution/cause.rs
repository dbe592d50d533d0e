//! The cause of a stall: which of the ways a loop can be made to stand still it was.
//!
//! Takes the [`Facts`] gathered by the neighbouring files, gives one [`Cause`]. Pure choice: it
//! gathers nothing itself. Every threshold here is a named constant with its reason.

use super::batch::Batch;
use super::culprit::CpuTimes;
use crate::model::{Cause, TimeSplit};
use crate::units::Nanos;

/// Share of the duration: from half on, waiting for a CPU was the larger part.
const STARVED: (u64, u64) = (1, 2);
/// A third of a stall is enough of it to tell how the rest went.
const KNOWN: (u64, u64) = (1, 3);
/// Waiting for the interpreter lock is the cause from half of the culprit's time on, the garbage
/// collector from half of the stall's.
const MOSTLY: (u64, u64) = (1, 2);
/// Sleeping in page faults is the cause from a third of the culprit's time on: serving a fault takes
/// CPU time as well, on a fast disk as much again.
const FAULTING: (u64, u64) = (1, 3);
/// What a major fault takes at least: that of a page on a local SSD (measured: 75 µs, half of it on
/// the CPU). Sleeps that short are rarely met by a look, but the faults are counted.
const FAULT: Nanos = Nanos::from_micros(75);
/// One callback is to blame from half of the time on: then no two others together outweigh it.
const ONE_CALLBACK: (u64, u64) = (1, 2);

/// Callbacks are short below half of a threshold on average: a stall of several thresholds is more than a handful of them.
const SHORT: (u64, u64) = (1, 2);

/// Time on a CPU that is less than this part of the time off it explains no stall.
const HARDLY: (u64, u64) = (1, 4);

/// From this many thresholds on the looks cover so much of a stall that the culprit's own say what it
/// did: what was missed at its beginning is less than a third.
const WELL_SEEN_THRESHOLDS: u64 = 3;

/// What is known of one stall.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// How long it lasted.
    pub duration: Nanos,
    /// The shortest stall there is.
    pub threshold: Nanos,
    /// Where its time went, by the scheduler's clock.
    pub split: TimeSplit,
    /// Whether that is the kernel's own record of all of it.
    pub is_exact: bool,
    /// Of its waiting for a CPU: because a CPU quota was spent.
    pub throttled: Nanos,
    /// Major page faults in it, as far as they were counted.
    pub major_faults: u64,
    /// What its looks saw.
    pub looks: CpuTimes,
    /// What the culprit's own looks saw; `None` if no stack was seen.
    pub winner: Option<CpuTimes>,
    /// Whether a line of the application is the culprit.
    pub is_application: bool,
    /// Whether its thread was only met on its way from its poll back to Python, where there is nothing
    /// to do but to wait for the interpreter lock.
    pub is_leaving: bool,
    /// What the callback indices tell.
    pub batch: Option<Batch>,
}

/// Why the loop stood still.
#[must_use]
pub fn judge(facts: &Facts) -> Cause {
    if is_starved(facts) {
        return Cause::CpuStarved;
    }
    let Some(winner) = facts.winner else { return Cause::Unknown };
    if facts.looks.collecting > Nanos::ZERO
        && facts.looks.collecting >= part(facts.looks.total(), MOSTLY)
    {
        return Cause::Gc;
    }
    if winner.gil > Nanos::ZERO && winner.gil >= part(winner.total(), MOSTLY) {
        return Cause::GilWait;
    }
    if is_faulting(facts, winner) {
        return Cause::PageFault;
    }
    if facts.batch.is_some_and(|batch| is_many(facts, &batch)) {
        return Cause::ManyCallbacks;
    }
    if facts.is_leaving || was_kept(facts) {
        return Cause::Unknown;
    }
    let seen = winner.blocked + winner.running;
    if seen > Nanos::ZERO && facts.duration >= facts.threshold.scaled(WELL_SEEN_THRESHOLDS, 1) {
        // Other lines may have computed in the same iteration: the cause is the culprit's.
        let busy = computing(facts, &winner);
        return if winner.blocked >= winner.running { Cause::BlockingCall } else { busy };
    }
    match blocked_or_busy(facts) {
        Cause::Cpu => computing(facts, &winner),
        other => other,
    }
}

/// What a culprit that computes is at: mostly in C code that one of its instructions has called, or
/// at Python. A thread that waits for a CPU stands still in Python as well; only the kernel's record
/// tells the two apart at each look.
fn computing(facts: &Facts, winner: &CpuTimes) -> Cause {
    let is_told = facts.is_exact || facts.split.on_cpu >= facts.split.run_delay;
    if winner.in_call > winner.in_python && is_told { Cause::CCall } else { Cause::Cpu }
}

/// It hardly computed and was never seen asleep in a call: something kept it that no look met, such
/// as its own memory being mapped. What was met in between is not to blame.
fn was_kept(facts: &Facts) -> bool {
    let TimeSplit { on_cpu, off_cpu, run_delay } = facts.split;
    facts.is_exact
        && facts.looks.blocked == Nanos::ZERO
        && on_cpu < part(off_cpu + run_delay, HARDLY)
        && on_cpu < facts.threshold
}

/// Whether the line that ran is to blame for a stall of this cause. A thread that got no CPU would
/// have stalled on any line; who held the interpreter lock is another thread's line (`holder.rs`);
/// of many callbacks none is the one; the collector starts wherever an object is made; of what was
/// not seen nobody can tell.
#[must_use]
pub fn has_culprit(cause: Cause) -> bool {
    !matches!(
        cause,
        Cause::CpuStarved | Cause::GilWait | Cause::ManyCallbacks | Cause::Gc | Cause::Unknown
    )
}

/// The wait for a CPU was the larger part, and without it there would have been no stall. A line of
/// the application that took the larger part itself, or enough for a stall of its own, is to blame
/// however busy the machine is. But where the quota was spent for the larger part, no line is: what
/// takes 12 ms when it is let takes 100 more when the quota's last millisecond is in it.
fn is_starved(facts: &Facts) -> bool {
    if facts.throttled > Nanos::ZERO && facts.throttled >= part(facts.duration, STARVED) {
        return true;
    }
    let TimeSplit { on_cpu, off_cpu, run_delay } = facts.split;
    let known = on_cpu + off_cpu + run_delay;
    // What is not known of a stall went as what is, if that is enough of it.
    let delay = if known >= part(facts.duration, KNOWN) {
        facts.duration.scaled(run_delay.0, known.0)
    } else {
        run_delay
    };
    delay > Nanos::ZERO
        && delay >= part(facts.duration, STARVED)
        && (facts.duration.saturating_sub(delay) < facts.threshold || !facts.is_application)
}

/// No callback was long: none can have been, or the longest one seen had less than half of what was
/// looked into. A callback that was long because it got no CPU is not long by itself: what the
/// thread waited for one may all have been in it. But where their mean is not short, whichever had to wait, they are
/// few, and each has a line.
fn is_many(facts: &Facts, batch: &Batch) -> bool {
    let own = |length: Nanos| length.saturating_sub(facts.split.run_delay);
    let mean = own(facts.duration).scaled(1, u64::from(batch.callbacks).max(1));
    mean < part(facts.threshold, SHORT)
        && (own(batch.longest_possible) < facts.threshold
            || own(batch.longest_seen) < part(batch.window, ONE_CALLBACK))
        && own(batch.longest_estimated) < part(facts.duration, ONE_CALLBACK)
        && own(batch.longest_estimated) < facts.threshold
}

/// Whether it slept or computed. The looks begin only when a stall is nearly a threshold old, so
/// a short stall that computed first and slept last shows only its sleep; the scheduler's clock
/// covers all of it, and of time on a CPU it never shows too much. The kernel's record is exact.
fn blocked_or_busy(facts: &Facts) -> Cause {
    let TimeSplit { on_cpu, off_cpu, .. } = facts.split;
    let (blocked, running) = (facts.looks.blocked, facts.looks.running);
    if on_cpu > part(facts.duration, MOSTLY) {
        return Cause::Cpu;
    }
    if facts.is_exact {
        return if off_cpu > on_cpu { Cause::BlockingCall } else { Cause::Cpu };
    }
    if blocked + running > Nanos::ZERO {
        return if blocked >= running { Cause::BlockingCall } else { Cause::Cpu };
    }
    if on_cpu + off_cpu > Nanos::ZERO {
        return if off_cpu >= on_cpu { Cause::BlockingCall } else { Cause::Cpu };
    }
    Cause::Unknown
}

/// It was seen asleep in page faults for long enough, or there were so many that they took half of
/// the time.
fn is_faulting(facts: &Facts, winner: CpuTimes) -> bool {
    let slept = winner.outside > Nanos::ZERO && winner.outside >= part(winner.total(), FAULTING);
    let took = FAULT.scaled(facts.major_faults, 1);
    facts.major_faults > 0 && (slept || took >= part(facts.duration, MOSTLY))
}

fn part(whole: Nanos, (numerator, denominator): (u64, u64)) -> Nanos {
    whole.scaled(numerator, denominator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Nanos {
        Nanos::from_millis(n)
    }

    fn facts(duration: u64, running: u64, blocked: u64) -> Facts {
        let looks = CpuTimes { running: ms(running), blocked: ms(blocked), ..CpuTimes::default() };
        Facts {
            duration: ms(duration),
            threshold: ms(10),
            split: TimeSplit::default(),
            is_exact: false,
            throttled: Nanos::ZERO,
            major_faults: 0,
            looks,
            winner: Some(looks),
            is_application: true,
            is_leaving: false,
            batch: None,
        }
    }

    fn with_split(facts: Facts, on_cpu: u64, off_cpu: u64, run_delay: u64) -> Facts {
        let split =
            TimeSplit { on_cpu: ms(on_cpu), off_cpu: ms(off_cpu), run_delay: ms(run_delay) };
        Facts { split, ..facts }
    }

    #[test]
    fn sleeping_and_computing_are_told_apart() {
        assert_eq!(judge(&facts(50, 5, 45)), Cause::BlockingCall);
        assert_eq!(judge(&facts(50, 45, 5)), Cause::Cpu);
        // Computed for 8 ms before anyone looked.
        assert_eq!(judge(&with_split(facts(11, 0, 11), 8, 3, 0)), Cause::Cpu);
        // The scheduler had not yet booked the last tick.
        assert_eq!(judge(&with_split(facts(11, 11, 0), 3, 8, 0)), Cause::Cpu);
    }

    #[test]
    fn the_cause_is_the_culprits() {
        let winner = CpuTimes { blocked: ms(40), running: ms(3), ..CpuTimes::default() };
        let mixed = Facts { winner: Some(winner), ..with_split(facts(100, 57, 43), 57, 43, 0) };
        assert_eq!(judge(&mixed), Cause::BlockingCall);
        // Too short to have been seen well.
        let short = Facts { duration: ms(20), ..mixed };
        assert_eq!(judge(&short), Cause::Cpu);
    }

    #[test]
    fn a_thread_without_a_cpu_is_not_to_blame() {
        assert_eq!(judge(&with_split(facts(20, 20, 0), 9, 0, 11)), Cause::CpuStarved);
        // The larger part was its own work.
        assert_eq!(judge(&with_split(facts(13, 13, 0), 8, 0, 5)), Cause::Cpu);
        // 11 ms of its own work would have been a stall without the wait.
        assert_eq!(judge(&with_split(facts(27, 27, 0), 11, 0, 16)), Cause::Cpu);
        assert_eq!(judge(&with_split(facts(13, 0, 13), 0, 8, 5)), Cause::BlockingCall);
        // Nor is a framework, which did its usual work.
        let framework = Facts { is_application: false, ..with_split(facts(27, 27, 0), 11, 0, 16) };
        assert_eq!(judge(&framework), Cause::CpuStarved);
        // Of 17 ms the clock tells 6, nearly all of it spent waiting.
        assert_eq!(judge(&with_split(facts(17, 17, 0), 1, 0, 5)), Cause::CpuStarved);
        assert_eq!(judge(&with_split(facts(17, 17, 0), 1, 0, 4)), Cause::Cpu);
        let unseen = Facts { winner: None, ..with_split(facts(20, 0, 0), 2, 0, 18) };
        assert_eq!(judge(&unseen), Cause::CpuStarved);
    }

    #[test]
    fn a_spent_quota_is_nobodys_line() {
        // 30 ms of its own work are a stall, but the quota took the larger part.
        let slow = with_split(facts(110, 110, 0), 30, 0, 80);
        assert_eq!(judge(&slow), Cause::Cpu);
        assert_eq!(judge(&Facts { throttled: ms(80), ..slow }), Cause::CpuStarved);
        assert_eq!(judge(&Facts { throttled: ms(54), ..slow }), Cause::Cpu);
    }

    #[test]
    fn without_a_look_the_cause_is_unknown() {
        assert_eq!(judge(&Facts { winner: None, ..facts(20, 0, 0) }), Cause::Unknown);
    }

    #[test]
    fn on_the_way_out_of_the_poll_nothing_is_to_blame_but_the_lock() {
        let leaving = Facts { is_leaving: true, is_application: false, ..facts(30, 30, 0) };
        assert_eq!(judge(&leaving), Cause::Unknown);
        let waited = CpuTimes { running: ms(30), gil: ms(20), ..CpuTimes::default() };
        assert_eq!(judge(&Facts { winner: Some(waited), ..leaving }), Cause::GilWait);
        assert_eq!(judge(&with_split(leaving, 5, 0, 25)), Cause::CpuStarved);
    }

    #[test]
    fn what_no_look_met_has_no_culprit() {
        let kept = Facts { is_exact: true, ..with_split(facts(18, 18, 0), 1, 11, 6) };
        assert_eq!(judge(&kept), Cause::Unknown);
        assert_eq!(judge(&Facts { is_exact: false, ..kept }), Cause::Cpu);
        let seen = Facts { looks: CpuTimes { blocked: ms(1), ..kept.looks }, ..kept };
        assert_eq!(judge(&seen), Cause::BlockingCall);
        let worked = Facts { is_exact: true, ..with_split(facts(18, 18, 0), 8, 5, 5) };
        assert_eq!(judge(&worked), Cause::Cpu);
    }

    #[test]
    fn one_call_of_c_code_is_told_from_python() {
        let winner =
            CpuTimes { running: ms(30), in_call: ms(9), in_python: ms(8), ..CpuTimes::default() };
        assert_eq!(judge(&Facts { winner: Some(winner), ..facts(30, 30, 0) }), Cause::CCall);
        assert_eq!(judge(&Facts { winner: Some(winner), ..facts(12, 12, 0) }), Cause::CCall);
        let less = CpuTimes { in_python: ms(9), ..winner };
        assert_eq!(judge(&Facts { winner: Some(less), ..facts(30, 30, 0) }), Cause::Cpu);
        let ready = Facts { winner: Some(winner), ..with_split(facts(30, 30, 0), 14, 0, 16) };
        assert_eq!(judge(&ready), Cause::Cpu);
        assert_eq!(judge(&Facts { is_exact: true, ..ready }), Cause::CCall);
        let asleep = CpuTimes { blocked: ms(31), ..winner };
        assert_eq!(
            judge(&Facts { winner: Some(asleep), ..facts(61, 30, 31) }),
            Cause::BlockingCall
        );
    }

    #[test]
    fn the_interpreter_lock_is_named() {
        let winner =
            CpuTimes { blocked: ms(30), gil: ms(26), running: ms(20), ..CpuTimes::default() };
        assert_eq!(judge(&Facts { winner: Some(winner), ..facts(50, 20, 30) }), Cause::GilWait);
    }

    #[test]
    fn memory_that_had_to_be_fetched_is_named() {
        let winner =
            CpuTimes { blocked: ms(20), outside: ms(20), running: ms(30), ..CpuTimes::default() };
        let faulting = Facts { winner: Some(winner), major_faults: 9, ..facts(50, 30, 20) };
        assert_eq!(judge(&faulting), Cause::PageFault);
        // Stopped, or in a call that could not be read.
        assert_eq!(judge(&Facts { major_faults: 0, ..faulting }), Cause::Cpu);
        // Most of the time it did something else.
        let less = CpuTimes { outside: ms(10), ..winner };
        assert_eq!(judge(&Facts { winner: Some(less), ..faulting }), Cause::Cpu);
        // Too short to be met asleep, but counted.
        let many = Facts { winner: Some(less), major_faults: 400, ..faulting };
        assert_eq!(judge(&many), Cause::PageFault);
    }

    #[test]
    fn the_collector_is_named() {
        let looks = CpuTimes {
            running: ms(40),
            blocked: ms(10),
            collecting: ms(26),
            ..CpuTimes::default()
        };
        assert_eq!(judge(&Facts { looks, ..facts(50, 40, 10) }), Cause::Gc);
        let less = CpuTimes { collecting: ms(24), ..looks };
        assert_eq!(judge(&Facts { looks: less, ..facts(50, 40, 10) }), Cause::Cpu);
    }

    #[test]
    fn many_short_callbacks_are_no_long_one() {
        let with = |window, longest_seen, longest_estimated, longest_possible| Facts {
            batch: Some(Batch {
                callbacks: 1000,
                window: ms(window),
                longest_seen: ms(longest_seen),
                longest_estimated: ms(longest_estimated),
                longest_possible: ms(longest_possible),
            }),
            ..facts(30, 30, 0)
        };
        assert_eq!(judge(&with(22, 1, 2, 30)), Cause::ManyCallbacks);
        assert_eq!(judge(&with(22, 12, 2, 30)), Cause::Cpu);
        assert_eq!(judge(&with(22, 9, 10, 30)), Cause::Cpu);
        assert_eq!(judge(&with(22, 9, 16, 30)), Cause::Cpu);
        // One was long for want of a CPU: of its 14 ms no more than 6 need be its own.
        let waited = with_split(with(22, 14, 14, 30), 22, 0, 8);
        assert_eq!(judge(&waited), Cause::ManyCallbacks);
        assert_eq!(judge(&with_split(with(22, 14, 14, 30), 26, 0, 3)), Cause::Cpu);
        // 22 ms of a CPU are more than two short ones, and no more than five.
        let few = |callbacks| {
            let mut facts = with_split(with(22, 14, 14, 30), 22, 0, 8);
            facts.batch.as_mut().expect("a batch").callbacks = callbacks;
            judge(&facts)
        };
        assert_eq!(few(2), Cause::Cpu);
        assert_eq!(few(4), Cause::Cpu);
        assert_eq!(few(5), Cause::ManyCallbacks);
        // Little was looked into, but the indices moved on.
        assert_eq!(judge(&with(3, 2, 2, 9)), Cause::ManyCallbacks);
        assert_eq!(judge(&with(3, 2, 2, 10)), Cause::Cpu);
    }
}
