//! What one request takes: CPU with and without the interpreter lock, waiting for that lock, for a CPU,
//! and blocked.

use std::collections::HashSet;

use super::lived;
use crate::model::{Costs, CpuState, GilState, ProcessInfo, Recording};
use crate::units::{Nanos, Pid, Tid, to_f64};

/// The costs of a request over all `workers`, of which they served `served`.
pub(super) fn of(
    recording: &Recording,
    workers: &[&ProcessInfo],
    served: Option<u64>,
) -> Option<Costs> {
    let requests = served.filter(|served| *served > 0)?;
    let per_request = |time: Nanos| time.as_secs_f64() / to_f64(requests);
    let cpu: Nanos = workers.iter().map(|one| one.cpu).sum();
    let pids: HashSet<Pid> = workers.iter().map(|one| one.pid).collect();
    let serving: HashSet<Tid> = recording
        .request_threads()
        .filter(|info| pids.contains(&info.pid))
        .map(|info| info.tid)
        .collect();
    let (mut running, mut holding, mut waiting) = (Nanos::ZERO, Nanos::ZERO, Nanos::ZERO);
    for sample in recording.samples.iter().filter(|sample| pids.contains(&sample.pid)) {
        if sample.gil == GilState::Waiting && serving.contains(&sample.tid) {
            waiting += sample.weight;
        }
        if sample.cpu == CpuState::Running && sample.gil != GilState::Unknown {
            running += sample.weight;
            if sample.gil == GilState::Holding {
                holding += sample.weight;
            }
        }
    }
    let gil_share = if running == Nanos::ZERO { 1.0 } else { holding.share_of(running) };
    let in_flight = workers.iter().map(|one| {
        let mean = one.requests.in_flight_mean()?;
        Some(mean * lived(recording, one).as_secs_f64())
    });
    let occupied = occupied(recording, workers).map(Nanos::as_secs_f64);
    let total = occupied.or_else(|| in_flight.sum::<Option<f64>>());
    Some(Costs {
        requests,
        cpu: per_request(cpu),
        gil_share,
        total: total.map(|total| total / to_f64(requests)).filter(|total| *total > 0.0),
        gil_wait: per_request(waiting),
        // Other threads' waits are in it, where there are any that work.
        run_delay: per_request(workers.iter().map(|one| one.turns.run_delay).sum()),
    })
}

/// The time that threads were held by requests, added up; `None` where requests have none of their own.
pub(super) fn occupied(recording: &Recording, workers: &[&ProcessInfo]) -> Option<Nanos> {
    let of = |one: &&ProcessInfo| {
        let mean = one.occupancy.mean()?;
        // Parts per million are finer than any count of looks.
        let millionths = crate::units::whole(mean * 1e6);
        Some(lived(recording, one).scaled(u64::from(millionths), 1_000_000))
    };
    let times: Vec<Nanos> = workers.iter().filter_map(of).collect();
    (!times.is_empty()).then(|| times.into_iter().sum())
}
