//! Where a stall's time went: on a CPU, asleep, or ready and waiting for a CPU.
//!
//! Takes the scheduler clocks read at the states around and inside a stall, gives a
//! [`TimeSplit`]. Where no clock was read, the looks at the thread decide. Never decides a cause.
//!
//! The clocks are the kernel's own and exact for a thread that sleeps; of a thread that runs they
//! are as old as its last scheduler tick (`sum_exec_runtime`, kernel/sched/fair.c), and a wait
//! for a CPU is booked when it ends (`sched_info_arrive`, kernel/sched/stats.h). So the state
//! after the stall is used too: what was still unbooked at the last look inside is booked there.

use super::Witnesses;
use super::culprit::CpuTimes;
use super::weight::Span;
use crate::model::{Gap, LoopPhase, SchedTimes, TimeSplit};
use crate::units::Nanos;

/// How far outside the stall a clock reading may lie, in thresholds. A tick comes at least once
/// per threshold, so the neighbouring reading is one threshold away, two if a tick came late;
/// one further away tells more about other iterations than about this one.
pub const REACH_IN_THRESHOLDS: u64 = 2;

/// How much time on a CPU may not be booked yet: one scheduler tick of the slowest kernels in use
/// (`CONFIG_HZ_100`).
const UNBOOKED: Nanos = Nanos::from_millis(10);

/// Where the time of the stall went.
#[must_use]
pub fn split(
    span: Span,
    threshold: Nanos,
    witnesses: &Witnesses<'_>,
    looks: &CpuTimes,
) -> TimeSplit {
    let reach = threshold.scaled(REACH_IN_THRESHOLDS, 1);
    let before = witnesses.before.and_then(|state| state.sched);
    let after = witnesses.after.and_then(|state| state.sched);
    let mut inside = witnesses.during.iter().filter_map(|state| state.sched);
    let first = inside.next();
    // Not from reading to reading: what a later one books may have happened before an earlier.
    let last =
        after.filter(|reading| reading.at.since(span.end) <= reach).or_else(|| inside.next_back());
    let readings: Vec<SchedTimes> = before
        .filter(|reading| span.start.since(reading.at) <= reach)
        .into_iter()
        .chain(first)
        .chain(last)
        .collect();

    let mut split = TimeSplit::default();
    let mut covered = Nanos::ZERO;
    for (earlier, later) in readings.iter().zip(readings.iter().skip(1)) {
        let part = between(span, earlier, later);
        split.on_cpu += part.on_cpu;
        split.run_delay += part.run_delay;
        covered += later.at.min(span.end).since(earlier.at.max(span.start));
    }
    if covered == Nanos::ZERO {
        return TimeSplit { on_cpu: looks.running, off_cpu: looks.blocked, run_delay: Nanos::ZERO };
    }
    // Bookings come in lumps, so single parts may exceed their stretch; the whole cannot.
    split.on_cpu = split.on_cpu.min(covered);
    split.run_delay = split.run_delay.min(covered.saturating_sub(split.on_cpu));
    split.off_cpu = covered.saturating_sub(split.on_cpu + split.run_delay);
    if looks.blocked == Nanos::ZERO && looks.running > Nanos::ZERO {
        // Never seen asleep: what is not booked yet was spent on a CPU, but no more than a tick of
        // it, or waiting for one.
        let waited = split.off_cpu.saturating_sub(UNBOOKED);
        split.run_delay += waited;
        split.off_cpu = split.off_cpu.saturating_sub(waited);
    }
    split
}

/// The split that the kernel's record of the stall gives, with the scheduler clock's word on how
/// much of the time off the CPU was spent ready: the record shows that only of a thread that was
/// put off its CPU, not of one that was woken and had to wait.
///
/// In a virtual machine the host may stop the very CPU that a thread is on; no record shows that, and
/// the scheduler's clock does not count it (`update_rq_clock_task`, kernel/sched/core.c). The thread
/// was as ready as in a queue.
#[must_use]
pub fn refine(gap: &Gap, counted: TimeSplit, witnesses: &Witnesses<'_>) -> TimeSplit {
    let held = gap.on_cpu.min(gap.length());
    let off = gap.length().saturating_sub(held);
    let waited = counted.run_delay.max(gap.preempted).min(off);
    let stolen = most_on_cpu(witnesses).map_or(Nanos::ZERO, |most| held.saturating_sub(most));
    TimeSplit {
        on_cpu: held.saturating_sub(stolen),
        off_cpu: off.saturating_sub(waited),
        run_delay: waited + stolen,
    }
}

/// No more than this can have been computed in the stall: it is all that the scheduler booked from
/// the look before to the look after it. Not known if the thread may still have been computing at
/// the latter, with some of it not booked yet.
fn most_on_cpu(witnesses: &Witnesses<'_>) -> Option<Nanos> {
    let (before, after) = (witnesses.before?, witnesses.after?);
    if after.phase != LoopPhase::Polling {
        return None;
    }
    Some(after.sched?.on_cpu.saturating_sub(before.sched?.on_cpu))
}

/// What happened inside the stall between two readings.
///
/// A stretch that reaches beyond the stall's ends is counted as though nothing happened outside:
/// there the thread polls, and sleeps. Where that cannot be, because more was booked than fits
/// inside, both bookings are cut in proportion.
fn between(span: Span, earlier: &SchedTimes, later: &SchedTimes) -> TimeSplit {
    let on_cpu = later.on_cpu.saturating_sub(earlier.on_cpu);
    let run_delay = later.run_delay.saturating_sub(earlier.run_delay);
    let inside = later.at.min(span.end).since(earlier.at.max(span.start));
    let booked = on_cpu + run_delay;
    let reaches_out = earlier.at < span.start || later.at > span.end;
    if !reaches_out || booked <= inside {
        return TimeSplit { on_cpu, run_delay, off_cpu: Nanos::ZERO };
    }
    TimeSplit {
        on_cpu: inside.scaled(on_cpu.0, booked.0),
        run_delay: inside.scaled(run_delay.0, booked.0),
        off_cpu: Nanos::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LoopId, LoopPhase, LoopState};
    use crate::units::Timestamp;

    const SPAN: Span = Span { start: Timestamp(1_000), end: Timestamp(1_100) };

    fn state(at: u64, on_cpu: u64, run_delay: u64) -> LoopState {
        let at = Timestamp(at);
        LoopState {
            major_faults: None,
            loop_id: LoopId(0),
            at,
            window: Nanos(0),
            phase: LoopPhase::Running,
            began: None,
            callback: None,
            waiting: None,
            sched: Some(SchedTimes { at, on_cpu: Nanos(on_cpu), run_delay: Nanos(run_delay) }),
            look: None,
        }
    }

    const NOBODY: Witnesses<'_> = Witnesses { gap: None, before: None, during: &[], after: None };

    fn split_of(
        before: Option<LoopState>,
        during: &[LoopState],
        after: Option<LoopState>,
    ) -> [u64; 3] {
        let during: Vec<&LoopState> = during.iter().collect();
        let witnesses = Witnesses {
            gap: None,
            before: before.as_ref(),
            during: &during,
            after: after.as_ref(),
        };
        let looks = CpuTimes { running: Nanos(7), blocked: Nanos(93), ..CpuTimes::default() };
        let split = split(SPAN, Nanos(100), &witnesses, &looks);
        [split.on_cpu.0, split.off_cpu.0, split.run_delay.0]
    }

    #[test]
    fn an_idle_loop_before_and_after_adds_nothing() {
        let during = [state(1_080, 560, 0), state(1_095, 575, 0)];
        assert_eq!(
            split_of(Some(state(950, 480, 0)), &during, Some(state(1_110, 580, 0))),
            [100, 0, 0]
        );
    }

    #[test]
    fn the_kernels_record_goes_first_but_does_not_know_who_woke_and_waited() {
        let gap = Gap {
            loop_id: LoopId(0),
            left: Timestamp(0),
            entered: Timestamp(100),
            on_cpu: Nanos(30),
            off_cpu: Nanos(60),
            preempted: Nanos(10),
            looks: 1,
            unclear_looks: 0,
        };
        let counted = |run_delay| TimeSplit { run_delay: Nanos(run_delay), ..TimeSplit::default() };
        let refined = |run_delay| {
            let split = refine(&gap, counted(run_delay), &NOBODY);
            [split.on_cpu.0, split.off_cpu.0, split.run_delay.0]
        };
        assert_eq!(refined(0), [30, 60, 10]);
        assert_eq!(refined(25), [30, 45, 25]);
        assert_eq!(refined(900), [30, 0, 70]);
    }

    #[test]
    fn what_the_host_took_is_no_work() {
        let gap = Gap {
            loop_id: LoopId(0),
            left: Timestamp(1_000),
            entered: Timestamp(1_100),
            on_cpu: Nanos(70),
            off_cpu: Nanos(20),
            preempted: Nanos(10),
            looks: 1,
            unclear_looks: 0,
        };
        let refined = |phase, booked: u64| {
            let before = state(990, 500, 0);
            let after = LoopState { phase, ..state(1_110, 500 + booked, 0) };
            let witnesses = Witnesses { before: Some(&before), after: Some(&after), ..NOBODY };
            let split = refine(&gap, TimeSplit::default(), &witnesses);
            [split.on_cpu.0, split.off_cpu.0, split.run_delay.0]
        };
        assert_eq!(refined(LoopPhase::Polling, 80), [70, 20, 10]);
        assert_eq!(refined(LoopPhase::Polling, 15), [15, 20, 65]);
        // Not all of it need have been booked.
        assert_eq!(refined(LoopPhase::Running, 15), [70, 20, 10]);
    }

    #[test]
    fn a_wait_for_a_cpu_is_booked_at_its_end() {
        let during = [state(1_010, 500, 0), state(1_090, 500, 0)];
        assert_eq!(split_of(Some(state(990, 495, 0)), &during, Some(state(1_101, 502, 85)))[2], 85);
    }

    #[test]
    fn what_does_not_fit_inside_happened_outside_too() {
        let [on_cpu, off_cpu, run_delay] =
            split_of(Some(state(900, 0, 0)), &[state(1_100, 50, 150)], None);
        assert_eq!([on_cpu, off_cpu, run_delay], [25, 0, 75]);
    }

    #[test]
    fn a_reading_from_long_ago_tells_nothing() {
        assert_eq!(split_of(Some(state(1, 0, 0)), &[], None), [7, 93, 0]);
        assert_eq!(split_of(Some(state(1, 0, 0)), &[state(1_080, 900, 0)], None), [7, 93, 0]);
    }
}
