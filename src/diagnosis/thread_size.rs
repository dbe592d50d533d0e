//! How many workers and threads a server without an event loop should have, in words.
//!
//! Takes a server's load, computed once for all rules; gives what to type with its arithmetic, or what limits the size
//! that is there. Never judges whether anybody waits.

use std::net::SocketAddr;

use super::blocked::ratio;
use super::bursts::Bursts;
use super::pool_growth::{Growing, station};
use super::pool_size::measured;
use super::size::{
    effect, enough, error, keeping, most_that_fit, threads_option, workers_of, workers_option,
};
use super::{client_pool, contrast, often, residents, wording};
use crate::model::{
    Contrast, Costs, Effect, Load, Measured, PoolKind, Recommendation, Remedy, SettingKind,
    SharedKind, SharedPool,
};
use crate::sizing::capacity::{Needs, Shape, Shared, capacity_sharing};
use crate::sizing::hub::OnHub;
use crate::sizing::shape::{Found, Limit, MOST_THREADS, Task, find};
use crate::units::{Bounds, to_f64, whole};

/// A size that gets less than this much more done is no reason to change anything.
const WORTH_IT: f64 = 1.05;
/// From this share of the CPUs that are left to a server on it keeps them busy: what is idle of them is so between two
/// requests (1 × 2 threads of `hashlib.pbkdf2_hmac` used 0.95 of two CPUs, and 2 × 1 got a tenth less done).
pub(super) const CPUS_BUSY: f64 = 0.93;
/// However much of a lock others hold, requests get a part of it: each asks for it every 5 ms (`DEFAULT_INTERVAL`,
/// CPython Python/ceval_gil.c), and then has it.
const MOST_HELD: f64 = 0.95;
/// From this part of what requests wait on a peer decides what more of them at once do.
pub(super) const MOST_OF_WAITING: f64 = 0.5;
/// A size this many times as large as one that does as well is worth going back from; with less there is room for what
/// does not ask the peer.
const WORTH_GOING_BACK: f64 = 1.5;

/// The smallest size that gets nearly all done that any could.
#[derive(Debug, Clone, Copy)]
pub struct ThreadSize<'a> {
    /// The server.
    pub load: &'a Load,
    work: Work<'a>,
    found: Found,
    workers_now: u32,
    /// Requests a second that the size that is there does, by the arithmetic that gives what another does.
    as_it_is: f64,
    /// The pool of the application's that requests wait for, and what its size is to be if that is another.
    shared: Option<&'a SharedPool>,
    pool: Option<u32>,
}

/// What there is to do, whoever does it.
#[derive(Debug, Clone, Copy)]
struct Work<'a> {
    costs: &'a Costs,
    needs: Needs,
    /// Requests that are there at once; of those that come in bursts, while they do.
    demand: f64,
    /// Requests a second that get done now; of those that come in bursts, while they do.
    rate: f64,
    /// Where they do.
    bursts: Option<Bursts>,
    /// Threads of each worker now; `None` where greenlets on a hub do it.
    threads: Option<u32>,
    /// What requests wait for is known from below only.
    is_bound: bool,
}

impl<'a> Work<'a> {
    /// `shared` is what requests wait for a turn at, of which the wait is not theirs.
    fn on_threads(load: &'a Load, shared: Option<&SharedPool>) -> Option<Work<'a>> {
        let costs = enough(load)?;
        let needs = needs(load, costs, blocked(costs, shared)?);
        // What they wait for themselves is known as a mean over all of the time.
        let bursts = shared.is_none().then(|| Bursts::of(load)).flatten();
        let (demand, rate) = match bursts {
            Some(Bursts { share, there }) => (there, load.rate()? / share),
            None => (load.demand()?, load.rate()?),
        };
        let threads = Some(load.slots?);
        Some(Work { costs, needs, demand, rate, bursts, threads, is_bound: false })
    }

    fn on_hubs(load: &'a Load) -> Option<Work<'a>> {
        let costs = enough(load)?;
        let on_hub = OnHub::of(load, costs)?;
        let needs = needs(load, costs, on_hub.asleep + on_hub.beside);
        let (demand, rate, is_bound) = (on_hub.there, load.rate()?, on_hub.is_bound);
        Some(Work { costs, needs, demand, rate, bursts: None, threads: None, is_bound })
    }
}

/// What a request needs, in the time that what holds a worker's lock beside its requests leaves them.
fn needs(load: &Load, costs: &Costs, blocked: f64) -> Needs {
    let own = Needs::of(costs, blocked);
    let held = load.beside.map_or(0.0, |beside| beside.held).clamp(0.0, MOST_HELD);
    Needs { gil: own.gil / (1.0 - held), ..own }
}

impl<'a> ThreadSize<'a> {
    /// That of a server; `None` where loops serve, or where there is too little to go by. What lives in a worker
    /// keeps their number.
    #[must_use]
    pub fn of(load: &'a Load) -> Option<ThreadSize<'a>> {
        ThreadSize::on_threads(load, residents::is_single(load))
    }

    /// That of threads (gunicorn's gthread) that would do what greenlets on hubs do now; `None` where there is too
    /// little to go by.
    #[must_use]
    pub fn instead_of_hubs(load: &'a Load) -> Option<ThreadSize<'a>> {
        Some(ThreadSize::with(load, Work::on_hubs(load)?, residents::is_single(load)))
    }

    fn on_threads(load: &'a Load, is_single: bool) -> Option<ThreadSize<'a>> {
        let shared = load.shared.as_ref().filter(|shared| shared.share >= often::SELDOM);
        let sharing = shared.and_then(|shared| {
            ThreadSize::sharing(load, Work::on_threads(load, Some(shared))?, is_single, shared)
        });
        match sharing {
            Some(size) => Some(size),
            None => Some(ThreadSize::with(load, Work::on_threads(load, None)?, is_single)),
        }
    }

    fn with(load: &'a Load, work: Work<'a>, is_single: bool) -> ThreadSize<'a> {
        let found = choose(load, &work, is_single, None);
        ThreadSize::found(load, work, found, None)
    }

    /// The same where requests wait for a turn at something; `None` where no size takes that wait away: it is waited
    /// for where requests come in bunches, or to one worker more than to another.
    fn sharing(
        load: &'a Load,
        work: Work<'a>,
        is_single: bool,
        shared: &'a SharedPool,
    ) -> Option<ThreadSize<'a>> {
        let (found, pool) = match Growing::of(load, shared).zip(work.threads) {
            Some((growing, threads)) => {
                let Work { needs, demand, .. } = work;
                let now = Shape { workers: workers_of(load), threads };
                let cores = load.cores.together();
                let by = |shared, shape| capacity_sharing(needs, shared, shape, cores, demand);
                let choose = |shared| choose(load, &work, is_single, shared);
                growing.find(now, most_workers(load, is_single), by, choose)?
            }
            None => (choose(load, &work, is_single, Some(station(shared))), None),
        };
        let size = ThreadSize::found(load, work, found, Some(shared));
        Some(ThreadSize { pool, ..size })
    }

    fn found(
        load: &'a Load,
        work: Work<'a>,
        found: Found,
        shared: Option<&'a SharedPool>,
    ) -> ThreadSize<'a> {
        let Work { costs, needs, demand, rate, .. } = work;
        let workers_now = workers_of(load);
        // By the same arithmetic, or what it is off by would pass for a gain. What greenlets do was measured.
        let as_it_is = work.threads.map_or(rate, |threads| {
            let shape = Shape { workers: workers_now, threads };
            let needs = Needs { blocked: needs.blocked + kept_off(load, costs, shape), ..needs };
            let cores = load.cores.together();
            rate.max(capacity_sharing(needs, shared.map(station), shape, cores, demand))
        });
        ThreadSize { load, work, found, workers_now, as_it_is, shared, pool: None }
    }

    /// Its workers and threads.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.found.shape
    }

    /// Whether each request that is there could have a thread.
    #[must_use]
    pub fn could_hold_all(&self) -> bool {
        f64::from(self.found.shape.workers.saturating_mul(MOST_THREADS)) >= self.work.demand
    }

    /// What limits it where no other size does noticeably more.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        if self.keeps_cpus_busy() {
            return Some(Limit::Cores);
        }
        // What the arithmetic thinks better of than was measured may be the size that is there.
        let is_little = self.found.capacity < self.as_it_is * WORTH_IT || self.is_there();
        is_little.then_some(self.found.limit)
    }

    /// Whether it is the size that is there, and nothing is to be typed.
    fn is_there(&self) -> bool {
        let shape = self.found.shape;
        (self.workers_now, self.work.threads) == (shape.workers, Some(shape.threads))
            && self.pool.is_none()
    }

    /// Whether its threads use all the CPUs that are left to them: what requests compute is the same in any size.
    fn keeps_cpus_busy(&self) -> bool {
        let used = self.work.rate * self.work.costs.cpu;
        self.work.threads.is_some() && used >= self.load.cores.usable() * CPUS_BUSY
    }

    /// What the size that is there does with so many CPUs.
    #[must_use]
    pub fn with_cpus(&self, cpus: f64) -> Effect {
        let Work { needs, demand, rate, .. } = self.work;
        let now = Shape { workers: self.workers_now, threads: self.work.threads.unwrap_or(1) };
        let then = capacity_sharing(needs, self.shared.map(station), now, cpus, demand);
        effect("throughput", rate, then.max(rate), "1/s")
    }

    /// Another size; `None` where none does noticeably more.
    #[must_use]
    pub fn change(&self) -> Option<Recommendation> {
        self.limit().is_none().then(|| self.recommendation())
    }

    /// What more workers would be, were it not for what lives in one; `None` where no more would do noticeably more.
    #[must_use]
    pub fn more_workers(&self) -> Option<Recommendation> {
        let moved = self.load.without_background();
        let free = match self.work.threads {
            Some(_) => ThreadSize::on_threads(&moved, false)?,
            None => ThreadSize::with(self.load, self.work, false),
        };
        let kept = if self.limit().is_none() { self.found.capacity } else { self.work.rate };
        (free.limit().is_none()
            && free.found.shape.workers > free.workers_now
            && free.found.capacity >= kept * WORTH_IT)
            .then(|| free.recommendation())
    }

    /// What the size that is there would do if what computes beside the requests did so in another process, on the same
    /// CPUs; nothing where that gets no more done, or requests do not queue for it.
    #[must_use]
    pub fn without_background(&self) -> Vec<Effect> {
        let Some(threads) = self.work.threads.filter(|_| self.load.beside.is_some()) else {
            return Vec::new();
        };
        let Work { costs, needs, demand, rate, .. } = self.work;
        let cores = self.load.without_background().cores.together();
        let shape = Shape { workers: self.workers_now, threads };
        let needs = Needs::of(costs, needs.blocked + kept_off(self.load, costs, shape));
        let after = capacity_sharing(needs, self.shared.map(station), shape, cores, demand);
        if self.load.full.is_none_or(|full| full < often::SELDOM) || after < rate * WORTH_IT {
            return Vec::new();
        }
        self.effects(after)
    }

    /// What so many requests a second are, to those that are there now.
    fn effects(&self, after: f64) -> Vec<Effect> {
        let Work { demand, rate, .. } = self.work;
        vec![
            effect("throughput", rate, after, "1/s"),
            effect(
                "response_time",
                demand / rate.max(f64::MIN_POSITIVE),
                demand / after.max(f64::MIN_POSITIVE),
                "s",
            ),
        ]
    }

    /// Fewer workers that get as much done; `None` where they would not.
    #[must_use]
    pub fn fewer_workers(&self) -> Option<Recommendation> {
        let is_as_good = self.found.capacity * WORTH_IT >= self.as_it_is;
        (self.found.shape.workers < self.workers_now && is_as_good)
            .then(|| self.recommendation_of_fewer())
    }

    /// A smaller size that gets as much done, where a peer limits it: more threads only wait there. `None` where what is there
    /// is hardly larger.
    #[must_use]
    pub fn smaller(&self) -> Option<Recommendation> {
        self.shared.filter(|shared| shared.kind == SharedKind::Peer)?;
        let slots = self.workers_now.saturating_mul(self.work.threads?);
        let is_as_good = self.found.capacity * WORTH_IT >= self.as_it_is;
        let is_larger = f64::from(slots) >= f64::from(self.found.shape.slots()) * WORTH_GOING_BACK;
        (is_as_good && is_larger).then(|| self.recommendation())
    }

    /// That the size is right; `None` where another does noticeably more.
    #[must_use]
    pub fn to_keep(&self) -> Option<Recommendation> {
        let limit = self.limit()?;
        let workers = wording::several(self.workers_now as usize, "worker");
        let size = match self.work.threads.unwrap_or(1) {
            1 => workers,
            threads => format!("{workers} of {}", wording::several(threads as usize, "thread")),
        };
        let reason = format!(
            "no other size gets noticeably more done; what limits it is {}",
            self.limit_words(limit)
        );
        Some(keeping(self.load, self.workers_now, &size, reason, limit, Vec::new()))
    }

    /// What to type for it.
    #[must_use]
    pub fn recommendation(&self) -> Recommendation {
        let (workers, threads) = (self.found.shape.workers, self.found.shape.threads);
        let now = self.work.threads;
        let pool = self.growing().filter(|_| (self.workers_now, now) == (workers, Some(threads)));
        let (kind, setting, current, recommended, suggested) =
            if let Some((kind, shared, size)) = pool {
                let current = shared.limit.unwrap_or(size);
                let suggested =
                    Bounds { lo: current.saturating_add(1).min(size), hi: threads.max(size) };
                let setting = client_pool::setting(kind);
                (SettingKind::Connections, setting, Some(current), size, suggested)
            } else if threads > 1 || now != Some(1) {
                (SettingKind::Threads, "threads", now, threads, self.found.threads)
            } else {
                let now = Some(self.workers_now);
                (SettingKind::Workers, "workers", now, workers, self.found.workers)
            };
        let remedy = Remedy::Setting {
            kind,
            setting: setting.to_owned(),
            current,
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
            predicted: self.effects(self.found.capacity),
        }
    }

    /// The same for fewer workers: what is gained is their memory.
    fn recommendation_of_fewer(&self) -> Recommendation {
        let Found { shape, workers, limit, capacity, .. } = self.found;
        let predicted = effect("throughput", self.work.rate, capacity, "1/s");
        let memory = self.load.memory.per_worker.map(|bytes| {
            let of = |count: u32| to_f64(bytes) * f64::from(count);
            effect("memory", of(self.workers_now), of(shape.workers), "bytes")
        });
        Recommendation {
            remedy: Remedy::Setting {
                kind: SettingKind::Workers,
                setting: "workers".to_owned(),
                current: Some(self.workers_now),
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

    /// What to type; a number that stays is not repeated, but for workers of another class, which is all new.
    fn command(&self) -> String {
        let (workers, threads) = (self.found.shape.workers, self.found.shape.threads);
        let Some(threads_now) = self.work.threads else {
            return match workers_option(self.load, workers).strip_prefix("`--") {
                Some(flag) => {
                    format!("`-k gthread --{} --threads {threads}`", flag.trim_end_matches('`'))
                }
                None => format!(
                    "{} and `-k gthread --threads {threads}`",
                    workers_option(self.load, workers)
                ),
            };
        };
        let mut parts = Vec::new();
        if workers != self.workers_now {
            parts.push(workers_option(self.load, workers));
        }
        if threads != threads_now {
            parts.push(threads_option(self.load, threads));
        }
        if let Some((kind, shared, size)) = self.growing() {
            parts.push(client_pool::command(kind, &shared.name, size));
        }
        parts.join(" and ")
    }

    fn reason(&self) -> String {
        let slots = self.found.shape.slots();
        let there = whole(self.work.demand.round());
        let kept = if residents::is_single(self.load) {
            let workers = workers_of(self.load);
            let stay = if workers == 1 { "stays" } else { "stay" };
            let workers = wording::several(workers as usize, "worker");
            format!("; {workers} {stay}: {}", residents::in_each(self.load))
        } else {
            String::new()
        };
        if self.work.threads.is_none() {
            let bound = if self.work.is_bound {
                "; what is predicted is the most, as a hub that is busy all the time hides what requests \
                 wait for beside it: record again with threads, which show it"
            } else {
                ""
            };
            return format!(
                "of threads only the one that made such a call waits for it, and not all greenlets: {there} \
                 requests are there at once, for {slots} threads in all; the application has to be safe for \
                 threads, and who polls for long or has a WebSocket keeps a thread, where greenlets cost next \
                 to nothing{kept}{bound}"
            );
        }
        let waits = self.work.needs.blocked;
        let kind = if waits > self.work.costs.cpu {
            "requests mostly wait, and each keeps a thread meanwhile"
        } else {
            "requests mostly compute"
        };
        let safe = if self.work.threads == Some(1) && self.found.shape.threads > 1 {
            "; the application has to be safe for threads"
        } else {
            ""
        };
        let pool = self.shared.map_or(String::new(), |shared| self.about(shared));
        let peer = self.condition().unwrap_or_default();
        let when = self.work.bursts.map_or(String::new(), |bursts| {
            format!(
                " while anybody is, {} of the time, which is what is predicted for",
                wording::percent(bursts.share)
            )
        });
        format!(
            "{kind}: {there} are there at once{when}, for {slots} threads in all{pool}{peer}{safe}{kept}"
        )
    }

    /// What the prediction rests on, in words.
    fn condition(&self) -> Option<String> {
        let peer = self.rests_on()?;
        Some(format!(
            "; predicted as if {peer} answered that many at once as fast as it does now: if it does not, they wait \
             for it instead of for a thread, and no more gets done; to find out, keep a recording of now (`stallspy \
             record -p PID -d 30 -f recording -o before.stallspy`), and once it is typed `stallspy advise -p PID \
             --before before.stallspy` tells"
        ))
    }

    /// The peer that the prediction rests on where requests mostly wait for one: how fast that is when more ask it at
    /// once cannot be told from a server that never did.
    #[must_use]
    pub fn rests_on(&self) -> Option<&'a str> {
        if self.load.contrast.as_ref().and_then(Contrast::limit).is_some() {
            return None;
        }
        let one = self.load.blocked_on.first()?;
        one.peer.parse::<SocketAddr>().ok()?;
        let all = self.work.needs.blocked * to_f64(self.work.costs.requests);
        let threads = self.work.threads?;
        let (now, then) = (self.workers_now.saturating_mul(threads), self.found.shape.slots());
        let is_most = one.time.as_secs_f64() >= all * MOST_OF_WAITING;
        (is_most && then > now).then_some(&one.peer)
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
        if let Some(limit) = self.load.contrast.as_ref().and_then(Contrast::limit)
            && shared.kind == SharedKind::Peer
        {
            return format!("; {}: more threads only wait there", contrast::sentence(limit));
        }
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
        let pool = self.shared.map(|shared| match shared.kind {
            SharedKind::Peer => vec![
                Measured::new("waited_for_turn", shared.waited, "s"),
                Measured::new("kept_of_turn", shared.kept, "s"),
                Measured::new("turns_at_once", shared.servers, "count"),
            ],
            SharedKind::Pool(_) | SharedKind::Lock(_) => vec![
                Measured::new("waited_for_pool", shared.waited, "s"),
                Measured::new("kept_of_pool", shared.kept, "s"),
            ],
        });
        let Work { needs, demand, rate, .. } = self.work;
        let all = [
            Measured::new("arrival_rate", rate, "1/s"),
            Measured::new("requests_at_once", demand, "count"),
        ];
        let bursts = self.work.bursts.map(|bursts| ratio("present_share", bursts.share));
        let usable = Measured::new("usable_cpus", self.load.cores.together(), "count");
        let all = all.into_iter().chain(measured(needs)).chain([usable]).chain(bursts);
        all.chain(pool.into_iter().flatten()).collect()
    }
}

/// Most workers that are sensible: gunicorn's rule of thumb; what lives in one keeps their number.
fn most_workers(load: &Load, is_single: bool) -> u32 {
    if is_single {
        return workers_of(load);
    }
    load.cores.rule_of_thumb()
}

/// The best shape for some work.
fn choose(load: &Load, work: &Work<'_>, is_single: bool, shared: Option<Shared>) -> Found {
    let task = |most_threads| Task {
        needs: work.needs,
        shared,
        demand: work.demand,
        cores: load.cores.together(),
        fit: most_that_fit(load, workers_of(load)),
        most_workers: most_workers(load, is_single),
        most_threads,
        is_bound: work.is_bound,
    };
    let error = error(work.costs);
    // Workers of one thread as long as they do: code that was never run by several threads at once
    // may not be made for it.
    let single = find(&task(1), error);
    let many = find(&task(MOST_THREADS), error);
    let has_threads = work.threads.is_none_or(|threads| threads > 1);
    let mut found =
        if has_threads || many.capacity > single.capacity * WORTH_IT { many } else { single };
    if is_single && found.limit == Limit::Workers {
        found.limit = Limit::Residents;
    }
    found
}

/// How long a request waits for a CPU, in seconds, that no thread of its server takes. Threads of which each could have a
/// CPU do not keep each other from one: what else runs here does, and gets less of the CPUs the more threads want them.
fn kept_off(load: &Load, costs: &Costs, shape: Shape) -> f64 {
    if shape.slots() <= load.cores.whole() { costs.run_delay } else { 0.0 }
}

/// What a request waits for others, without its wait for a pool.
fn blocked(costs: &Costs, shared: Option<&SharedPool>) -> Option<f64> {
    let all = costs.blocked()?;
    Some(shared.map_or(all, |shared| (all - shared.waited).max(shared.kept.min(all))))
}
