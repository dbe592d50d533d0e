//! What a server's requests wait for others, wherever they do so: in threads of their own, in a pool of threads beside a
//! loop, beside a hub of greenlets.
//!
//! Takes a server's load, gives how long each request waits, how many may at once, and for whom most. Never judges.

use std::net::SocketAddr;

use super::size::{enough, workers_of};
use super::thread_size::MOST_OF_WAITING;
use crate::model::{Asked, Load, ThreadPool};
use crate::sizing::hub::OnHub;
use crate::units::Nanos;

/// Where requests wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place<'a> {
    /// In threads of their own.
    Threads,
    /// In a pool of threads that loops hand them to.
    Pool(&'a ThreadPool),
    /// Beside the hubs that serve them.
    Hubs(OnHub),
}

impl Place<'_> {
    /// Whether requests of both wait in the same way.
    pub(super) fn is_like(&self, other: &Place<'_>) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// The waits of a server's requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Waits<'a> {
    load: &'a Load,
    pub(super) place: Place<'a>,
    /// Seconds that each waits for others, on average.
    pub(super) each: f64,
}

impl<'a> Waits<'a> {
    /// Those of a server; `None` where they are not known.
    pub(super) fn of(load: &'a Load) -> Option<Waits<'a>> {
        let costs = enough(load)?;
        let rate = load.rate().filter(|rate| *rate > 0.0)?;
        let (place, each) = if load.slots.is_some() {
            (Place::Threads, costs.blocked()?)
        } else if load.hub_connections().is_some() {
            let on_hub = OnHub::served(load, costs)?;
            (Place::Hubs(on_hub), on_hub.beside)
        } else {
            let pool = load.pool.as_ref()?;
            let others = costs.cpu + costs.run_delay + pool.gil_wait / rate;
            (Place::Pool(pool), (pool.busy / rate - others).max(0.0))
        };
        Some(Waits { load, place, each })
    }

    /// The peer that requests mostly wait for. A greenlet's wait is in no system call: each that waits for a peer has a
    /// connection to it.
    pub(super) fn most(&self) -> Option<&'a str> {
        let (peer, part) = match self.place {
            Place::Hubs(_) => {
                let one = self.load.connected.first()?;
                let waiting = self.each * self.load.rate()?;
                (&one.peer, one.open / waiting.max(f64::MIN_POSITIVE))
            }
            Place::Threads | Place::Pool(_) => {
                let one = self.load.blocked_on.first()?;
                (&one.peer, one.time.share_of(time_of(self.load, None)))
            }
        };
        peer.parse::<SocketAddr>().ok()?;
        (part >= MOST_OF_WAITING).then_some(peer)
    }

    /// Whether they wait for this peer at all.
    pub(super) fn ask(&self, peer: &str) -> bool {
        match self.place {
            Place::Hubs(_) => self.load.connected.iter().any(|one| one.peer == peer),
            Place::Threads | Place::Pool(_) => time_of(self.load, Some(peer)) > Nanos::ZERO,
        }
    }

    /// How requests wait for a peer, or for all that they wait for. Looks show the parts of a wait, and how long threads
    /// and places in a pool are held shows all of it; of what is beside a hub no parts are known.
    pub(super) fn asked(&self, peer: Option<&str>) -> Option<Asked> {
        let part = match self.place {
            Place::Hubs(_) => 1.0,
            Place::Threads | Place::Pool(_) => {
                time_of(self.load, peer).share_of(time_of(self.load, None))
            }
        };
        let (each, rate) = (self.each * part, self.load.rate()?);
        (each > 0.0 && rate > 0.0).then(|| Asked { rate, each, room: self.room() })
    }

    /// How many may wait in each worker at once.
    pub(super) fn limit(&self) -> Option<u32> {
        match self.place {
            Place::Threads => self.load.slots,
            Place::Pool(pool) => pool.limit,
            Place::Hubs(_) => self.load.hub_connections(),
        }
    }

    fn room(&self) -> Option<u32> {
        self.limit().map(|limit| limit.saturating_mul(workers_of(self.load)))
    }
}

/// The time that all threads waited for a peer, or for anything.
fn time_of(load: &Load, peer: Option<&str>) -> Nanos {
    let those = load.blocked_on.iter().filter(|one| peer.is_none_or(|peer| one.peer == peer));
    those.map(|one| one.time).sum()
}
