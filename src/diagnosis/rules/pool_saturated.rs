//! The rule `pool-saturated`: a pool is full while others wait for it.
//!
//! Takes looks at pools. gthread's own threads have a rule of their own.

use super::peer_saturated;
use crate::diagnosis::blocked::ratio;
use crate::diagnosis::hub_connections::Taken;
use crate::diagnosis::peer_size::PeerSize;
use crate::diagnosis::{Case, Rule, contrast, lacks, often, pool_size, wording};
use crate::model::{
    Finding, Load, Measured, PeerLimit, PoolInfo, PoolKind, PoolWork, ProcessInfo, Recommendation,
    Remedy, SettingKind, Verdict, WorkerClass,
};

use crate::units::Nanos;

/// A pool that was not looked at often in so long was not there for most of it: looks are a fifth of a second apart, and
/// there are to be [`often::LEAST_LOOKS`] of them.
const LEAST_SEEN: Nanos = Nanos::from_secs(4);

/// See `docs/findings/pool-saturated.md`.
#[derive(Debug)]
pub struct PoolSaturated;

impl Rule for PoolSaturated {
    fn id(&self) -> &'static str {
        "pool-saturated"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/pool-saturated.md")
    }

    fn explains(&self, finding: &Finding) -> Option<f64> {
        finding.figure("full_and_waiting")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let need = lacks(case.recording);
        match (self.pools(case), need) {
            (Verdict::Found(finding), _) => Verdict::Found(finding),
            (_, Some(need)) => Verdict::NotEnoughData { need },
            (others, None) => self.connections(case).map_or(others, Verdict::Found),
        }
    }
}

/// Whether it wants a larger size that rests on how fast a peer answers when more ask.
pub(super) fn rests_on_a_peer(case: &Case<'_>) -> bool {
    let Verdict::Found(finding) = PoolSaturated.check(case) else { return false };
    let grows = |one: &Recommendation| match &one.remedy {
        Remedy::Setting { kind, current, recommended, .. } => {
            let is_place = matches!(kind, SettingKind::ThreadPool | SettingKind::Connections);
            is_place && current.is_some_and(|current| *recommended > current)
        }
        _ => false,
    };
    let unknown = |load: &Load| {
        load.slots.is_none() && load.contrast.is_none() && contrast::rests_on(load).is_some()
    };
    finding.recommendations.iter().any(grows) && case.loads.iter().any(unknown)
}

/// Whether a pool limits what is served, however little the loop has to do meanwhile.
pub(super) fn is_found(case: &Case<'_>) -> bool {
    matches!(PoolSaturated.check(case), Verdict::Found(_))
}

impl PoolSaturated {
    /// Pools whose objects are read.
    fn pools(&self, case: &Case<'_>) -> Verdict {
        let processes = case.recording.processes.iter();
        let has_server = lacks(case.recording).is_none();
        let pools: Vec<(&ProcessInfo, &PoolInfo)> = processes
            .flat_map(|process| process.pools.iter().map(move |pool| (process, pool)))
            .filter(|(process, pool)| is_sized(process, pool))
            // Without a loop and threads known to serve, as gRPC's: a program that nobody asks may fill its pools by
            // design.
            .filter(|(process, _)| has_server || !process.listeners.is_empty())
            .collect();
        let seen = pools.iter().filter(|(_, pool)| pool.looks() >= often::LEAST_LOOKS);
        let share = |pool: &PoolInfo| pool.share(pool.full_and_waiting).unwrap_or(0.0);
        let worst = seen.max_by(|a, b| share(a.1).total_cmp(&share(b.1)));
        let Some((process, pool)) = worst.copied() else {
            // Executors that are made for a request and given up with it are none that could be sized.
            let is_short = |(process, _): &(&ProcessInfo, &PoolInfo)| {
                let ended = process.ended.unwrap_or(case.recording.detached);
                ended.since(process.attached) < LEAST_SEEN
            };
            let is_unseen = pools.iter().any(is_short);
            let need = "2 s of looks at the pools";
            return if is_unseen { Verdict::NotEnoughData { need } } else { Verdict::Clear };
        };
        let full = share(pool);
        if !often::is_found(full, pool.full_and_waiting) {
            return Verdict::Clear;
        }
        let load = case.load_of(process.pid);
        Verdict::Found(Finding {
            id: self.id().to_owned(),
            severity: often::severity(full),
            summary: summary(case, pool, full),
            evidence: evidence(pool, full),
            stalls: Vec::new(),
            recommendations: vec![recommendation(case, process, pool, load, full)],
        })
    }

    /// The greenlets that accept connections.
    fn connections(&self, case: &Case<'_>) -> Option<Finding> {
        let of = |process: &ProcessInfo| {
            let load = case.load_of(process.pid)?;
            Some((load, Taken::of(process, load)?))
        };
        let all = case.recording.processes.iter().filter_map(of);
        let (load, taken) = all.max_by(|a, b| a.1.share.total_cmp(&b.1.share))?;
        Some(Finding {
            id: self.id().to_owned(),
            severity: often::severity(taken.share),
            summary: taken.summary(),
            evidence: taken.evidence(),
            stalls: Vec::new(),
            recommendations: vec![of_connections(load, taken)],
        })
    }
}

/// How many connections a worker should take.
fn of_connections(load: &Load, taken: Taken) -> Recommendation {
    let Some(size) = PeerSize::of(load) else { return taken.recommendation(load) };
    size.larger().unwrap_or_else(|| none_more(size.limit, "connections", taken.evidence()))
}

/// That no larger size helps before a peer that has no more to give.
fn none_more(limit: &PeerLimit, what: &str, inputs: Vec<Measured>) -> Recommendation {
    Recommendation {
        remedy: Remedy::Config,
        command: format!(
            "no more {what}: who waits for one now would wait for {} instead",
            limit.name()
        ),
        reason: contrast::sentence(limit),
        inputs,
        predicted: Vec::new(),
    }
}

/// Whether it is a pool that a setting sizes, and that no other rule speaks of.
fn is_sized(process: &ProcessInfo, pool: &PoolInfo) -> bool {
    let is_gthreads = process.topology.class == WorkerClass::Gthread
        && pool.kind == PoolKind::ThreadPoolExecutor
        && Some(pool.limit) == process.occupancy.limit.map(Some);
    let can_be_full = pool.limit.is_some() || pool.kind.is_semaphore();
    !pool.kind.is_of_connections() && !is_gthreads && can_be_full
}

fn summary(case: &Case<'_>, pool: &PoolInfo, full: f64) -> String {
    let (name, share) = (pool_size::pool_name(pool), wording::percent(full));
    let waiting = pool.waiting.mean().unwrap_or(0.0);
    let at = pool.waited_in.map(|frame| wording::place(case.recording, frame));
    let at = at.map_or(String::new(), |place| format!(", at {place}"));
    let kept = pool.work.filter(PoolWork::is_most);
    let kept = kept.map(|work| wording::place(case.recording, work.frame));
    let at = kept.map_or(at, |place| format!(", most of it in {place}"));
    if pool.kind.is_lock() {
        return format!(
            "{name} is held while others wait {share} of the time: {waiting:.1} wait, on average{at}"
        );
    }
    match pool.limit.zip(pool.busy.mean()) {
        Some((limit, busy)) => format!(
            "{name} is full while others wait {share} of the time: {busy:.1} of {limit} are in use and \
             {waiting:.1} wait, on average{at}"
        ),
        None => format!(
            "{name} is used up while others wait {share} of the time: {waiting:.1} wait, on average{at}"
        ),
    }
}

/// The pool's size; with other numbers of workers and threads, where those do noticeably more.
fn recommendation(
    case: &Case<'_>,
    process: &ProcessInfo,
    pool: &PoolInfo,
    load: Option<&Load>,
    full: f64,
) -> Recommendation {
    // Whoever got another connection would wait where they lead to.
    let is_used_up = load.is_some_and(|load| peer_saturated::limit_of(load).is_some());
    if is_used_up && pool.kind.is_of_clients() {
        return no_larger(pool, full);
    }
    if let Some(size) = load.and_then(PeerSize::of)
        && size.is_of(pool.kind, &pool.name)
    {
        let none = || none_more(size.limit, "threads", evidence(pool, full));
        return size.larger().unwrap_or_else(none);
    }
    let is_it = |load: &&Load| {
        let shared = load.shared.as_ref();
        shared
            .is_some_and(|shared| shared.kind.pool() == Some(pool.kind) && shared.name == pool.name)
    };
    let size = load.filter(is_it).and_then(|load| case.size_of(load));
    size.filter(|size| size.is_of_pool())
        .and_then(|size| size.change())
        .or_else(|| pool_size::for_pool(process, pool, load))
        .unwrap_or_else(|| no_larger(pool, full))
}

/// What to do where more threads would only wait for the interpreter lock, or for a CPU.
///
/// Of what bounds connections: where its database takes no more, or it has one for each thread already.
fn no_larger(pool: &PoolInfo, full: f64) -> Recommendation {
    let (command, reason) = if pool.kind.is_lock() {
        (
            "hold it for less time: take it only around what must not happen twice at once, and await \
             nothing slow while it is held",
            "one at a time gets through in each worker, and more threads, tokens or connections only wait \
             for it; each worker has a lock of its own, so that more workers let more through, where what \
             it protects is the worker's own, too",
        )
    } else if pool.kind.is_semaphore() {
        (
            "let more through at once where it is made, if what it guards can take more; else keep it for \
             less time",
            "more threads only wait for it; each worker has one of its own, so that more workers let more \
             through",
        )
    } else if pool.kind.is_of_clients() {
        (
            "no larger pool: keep each connection for less time, and give it back before anything else is \
             done; a faster query",
            "as many as requests can use, or what they connect to takes, are there already; more threads only \
             wait for one",
        )
    } else {
        (
            "no larger pool: make what runs in it cheaper, or use more workers if there are CPUs for them",
            "its threads keep the interpreter lock or the CPUs busy already; more of them would wait for \
             those instead",
        )
    };
    Recommendation {
        remedy: Remedy::Config,
        command: command.to_owned(),
        reason: reason.to_owned(),
        inputs: evidence(pool, full),
        predicted: Vec::new(),
    }
}

fn evidence(pool: &PoolInfo, full: f64) -> Vec<Measured> {
    let mean =
        |name: &str, value: Option<f64>| value.map(|value| Measured::new(name, value, "count"));
    let figures = [mean("busy_mean", pool.busy.mean()), mean("waiting_mean", pool.waiting.mean())];
    { [ratio("full_and_waiting", full)].into_iter() }.chain(figures.into_iter().flatten()).collect()
}
