//! Processes and their loops as JSON.

use serde::Serialize;

use super::{pool, resident, socket};
use crate::model::{
    EdgeStatus, Evidence, LoopId, LoopInfo, LoopSummary, Patches, ProcessInfo, ReadyFd, Report,
    Role, ServerConfig, ThreadInfo, WorkerClass,
};
use crate::units::{Nanos, Pid, Tid, Timestamp};

/// One process.
#[derive(Serialize)]
pub(super) struct ProcessOut<'a> {
    pid: Pid,
    ppid: Pid,
    role: Role,
    server: Option<&'a str>,
    server_version: Option<&'a str>,
    worker_class: WorkerClass,
    worker_class_version: Option<&'a str>,
    development_server: bool,
    python: &'a str,
    command: &'a str,
    attached_ns: Timestamp,
    ended_ns: Option<Timestamp>,
    /// `null` where it did not end, or nobody counts such kills.
    killed_for_memory: Option<bool>,
    cpus: u32,
    cpu_ns: Nanos,
    rss_bytes: u64,
    /// Of its own alone: what one more process like it takes.
    private_bytes: Option<u64>,
    /// The most that it had so, as far as the peak of its resident memory tells.
    private_peak_bytes: Option<u64>,
    memory_limit_bytes: Option<u64>,
    memory_used_bytes: Option<u64>,
    cpu_quota_cpus: Option<f64>,
    run_delay_ns: Option<Nanos>,
    voluntary_switches: Option<u64>,
    involuntary_switches: Option<u64>,
    gil_held_fraction: Option<f64>,
    /// `null` where the server does not count them, or not where one could read it.
    requests: Option<u64>,
    in_flight_mean: Option<f64>,
    in_flight_max: Option<u64>,
    config: &'a ServerConfig,
    /// `null` unless the recording ended in the middle of a stall.
    tasks_waiting: Option<usize>,
    /// `null` in a process without gevent and eventlet, and where it is not known.
    patches: Option<&'a Patches>,
    /// Of a process whose requests have threads of their own: how many were held on average, the most
    /// at the same time, how many there may be, and the share of time in which all of these were.
    threads_busy_mean: Option<f64>,
    threads_busy_max: Option<usize>,
    threads_limit: Option<u32>,
    threads_at_limit_fraction: Option<f64>,
    /// Of the server as a whole, all processes that accept from the same sockets: the share of time in
    /// which someone waited because no thread was free, and how many did meanwhile.
    starved_fraction: Option<f64>,
    starved_waiting_mean: Option<f64>,
    starved_waiting_max: Option<u32>,
    /// Processes below it that serve requests and were not watched.
    serving_children: &'a [Pid],
    loops: Vec<LoopOut<'a>>,
    request_threads: Vec<RequestThreadOut>,
    threads: Vec<ThreadOut<'a>>,
    pools: Vec<pool::PoolOut<'a>>,
    listeners: Vec<socket::ListenerOut<'a>>,
    connections: Vec<socket::ConnectionOut<'a>>,
    /// `null` where nobody looked.
    residents: Option<Vec<resident::ResidentOut<'a>>>,
}

/// A thread that serves one request at a time, without a loop.
#[derive(Serialize)]
struct RequestThreadOut {
    id: LoopId,
    tid: Tid,
    first_seen_ns: Timestamp,
    last_seen_ns: Timestamp,
    /// The share of time it was in a request.
    busy_fraction: Option<f64>,
    /// At least so many it served.
    requests_seen: u64,
    looks: u64,
}

#[derive(Serialize)]
struct ThreadOut<'a> {
    tid: Tid,
    name: &'a str,
    /// Its name in Python, where it was asked for.
    python_name: Option<&'a str>,
    gil_held_fraction: Option<f64>,
}

#[derive(Serialize)]
struct LoopOut<'a> {
    id: LoopId,
    tid: Tid,
    kind: &'static str,
    first_seen_ns: Timestamp,
    last_seen_ns: Timestamp,
    utilization: Option<f64>,
    /// asyncio counts no iterations anywhere one could read it.
    iterations: Option<u64>,
    iterations_seen: u64,
    looks: u64,
    unclear_looks: u64,
    lag_p50_ns: Option<Nanos>,
    lag_p99_ns: Option<Nanos>,
    lag_max_ns: Option<Nanos>,
    evidence: Evidence,
    /// `null` where it never went round for nobody.
    spin: Option<SpinOut<'a>>,
}

/// Closer looks at a loop of a process that used a CPU for hardly any request.
#[derive(Serialize)]
struct SpinOut<'a> {
    bursts: u32,
    rounds_per_second: Option<f64>,
    /// At the ends of how many of the bursts each was.
    ready: &'a [ReadyFd],
}

/// A process with its loops.
pub(super) fn new<'a>(report: &'a Report, process: &'a ProcessInfo) -> ProcessOut<'a> {
    let topology = &process.topology;
    let own = |info: &&LoopInfo| info.pid == process.pid;
    let loops = report.recording.loops.iter().filter(own).filter(|info| info.kind.is_loop());
    let request_threads = report.recording.request_threads().filter(own);
    let occupancy = &process.occupancy;
    // A process that went away before it could be asked has no account.
    let turns = Some(process.turns).filter(|turns| !turns.is_empty());
    ProcessOut {
        pid: process.pid,
        ppid: process.ppid,
        role: topology.role,
        server: topology.is_server().then_some(&topology.server),
        server_version: topology.server_version.as_deref(),
        worker_class: topology.class,
        worker_class_version: topology.class_version.as_deref(),
        development_server: topology.development,
        python: &process.python,
        command: &process.command,
        attached_ns: process.attached,
        ended_ns: process.ended,
        killed_for_memory: process.killed_for_memory,
        cpus: process.cpus,
        cpu_ns: process.cpu,
        rss_bytes: process.rss_bytes,
        private_bytes: process.budget.private_bytes,
        private_peak_bytes: process.budget.private_peak_bytes,
        memory_limit_bytes: process.budget.memory_limit_bytes,
        memory_used_bytes: process.budget.memory_used_bytes,
        cpu_quota_cpus: process.budget.quota_cpus(),
        run_delay_ns: turns.map(|turns| turns.run_delay),
        voluntary_switches: turns.map(|turns| turns.voluntary),
        involuntary_switches: turns.map(|turns| turns.involuntary),
        gil_held_fraction: process.gil.share(process.gil.held),
        requests: process.requests.served(),
        in_flight_mean: process.requests.in_flight_mean(),
        in_flight_max: process.requests.most_in_flight(),
        config: &process.config,
        tasks_waiting: process.tasks_waiting,
        patches: process.patches.as_ref(),
        threads_busy_mean: occupancy.mean(),
        threads_busy_max: occupancy.most(),
        threads_limit: occupancy.limit,
        threads_at_limit_fraction: occupancy.share_at_limit(),
        starved_fraction: occupancy.crowd.and_then(|crowd| crowd.starved_share()),
        starved_waiting_mean: occupancy.crowd.and_then(|crowd| crowd.waiting.mean()),
        starved_waiting_max: occupancy.crowd.and_then(|crowd| crowd.waiting.most()),
        serving_children: &process.serving_children,
        loops: loops.map(|info| loop_out(report, info)).collect(),
        request_threads: request_threads.map(request_thread).collect(),
        threads: process.threads.iter().map(|thread| thread_out(process, thread)).collect(),
        pools: process.pools.iter().map(|one| pool::new(&report.recording, one)).collect(),
        listeners: process.listeners.iter().map(socket::listener).collect(),
        connections: process.connections.iter().map(socket::connection).collect(),
        residents: process.residents.as_ref().map(|all| all.iter().map(resident::new).collect()),
    }
}

fn thread_out<'a>(process: &ProcessInfo, thread: &'a ThreadInfo) -> ThreadOut<'a> {
    let gil_held_fraction = process.gil.share(thread.gil_held);
    let python_name = thread.python_name.as_deref();
    ThreadOut { tid: thread.tid, name: &thread.name, python_name, gil_held_fraction }
}

fn request_thread(info: &LoopInfo) -> RequestThreadOut {
    RequestThreadOut {
        id: info.id,
        tid: info.tid,
        first_seen_ns: info.first_seen,
        last_seen_ns: info.last_seen,
        busy_fraction: info.tally.utilization(),
        requests_seen: info.tally.iterations_seen,
        looks: info.tally.looks(),
    }
}

fn loop_out<'a>(report: &Report, info: &'a LoopInfo) -> LoopOut<'a> {
    let summary: Option<&LoopSummary> = report.loops.iter().find(|one| one.loop_id == info.id);
    LoopOut {
        id: info.id,
        tid: info.tid,
        kind: info.kind.name(),
        first_seen_ns: info.first_seen,
        last_seen_ns: info.last_seen,
        utilization: summary.and_then(|one| one.utilization),
        iterations: None,
        iterations_seen: info.tally.iterations_seen,
        looks: info.tally.looks(),
        unclear_looks: info.tally.unknown,
        lag_p50_ns: summary.and_then(|one| one.lag_p50),
        lag_p99_ns: summary.and_then(|one| one.lag_p99),
        lag_max_ns: summary.map(|one| one.lag_max),
        // Utilization and delays are shares of evenly spaced looks; the longest is the kernel's
        // where it recorded the edges.
        evidence: match info.edges {
            EdgeStatus::Traced => Evidence::Traced,
            _ => Evidence::Sampled,
        },
        spin: info.spin.as_ref().map(|spin| SpinOut {
            bursts: spin.bursts,
            rounds_per_second: spin.rounds_per_second(),
            ready: &spin.ready,
        }),
    }
}
