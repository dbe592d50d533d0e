//! Servers as JSON: what each had to do, and what a request cost.

use serde::Serialize;

use crate::model::{BlockedOn, Costs, Evidence, LengthBin, Load, LoopId, LoopLoad, WorkerClass};
use crate::units::{Nanos, Pid, to_f64};

/// One server: a master with its workers, or a process that serves on its own.
#[derive(Serialize)]
pub(super) struct ServerOut<'a> {
    server: &'a str,
    worker_class: WorkerClass,
    master: Option<Pid>,
    workers: &'a [Pid],
    workers_ended: usize,
    /// Requests that each worker can serve at the same time; `null` where a loop serves them.
    threads_per_worker: Option<u32>,
    cpus_allowed: u32,
    cpu_quota_cpus: Option<f64>,
    /// What it may use of the machine, and what others used and nobody did.
    cpu_budget_cpus: f64,
    others_cpus: Option<f64>,
    /// Of these, processes that talk to it.
    neighbours_cpus: f64,
    idle_cpus: Option<f64>,
    cpu_ns: Nanos,
    requests: Option<u64>,
    requests_per_second: Option<f64>,
    in_flight_mean: Option<f64>,
    threads_busy_mean: Option<f64>,
    /// The share of time in which a worker had no thread free.
    full_fraction: Option<f64>,
    /// Connections that waited to be accepted, and requests that waited for a thread.
    queued_mean: Option<f64>,
    utilization_min: Option<f64>,
    utilization_max: Option<f64>,
    private_bytes_per_worker: Option<u64>,
    memory_left_bytes: Option<u64>,
    per_request: Option<PerRequestOut>,
    /// What its threads were blocked on in the application's calls, the largest first.
    blocked_by_peer: Vec<BlockedOnOut<'a>>,
    /// Its event loops, each with the lengths of its iterations.
    loops: Vec<LoopLoadOut>,
}

/// Time blocked on one peer.
#[derive(Serialize)]
struct BlockedOnOut<'a> {
    peer: &'a str,
    blocked_ns: Nanos,
    per_request_s: Option<f64>,
}

/// One event loop.
#[derive(Serialize)]
struct LoopLoadOut {
    id: LoopId,
    pid: Pid,
    watched_ns: Nanos,
    utilization: Option<f64>,
    lag_p50_ns: Option<Nanos>,
    lag_p99_ns: Option<Nanos>,
    iterations: Vec<LengthOut>,
}

/// Iterations of about the same length.
#[derive(Serialize)]
struct LengthOut {
    from_ns: Nanos,
    to_ns: Nanos,
    count: f64,
    time_fraction: f64,
    evidence: Evidence,
}

/// What one request took on average.
#[derive(Serialize)]
struct PerRequestOut {
    /// From its begin in a worker to its end.
    total_s: Option<f64>,
    cpu_with_gil_s: f64,
    cpu_without_gil_s: f64,
    gil_wait_s: f64,
    run_delay_s: f64,
    blocked_s: Option<f64>,
}

/// One server's figures.
pub(super) fn new(load: &Load) -> ServerOut<'_> {
    ServerOut {
        server: &load.server,
        worker_class: load.class,
        master: load.master,
        workers: &load.workers,
        workers_ended: load.ended,
        threads_per_worker: load.slots,
        cpus_allowed: load.cores.affinity,
        cpu_quota_cpus: load.cores.quota,
        cpu_budget_cpus: load.cores.budget,
        others_cpus: load.cores.others,
        neighbours_cpus: load.cores.neighbours,
        idle_cpus: load.cores.idle,
        cpu_ns: load.cpu,
        requests: load.served,
        requests_per_second: load.rate(),
        in_flight_mean: load.in_flight,
        threads_busy_mean: load.busy,
        full_fraction: load.full,
        queued_mean: load.queued,
        utilization_min: load.utilization.map(|(least, _)| least),
        utilization_max: load.utilization.map(|(_, most)| most),
        private_bytes_per_worker: load.memory.per_worker,
        memory_left_bytes: load.memory.left,
        per_request: load.costs.as_ref().map(per_request),
        blocked_by_peer: load.blocked_on.iter().map(|one| blocked_on(load, one)).collect(),
        loops: load.loops.iter().map(loop_load).collect(),
    }
}

fn per_request(costs: &Costs) -> PerRequestOut {
    PerRequestOut {
        total_s: costs.total,
        cpu_with_gil_s: costs.gil(),
        cpu_without_gil_s: costs.free(),
        gil_wait_s: costs.gil_wait,
        run_delay_s: costs.run_delay,
        blocked_s: costs.blocked(),
    }
}

fn blocked_on<'a>(load: &Load, one: &'a BlockedOn) -> BlockedOnOut<'a> {
    let requests = load.served.filter(|served| *served > 0);
    BlockedOnOut {
        peer: &one.peer,
        blocked_ns: one.time,
        per_request_s: requests.map(|served| one.time.as_secs_f64() / to_f64(served)),
    }
}

fn loop_load(load: &LoopLoad) -> LoopLoadOut {
    LoopLoadOut {
        id: load.loop_id,
        pid: load.pid,
        watched_ns: load.watched,
        utilization: load.utilization,
        lag_p50_ns: load.lag_p50,
        lag_p99_ns: load.lag_p99,
        iterations: load.lengths.iter().map(length).collect(),
    }
}

fn length(bin: &LengthBin) -> LengthOut {
    LengthOut {
        from_ns: bin.from,
        to_ns: bin.to,
        count: bin.count,
        time_fraction: bin.share,
        evidence: if bin.is_counted { Evidence::Counted } else { Evidence::Sampled },
    }
}
