//! How many workers and threads a server without an event loop should have, in words.
//!
//! Takes a server's load, computed once for all rules; gives what to type with its arithmetic, or what limits the size
//! that is there. Never judges whether anybody waits.

use std::net::SocketAddr;

use super::pool_growth::{Growing, station};
use super::size::{effect, enough, error, keeping, most_that_fit, workers_of, workers_option};
use super::{client_pool, often, residents, wording};
use crate::model::{
    Costs, Load, Measured, PoolKind, Recommendation, Remedy, SettingKind, SharedPool,
};
use crate::sizing::capacity::{Needs, Shape, capacity_sharing};
use crate::sizing::shape::{Found, Limit, MOST_THREADS, Task, find};
use crate::units::{Bounds, to_f64, whole};

/// A size that gets less than this much more done is no reason to change anything.
const WORTH_IT: f64 = 1.05;
/// From this part of what requests wait on a peer decides what more of them at once do.
const MOST_OF_WAITING: f64 = 0.5;

/// The smallest size that gets nearly all done that any could.
#[derive(Debug, Clone, Copy)]
pub struct ThreadSize<'a> {
    /// The server.
    pub load: &'a Load,
    costs: &'a Costs,
    needs: Needs,
    demand: f64,
    found: Found,
    /// Workers, and the threads of each.
    now: (u32, u32),
    /// Requests a second.
    before: f64,
    /// The same of the size that is there by the arithmetic that gives what another does.
    as_it_is: f64,
    /// The pool of the application's that requests wait for, and what its size is to be if that is another.
    shared: Option<&'a SharedPool>,
    pool: Option<u32>,
}

impl<'a> ThreadSize<'a> {
    /// That of a server; `None` where loops serve, or where there is too little to go by. What lives in a worker
    /// keeps their number.
    #[must_use]
    pub fn of(load: &'a Load) -> Option<ThreadSize<'a>> {
        ThreadSize::with(load, residents::is_single(load))
    }

    fn with(load: &'a Load, is_single: bool) -> Option<ThreadSize<'a>> {
        let shared = load.shared.as_ref().filter(|shared| shared.share >= often::SELDOM);
        ThreadSize::sharing(load, is_single, shared)
    }

    fn sharing(
        load: &'a Load,
        is_single: bool,
        shared: Option<&'a SharedPool>,
    ) -> Option<ThreadSize<'a>> {
        let (costs, demand) = (enough(load)?, load.demand()?);
        let threads_now = load.slots?;
        let workers_now = workers_of(load);
        // The lock of one process is the limit that no more threads lift. Where few looks saw it, the upper
        // end of its share is taken: one worker too many costs memory, one too few a fifth of the
        // throughput (`scripts/bench --only sizing`, 1 ms of CPU and 80 ms of waiting: 1 × 59 against 2 × 30).
        let gil = costs.most_gil();
        let needs = Needs { gil, free: costs.cpu - gil, blocked: blocked(costs, shared)? };
        let cores = load.cores.usable();
        let fit = most_that_fit(load, workers_now);
        // gunicorn's rule of thumb; a server that has more may keep them.
        let most = load.cores.whole().saturating_mul(2).saturating_add(1).max(1);
        let most_workers = if is_single { workers_now } else { most };
        let error = error(costs);
        let choose = |shared| {
            let task = |most_threads| Task {
                needs,
                shared,
                demand,
                cores,
                fit,
                most_workers,
                most_threads,
            };
            // Workers of one thread as long as they do: code that was never run by several threads at once
            // may not be made for it.
            let single = find(&task(1), error);
            let many = find(&task(MOST_THREADS), error);
            let is_worth_it = threads_now > 1 || many.capacity > single.capacity * WORTH_IT;
            if is_worth_it { many } else { single }
        };
        let shape_now = Shape { workers: workers_now, threads: threads_now };
        let by = |shared, shape| capacity_sharing(needs, shared, shape, cores, demand);
        let (mut found, pool) = match shared.and_then(|shared| Growing::of(load, shared)) {
            Some(growing) => match growing.find(shape_now, most_workers, by, choose) {
                Some(found) => found,
                // It is waited for where requests come in bunches, or to one worker more than to another: no
                // size takes that wait away.
                None => return ThreadSize::sharing(load, is_single, None),
            },
            None => (choose(shared.map(station)), None),
        };
        if is_single && found.limit == Limit::Workers {
            found.limit = Limit::Residents;
        }
        let before = load.rate()?;
        // By the same arithmetic, or what it is off by would pass for a gain.
        // Threads of which each could have a CPU do not keep each other from one: what else runs here does, and gets less
        // of the CPUs the more threads want them.
        let is_few = shape_now.slots() <= load.cores.whole();
        let delay = if is_few { costs.run_delay } else { 0.0 };
        let needs_now = Needs { blocked: needs.blocked + delay, ..needs };
        let now = capacity_sharing(needs_now, shared.map(station), shape_now, cores, demand);
        let as_it_is = before.max(now);
        let now = (workers_now, threads_now);
        let size =
            ThreadSize { load, costs, needs, demand, found, now, before, as_it_is, shared, pool };
        Some(size)
    }

    /// What limits it where no other size does noticeably more.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        (self.found.capacity < self.as_it_is * WORTH_IT).then_some(self.found.limit)
    }

    /// Another size; `None` where none does noticeably more.
    #[must_use]
    pub fn change(&self) -> Option<Recommendation> {
        self.limit().is_none().then(|| self.recommendation())
    }

    /// What more workers would be, were it not for what lives in one; `None` where no more would do noticeably more.
    #[must_use]
    pub fn more_workers(&self) -> Option<Recommendation> {
        let free = ThreadSize::with(self.load, false).filter(|free| free.limit().is_none())?;
        let kept = if self.limit().is_none() { self.found.capacity } else { self.before };
        (free.found.shape.workers > free.now.0 && free.found.capacity >= kept * WORTH_IT)
            .then(|| free.recommendation())
    }

    /// Fewer workers that get as much done; `None` where they would not.
    #[must_use]
    pub fn fewer_workers(&self) -> Option<Recommendation> {
        let is_as_good = self.found.capacity * WORTH_IT >= self.as_it_is;
        (self.found.shape.workers < self.now.0 && is_as_good)
            .then(|| self.recommendation_of_fewer())
    }

    /// That the size is right; `None` where another does noticeably more.
    #[must_use]
    pub fn to_keep(&self) -> Option<Recommendation> {
        let limit = self.limit()?;
        let workers = wording::several(self.now.0 as usize, "worker");
        let size = match self.now.1 {
            1 => workers,
            threads => format!("{workers} of {}", wording::several(threads as usize, "thread")),
        };
        let reason = format!(
            "no other size gets noticeably more done; what limits it is {}",
            self.limit_words(limit)
        );
        Some(keeping(self.load, self.now.0, &size, reason, limit, Vec::new()))
    }

    /// What to type for it.
    #[must_use]
    pub fn recommendation(&self) -> Recommendation {
        let (workers, threads) = (self.found.shape.workers, self.found.shape.threads);
        let pool = self.growing().filter(|_| self.now == (workers, threads));
        let (kind, setting, current, recommended, suggested) =
            if let Some((kind, shared, size)) = pool {
                let current = shared.limit.unwrap_or(size);
                let suggested =
                    Bounds { lo: current.saturating_add(1).min(size), hi: threads.max(size) };
                (SettingKind::Connections, client_pool::setting(kind), current, size, suggested)
            } else if threads > 1 || self.now.1 > 1 {
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
        if let Some((kind, shared, size)) = self.growing() {
            parts.push(client_pool::command(kind, &shared.name, size));
        }
        parts.join(" and ")
    }

    fn reason(&self) -> String {
        let waits = self.needs.blocked;
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
            let workers = workers_of(self.load);
            let stay = if workers == 1 { "stays" } else { "stay" };
            let workers = wording::several(workers as usize, "worker");
            format!("; {workers} {stay}: {}", residents::in_each(self.load))
        } else {
            String::new()
        };
        let pool = self.shared.map_or(String::new(), |shared| self.about(shared));
        let peer = self.condition().unwrap_or_default();
        format!(
            "{kind}: {there} are there at once, for {slots} threads in all{pool}{peer}{safe}{kept}"
        )
    }

    /// What the prediction rests on where requests mostly wait for one peer: how fast that is when more ask it
    /// at once cannot be told from a server that never did.
    fn condition(&self) -> Option<String> {
        let one = self.load.blocked_on.first()?;
        one.peer.parse::<SocketAddr>().ok()?;
        let all = self.needs.blocked * to_f64(self.costs.requests);
        let (now, then) = (self.now.0.saturating_mul(self.now.1), self.found.shape.slots());
        let is_most = one.time.as_secs_f64() >= all * MOST_OF_WAITING;
        (is_most && then > now).then(|| {
            format!(
                "; predicted as if {} answered that many at once as fast as it does now: if it does not, they \
                 wait for it instead of for a thread, and no more gets done",
                one.peer
            )
        })
    }

    /// The pool that is to have another size, and that.
    fn growing(&self) -> Option<(PoolKind, &SharedPool, u32)> {
        let shared = self.shared?;
        Some((shared.kind.pool()?, shared, self.pool?))
    }

    /// What limits it, in words.
    #[must_use]
    pub fn limit_words(&self, limit: Limit) -> String {
        match (limit, self.shared) {
            (Limit::Turns, Some(shared)) => client_pool::shared_name(shared),
            _ => limit.words().to_owned(),
        }
    }

    /// What the pool or lock that requests wait for has to do with it.
    fn about(&self, shared: &SharedPool) -> String {
        let name = client_pool::shared_name(shared);
        let workers = self.found.shape.workers;
        match (self.pool, shared.limit) {
            (Some(size), _) => format!(
                "; they waited for {name} {} of the time, which is to have {size} in each worker: {}",
                wording::percent(shared.share),
                client_pool::in_all(Some(self.load), workers, size)
            ),
            (None, _) if !shared.kind.is_in_each_worker() => format!(
                "; they wait for {name}, which lets one connection write at a time, of whatever worker or \
                 thread"
            ),
            (None, limit) => format!(
                "; they wait for {name}{}: more threads only wait there, and each worker has one of its own, \
                 so that more workers let more through to what it guards",
                limit.map_or(String::new(), |limit| format!(", {limit} at once in each worker"))
            ),
        }
    }

    /// Whether that pool is to have another size.
    #[must_use]
    pub fn is_of_pool(&self) -> bool {
        self.pool.is_some()
    }

    fn inputs(&self) -> Vec<Measured> {
        let pool = self.shared.map(|shared| {
            [
                Measured::new("waited_for_pool", shared.waited, "s"),
                Measured::new("kept_of_pool", shared.kept, "s"),
            ]
        });
        let all = vec![
            Measured::new("arrival_rate", self.before, "1/s"),
            Measured::new("requests_at_once", self.demand, "count"),
            Measured::new("cpu_with_gil", self.costs.most_gil(), "s"),
            Measured::new("cpu_without_gil", self.costs.cpu - self.costs.most_gil(), "s"),
            Measured::new("blocked", self.needs.blocked, "s"),
            Measured::new("usable_cpus", self.load.cores.usable(), "count"),
        ];
        all.into_iter().chain(pool.into_iter().flatten()).collect()
    }
}

/// What a request waits for others, without its wait for a pool.
fn blocked(costs: &Costs, shared: Option<&SharedPool>) -> Option<f64> {
    let all = costs.blocked()?;
    Some(shared.map_or(all, |shared| (all - shared.waited).max(shared.kept.min(all))))
}
