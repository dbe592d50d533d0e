//! Sizes of pools in words: how many threads or tokens, and what to type for them.
//!
//! Takes a pool as it was seen and its server's load, gives a recommendation with its arithmetic; `None` where there is
//! too little to go by, or where the size is right.

use super::size::{SURE, enough, error, faster, workers_of};
use super::{client_pool, contrast};
use crate::model::{
    Load, Measured, PoolInfo, PoolKind, ProcessInfo, Recommendation, Remedy, SettingKind,
};
use crate::sizing::capacity::Needs;
use crate::sizing::queueing::Station;
use crate::sizing::shape::{Found, Limit, NEARLY_ALL, TARGET_USE, Task, find};
use crate::units::{Bounds, whole};

/// Most tokens or threads suggested: each thread of a pool has a stack, and 1,000 of them are more than
/// one interpreter lock serves.
pub(super) const MOST_TOKENS: u32 = 1000;
/// From this share of the time on a pool limits what is done.
const FULL: f64 = 0.5;

/// What people call a pool.
#[must_use]
pub fn pool_name(pool: &PoolInfo) -> String {
    match pool.kind {
        PoolKind::AnyioLimiter => "anyio's thread pool".to_owned(),
        PoolKind::GeventThreadPool => "gevent's thread pool".to_owned(),
        PoolKind::ServerThreads => format!("{}'s pool of threads", pool.name),
        kind if kind.is_awaited() => client_pool::name(kind, &pool.name),
        _ if pool.is_loops_default() => format!("{}'s default executor", pool.name),
        _ if is_thread_sensitive(pool) => "the one thread of asgiref's `sync_to_async`".to_owned(),
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
    let limit = pool.limit.filter(|_| !pool.kind.is_lock())?;
    let (busy, waiting) = (pool.busy.mean()?, pool.waiting.mean()?);
    let peak = f64::from(pool.busy.max.saturating_add(pool.waiting.max));
    let held = process.gil.share(process.gil.held).filter(|held| *held > 0.0);
    let is_full = pool.share(pool.full).is_some_and(|full| full >= FULL);
    let alone = load.filter(|load| load.workers.len() == 1 && is_full);
    let modelled = alone.and_then(|load| find_pool(load, busy, waiting));
    let wanted = ((busy + waiting) / TARGET_USE).max(peak).ceil();
    // Each thread keeps one of the application's at a time, and a database has to have as many.
    let slots = process.occupancy.limit.filter(|_| pool.kind.is_awaited());
    let workers = load.map_or(1, workers_of);
    let room = load.filter(|_| pool.kind.is_of_clients());
    let room = room.and_then(|load| client_pool::Room::of(load, workers)).map(|room| room.most);
    let room = room.or_else(|| client_pool::guarded(process, pool, workers));
    let fits = slots.into_iter().chain(room).map(f64::from).fold(f64::INFINITY, f64::min);
    let wanted = wanted.min(fits);
    let (most, limited_by) = match (modelled, held) {
        (Some((found, _)), _) if found.limit != Limit::Demand => {
            // There is one process: what another would gain is what its lock keeps from being done.
            let is_lock = matches!(found.limit, Limit::Workers | Limit::Memory);
            let limit = if is_lock { Limit::Lock } else { found.limit };
            (f64::from(found.shape.threads), limit.words())
        }
        (None, Some(held)) if busy_lock(busy, held) < wanted => {
            (busy_lock(busy, held), Limit::Lock.words())
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
    let remedy = pool_remedy(pool, recommended, Bounds { lo: least, hi: recommended }, limited_by);
    let (command, reason) = match is_thread_sensitive(pool) {
        true => (of_thread_sensitive(recommended), THREAD_SENSITIVE.to_owned()),
        false => (pool_command(pool, recommended), reason(pool, load, workers, recommended)),
    };
    let reason = match load.and_then(|load| rests_on(load, pool)) {
        Some(peer) => reason + &contrast::condition(peer, "thread of the pool"),
        None => reason,
    };
    Some(Recommendation { remedy, command, reason, inputs, predicted })
}

/// The peer that a larger pool rests on: that of the pool that is used most.
pub(super) fn rests_on<'a>(load: &'a Load, pool: &PoolInfo) -> Option<&'a str> {
    let used = load.pool.as_ref()?;
    let is_it = used.kind == pool.kind && used.name == pool.name;
    contrast::rests_on(load).filter(|_| is_it)
}

/// Threads that keep the interpreter lock as good as busy, where `busy` of them hold it for `held` of the time: those whose
/// turns fill the time exactly (`busy / held`) do a fifth less, as some come at once and none at other times (the machine
/// repairman's model; 20 threads of waitress that held it for a twentieth each did 186 requests a second, 32 did 240).
fn busy_lock(busy: f64, held: f64) -> f64 {
    let share = (held / busy).min(1.0);
    let lock = Station { demand: share, servers: 1.0, away: 1.0 - share };
    let is_enough = |threads: &u32| lock.throughput(f64::from(*threads)) * share >= NEARLY_ALL;
    f64::from((1..MOST_TOKENS).find(is_enough).unwrap_or(MOST_TOKENS))
}

/// What there is to know before more than one thread does what asgiref's one did
/// (<https://docs.djangoproject.com/en/5.1/topics/async/#sync-to-async>).
const THREAD_SENSITIVE: &str = "`sync_to_async` runs everything in one thread for the whole process, so requests go through it one by one; \
     what is called then has to be safe for threads (Django's ORM is: each thread has a connection of its own); \
     where it is not, `async with asgiref.sync.ThreadSensitiveContext():` around each request gives each a thread, \
     as Django's own ASGI handler does";

/// Whether a pool is the one thread that asgiref's `sync_to_async` keeps for all.
fn is_thread_sensitive(pool: &PoolInfo) -> bool {
    pool.limit == Some(1) && pool.work.is_some_and(|work| work.is_thread_sensitive())
}

/// What to type for `size` threads instead of asgiref's one, which no setting makes more.
fn of_thread_sensitive(size: u32) -> String {
    format!(
        "`sync_to_async(…, thread_sensitive=False)`, which uses the loop's default executor, and \
         `loop.set_default_executor(ThreadPoolExecutor({size}))` in the application's startup"
    )
}

fn reason(pool: &PoolInfo, load: Option<&Load>, workers: u32, size: u32) -> String {
    if pool.kind.is_semaphore() {
        return "if what it guards can take as many, in each worker; more threads only wait for it"
            .to_owned();
    }
    if pool.kind.is_of_clients() {
        let all = client_pool::in_all(load, workers, size);
        return format!(
            "requests wait for one of its connections, and more threads do, too; {all}"
        );
    }
    "whatever waits for this pool waits for nothing else; what its threads call (a database, another \
     service) has to bear as many at once"
        .to_owned()
}

/// The threads of the only worker's pool that are needed for what is in it and what waits, by the model that
/// sizes workers; and what a request needs.
///
/// How long one is in the pool is what is in it by the rate (Little). Where only some requests go through it all
/// figures are those of a mean request.
fn find_pool(load: &Load, busy: f64, waiting: f64) -> Option<(Found, Needs)> {
    let costs = enough(load)?;
    let rate = load.rate().filter(|rate| *rate > 0.0)?;
    let blocked = (busy / rate - costs.cpu - costs.gil_wait - costs.run_delay).max(0.0);
    let needs = Needs::of(costs, blocked);
    let task = Task {
        needs,
        shared: None,
        demand: busy + waiting,
        cores: load.cores.together(),
        fit: 1,
        most_workers: 1,
        most_threads: MOST_TOKENS,
        is_bound: false,
    };
    Some((find(&task, error(costs)), needs))
}

/// What a request needs, as figures.
pub(super) fn measured(needs: Needs) -> impl Iterator<Item = Measured> {
    let all = [
        ("cpu_with_gil", needs.gil),
        ("cpu_without_gil", needs.free),
        ("cpu_of_neighbours", needs.neighbours),
        ("blocked", needs.blocked),
    ];
    let told = all.into_iter().filter(|(name, value)| *name != "cpu_of_neighbours" || *value > 0.0);
    told.map(|(name, value)| Measured::new(name, value, "s"))
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

/// That a pool's size is to be `recommended`, or another of the `suggested`.
pub(super) fn pool_remedy(
    pool: &PoolInfo,
    recommended: u32,
    suggested: Bounds<u32>,
    limited_by: &str,
) -> Remedy {
    Remedy::Setting {
        kind: match pool.kind.is_awaited() {
            true => SettingKind::Connections,
            false => SettingKind::ThreadPool,
        },
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
        kind if kind.is_awaited() => client_pool::setting(kind),
        _ => "executor.max_workers",
    }
}

pub(super) fn pool_command(pool: &PoolInfo, size: u32) -> String {
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
        kind if kind.is_awaited() => client_pool::command(kind, &pool.name, size),
        _ if pool.is_loops_default() => format!(
            "`loop.set_default_executor(ThreadPoolExecutor({size}))` in the application's startup"
        ),
        _ => format!("`ThreadPoolExecutor(max_workers={size}, …)`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_threads_than_fill_the_time_keep_a_lock_busy() {
        // Each holds it for a twentieth of the time.
        let threads = busy_lock(4.0, 0.2);
        assert!((24.0..=34.0).contains(&threads), "{threads}");
        // One that holds it all along is enough.
        assert!(busy_lock(2.0, 2.0) <= 1.0 && busy_lock(1.0, 1.4) <= 1.0);
    }
}
