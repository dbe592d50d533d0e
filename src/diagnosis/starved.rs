//! Servers that have no thread free while someone waits for one: what the rules `sync-starved` and
//! `gthread-starved` share.
//!
//! Takes looks that saw both at the same moment (the threads of all workers, and who waits for one),
//! gives the finding. Both alone are no fault: threads are there to be held, and everybody stands in a
//! line for a moment. Together they are requests that wait for a thread.

use super::blocked::{count, ratio};
use super::thread_size::ThreadSize;
use super::{Case, Rule, background, client_pool, lacks, often, quota, residents, wording};
use crate::model::{
    Background, CpuQuota, Crowd, Finding, Measured, ProcessInfo, Recommendation, Recording, Remedy,
    Role, SharedKind, SharedPool, Stall, Verdict, WorkerClass,
};
use crate::sizing::shape::Limit;
use crate::units::{Nanos, to_f64};

const NEED_SIBLINGS: &str = "the server's other workers: record its master's pid";
const NEED_LOOKS: &str = "2 s of looks at all its threads and at who waits for one";

/// Whether the server that runs requests as `class` was starved.
pub(super) fn check(rule: &dyn Rule, class: WorkerClass, case: &Case<'_>) -> Verdict {
    let Case { recording, stalls, .. } = *case;
    let is_own = |process: &&ProcessInfo| {
        process.topology.class == class && process.topology.role != Role::Master
    };
    let own: Vec<&ProcessInfo> = recording.processes.iter().filter(is_own).collect();
    if own.is_empty() {
        return Verdict::Clear;
    }
    if let Some(need) = lacks(recording) {
        return Verdict::NotEnoughData { need };
    }
    if own.iter().all(|process| has_unseen_siblings(recording, process)) {
        return Verdict::NotEnoughData { need: NEED_SIBLINGS };
    }
    let crowds = own.iter().filter_map(|process| process.occupancy.crowd);
    let crowds = crowds.filter(|crowd| crowd.looks() >= often::LEAST_LOOKS);
    let share = |crowd: &Crowd| crowd.starved_share().unwrap_or(0.0);
    let Some(worst) = crowds.reduce(|a, b| if share(&b) > share(&a) { b } else { a }) else {
        return Verdict::NotEnoughData { need: NEED_LOOKS };
    };
    let starved = share(&worst);
    if !often::is_found(starved, worst.starved) {
        return Verdict::Clear;
    }
    let holds = |stall: &Stall| {
        stall.occupies && !stall.allowed && own.iter().any(|process| process.pid == stall.pid)
    };
    Verdict::Found(Finding {
        id: rule.id().to_owned(),
        severity: often::severity(starved),
        summary: summary(class, &worst, starved)
            + &pool_waited_for(class, case)
            + &quota_spent(class, case).map_or(String::new(), |(quota, share)| {
                format!(
                    ", while their CPU quota ({}) was spent {} of the time",
                    quota.name(),
                    wording::percent(share)
                )
            }),
        evidence: measured(&worst, starved),
        stalls: { stalls.iter().enumerate() }
            .filter_map(|(index, stall)| holds(stall).then_some(index))
            .collect(),
        recommendations: vec![recommendation(class, &worst, starved, case)],
    })
}

/// Whether it is one of several workers, and the others are not watched.
fn has_unseen_siblings(recording: &Recording, process: &ProcessInfo) -> bool {
    let is_master = |master: &ProcessInfo| master.topology.role == Role::Master;
    process.topology.role == Role::Worker
        && !recording.get_process(process.ppid).is_some_and(is_master)
}

/// The pool that those which hold the threads wait for themselves.
fn pool_waited_for(class: WorkerClass, case: &Case<'_>) -> String {
    let loads = case.loads.iter().filter(|load| load.class == class);
    let shared = { loads }.find_map(|load| load.shared.as_ref());
    // A peer has a finding of its own.
    let is_told = |one: &&SharedPool| one.share >= often::SELDOM && one.kind != SharedKind::Peer;
    let Some(shared) = shared.filter(is_told) else {
        return String::new();
    };
    let name = client_pool::shared_name(shared);
    let is_pool = shared.kind.pool().is_some();
    let limit = shared.limit.filter(|_| is_pool);
    let at_once = limit.map_or(String::new(), |limit| format!(" of {limit}"));
    let share = wording::percent(shared.share);
    format!(", while they wait for {name}{at_once} themselves {share} of the time")
}

/// From this share of the time on a spent quota is what requests wait for.
const MOSTLY_SPENT: f64 = 0.25;

/// The quota of a server's control group that requests had to wait for, and the share of the time in which the threads that
/// served them were ready and kept off the CPUs by it.
fn quota_spent(class: WorkerClass, case: &Case<'_>) -> Option<(CpuQuota, f64)> {
    let of_class = |pid| case.load_of(pid).is_some_and(|load| load.class == class);
    let held = || case.stalls.iter().filter(|stall| stall.occupies && of_class(stall.pid));
    let throttled = || held().filter_map(|stall| stall.particulars.throttled);
    let quota = throttled().max_by_key(|one| one.time)?.quota;
    let spent: Nanos = throttled().map(|one| one.time).sum();
    let share = spent.share_of(held().map(Stall::duration).sum());
    (share >= MOSTLY_SPENT).then_some((quota, share))
}

/// What to do where a quota is what keeps requests waiting.
fn raise(quota: CpuQuota, share: f64, size: Option<&ThreadSize<'_>>) -> Recommendation {
    let (to, predicted) = size.and_then(quota::of_threads).unzip();
    Recommendation {
        remedy: Remedy::Platform,
        command: format!("{}; else make requests cheaper", quota::raise(to)),
        reason: "the kernel keeps all its threads off the CPUs until the next period once the quota is spent; more \
                 workers or threads would spend it sooner"
            .to_owned(),
        inputs: vec![Measured::new("quota", quota.cpus(), "CPUs"), ratio("throttled_share", share)],
        predicted: predicted.unwrap_or_default(),
    }
}

fn summary(class: WorkerClass, crowd: &Crowd, starved: f64) -> String {
    let threads = crowd.threads.max;
    let share = wording::percent(starved);
    let (mean, most) = (crowd.waiting.mean().unwrap_or(0.0), crowd.waiting.max);
    match (class, threads) {
        (WorkerClass::Sync, 1) => format!(
            "the only worker was busy while others waited {share} of the time, {mean:.1} of them on \
             average and up to {most}"
        ),
        (WorkerClass::Sync, several) => format!(
            "all {several} workers were busy while others waited {share} of the time, {mean:.1} of \
             them on average and up to {most}"
        ),
        _ => format!(
            "requests waited for a thread {share} of the time, {mean:.1} of them on average and up to \
             {most}: {:.1} of {threads} threads were held",
            crowd.held.mean().unwrap_or(0.0)
        ),
    }
}

/// How many would have been served at once, had there been threads: at least those that were held, and
/// those that waited. A client that sends no more before it is answered waits unseen.
fn wanted(crowd: &Crowd) -> f64 {
    f64::from(crowd.threads.max) + crowd.waiting.mean().unwrap_or(0.0)
}

fn measured(crowd: &Crowd, starved: f64) -> Vec<Measured> {
    let mean =
        |name: &str, value: Option<f64>| value.map(|value| Measured::new(name, value, "count"));
    let figures =
        [mean("threads_held_mean", crowd.held.mean()), mean("waiting_mean", crowd.waiting.mean())];
    let mut all = vec![
        ratio("starved_share", starved),
        count("threads_limit", usize::try_from(crowd.threads.max).unwrap_or(usize::MAX)),
    ];
    all.extend(figures.into_iter().flatten());
    all
}

/// What to do where no other size does more.
fn no_more(crowd: &Crowd, starved: f64, limit: Limit, size: &ThreadSize<'_>) -> Recommendation {
    let words = size.limit_words(limit);
    let cores = &size.load.cores;
    let has_quota = cores.quota.is_some_and(|quota| quota < f64::from(cores.affinity));
    let instead = match limit {
        Limit::Memory => "make workers smaller, or give the server more memory",
        Limit::Cores if has_quota => "make requests cheaper, or raise the CPU limit",
        Limit::Cores => "make requests cheaper, or give the server more CPUs",
        Limit::Residents => {
            "give what lives in each worker a process of its own, and record again; else make requests shorter"
        }
        Limit::Turns => "shorten what each does in its turn",
        _ => "make requests shorter",
    };
    Recommendation {
        remedy: Remedy::Config,
        command: format!("no more workers or threads: {instead}"),
        reason: format!(
            "what limits it is {words}; more workers or threads would only queue there"
        ),
        inputs: { measured(crowd, starved).into_iter() }.chain(memory(limit, size)).collect(),
        predicted: Vec::new(),
    }
}

/// What a worker takes and what there is, where memory is the limit.
fn memory(limit: Limit, size: &ThreadSize<'_>) -> impl Iterator<Item = Measured> {
    let memory = size.load.memory;
    let all = [
        ("memory_of_a_worker_at_most", memory.peak.max(memory.per_worker)),
        ("memory_of_workers_and_left", memory.left.map(|left| left.saturating_add(memory.own))),
    ];
    let is_it = limit == Limit::Memory;
    let known =
        all.into_iter().filter(move |_| is_it).filter_map(|(name, bytes)| Some((name, bytes?)));
    known.map(|(name, bytes)| Measured::new(name, to_f64(bytes) / wording::MEBIBYTE, "MiB"))
}

/// What to do where something else holds the lock that requests compute with.
fn beside(case: &Case<'_>, one: &Background, crowd: &Crowd, starved: f64) -> Recommendation {
    Recommendation {
        remedy: Remedy::Config,
        command: format!(
            "no more workers or threads before {} has a process of its own; then record again",
            background::place(case.recording, one)
        ),
        reason: format!(
            "beside requests it holds the interpreter lock {} of the time: more threads would wait for the same lock, \
             and each worker more would do that work once more",
            wording::percent(one.held)
        ),
        inputs: measured(crowd, starved),
        predicted: Vec::new(),
    }
}

fn recommendation(
    class: WorkerClass,
    crowd: &Crowd,
    starved: f64,
    case: &Case<'_>,
) -> Recommendation {
    let quota = quota_spent(class, case);
    let mut own = case.loads.iter().filter(|load| load.class == class);
    if let Some(one) = own.find_map(|load| background::instead_of_size(case, load)) {
        return beside(case, one, crowd, starved);
    }
    if let Some(size) = case.sizes.iter().find(|size| size.load.class == class) {
        match size.limit() {
            Some(limit) => {
                let quota = quota.filter(|_| limit == Limit::Cores);
                return quota.map_or_else(
                    || no_more(crowd, starved, limit, size),
                    |(quota, share)| raise(quota, share, Some(size)),
                );
            }
            None => return size.recommendation(),
        }
    }
    if let Some((quota, share)) = quota {
        return raise(quota, share, None);
    }
    let mut of_class = case.loads.iter().filter(|load| load.class == class);
    let at_least = wanted(crowd).ceil();
    let command = match class {
        _ if of_class.any(residents::is_single) => format!(
            "shorten the calls that hold the threads; if they wait, let at least {at_least:.0} run at \
             once: threads (`-k gthread --threads`), and no more workers, which would repeat what lives \
             in each"
        ),
        WorkerClass::Sync => format!(
            "shorten the calls that hold the workers; if they wait, let at least {at_least:.0} run at \
             once: `--workers`, or threads (`-k gthread --threads`); if they compute, no more workers \
             than CPUs"
        ),
        _ => format!(
            "shorten the calls that hold the threads; if they wait, let at least {at_least:.0} run at \
             once: `--threads` times `--workers`; if they compute, more workers up to the CPUs"
        ),
    };
    Recommendation {
        remedy: Remedy::Config,
        command,
        reason: "requests wait, as every thread that could serve them is held by another"
            .to_owned(),
        inputs: measured(crowd, starved),
        predicted: Vec::new(),
    }
}
