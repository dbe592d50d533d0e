//! Sizes of a loop's pool of threads and of a hub's connections before a peer that works on so many at once, as two
//! recordings show: the smallest that gets nearly all done that the peer lets through.
//!
//! Takes a server's load with its contrast, gives what to type with its arithmetic. Those of servers whose requests have
//! threads of their own are in [`super::thread_size`].

use super::pool_size::{self, MOST_TOKENS};
use super::size::{effect, enough, error, workers_of};
use super::thread_size::{WORTH_IT, is_worth_going_back};
use super::waits::{Place, Waits};
use super::{contrast, hub_connections};
use crate::model::{
    Costs, Load, Measured, PeerLimit, PoolInfo, PoolKind, Recommendation, Remedy, ThreadPool,
};
use crate::sizing::capacity::{Needs, Shape, Shared, capacity_sharing};
use crate::sizing::hub::{OnHub, before_peer};
use crate::sizing::shape::{NEARLY_ALL, TARGET_USE};
use crate::units::{Bounds, whole};

/// The size of one server.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerSize<'a> {
    load: &'a Load,
    /// What the peer lets through.
    pub(super) limit: &'a PeerLimit,
    place: Place<'a>,
    /// Tokens or connections of each worker now, and those that would do.
    now: u32,
    size: u32,
    suggested: Bounds<u32>,
    /// Requests a second that get done now, and then.
    rate: f64,
    capacity: f64,
}

impl<'a> PeerSize<'a> {
    /// That of a server; `None` where no peer is known to limit it, or requests have threads of their own.
    pub(super) fn of(load: &'a Load) -> Option<PeerSize<'a>> {
        let limit = load.peer_limit()?;
        let waits = Waits::of(load)?;
        let (now, rate, costs) = (waits.limit()?, load.rate()?, enough(load)?);
        let task = Task::of(load, costs, limit, &waits)?;
        let error = error(costs).clamp(0.0, 0.5);
        let [size, low, high] = [1.0, 1.0 - error, 1.0 + error].map(|by| task.smallest(by));
        let workers = workers_of(load);
        // What was seen to be enough needs no arithmetic.
        let seen = limit.enough().map(|room| room.div_ceil(workers).max(1));
        let most = seen.unwrap_or(u32::MAX);
        let capacity = match seen {
            Some(seen) if seen <= size => limit.ordered().0.rate,
            _ => task.done(size, 1.0),
        };
        let size = size.min(most);
        let suggested = Bounds { lo: low.min(size), hi: high.max(size).min(most) };
        Some(PeerSize { load, limit, place: waits.place, now, size, suggested, rate, capacity })
    }

    /// Whether it is this pool's.
    pub(super) fn is_of(&self, kind: PoolKind, name: &str) -> bool {
        matches!(self.place, Place::Pool(pool) if pool.kind == kind && pool.name == name)
    }

    /// A smaller size that gets as much done: more only wait at the peer. `None` where what is there may be needed, by what
    /// the measurements may be off.
    pub(super) fn smaller(&self) -> Option<Recommendation> {
        let is_as_good = self.capacity * WORTH_IT >= self.rate;
        let is_worth_it = is_worth_going_back(self.now, self.size, self.suggested.hi);
        (is_as_good && is_worth_it).then(|| self.recommendation())
    }

    /// A larger one that gets noticeably more done.
    pub(super) fn larger(&self) -> Option<Recommendation> {
        let gains = self.capacity >= self.rate * WORTH_IT;
        (gains && self.size > self.now).then(|| self.recommendation())
    }

    /// That the size stays.
    pub(super) fn kept(&self) -> Option<Recommendation> {
        let is_changed = self.smaller().or_else(|| self.larger()).is_some();
        (!is_changed).then(|| Recommendation {
            remedy: self.remedy(self.now, self.suggested),
            command: match self.place {
                Place::Pool(pool) => {
                    format!("keep {} threads in {}", self.now, pool_size::pool_name(&info(pool)))
                }
                _ => format!("keep {}", hub_connections::command(self.now)),
            },
            reason: "no other size gets noticeably more done".to_owned(),
            inputs: self.inputs(),
            predicted: Vec::new(),
        })
    }

    fn recommendation(&self) -> Recommendation {
        let sentence = contrast::sentence(self.limit);
        let fewer = match self.limit.enough() {
            Some(room) => format!(
                "; with room for {room} as much got done; it may need less still, which a recording with less tells, held \
                 against this one"
            ),
            None => String::new(),
        };
        let (command, what) = match self.place {
            Place::Pool(pool) => (pool_size::pool_command(&info(pool), self.size), "threads"),
            _ => (hub_connections::command(self.size), "connections"),
        };
        Recommendation {
            remedy: self.remedy(self.size, self.suggested),
            command,
            reason: format!("{sentence}: more {what} only wait there{fewer}"),
            inputs: self.inputs(),
            predicted: vec![effect("throughput", self.rate, self.capacity, "1/s")],
        }
    }

    fn remedy(&self, recommended: u32, suggested: Bounds<u32>) -> Remedy {
        let suggested =
            Bounds { lo: suggested.lo.min(recommended), hi: suggested.hi.max(recommended) };
        match self.place {
            Place::Pool(pool) => {
                pool_size::pool_remedy(&info(pool), recommended, suggested, self.limit.name())
            }
            _ => hub_connections::remedy(self.now, recommended, suggested, self.limit.name()),
        }
    }

    fn inputs(&self) -> Vec<Measured> {
        let (few, _) = self.limit.ordered();
        let rate = self.load.rate().map(|rate| Measured::new("arrival_rate", rate, "1/s"));
        let all = [
            Measured::new("waited_for_turn", self.limit.now.each - few.each, "s"),
            Measured::new("kept_of_turn", few.each, "s"),
            Measured::new("turns_at_once", self.limit.servers(), "count"),
        ];
        rate.into_iter().chain(all).collect()
    }
}

/// A pool as those who name it know it.
fn info(pool: &ThreadPool) -> PoolInfo {
    PoolInfo { limit: pool.limit, ..PoolInfo::new(pool.kind, pool.name.clone()) }
}

/// What a size is sought for.
struct Task {
    workers: u32,
    /// Requests that are there at once.
    demand: f64,
    /// What the peer works on at once, and for how long each.
    servers: f64,
    kept: f64,
    how: How,
}

/// What else limits.
enum How {
    /// CPUs and interpreter locks, in threads.
    Threads { needs: Needs, cores: f64 },
    /// Hubs.
    Hubs(OnHub),
}

impl Task {
    fn of(load: &Load, costs: &Costs, limit: &PeerLimit, waits: &Waits<'_>) -> Option<Task> {
        let (few, _) = limit.ordered();
        let kept = few.each;
        let (demand, how) = match waits.place {
            Place::Threads => return None,
            Place::Pool(pool) => {
                // Of what they wait for others beside the peer nothing changes.
                let others = (waits.each - limit.now.each).max(0.0);
                let needs = Needs::of(costs, kept + others);
                (pool.busy + pool.waiting, How::Threads { needs, cores: load.cores.together() })
            }
            Place::Hubs(on_hub) => (OnHub::of(load, costs)?.there, How::Hubs(on_hub)),
        };
        let (workers, servers) = (workers_of(load), limit.servers());
        Some(Task { workers, demand, servers, kept, how })
    }

    /// Requests a second that get done with so many tokens or connections in each worker, where there are so many times as
    /// many requests, and the peer works on as many times as many.
    fn done(&self, size: u32, by: f64) -> f64 {
        let Task { workers, kept, .. } = *self;
        let (demand, servers) = (self.demand * by, self.servers * by);
        let shape = Shape { workers, threads: size };
        match &self.how {
            How::Threads { needs, cores } => {
                let shared = Some(Shared { servers, kept, in_each_process: false });
                capacity_sharing(*needs, shared, shape, *cores, demand)
            }
            How::Hubs(on_hub) => {
                let clients = demand.min(f64::from(shape.slots()));
                before_peer(on_hub.busy, f64::from(workers), kept, servers, clients)
            }
        }
    }

    /// The smallest that gets nearly all done that any does, with a quarter of room.
    fn smallest(&self, by: f64) -> u32 {
        let best = self.done(MOST_TOKENS, by);
        let is_enough = |size: &u32| self.done(*size, by) >= best * NEARLY_ALL;
        let least = (1..MOST_TOKENS).find(is_enough).unwrap_or(MOST_TOKENS);
        whole((f64::from(least) / TARGET_USE).ceil()).min(MOST_TOKENS)
    }
}
