//! gunicorn's gevent and eventlet workers whose connections are all taken: what comes waits to be accepted while
//! the hub may have nothing to do.
//!
//! Takes the looks at a worker's sockets and its `worker_connections`, gives a finding's parts; each connection takes
//! one of the greenlets of the pool that accepts (`Pool(self.worker_connections)`, gunicorn/workers/ggevent.py;
//! `GreenPool`, geventlet.py, v23.0.0).

use super::blocked::ratio;
use super::size::faster;
use super::{contrast, often, wording};
use crate::model::{Load, Measured, ProcessInfo, Recommendation, Remedy, SettingKind};
use crate::sizing::hub::NEARLY_ALL;
use crate::sizing::shape::{Limit, TARGET_USE};
use crate::units::{Bounds, whole};

/// Fewer looks at connections than this show no mean; there is one every two seconds or so (`sampler/pace.rs`).
const LEAST_LOOKS: u64 = 4;

/// A worker that takes no more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Taken {
    /// How many it takes.
    limit: u32,
    /// How many it has, on average.
    open: f64,
    /// How many wait to be accepted, on average, by any worker.
    waiting: f64,
    /// The share of time in which any does.
    pub(super) share: f64,
}

impl Taken {
    /// Whether this worker's connections are all taken while others wait.
    pub(super) fn of(process: &ProcessInfo, load: &Load) -> Option<Taken> {
        let limit = load.hub_connections()?;
        let incoming = process.connections.iter().find(|one| one.peer.is_none())?;
        let open = incoming.open.mean().filter(|_| incoming.open.looks >= LEAST_LOOKS)?;
        let line = process.listeners.iter().max_by_key(|one| one.waiting)?;
        let (share, waiting) = (line.waiting_share()?, line.queue.mean()?);
        let is_taken = open >= f64::from(limit) * NEARLY_ALL
            && line.queue.looks >= often::LEAST_LOOKS
            && often::is_found(share, line.waiting);
        is_taken.then_some(Taken { limit, open, waiting, share })
    }

    pub(super) fn summary(&self) -> String {
        format!(
            "all {} connections of a worker are taken while others wait to be accepted {} of the time, {:.1} \
             of them on average",
            self.limit,
            wording::percent(self.share),
            self.waiting
        )
    }

    pub(super) fn evidence(&self) -> Vec<Measured> {
        vec![
            ratio("full_and_waiting", self.share),
            Measured::new("busy_mean", self.open, "count"),
            Measured::new("waiting_mean", self.waiting, "count"),
        ]
    }

    /// As many as there are and wait, at a use of ρ. What waits is a bound from below where the kernel's queue is
    /// full.
    pub(super) fn recommendation(&self, load: &Load) -> Recommendation {
        let wanted = self.open + self.waiting / load.worker_count();
        let recommended = whole((wanted / TARGET_USE).ceil()).max(self.limit.saturating_add(1));
        // A hub that computes for a part of the time does as much more as it has left.
        let busy = load.utilization.map_or(0.0, |(_, most)| most).max(f64::MIN_POSITIVE);
        let factor = (wanted / self.open.max(1.0)).min((1.0 / busy).max(1.0));
        let least = whole(wanted.ceil()).min(recommended);
        let suggested = Bounds { lo: least, hi: recommended };
        let rests = contrast::rests_on(load).map(|peer| contrast::condition(peer, "connection"));
        Recommendation {
            remedy: remedy(self.limit, recommended, suggested, Limit::Demand.words()),
            command: command(recommended),
            reason: format!(
                "each connection keeps its place until it is answered or closed; what requests call (a \
                 database, another service) has to bear as many at once{}",
                rests.unwrap_or_default()
            ),
            inputs: self.evidence(),
            predicted: faster(load.rate().filter(|rate| *rate > 0.0), factor),
        }
    }
}

/// What to type for so many connections of each worker.
pub(super) fn command(size: u32) -> String {
    format!("`--worker-connections {size}`")
}

/// That each worker is to take as many as `recommended`, or another number of the `suggested`.
pub(super) fn remedy(
    now: u32,
    recommended: u32,
    suggested: Bounds<u32>,
    limited_by: &str,
) -> Remedy {
    Remedy::Setting {
        kind: SettingKind::Connections,
        setting: "worker_connections".to_owned(),
        current: Some(now),
        recommended,
        suggested,
        limited_by: limited_by.to_owned(),
    }
}
