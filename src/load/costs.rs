//! What one request takes: CPU with and without the interpreter lock, waiting for that lock, for a CPU,
//! and blocked.

use std::collections::HashSet;

use super::beside::Work;
use crate::model::{Costs, GilState, ProcessInfo, Recording};
use crate::units::{Nanos, Pid, Tid, to_f64};

/// The costs of a request over all `workers`, of which they served `served` and that
/// held their threads for `occupied`. `neighbours` is the CPUs' worth that those used who talk to them.
/// What these did `beside` requests is no request's.
pub(super) fn of(
    recording: &Recording,
    workers: &[&ProcessInfo],
    served: Option<u64>,
    occupied: Option<Nanos>,
    neighbours: f64,
    beside: &Work,
) -> Option<Costs> {
    let requests = served.filter(|served| *served > 0)?;
    let per_request = |time: Nanos| time.as_secs_f64() / to_f64(requests);
    let cpu: Nanos = workers.iter().map(|one| one.cpu).sum();
    let cpu = cpu.saturating_sub(beside.cpu);
    let pids: HashSet<Pid> = workers.iter().map(|one| one.pid).collect();
    let serving: HashSet<Tid> = recording
        .request_threads()
        .chain(recording.event_loops())
        .filter(|info| pids.contains(&info.pid))
        .filter(|info| !beside.threads.contains(&(info.pid, info.tid)))
        .map(|info| info.tid)
        .collect();
    let waits = recording.samples.iter().filter(|sample| {
        sample.gil == GilState::Waiting
            && serving.contains(&sample.tid)
            && pids.contains(&sample.pid)
    });
    let waiting: Nanos = waits.map(|sample| sample.weight).sum();
    // How long the locks were held. A holder may have been put off its CPU meanwhile, so that this is
    // an upper bound of the CPU time; looks at threads one after the other would tell less.
    let held: f64 = workers.iter().map(|one| held(recording, one)).sum();
    let held = (held - beside.held).max(0.0);
    let used = cpu.as_secs_f64();
    let gil_share = if used > 0.0 { (held / used).min(1.0) } else { 1.0 };
    let in_flight = workers.iter().map(|one| {
        let mean = one.requests.in_flight_mean()?;
        Some(mean * recording.lived(one).as_secs_f64())
    });
    let total = occupied.map(Nanos::as_secs_f64).or_else(|| in_flight.sum::<Option<f64>>());
    Some(Costs {
        requests,
        cpu: per_request(cpu),
        gil_share,
        gil_looks: { workers.iter().fold(0_u64, |sum, one| sum.saturating_add(one.gil.held)) }
            .saturating_sub(beside.looks),
        total: total.map(|total| total / to_f64(requests)).filter(|total| *total > 0.0),
        gil_wait: per_request(waiting),
        // Other threads' waits are in it, where there are any that work and it is not known which.
        run_delay: match beside.run_delay {
            Some(delay) => delay / to_f64(requests),
            None => per_request(workers.iter().map(|one| one.turns.run_delay).sum()),
        },
        neighbours: neighbours * per_request(recording.length()),
    })
}

/// How long a process's interpreter lock was held, in seconds; as long as it had a CPU, where nobody
/// looked.
fn held(recording: &Recording, process: &ProcessInfo) -> f64 {
    match process.gil.share(process.gil.held) {
        Some(share) => share * recording.lived(process).as_secs_f64(),
        None => process.cpu.as_secs_f64(),
    }
}

/// The time that threads were held by requests, added up; `None` where requests have none of their own.
pub(super) fn occupied(recording: &Recording, workers: &[&ProcessInfo]) -> Option<Nanos> {
    let of = |one: &&ProcessInfo| {
        let mean = one.occupancy.mean()?;
        // Parts per million are finer than any count of looks.
        let millionths = crate::units::whole(mean * 1e6);
        Some(recording.lived(one).scaled(u64::from(millionths), 1_000_000))
    };
    let times: Vec<Nanos> = workers.iter().filter_map(of).collect();
    (!times.is_empty()).then(|| times.into_iter().sum())
}
