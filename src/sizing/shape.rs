//! How many workers and threads a server without a loop should have: the smallest shape that gets
//! nearly all done that any shape could.

use super::capacity::{Needs, Shape, Shared, capacity_sharing};
use crate::units::Bounds;

/// A shape that gets this much of what the best would is as good: measured throughput of one shape
/// varies by as much from run to run.
pub const NEARLY_ALL: f64 = 0.97;
/// Workers use at most this share of what they are sized for (ρ), so that work that comes in bunches
/// does not queue for long: at 0.75 the wait for one of many servers is a small part of the service time
/// (Kleinrock, *Queueing Systems* I, 1975, §3.5).
pub const TARGET_USE: f64 = 0.75;
/// Most threads of a worker that are suggested. Python's own pools stop at 32
/// (`ThreadPoolExecutor`), anyio's at 40; past some dozens per lock an event loop serves better.
pub const MOST_THREADS: u32 = 64;
/// Threads for each CPU at the least where requests may wait for more than could be seen: they make up for waiting of
/// three times what a request computes. A thread for each request was worse: of Flask with SQLite on 2 CPUs, 34 threads
/// did 57 requests a second and 4 did 73 (the application of `scripts/story sqlite-gevent`).
const UNSEEN_PER_CPU: f64 = 4.0;
/// Another process costs memory, a thread hardly any: one worker weighs as much as so many threads.
const WORKER_WEIGHT: u32 = 4;

/// What keeps a shape from being larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// There is no more to serve at once.
    Demand,
    /// The CPUs are busy.
    Cores,
    /// More threads would only wait for the interpreter lock.
    Lock,
    /// More workers do not fit into memory.
    Memory,
    /// gunicorn's rule of thumb, 2 × cores + 1 (<https://docs.gunicorn.org/en/stable/design.html>).
    Workers,
    /// As many threads as are sensible.
    Threads,
    /// What lives in a worker, and more of them would repeat.
    Residents,
    /// What lets so many requests through at a time: a pool of connections, a lock.
    Turns,
}

impl Limit {
    /// In words, to follow "limited by".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Limit::Demand => "what there is to serve at once",
            Limit::Cores => "the CPUs",
            Limit::Lock => "the interpreter lock of each worker",
            Limit::Memory => "memory",
            Limit::Workers => "2 × cores + 1 workers",
            Limit::Threads => "64 threads in a worker",
            Limit::Residents => "what lives in each worker",
            Limit::Turns => "what requests wait for a turn at",
        }
    }
}

/// What a size is sought for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Task {
    /// What a request needs.
    pub needs: Needs,
    /// What each process has so many of for all its requests, if they wait for that.
    pub shared: Option<Shared>,
    /// Requests that are there at the same time.
    pub demand: f64,
    /// CPUs that can be counted on.
    pub cores: f64,
    /// Most workers that fit: memory.
    pub fit: u32,
    /// Most workers that are sensible.
    pub most_workers: u32,
    /// Most threads of a worker; 1 for workers that have but one.
    pub most_threads: u32,
    /// Whether what requests wait for is known from below only: then there are `UNSEEN_PER_CPU` threads at least.
    pub is_bound: bool,
}

impl Task {
    fn capacity(&self, shape: Shape, demand: f64) -> f64 {
        capacity_sharing(self.needs, self.shared, shape, self.cores, demand)
    }
}

/// The size found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The shape.
    pub shape: Shape,
    /// Workers and threads that will do as well, by the errors of what was measured.
    pub workers: Bounds<u32>,
    /// The same of threads.
    pub threads: Bounds<u32>,
    /// Requests a second, as computed.
    pub capacity: f64,
    /// What keeps it from being larger.
    pub limit: Limit,
}

/// The smallest shape that does nearly all that any could. `error` is the relative error of the needs and
/// of the demand.
#[must_use]
pub fn find(task: &Task, error: f64) -> Found {
    let shape = smallest(task);
    let vary = |by: f64| {
        let needs = task.needs;
        let blocked = needs.blocked * by;
        // One for all processes that lets several through at once was measured, and is no setting.
        let vary = |one: Shared| match one {
            Shared { servers, in_each_process: false, .. } if servers > 1.0 => {
                Shared { servers: servers * by, ..one }
            }
            _ => one,
        };
        let (shared, demand) = (task.shared.map(vary), task.demand * by);
        // More waiting and more demand ask for more slots.
        smallest(&Task { needs: Needs { blocked, ..needs }, shared, demand, ..*task })
    };
    let (low, high) = (vary(1.0 - error.clamp(0.0, 0.5)), vary(1.0 + error.clamp(0.0, 0.5)));
    let span = |of: fn(Shape) -> u32| {
        let three = [of(shape), of(low), of(high)];
        let lo = three.into_iter().fold(u32::MAX, u32::min);
        Bounds { lo, hi: three.into_iter().fold(0, u32::max) }
    };
    Found {
        shape,
        workers: span(|shape| shape.workers),
        threads: span(|shape| shape.threads),
        capacity: task.capacity(shape, task.demand),
        limit: limit(task, shape),
    }
}

fn smallest(task: &Task) -> Shape {
    let mut all = Vec::new();
    let most_workers = task.most_workers.min(task.fit).max(1);
    for workers in 1..=most_workers {
        for threads in 1..=task.most_threads.max(1) {
            let shape = Shape { workers, threads };
            all.push((shape, task.capacity(shape, task.demand)));
        }
    }
    let best = all.iter().map(|(_, capacity)| *capacity).fold(0.0, f64::max);
    let enough = all.iter().filter(|(_, capacity)| *capacity >= best * NEARLY_ALL);
    let weight =
        |shape: &Shape| shape.slots().saturating_add(shape.workers.saturating_mul(WORKER_WEIGHT));
    let least = enough.map(|(shape, _)| *shape).min_by_key(|shape| (weight(shape), shape.workers));
    let mut shape = least.unwrap_or(Shape { workers: 1, threads: 1 });
    let computes = f64::from(shape.workers) >= task.cores.floor();
    if shape.threads == 1
        && computes
        && shape.workers < most_workers
        && task.demand > f64::from(shape.workers)
    {
        // A worker of one thread does nothing while it takes in the next request: one more keeps the
        // CPU busy meanwhile.
        shape.workers = shape.workers.saturating_add(1);
    }
    if shape.threads > 1
        && computes
        && shape.workers < most_workers
        && task.capacity(shape, task.demand) > by_cpus(task) * CPUS_BUSY
    {
        // Where the CPUs are the limit a lock's holder is put off its CPU now and then, and all threads
        // of its worker wait along: one more worker keeps the CPU busy meanwhile. Measured: of requests
        // of 4 ms CPU and 45 ms waiting on 2 CPUs, 3 workers got 0.93 of the best done and 4 got 0.99
        // (`scripts/bench --only sizing`).
        let slots = shape.slots();
        shape.workers = shape.workers.saturating_add(1);
        shape.threads = slots.div_ceil(shape.workers).max(1);
    }
    if task.most_threads > 1 && shape.threads > 1 {
        // Room for bunches, and for workers that got more than their share of the connections.
        let roomy = (f64::from(shape.threads) / TARGET_USE).ceil();
        shape.threads = crate::units::whole(roomy).min(task.most_threads);
    }
    if task.is_bound {
        let of_each =
            task.demand.min(task.cores.ceil() * UNSEEN_PER_CPU) / f64::from(shape.workers);
        let of_each = crate::units::whole(of_each.ceil()).min(task.most_threads.max(1));
        shape.threads = shape.threads.max(of_each);
    }
    shape
}

fn limit(task: &Task, shape: Shape) -> Limit {
    let at = |shape: Shape, demand: f64| task.capacity(shape, demand);
    let now = at(shape, task.demand);
    let gains = |more: f64| more > now / NEARLY_ALL;
    let workers = Shape { workers: shape.workers.saturating_add(1), ..shape };
    if gains(at(workers, task.demand)) {
        return if shape.workers >= task.fit { Limit::Memory } else { Limit::Workers };
    }
    if gains(at(Shape { threads: shape.threads.saturating_mul(2), ..shape }, task.demand)) {
        return Limit::Threads;
    }
    if now > by_cpus(task) * CPUS_BUSY {
        return Limit::Cores;
    }
    let alone = Task { shared: None, ..*task };
    if task.shared.is_some() && gains(alone.capacity(shape, task.demand)) {
        return Limit::Turns;
    }
    if f64::from(shape.slots()) >= task.demand { Limit::Demand } else { Limit::Lock }
}

/// Requests a second that the CPUs could do if they never waited.
fn by_cpus(task: &Task) -> f64 {
    task.cores / task.needs.cpu().max(f64::MIN_POSITIVE)
}

/// From this share of what the CPUs could do on, they are what limits.
const CPUS_BUSY: f64 = 0.85;

#[cfg(test)]
mod tests {
    use super::*;

    fn task(gil: f64, free: f64, blocked: f64, demand: f64) -> Task {
        let needs = Needs { gil, free, blocked, neighbours: 0.0 };
        Task {
            needs,
            shared: None,
            demand,
            cores: 2.0,
            fit: 100,
            most_workers: 5,
            most_threads: MOST_THREADS,
            is_bound: false,
        }
    }

    #[test]
    fn computing_gets_a_worker_per_cpu_and_little_more() {
        let found = find(&task(0.02, 0.0, 0.0, 16.0), 0.05);
        assert!((2..=4).contains(&found.shape.workers), "{found:?}");
        assert_eq!((found.shape.threads, found.limit), (1, Limit::Cores));
    }

    #[test]
    fn waiting_gets_threads_for_all_that_is_there() {
        let found = find(&task(0.0005, 0.0, 0.1, 40.0), 0.05);
        let slots = found.shape.slots();
        assert!((38..=80).contains(&slots), "{found:?}");
        assert_eq!(found.limit, Limit::Demand);
        assert!(found.threads.lo <= found.shape.threads && found.shape.threads <= found.threads.hi);
    }

    #[test]
    fn what_does_both_gets_more_workers_than_cpus() {
        let found = find(&task(0.0037, 0.0, 0.045, 44.0), 0.05);
        assert!((4..=5).contains(&found.shape.workers), "{found:?}");
        assert!(found.shape.slots() < 60, "{found:?}");
    }

    #[test]
    fn memory_is_a_limit() {
        let mut small = task(0.02, 0.0, 0.0, 16.0);
        small.fit = 1;
        let found = find(&small, 0.05);
        assert_eq!((found.shape.workers, found.limit), (1, Limit::Memory));
    }

    #[test]
    fn workers_of_one_thread_that_wait_want_more_than_are_sensible() {
        let sync = Task { most_threads: 1, ..task(0.001, 0.0, 0.1, 40.0) };
        let found = find(&sync, 0.05);
        assert_eq!((found.shape, found.limit), (Shape { workers: 5, threads: 1 }, Limit::Workers));
    }

    #[test]
    fn what_waits_for_a_few_connections_gets_workers_and_few_threads() {
        let shared = Some(Shared { servers: 4.0, kept: 0.08, in_each_process: true });
        let found = find(&Task { shared, ..task(0.001, 0.0, 0.08, 40.0) }, 0.05);
        assert_eq!((found.shape.workers, found.limit), (5, Limit::Workers), "{found:?}");
        assert!((4..=8).contains(&found.shape.threads), "{found:?}");
        assert!(found.capacity < 5.0 * 50.0 + 1e-6, "{found:?}");
    }

    #[test]
    fn some_threads_for_each_cpu_where_what_requests_wait_for_is_not_known() {
        let known = task(0.0, 0.02, 0.0, 24.0);
        assert!(find(&known, 0.05).shape.slots() < 8);
        let found = find(&Task { is_bound: true, ..known }, 0.05);
        assert!((8..12).contains(&found.shape.slots()), "{found:?}");
        assert!(found.shape.threads >= found.threads.lo && found.shape.threads <= found.threads.hi);
        // No more than there is to do.
        let few = find(&Task { is_bound: true, demand: 3.0, ..known }, 0.05);
        assert!(few.shape.slots() <= 6, "{few:?}");
    }

    #[test]
    fn one_client_needs_no_more_than_one() {
        let found = find(&task(0.01, 0.0, 0.01, 1.0), 0.05);
        assert_eq!(found.shape, Shape { workers: 1, threads: 1 });
        assert_eq!(found.limit, Limit::Demand);
    }
}
