//! How much a server of a given shape gets done.

use super::queueing::Station;
use crate::model::Costs;

/// What one request needs, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Needs {
    /// CPU time holding the interpreter lock.
    pub gil: f64,
    /// CPU time without it.
    pub free: f64,
    /// Time it waits for others.
    pub blocked: f64,
    /// CPU time that others on the machine take for it: its client, a proxy, a database.
    pub neighbours: f64,
}

impl Needs {
    /// Those of a request that costs this and waits for others for `blocked` seconds.
    ///
    /// The lock of one process is the limit that no more threads lift. Where few looks saw it, the upper
    /// end of its share is taken: one worker too many costs memory, one too few a fifth of the
    /// throughput (`scripts/bench --only sizing`, 1 ms of CPU and 80 ms of waiting: 1 × 59 against 2 × 30).
    #[must_use]
    pub fn of(costs: &Costs, blocked: f64) -> Needs {
        let gil = costs.most_gil();
        Needs { gil, free: costs.cpu - gil, blocked, neighbours: costs.neighbours }
    }

    /// CPU time of the machine, whoever takes it.
    #[must_use]
    pub fn cpu(self) -> f64 {
        self.gil + self.free + self.neighbours
    }
}

/// Something of which there are so many for all requests together: connections to a database, a lock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shared {
    /// How many serve at once.
    pub servers: f64,
    /// Seconds that a request keeps one, of those in which it is blocked.
    pub kept: f64,
    /// Whether each process has so many of its own; else all processes share them.
    pub in_each_process: bool,
}

/// How many processes, and how many requests each of them serves at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// Worker processes.
    pub workers: u32,
    /// Threads of each.
    pub threads: u32,
}

impl Shape {
    /// Requests that can be served at the same time.
    #[must_use]
    pub fn slots(self) -> u32 {
        self.workers.saturating_mul(self.threads)
    }
}

/// Seconds of the interpreter lock that a request of one of several threads takes besides those in which it
/// computes: the lock is nobody's while whom it was handed to wakes up. Measured with gunicorn's gthread on 2
/// CPUs: one process got as many requests of 0.5 to 16 ms of CPU done as its CPU time allowed, less 0.03 to
/// 0.15 ms each (`scripts/bench --only handing`).
pub const HANDING_ON: f64 = 0.1e-3;

/// What the lock of a process gets done of what it could where there are as many processes as CPUs, and these are
/// busy all the time: a holder that is put off its CPU takes the lock along, and all threads of its process wait.
/// Measured as above: two processes of 12 and 24 threads used 0.69 to 0.91 of their locks' time, the less the more
/// threads wait, as each that does wakes up every 5 ms to ask for the lock (`DEFAULT_INTERVAL`, CPython
/// Python/ceval_gil.c).
pub const HELD_UP: f64 = 0.8;

/// Requests a second that a server of this shape gets done on `cores` CPUs, which it shares with who talks to it, for
/// `clients` that are there at the same time and each wait for their answer.
///
/// The lower of two limits: the interpreter locks, one per process, and the CPUs, which all share.
#[must_use]
pub fn capacity(needs: Needs, shape: Shape, cores: f64, clients: f64) -> f64 {
    let slots = f64::from(shape.slots());
    let population = clients.min(slots);
    let cpus = Station { demand: needs.cpu(), servers: cores, away: needs.blocked };
    let by_cpus = cpus.throughput(population);
    if shape.threads <= 1 {
        return by_cpus;
    }
    let workers = f64::from(shape.workers.max(1));
    let is_put_off = workers > 1.0 && workers >= cores.ceil();
    let busy = if is_put_off { by_cpus * cpus.demand / cores } else { 0.0 };
    let lock = Station {
        demand: needs.gil / (1.0 - (1.0 - HELD_UP) * busy.clamp(0.0, 1.0)) + HANDING_ON,
        servers: 1.0,
        away: needs.free + needs.blocked,
    };
    by_cpus.min(workers * lock.throughput(population / workers))
}

/// The same where requests also queue for something that each process has its own of: the more processes, the
/// more of it there is, and more threads only wait there.
#[must_use]
pub fn capacity_sharing(
    needs: Needs,
    shared: Option<Shared>,
    shape: Shape,
    cores: f64,
    clients: f64,
) -> f64 {
    let free = capacity(needs, shape, cores, clients);
    let Some(Shared { servers, kept, in_each_process }) = shared else { return free };
    let away = (needs.gil + needs.free + needs.blocked - kept).max(0.0);
    let station = Station { demand: kept, servers, away };
    let stations = if in_each_process { f64::from(shape.workers.max(1)) } else { 1.0 };
    let population = clients.min(f64::from(shape.slots()));
    free.min(stations * station.throughput(population / stations))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best_of(needs: Needs, clients: f64) -> f64 {
        let shapes = (1..=8)
            .flat_map(|workers| [1, 2, 4, 8, 16, 32, 64].map(|threads| Shape { workers, threads }));
        shapes.map(|shape| capacity(needs, shape, 2.0, clients)).fold(0.0, f64::max)
    }

    fn share(needs: Needs, workers: u32, threads: u32, clients: f64) -> f64 {
        capacity(needs, Shape { workers, threads }, 2.0, clients) / best_of(needs, clients)
    }

    #[test]
    fn what_computes_needs_the_cpus_and_no_threads() {
        let needs = Needs { gil: 0.02, free: 0.0, blocked: 0.0, neighbours: 0.0 };
        assert!((share(needs, 1, 1, 16.0) - 0.5).abs() < 0.05);
        assert!(share(needs, 2, 1, 16.0) > 0.95);
        assert!(share(needs, 1, 16, 16.0) < 0.5);
    }

    #[test]
    fn what_was_measured_is_what_is_computed() {
        // gthread on 2 CPUs, as in `scripts/bench --only sizing`: 0.84 and 0.99 of the best were measured,
        let needs = Needs { gil: 0.0039, free: 0.0002, blocked: 0.045, neighbours: 0.0 };
        let with_two = share(needs, 2, 22, 44.0);
        assert!((0.7..=0.9).contains(&with_two), "{with_two}");
        assert!(share(needs, 4, 11, 44.0) > 0.95);
        // and 0.97 and 1.
        let needs = Needs { gil: 0.0015, free: 0.0001, blocked: 0.08, neighbours: 0.0 };
        let with_one = share(needs, 1, 44, 44.0);
        assert!((0.9..=0.99).contains(&with_one), "{with_one}");
        assert!(share(needs, 2, 44, 44.0) > 0.97);
    }

    #[test]
    fn the_lock_of_the_only_process_loses_little_by_going_around() {
        // Requests a second of one process of 24 threads, and the CPU time of each (`scripts/bench --only handing`).
        let measured = [
            (0.00092, 1013.0),
            (0.00156, 604.0),
            (0.00257, 380.0),
            (0.00444, 223.0),
            (0.00876, 113.0),
            (0.01675, 60.0),
        ];
        for (cpu, rate) in measured {
            let needs = Needs { gil: cpu * 0.95, free: cpu * 0.05, blocked: 0.02, neighbours: 0.0 };
            let computed = capacity(needs, Shape { workers: 1, threads: 24 }, 2.0, 48.0);
            assert!((computed / rate - 1.0).abs() < 0.08, "{cpu}: {computed}, {rate}");
        }
    }

    #[test]
    fn what_waits_needs_as_many_slots_as_there_are_clients() {
        let needs = Needs { gil: 0.0005, free: 0.0, blocked: 0.1, neighbours: 0.0 };
        let by = |threads| capacity(needs, Shape { workers: 2, threads }, 2.0, 40.0);
        assert!((by(1) - 2.0 / 0.1005).abs() < 0.5);
        assert!(by(20) > by(10) * 1.8);
        assert!((by(40) - by(20)).abs() < 1e-9);
    }

    #[test]
    fn more_threads_do_nothing_for_what_waits_for_connections_and_more_workers_do() {
        let needs = Needs { gil: 0.001, free: 0.0, blocked: 0.08, neighbours: 0.0 };
        let of = |servers, workers, threads| {
            let shared = Some(Shared { servers, kept: 0.08, in_each_process: true });
            capacity_sharing(needs, shared, Shape { workers, threads }, 2.0, 40.0)
        };
        // Four at once, 80 ms each: 50 a second.
        assert!((of(4.0, 1, 8) - 50.0).abs() < 2.5, "{}", of(4.0, 1, 8));
        assert!((of(4.0, 1, 40) - 50.0).abs() < 0.1);
        assert!((of(4.0, 2, 20) - 100.0).abs() < 0.1);
        assert!(of(40.0, 1, 40) > 300.0, "enough for all is no limit");
    }

    #[test]
    fn what_all_processes_share_lets_no_more_through_for_more_of_them() {
        let needs = Needs { gil: 0.001, free: 0.0, blocked: 0.02, neighbours: 0.0 };
        let shared = Some(Shared { servers: 1.0, kept: 0.02, in_each_process: false });
        let of = |workers, threads| {
            capacity_sharing(needs, shared, Shape { workers, threads }, 2.0, 40.0)
        };
        assert!((of(1, 16) - 50.0).abs() < 0.1, "{}", of(1, 16));
        assert!((of(4, 16) - 50.0).abs() < 0.1, "{}", of(4, 16));
    }

    #[test]
    fn work_without_the_lock_scales_in_one_process() {
        let needs = Needs { gil: 0.001, free: 0.019, blocked: 0.0, neighbours: 0.0 };
        assert!(share(needs, 1, 4, 8.0) > 0.85);
    }
}
