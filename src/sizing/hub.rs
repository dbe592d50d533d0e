//! What a request takes of a hub of greenlets: the time that it keeps the hub, and the time that it waits
//! beside it while others have it.
//!
//! How long the hub is busy for one request is measured: its use by the rate (utilization law; Denning and Buzen,
//! *Computing Surveys* 10, 1978). How long one waits beside it is what makes so many clients get done what was
//! measured (the machine repairman's model, [`Station`]). A hub that is busy all the time hides that: what is there
//! then waits for the hub, and may wait for something else as well.

use super::queueing::Station;
use super::whatif::SATURATED;
use crate::model::{Costs, Load, LoopLoad, WorkerClass};

/// One request on a hub, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnHub {
    /// The hub is busy for it.
    pub busy: f64,
    /// Of this: asleep in a call that keeps the hub.
    pub asleep: f64,
    /// It waits for others without keeping the hub.
    pub beside: f64,
    /// That may be more: the hub had no time left that would tell.
    pub is_bound: bool,
    /// How many requests are on the hubs of all workers or before them, on average.
    pub there: f64,
}

/// From this part of a hub's connections on it accepts no more, and who waits before it is more than what comes in one
/// turn of it: they are counted at looks, and between two of these some are closed and not yet taken again.
pub const NEARLY_ALL: f64 = 0.9;

/// Steps of the bisection for the time beside the hub.
const STEPS: u32 = 50;

impl OnHub {
    /// Of a server whose requests cost this, those before it included.
    #[must_use]
    pub fn of(load: &Load, costs: &Costs) -> Option<OnHub> {
        OnHub::with(load, costs, there(load)?)
    }

    /// The same of those alone that it serves: what they wait for beside the hub is no wait to be accepted.
    #[must_use]
    pub fn served(load: &Load, costs: &Costs) -> Option<OnHub> {
        OnHub::with(load, costs, load.greenlets?)
    }

    fn with(load: &Load, costs: &Costs, there: f64) -> Option<OnHub> {
        let rate = load.rate().filter(|rate| *rate > 0.0)?;
        let workers = load.worker_count();
        let uses = load.loops.iter().filter_map(|one: &LoopLoad| one.utilization);
        let used: f64 = (!load.loops.is_empty()).then(|| uses.sum())?;
        let busy = used / rate;
        let asleep = (busy - costs.cpu - costs.gil_wait - costs.run_delay).max(0.0);
        let is_bound = used / workers >= SATURATED;
        let beside = if is_bound { 0.0 } else { beside(busy, there / workers, rate / workers) };
        Some(OnHub { busy, asleep, beside, is_bound, there })
    }
}

/// How many there are.
///
/// gevent's greenlets that are done count until the hub has turned once (`Group._discard` is called by the hub,
/// <https://github.com/gevent/gevent/blob/24.2.1/src/gevent/pool.py>), and their clients may have sent the next request,
/// which then waits before it: the two are the same requests, unless the hub takes no more. eventlet's leave their pool
/// when they are done (`GreenPool._spawn_done`, by `GreenThread._resolve_links`,
/// <https://github.com/eventlet/eventlet/blob/0.36.1/eventlet/greenthread.py>): its hub takes all that wait, serves
/// one after the other, and those who ask again wait until the next turn.
fn there(load: &Load) -> Option<f64> {
    let (greenlets, queued) = (load.greenlets?, load.queued.unwrap_or(0.0));
    if load.class == WorkerClass::Eventlet {
        return Some(greenlets + queued);
    }
    let limit =
        load.number("worker_connections").map(|limit| f64::from(limit) * load.worker_count());
    let is_full = limit.is_some_and(|limit| greenlets >= limit * NEARLY_ALL);
    Some(if is_full { greenlets + queued } else { greenlets.max(queued) })
}

/// What a client of `clients` that keeps a hub for `busy` waits elsewhere, if they get `rate` done.
fn beside(busy: f64, clients: f64, rate: f64) -> f64 {
    let done = |away: f64| Station { demand: busy, servers: 1.0, away }.throughput(clients);
    let (mut low, mut high) = (0.0, (clients / rate - busy).max(0.0));
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if done(middle) > rate { low = middle } else { high = middle }
    }
    low
}

/// Requests a second that `clients` get done on so many hubs, each of which a request keeps for `busy`, where all of them
/// also wait for one peer that works on `servers` at once for `kept`.
#[must_use]
pub fn before_peer(busy: f64, workers: f64, kept: f64, servers: f64, clients: f64) -> f64 {
    let hub = Station { demand: busy, servers: 1.0, away: kept };
    let peer = Station { demand: kept, servers, away: busy };
    (workers * hub.throughput(clients / workers)).min(peer.throughput(clients))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_beside_the_hub_is_told_by_how_much_gets_done() {
        // One client at a time: what is not on the hub is beside it.
        assert!((beside(0.02, 1.0, 10.0) - 0.08).abs() < 1e-6);
        // 20 clients that take 10 ms of the hub each and wait for 400 ms.
        let rate = Station { demand: 0.01, servers: 1.0, away: 0.4 }.throughput(20.0);
        assert!((beside(0.01, 20.0, rate) - 0.4).abs() < 1e-3);
        // More than one hub can do is noise.
        assert_eq!(beside(0.01, 20.0, 101.0), 0.0);
    }

    #[test]
    fn more_hubs_let_no_more_through_to_a_peer() {
        // 8 at once for 80 ms: 100 a second.
        let of = |workers, clients| before_peer(0.002, workers, 0.08, 8.0, clients);
        assert!((of(1.0, 4.0) - 4.0 / 0.082).abs() < 1.0, "{}", of(1.0, 4.0));
        assert!((of(1.0, 60.0) - 100.0).abs() < 0.1 && (of(4.0, 60.0) - 100.0).abs() < 0.1);
        // The hub is the limit of many where the peer is none.
        let hub = before_peer(0.02, 1.0, 0.08, 100.0, 60.0);
        assert!((hub - 50.0).abs() < 0.1, "{hub}");
    }
}
