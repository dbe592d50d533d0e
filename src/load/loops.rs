//! The event loops of a server: how busy, how long their iterations were, what their stalls were made of.

use super::lag::{Lag, nanos, watched};
use super::lengths::lengths;
use crate::model::{CallTime, LoopInfo, LoopLoad, Recording, Stall};
use crate::units::{Nanos, to_f64};

/// All event loops of those who serve requests, and of programs that are no servers.
#[must_use]
pub fn loop_loads(recording: &Recording, stalls: &[Stall]) -> Vec<LoopLoad> {
    recording.event_loops().map(|info| of_loop(recording, stalls, info)).collect()
}

fn of_loop(recording: &Recording, stalls: &[Stall], info: &LoopInfo) -> LoopLoad {
    let own: Vec<&Stall> = stalls.iter().filter(|stall| stall.loop_id == info.id).collect();
    let observed: Vec<f64> =
        own.iter().map(|stall| recording.observed(stall).as_secs_f64()).collect();
    let lag = Lag::of(recording, info, stalls);
    let watched = watched(recording, info);
    LoopLoad {
        loop_id: info.id,
        pid: info.pid,
        watched,
        utilization: info.tally.utilization(),
        lag_p50: lag.quantile(0.50),
        lag_p99: lag.quantile(0.99),
        lengths: lengths(
            &info.tally,
            &observed,
            recording.settings.threshold,
            watched.as_secs_f64(),
        ),
        calls: own.iter().flat_map(|stall| calls(recording, stall)).collect(),
    }
}

/// What a stall was made of, scaled to what of it lies within the recording.
fn calls(recording: &Recording, stall: &Stall) -> Vec<CallTime> {
    let whole = stall.duration().as_secs_f64();
    let observed = recording.observed(stall).as_secs_f64();
    let part = if whole > 0.0 { observed / whole } else { 0.0 };
    let mut calls = Vec::new();
    let mut rest = observed;
    for line in &stall.particulars.lines {
        let time = (line.time.as_secs_f64() * part).min(rest);
        rest -= time;
        let length = nanos(time / to_f64(u64::from(line.calls.max(1))));
        calls.push(CallTime { frame: Some(line.frame), calls: line.calls.max(1), length });
    }
    let rest = nanos(rest);
    if rest > Nanos::ZERO {
        calls.push(CallTime { frame: None, calls: 1, length: rest });
    }
    calls
}
