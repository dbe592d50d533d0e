//! Lines beside the culprit that took enough of one iteration for a stall of their own.
//!
//! Under load one iteration of a loop runs the callbacks of many requests, and so several slow calls one after
//! the other. The one that took most is to blame for the iteration; the others would each have stalled the loop
//! as well. Takes the times of a stall's lines, tells which these are and why each took its time. Never looks at
//! a stack.

use super::cause::{self, Facts};
use super::culprit::CpuTimes;
use crate::model::{Cause, FrameId, LineTime, Stall, TimeSplit};
use crate::units::Nanos;

/// The lines beside `blamed` that took at least `threshold`, by the looks that met them.
#[must_use]
pub fn long(stall: &Stall, blamed: FrameId, threshold: Nanos) -> Vec<LineTime> {
    if !is_a_lines(stall.cause) {
        return Vec::new();
    }
    let lines = stall.particulars.lines.iter();
    lines.filter(|line| line.frame != blamed && line.time >= threshold).copied().collect()
}

/// Why a line took its time, by what its own looks saw; `None` where that was not the line's doing, or what
/// was is shorter than `threshold`.
#[must_use]
pub fn cause(stall: &Stall, line: &LineTime, times: CpuTimes, threshold: Nanos) -> Option<Cause> {
    let split = TimeSplit { on_cpu: times.running, off_cpu: times.blocked, run_delay: Nanos::ZERO };
    let cause = cause::judge(&Facts {
        duration: line.time,
        threshold,
        split,
        is_exact: false,
        throttled: Nanos::ZERO,
        major_faults: 0,
        looks: times,
        winner: Some(times),
        is_application: true,
        is_leaving: false,
        batch: None,
    });
    // A thread that is ready and gets no CPU looks as if it computed: of all such time the scheduler's clock
    // tells how much had one.
    let TimeSplit { on_cpu, run_delay, .. } = stall.split;
    let ready = on_cpu + run_delay;
    let own = match cause {
        Cause::BlockingCall => line.time,
        _ if ready == Nanos::ZERO => line.time,
        _ => line.time.scaled(on_cpu.0, ready.0),
    };
    (is_a_lines(cause) && own >= threshold).then_some(cause)
}

/// Whether it is the doing of a line that ran on the loop.
fn is_a_lines(cause: Cause) -> bool {
    matches!(cause, Cause::BlockingCall | Cause::Cpu | Cause::CCall)
}
