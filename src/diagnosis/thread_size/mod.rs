//! How many workers and threads a server without an event loop should have. In words: `words.rs`.
//!
//! Takes a server's load, computed once for all rules; gives what to type with its arithmetic, or what limits the size
//! that is there. Never judges whether anybody waits.

mod words;

use super::bursts::Bursts;
use super::pool_growth::{Growing, station};
use super::size::{effect, enough, error, most_that_fit, workers_of};
use super::{often, residents};
use crate::model::{Costs, Effect, Load, PeerLimit, Recommendation, SharedKind, SharedPool};
use crate::sizing::capacity::{Needs, Shape, Shared, capacity_sharing};
use crate::sizing::hub::OnHub;
use crate::sizing::shape::{Found, Limit, MOST_THREADS, TARGET_USE, Task, find};
use crate::units::Bounds;

/// A size that gets less than this much more done is no reason to change anything.
pub(super) const WORTH_IT: f64 = 1.05;
/// From this share of the CPUs that are left to a server on it keeps them busy: what is idle of them is so between two
/// requests (1 × 2 threads of `hashlib.pbkdf2_hmac` used 0.95 of two CPUs, and 2 × 1 got a tenth less done).
pub(super) const CPUS_BUSY: f64 = 0.93;
/// However much of a lock others hold, requests get a part of it: each asks for it every 5 ms (`DEFAULT_INTERVAL`,
/// CPython Python/ceval_gil.c), and then has it.
const MOST_HELD: f64 = 0.95;
/// From this part of what requests wait on a peer decides what more of them at once do.
pub(super) const MOST_OF_WAITING: f64 = 0.5;

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
            None => {
                let found = choose(load, &work, is_single, Some(station(shared)));
                (no_more_than_enough(load, found), None)
            }
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
        let Work { demand, rate, is_bound, .. } = self.work;
        // What a hub that is busy all the time hides may be what limits threads.
        let at_best = is_bound && self.work.threads.is_none();
        let effect =
            |name, before, after, unit| Effect { at_best, ..effect(name, before, after, unit) };
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
        let Found { shape, threads, .. } = self.found;
        let most = shape.workers.saturating_mul(threads.hi);
        (is_as_good && is_worth_going_back(slots, shape.slots(), most))
            .then(|| self.recommendation())
    }
}

/// Whether a size is worth going back from to a smaller one: it is more than would do by all that the measurements may be
/// off, and by a quarter at least, which is the room that sizes have.
pub(super) fn is_worth_going_back(now: u32, size: u32, most: u32) -> bool {
    now > most && f64::from(now) * TARGET_USE >= f64::from(size)
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

/// The same with no more threads than were seen to be enough for the peer that limits.
fn no_more_than_enough(load: &Load, found: Found) -> Found {
    let limit = load.peer_limit();
    let Some(room) = limit.and_then(PeerLimit::enough) else { return found };
    let most = room.div_ceil(found.shape.workers.max(1)).max(1);
    let Found { shape, threads, .. } = found;
    let shape = Shape { threads: shape.threads.min(most), ..shape };
    let threads = Bounds { lo: threads.lo.min(shape.threads), hi: threads.hi.min(most) };
    Found { shape, threads, ..found }
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
