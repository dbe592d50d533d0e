//! How large a pool of connections of the application's own is to be, together with the workers and threads that use it.
//!
//! Takes the model of sizes, gives the size and the pool's. Knows no words.

use super::client_pool::{Room, can_grow};
use crate::model::{Load, SharedPool};
use crate::sizing::capacity::{Shape, Shared};
use crate::sizing::shape::{Found, Limit, NEARLY_ALL, TARGET_USE};
use crate::units::{Bounds, whole};

/// A pool as the model takes it.
pub(super) fn station(pool: &SharedPool) -> Shared {
    let in_each_process = pool.kind.is_in_each_worker();
    Shared { servers: pool.servers, kept: pool.kept, in_each_process }
}

/// A pool that may have another size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Growing<'a> {
    load: &'a Load,
    kept: f64,
    limit: u32,
}

impl<'a> Growing<'a> {
    /// A pool of connections; a semaphore may be there to protect what it guards, and stays as it is.
    pub(super) fn of(load: &'a Load, pool: &SharedPool) -> Option<Growing<'a>> {
        let limit = pool.limit.filter(|_| can_grow(pool))?;
        Some(Growing { load, kept: pool.kept, limit })
    }

    /// The size, and that of the pool if that is another; `None` where the pool is large enough. `by` gives the requests a second of a shape with such a
    /// pool, `choose` the best shape with it.
    pub(super) fn find(
        self,
        now: Shape,
        most_workers: u32,
        by: impl Fn(Option<Shared>, Shape) -> f64,
        choose: impl Fn(Option<Shared>) -> Found,
    ) -> Option<(Found, Option<u32>)> {
        let (found, pool) = self.along(most_workers, &by, choose)?;
        Some(match self.alone(now, by) {
            // The numbers of workers and threads are right as they are.
            Some((size, capacity)) if capacity >= found.capacity * NEARLY_ALL => {
                let one = |count| Bounds { lo: count, hi: count };
                let (workers, threads) = (one(now.workers), one(now.threads));
                let limit = Limit::Demand;
                (Found { shape: now, workers, threads, capacity, limit }, Some(size))
            }
            _ => (found, pool),
        })
    }

    fn shared(self, size: u32) -> Option<Shared> {
        Some(Shared { servers: f64::from(size), kept: self.kept, in_each_process: true })
    }

    /// So many are kept at once in each worker (Little).
    fn wanted(self, capacity: f64, shape: Shape) -> u32 {
        connections(capacity * self.kept / f64::from(shape.workers.max(1)), shape.threads)
    }

    /// What a larger pool alone does, of a server of the shape it has: its size, and the requests a second; `None`
    /// where it is large enough, or its database does not take more.
    fn alone(self, now: Shape, by: impl Fn(Option<Shared>, Shape) -> f64) -> Option<(u32, f64)> {
        let wanted = self.wanted(by(None, now), now);
        let fits = Room::of(self.load, now.workers).is_none_or(|room| wanted <= room.most);
        (wanted > self.limit && fits).then(|| (wanted, by(self.shared(wanted), now)))
    }

    /// The size where the pool grows along, as far as its database takes it.
    fn along(
        self,
        most_workers: u32,
        by: &impl Fn(Option<Shared>, Shape) -> f64,
        choose: impl Fn(Option<Shared>) -> Found,
    ) -> Option<(Found, Option<u32>)> {
        let free = choose(None);
        let wanted = self.wanted(free.capacity, free.shape);
        if wanted <= self.limit {
            return None;
        }
        let room = Room::of(self.load, free.shape.workers).filter(|room| wanted > room.most);
        if room.is_none() {
            // With the pool it then has, as what it has now is computed with its own.
            let capacity = by(self.shared(wanted), free.shape);
            return Some((Found { capacity, ..free }, Some(wanted)));
        }
        let most = Room::of(self.load, most_workers).map_or(0, |room| room.most).max(self.limit);
        Some((choose(self.shared(most)), (most > self.limit).then_some(most)))
    }
}

/// Connections for so many that are kept at once, at ρ; each thread keeps one at most. Where that is nearly as many as
/// there are threads, it is one for each: a worker that gets more than its share of the requests has all its
/// threads at work, and some would wait.
fn connections(at_once: f64, threads: u32) -> u32 {
    let wanted = at_once / TARGET_USE;
    if wanted >= f64::from(threads) * TARGET_USE { threads } else { whole(wanted.ceil()) }
}

#[cfg(test)]
mod tests {
    use super::connections;

    #[test]
    fn a_pool_is_for_what_is_kept_at_once_or_for_each_thread() {
        assert_eq!(connections(9.0, 64), 12);
        assert_eq!(connections(9.1, 64), 13);
        assert_eq!(connections(0.0, 8), 0);
        // 28 of 30: two would wait where all work.
        assert_eq!(connections(21.0, 30), 30);
        assert_eq!(connections(40.0, 30), 30, "no thread keeps two");
    }
}
