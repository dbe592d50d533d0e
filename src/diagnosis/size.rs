//! Sizes in words: what to type for the numbers that [`crate::sizing`] finds.
//!
//! Takes a server's load, gives a recommendation with its arithmetic; `None` where there is too little
//! to go by, or where the size is right. Never suggests what is in force.

use super::{residents, wording};
use crate::model::{
    Costs, Effect, Load, LoopLoad, Measured, PoolInfo, PoolKind, ProcessInfo, Recommendation,
    Remedy, SettingKind, SettingSource,
};
use crate::sizing::capacity::{HANDED_AROUND, Needs, Shape, capacity};
use crate::sizing::shape::{Found, Limit, MOST_THREADS, TARGET_USE, Task, find};
use crate::units::{Bounds, Nanos, to_f64, whole};

/// Fewer requests than this show no mean: its error is a quarter of what they vary by.
pub const LEAST_REQUESTS: u64 = 20;
/// A window shorter than this shows no load: one slow moment would be all of it.
pub const LEAST_WINDOW: Nanos = Nanos::from_secs(10);
/// A size that gets less than this much more done is no reason to change anything.
const WORTH_IT: f64 = 1.05;
/// Ranges reach so many standard errors to either side: the true value lies outside of them one time in
/// twenty (normal approximation of the binomial and the Poisson distribution).
const SURE: f64 = 1.96;
/// Least relative error taken: what recurs from second to second varies by that much anyhow.
const LEAST_ERROR: f64 = 0.05;

/// What the number of workers and threads of a server without a loop should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Sized {
    /// Another one.
    Change(Recommendation),
    /// None does noticeably more: what limits it.
    Right(Limit),
}

/// How many workers and threads a server without a loop should have.
#[must_use]
pub fn for_threads(load: &Load) -> Option<Sized> {
    Some(match sized(load)? {
        Ok(size) => Sized::Change(size.recommendation()),
        Err(limit) => Sized::Right(limit),
    })
}

/// What to type for more workers, were it not for what lives in one; `None` where no more would do
/// noticeably more.
#[must_use]
pub fn more_workers(load: &Load) -> Option<String> {
    let free = Load { residents: Vec::new(), ..load.clone() };
    if free.slots.is_none() {
        return for_loops(&free).map(|advice| advice.command);
    }
    let size = sized(&free)?.ok()?;
    let capacity = size.found.capacity;
    let kept = match sized(load) {
        Some(Ok(kept)) => kept.found.capacity,
        _ => size.before,
    };
    (size.found.shape.workers > size.now.0 && capacity >= kept * WORTH_IT).then(|| size.command())
}

/// What to type for fewer workers that get as much done; `None` where they would not, or where there is too
/// little to go by.
#[must_use]
pub fn fewer_workers(load: &Load) -> Option<Recommendation> {
    let (size, as_it_is) = best(load)?;
    let is_as_good = size.found.capacity * WORTH_IT >= as_it_is;
    (size.found.shape.workers < size.now.0 && is_as_good).then(|| size.recommendation_of_fewer())
}

/// The size, or what limits it where none does noticeably more.
fn sized(load: &Load) -> Option<Result<Size<'_>, Limit>> {
    let (size, as_it_is) = best(load)?;
    Some(if size.found.capacity < as_it_is * WORTH_IT { Err(size.found.limit) } else { Ok(size) })
}

/// The smallest size that gets nearly all done that any could, and the throughput of the present one by the
/// same arithmetic.
fn best(load: &Load) -> Option<(Size<'_>, f64)> {
    let (costs, demand) = (enough(load)?, load.demand()?);
    let threads_now = load.slots?;
    let workers_now = workers_of(load);
    // The lock of one process is the limit that no more threads lift. Where few looks saw it, the upper
    // end of its share is taken: one worker too many costs memory, one too few a fifth of the
    // throughput (`scripts/bench --only sizing`, 1 ms of CPU and 80 ms of waiting: 1 × 59 against 2 × 30).
    let gil = costs.most_gil();
    let needs = Needs { gil, free: costs.cpu - gil, blocked: costs.blocked()? };
    let cores = load.cores.usable();
    let fit = most_that_fit(load, workers_now);
    // gunicorn's rule of thumb; a server that has more may keep them.
    let most = load.cores.whole().saturating_mul(2).saturating_add(1).max(1);
    let is_single = residents::is_single(load);
    let most_workers = if is_single { workers_now } else { most };
    let task = |most_threads| Task { needs, demand, cores, fit, most_workers, most_threads };
    let error = error(costs);
    // Workers of one thread as long as they do: code that was never run by several threads at once
    // may not be made for it.
    let single = find(&task(1), error);
    let many = find(&task(MOST_THREADS), error);
    let mut found =
        if threads_now > 1 || many.capacity > single.capacity * WORTH_IT { many } else { single };
    if is_single && found.limit == Limit::Workers {
        found.limit = Limit::Residents;
    }
    let before = load.rate()?;
    // By the same arithmetic, or what it is off by would pass for a gain.
    let shape_now = Shape { workers: workers_now, threads: threads_now };
    let as_it_is = before.max(capacity(needs, shape_now, cores, demand));
    let now = (workers_now, threads_now);
    Some((Size { load, costs, demand, found, now, before }, as_it_is))
}

/// How many workers a server should have whose loops compute all the time.
#[must_use]
pub fn for_loops(load: &Load) -> Option<Recommendation> {
    let workers = workers_of(load);
    let most = load.cores.whole();
    let fit = most_that_fit(load, workers);
    let recommended = most.min(fit);
    if recommended <= workers {
        return None;
    }
    let used = load.cores_used();
    // Each does as much as it does now, as far as there are CPUs.
    let factor = (f64::from(recommended) / f64::from(workers))
        .min(load.cores.usable() / used.max(f64::MIN_POSITIVE));
    let rate = load.rate().filter(|rate| *rate > 0.0);
    let predicted = rate.filter(|_| enough(load).is_some());
    Some(Recommendation {
        remedy: Remedy::Setting {
            kind: SettingKind::Workers,
            setting: "workers".to_owned(),
            current: Some(workers),
            recommended,
            suggested: Bounds { lo: workers.saturating_add(1).min(recommended), hi: recommended },
            limited_by: if fit < most { Limit::Memory } else { Limit::Cores }.words().to_owned(),
        },
        command: workers_option(load, recommended),
        reason:
            "each worker's loop computes on one CPU at most, and others are idle; whatever the \
                 application keeps in memory is there once in each worker"
                .to_owned(),
        inputs: { [("cpus_used", used), ("usable_cpus", load.cores.usable())].into_iter() }
            .map(|(name, value)| Measured::new(name, value, "count"))
            .chain(rate.map(|rate| Measured::new("arrival_rate", rate, "1/s")))
            .collect(),
        predicted: faster(predicted, factor),
    })
}

/// That the number of workers, or of workers and threads, is right; `None` where it is not, or where there is
/// too little to go by.
///
/// Workers with loops need as many as their loops are busy for, at ρ of the time each, once the calls that block
/// them are off them.
///
/// What lives in them is one more reason.
#[must_use]
pub fn to_keep(load: &Load) -> Option<Recommendation> {
    let mut advice = kept(load)?;
    if residents::is_single(load) {
        advice.reason.push_str(&format!("; {}", residents::in_each(load)));
    }
    Some(advice)
}

fn kept(load: &Load) -> Option<Recommendation> {
    let workers = workers_of(load);
    let named = |what: &str, count: u32| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    if load.loops.is_empty() {
        let Some(Sized::Right(limit)) = for_threads(load) else { return None };
        let threads = load.slots?;
        let size = match threads {
            1 => named("worker", workers),
            _ => format!("{} of {}", named("worker", workers), named("thread", threads)),
        };
        let reason =
            format!("no other size gets noticeably more done; what limits it is {}", limit.words());
        return Some(keeping(workers, workers, &size, reason, limit, Vec::new()));
    }
    let costs = enough(load)?;
    let share = |one: &LoopLoad, time: Nanos| time.share_of(one.watched);
    let blocked = |one: &LoopLoad| {
        let calls = one.calls.iter().filter(|call| call.frame.is_some());
        calls.map(|call| share(one, call.length) * f64::from(call.calls)).sum::<f64>()
    };
    let busy: f64 = load.loops.iter().filter_map(|one| one.utilization).sum();
    let stalled: f64 = load.loops.iter().map(blocked).sum();
    let left = (busy - stalled).max(0.0);
    let most = load.cores.whole();
    let needed = |by: f64| whole((left * by / TARGET_USE).ceil()).max(1);
    if needed(1.0) > workers || workers > most {
        return None;
    }
    let each = left / f64::from(workers);
    let mut reason = match (workers == most, workers) {
        (true, 1) => "it already has a core".to_owned(),
        (true, _) => "each already has a core".to_owned(),
        (false, _) => "more would have as little to do".to_owned(),
    };
    if stalled > 0.0 {
        reason.push_str(&format!(
            "; without the calls that block them the loops are busy {:.0} % of the time, and more workers \
             would buy only as many blocked requests at once",
            each * 100.0
        ));
    } else {
        reason.push_str(&format!(", as the loops are busy {:.0} % of the time", each * 100.0));
    }
    let limit = if workers == most { Limit::Cores } else { Limit::Demand };
    let low = needed((1.0 - error(costs)).max(0.0)).min(workers);
    let inputs = vec![
        Measured::new("loops_busy", busy, "count"),
        Measured::new("loops_busy_without_culprits", left, "count"),
        Measured::new("target_use", TARGET_USE, "ratio"),
    ];
    Some(keeping(workers, low, &named("worker", workers), reason, limit, inputs))
}

fn keeping(
    workers: u32,
    low: u32,
    size: &str,
    reason: String,
    limit: Limit,
    inputs: Vec<Measured>,
) -> Recommendation {
    Recommendation {
        remedy: Remedy::Setting {
            kind: SettingKind::Workers,
            setting: "workers".to_owned(),
            current: Some(workers),
            recommended: workers,
            suggested: Bounds { lo: low, hi: workers },
            limited_by: limit.words().to_owned(),
        },
        command: format!("keep {size}"),
        reason,
        inputs,
        predicted: Vec::new(),
    }
}

/// What people call a pool.
#[must_use]
pub fn pool_name(pool: &PoolInfo) -> String {
    match pool.kind {
        PoolKind::AnyioLimiter => "anyio's thread pool".to_owned(),
        PoolKind::GeventThreadPool => "gevent's thread pool".to_owned(),
        PoolKind::ServerThreads => format!("{}'s pool of threads", pool.name),
        PoolKind::ThreadPoolExecutor if pool.name == "asyncio" => {
            "asyncio's default executor".to_owned()
        }
        _ if pool.name.is_empty() => format!("a {}", pool.kind.title()),
        _ => format!("the {} {}", pool.kind.title(), pool.name),
    }
}

/// How large a pool should be that is full while others wait; `None` where that would change nothing.
///
/// What is in it and what waits is in flight (Little: λ·R), and is to take up ρ of it. More threads than
/// the interpreter lock and the CPUs serve would only wait for those instead: where the costs of a request are
/// known, by the model that also sizes workers, else by the share of the time that the lock was held.
#[must_use]
pub fn for_pool(
    process: &ProcessInfo,
    pool: &PoolInfo,
    load: Option<&Load>,
) -> Option<Recommendation> {
    let limit = pool.limit?;
    let (busy, waiting) = (pool.busy.mean()?, pool.waiting.mean()?);
    let peak = f64::from(pool.busy.max.saturating_add(pool.waiting.max));
    let held = process.gil.share(process.gil.held).filter(|held| *held > 0.0);
    let is_full = pool.share(pool.full).is_some_and(|full| full >= FULL);
    let alone = load.filter(|load| load.workers.len() == 1 && is_full);
    let modelled = alone.and_then(|load| find_pool(load, busy, waiting));
    let wanted = ((busy + waiting) / TARGET_USE).max(peak).ceil();
    let (most, limited_by) = match (modelled, held) {
        (Some((found, _)), _) if found.limit != Limit::Demand => {
            // There is one process: what another would gain is what its lock keeps from being done.
            let is_lock = matches!(found.limit, Limit::Workers | Limit::Memory);
            let limit = if is_lock { Limit::Lock } else { found.limit };
            (f64::from(found.shape.threads), limit.words())
        }
        (None, Some(held)) if (busy / held).ceil() < wanted => {
            ((busy / held).ceil(), Limit::Lock.words())
        }
        _ => (wanted, Limit::Demand.words()),
    };
    let recommended = whole(most.min(wanted).max(f64::from(limit))).min(MOST_TOKENS);
    if recommended <= limit {
        return None;
    }
    let least = whole((busy + waiting).ceil()).clamp(limit.saturating_add(1), recommended);
    let predicted = match (modelled, alone.and_then(Load::rate)) {
        (Some((found, _)), Some(rate)) => faster(Some(rate), (found.capacity / rate).max(1.0)),
        // As much more as there are more at it at once; all it had were in use.
        (None, rate) => {
            faster(rate, ((busy + waiting).min(f64::from(recommended)) / busy.max(1.0)).max(1.0))
        }
        (Some(_), None) => Vec::new(),
    };
    let mut inputs = vec![
        Measured::new("busy_mean", busy, "count"),
        Measured::new("waiting_mean", waiting, "count"),
        Measured::new("peak", peak, "count"),
        Measured::new("target_use", TARGET_USE, "ratio"),
    ];
    inputs.extend(held.map(|held| Measured::new("gil_held", held, "ratio")));
    inputs.extend(modelled.into_iter().flat_map(|(_, needs)| measured(needs)));
    Some(Recommendation {
        remedy: pool_remedy(pool, recommended, Bounds { lo: least, hi: recommended }, limited_by),
        command: pool_command(pool, recommended),
        reason: "whatever waits for this pool waits for nothing else; what its threads call (a database, \
                 another service) has to bear as many at once"
            .to_owned(),
        inputs,
        predicted,
    })
}

/// The threads of the only worker's pool that are needed for what is in it and what waits, by the model that
/// sizes workers; and what a request needs.
///
/// How long one is in the pool is what is in it by the rate (Little). Where only some requests go through it all
/// figures are those of a mean request. The lock loses nothing by being handed around, as it does between
/// gthread's threads: measured with anyio's, 1 ms of CPU and 120 ms of waiting, 100 clients, one process did as
/// much as its lock allowed (`scripts/bench --only sizing`).
fn find_pool(load: &Load, busy: f64, waiting: f64) -> Option<(Found, Needs)> {
    let costs = enough(load)?;
    let rate = load.rate().filter(|rate| *rate > 0.0)?;
    let gil = costs.most_gil();
    let blocked = (busy / rate - costs.cpu - costs.gil_wait - costs.run_delay).max(0.0);
    let needs = Needs { gil, free: costs.cpu - gil, blocked };
    // The model divides by it.
    let lock = gil * HANDED_AROUND;
    let task = Task {
        needs: Needs { gil: lock, free: costs.cpu - lock, blocked },
        demand: busy + waiting,
        cores: load.cores.usable(),
        fit: 1,
        most_workers: 1,
        most_threads: MOST_TOKENS,
    };
    Some((find(&task, error(costs)), needs))
}

/// What a request needs, as figures.
fn measured(needs: Needs) -> [Measured; 3] {
    [
        Measured::new("cpu_with_gil", needs.gil, "s"),
        Measured::new("cpu_without_gil", needs.free, "s"),
        Measured::new("blocked", needs.blocked, "s"),
    ]
}

/// Calls that are about to move from a loop to a pool of threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MovedCalls {
    /// λ: how many a second.
    pub rate: f64,
    /// B: how long one takes, in seconds.
    pub length: f64,
    /// How many were seen.
    pub calls: f64,
    /// How many of them and of what is in the pool already are there at once.
    pub at_once: f64,
    /// More may be.
    pub is_bound: bool,
}

impl MovedCalls {
    /// Tokens they take up at a use of ρ.
    #[must_use]
    pub fn tokens(&self) -> u32 {
        whole((self.at_once / TARGET_USE).ceil()).clamp(1, MOST_TOKENS)
    }
}

/// How large the pool should be that calls are moved to from a loop; `None` where it is large enough.
#[must_use]
pub fn for_moved_calls(pool: &PoolInfo, moved: &MovedCalls) -> Option<Recommendation> {
    let (limit, recommended) = (pool.limit?, moved.tokens());
    if recommended <= limit {
        return None;
    }
    let error = SURE / moved.calls.max(1.0).sqrt();
    let span = |by: f64| MovedCalls { at_once: moved.at_once * by, ..*moved }.tokens();
    let bound = if moved.is_bound { "at least " } else { "" };
    let suggested = Bounds {
        lo: span((1.0 - error).max(0.0)).max(limit.saturating_add(1)).min(recommended),
        hi: span(1.0 + error),
    };
    Some(Recommendation {
        remedy: pool_remedy(pool, recommended, suggested, Limit::Demand.words()),
        command: pool_command(pool, recommended),
        reason: format!(
            "{} becomes the next limit once the calls are moved there: {bound}{:.0} are in it at once; what \
             they call has to bear as many",
            pool_name(pool),
            moved.at_once.ceil(),
        ),
        inputs: vec![
            Measured::new("arrival_rate", moved.rate, "1/s"),
            Measured::new("time_in_pool", moved.length, "s"),
            Measured::new("at_once", moved.at_once, "count"),
            Measured::new("target_use", TARGET_USE, "ratio"),
        ],
        predicted: Vec::new(),
    })
}

/// Most tokens or threads suggested: each thread of a pool has a stack, and 1,000 of them are more than
/// one interpreter lock serves.
const MOST_TOKENS: u32 = 1000;
/// From this share of the time on a pool limits what is done.
const FULL: f64 = 0.5;

/// That a pool's size is to be `recommended`, or another of the `suggested`.
fn pool_remedy(
    pool: &PoolInfo,
    recommended: u32,
    suggested: Bounds<u32>,
    limited_by: &str,
) -> Remedy {
    Remedy::Setting {
        kind: SettingKind::ThreadPool,
        setting: pool_setting(pool).to_owned(),
        current: pool.limit,
        recommended,
        suggested,
        limited_by: limited_by.to_owned(),
    }
}

fn pool_setting(pool: &PoolInfo) -> &'static str {
    match pool.kind {
        PoolKind::AnyioLimiter => "anyio.total_tokens",
        PoolKind::GeventThreadPool => "gevent.threadpool.maxsize",
        PoolKind::ServerThreads if pool.name == "cheroot" => "numthreads",
        PoolKind::ServerThreads => "threads",
        _ => "executor.max_workers",
    }
}

fn pool_command(pool: &PoolInfo, size: u32) -> String {
    match pool.kind {
        PoolKind::AnyioLimiter => format!(
            "`anyio.to_thread.current_default_thread_limiter().total_tokens = {size}` in the \
             application's startup (lifespan)"
        ),
        PoolKind::GeventThreadPool => {
            format!("`gevent.get_hub().threadpool.maxsize = {size}` when a worker starts")
        }
        PoolKind::ServerThreads if pool.name == "cheroot" => format!(
            "`numthreads={size}` of `cheroot.wsgi.Server`, `--threads {size}` of its command, \
             `server.thread_pool` of CherryPy"
        ),
        PoolKind::ServerThreads => {
            format!("`--threads={size}` of `waitress-serve`, `serve(…, threads={size})`")
        }
        _ if pool.name == "asyncio" => format!(
            "`loop.set_default_executor(ThreadPoolExecutor({size}))` in the application's startup"
        ),
        _ => format!("`ThreadPoolExecutor(max_workers={size}, …)`"),
    }
}

fn workers_option(load: &Load, workers: u32) -> String {
    let platform = "PYTHON_GUNICORN_CUSTOM_WORKER_NUM";
    let is_platforms = ["PYTHON_ENABLE_GUNICORN_MULTIWORKERS", platform];
    if is_platforms.iter().any(|name| load.config.contains_key(*name)) {
        return format!("`{platform}={workers}`");
    }
    match load.config.get("workers").map(|setting| setting.source) {
        Some(SettingSource::Environment) => format!("`WEB_CONCURRENCY={workers}`"),
        _ => format!("`--workers {workers}`"),
    }
}

/// How many workers a server has.
fn workers_of(load: &Load) -> u32 {
    u32::try_from(load.workers.len()).unwrap_or(u32::MAX).max(1)
}

/// Most workers that fit into memory, of which there are `now`.
fn most_that_fit(load: &Load, now: u32) -> u32 {
    load.memory
        .more_workers()
        .map_or(u32::MAX, |more| now.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)))
}

/// That throughput, where it is known, grows by `factor`.
fn faster(rate: Option<f64>, factor: f64) -> Vec<Effect> {
    rate.map(|rate| effect("throughput", rate, rate * factor, "1/s")).into_iter().collect()
}

fn enough(load: &Load) -> Option<&Costs> {
    let costs = load.costs.as_ref()?;
    (costs.requests >= LEAST_REQUESTS && load.window >= LEAST_WINDOW).then_some(costs)
}

/// How far a size may be off, relative: by the error of the rate and of the costs together, at
/// [`SURE`].
///
/// Requests are counted (Poisson: n of them vary by √n), and so is the mean of what each takes, as if they varied
/// by as much as they last. The share of the CPU time that holds the interpreter lock is one of looks (binomial).
fn error(costs: &Costs) -> f64 {
    let rate = 1.0 / to_f64(costs.requests.max(1)).sqrt();
    let looks = to_f64(costs.gil_looks);
    let share = costs.gil_share.clamp(0.0, 1.0);
    let part = costs.cpu / costs.needed().unwrap_or(costs.cpu).max(f64::MIN_POSITIVE);
    let lock = if looks > 0.0 { (share * (1.0 - share) / looks).sqrt() * part } else { 0.0 };
    (SURE * (rate * rate + lock * lock).sqrt()).max(LEAST_ERROR)
}

struct Size<'a> {
    load: &'a Load,
    costs: &'a Costs,
    demand: f64,
    found: Found,
    now: (u32, u32),
    before: f64,
}

impl Size<'_> {
    fn recommendation(&self) -> Recommendation {
        let (workers, threads) = (self.found.shape.workers, self.found.shape.threads);
        let (kind, setting, current, recommended, suggested) = if threads > 1 || self.now.1 > 1 {
            (SettingKind::Threads, "threads", self.now.1, threads, self.found.threads)
        } else {
            (SettingKind::Workers, "workers", self.now.0, workers, self.found.workers)
        };
        let remedy = Remedy::Setting {
            kind,
            setting: setting.to_owned(),
            current: Some(current),
            recommended,
            suggested: Bounds {
                lo: suggested.lo.min(recommended),
                hi: suggested.hi.max(recommended),
            },
            limited_by: self.found.limit.words().to_owned(),
        };
        Recommendation {
            remedy,
            command: self.command(),
            reason: self.reason(),
            inputs: self.inputs(),
            predicted: vec![
                effect("throughput", self.before, self.found.capacity, "1/s"),
                effect(
                    "response_time",
                    self.demand / self.before.max(f64::MIN_POSITIVE),
                    self.demand / self.found.capacity.max(f64::MIN_POSITIVE),
                    "s",
                ),
            ],
        }
    }

    /// The same for fewer workers: what is gained is their memory.
    fn recommendation_of_fewer(&self) -> Recommendation {
        let Found { shape, workers, limit, capacity, .. } = self.found;
        let predicted = effect("throughput", self.before, capacity, "1/s");
        let memory = self.load.memory.per_worker.map(|bytes| {
            let of = |count: u32| to_f64(bytes) * f64::from(count);
            effect("memory", of(self.now.0), of(shape.workers), "bytes")
        });
        Recommendation {
            remedy: Remedy::Setting {
                kind: SettingKind::Workers,
                setting: "workers".to_owned(),
                current: Some(self.now.0),
                recommended: shape.workers,
                suggested: workers,
                limited_by: limit.words().to_owned(),
            },
            command: self.command(),
            reason: format!("they get at least as much done; what limits it is {}", limit.words()),
            inputs: self.inputs(),
            predicted: std::iter::once(predicted).chain(memory).collect(),
        }
    }

    /// What to type; a number that stays is not repeated.
    fn command(&self) -> String {
        let (workers, threads) = (self.found.shape.workers, self.found.shape.threads);
        let mut parts = Vec::new();
        if workers != self.now.0 {
            parts.push(workers_option(self.load, workers));
        }
        if threads != self.now.1 {
            // gunicorn turns its sync workers into gthread ones by itself for more than one thread.
            parts.push(format!("`--threads {threads}`"));
        }
        parts.join(" and ")
    }

    fn reason(&self) -> String {
        let waits = self.costs.blocked().unwrap_or(0.0);
        let kind = if waits > self.costs.cpu {
            "requests mostly wait, and each keeps a thread meanwhile"
        } else {
            "requests mostly compute"
        };
        let safe = if self.now.1 == 1 && self.found.shape.threads > 1 {
            "; the application has to be safe for threads"
        } else {
            ""
        };
        let slots = self.found.shape.slots();
        let there = whole(self.demand.round());
        let kept = if residents::is_single(self.load) {
            let workers = wording::several(workers_of(self.load) as usize, "worker");
            format!("; {workers} stay: {}", residents::in_each(self.load))
        } else {
            String::new()
        };
        format!("{kind}: {there} are there at once, for {slots} threads in all{safe}{kept}")
    }

    fn inputs(&self) -> Vec<Measured> {
        vec![
            Measured::new("arrival_rate", self.before, "1/s"),
            Measured::new("requests_at_once", self.demand, "count"),
            Measured::new("cpu_with_gil", self.costs.most_gil(), "s"),
            Measured::new("cpu_without_gil", self.costs.cpu - self.costs.most_gil(), "s"),
            Measured::new("blocked", self.costs.blocked().unwrap_or(0.0), "s"),
            Measured::new("usable_cpus", self.load.cores.usable(), "count"),
        ]
    }
}

fn effect(name: &str, before: f64, after: f64, unit: &str) -> Effect {
    Effect { name: name.to_owned(), before, after, unit: unit.to_owned() }
}
