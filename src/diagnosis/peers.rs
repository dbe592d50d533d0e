//! Who the workers are connected to: each peer over all processes.
//!
//! Takes a recording, gives sums per peer. Knows no rule.

use std::collections::BTreeMap;

use crate::model::{ConnectionInfo, ProcessInfo, Recording};
use crate::units::to_f64;

/// One peer of a server's.
#[derive(Debug, Clone, Default)]
pub struct Peer<'a> {
    /// Each process that had a connection to it, and what was seen of these.
    pub by_process: Vec<(&'a ProcessInfo, &'a ConnectionInfo)>,
}

impl Peer<'_> {
    /// Connections met at looks that had one before them, and how many were new.
    #[must_use]
    pub fn met(&self) -> (u64, u64) {
        self.by_process.iter().fold((0, 0), |(met, fresh), (_, one)| {
            (met.saturating_add(one.met), fresh.saturating_add(one.fresh.min(one.met)))
        })
    }

    /// Connections at a time, on average.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.by_process.iter().filter_map(|(_, one)| one.open.mean()).sum()
    }

    /// The most of each process, added up: never too few, too many where these came at different
    /// times.
    #[must_use]
    pub fn most(&self) -> u32 {
        let most = self.by_process.iter().map(|(_, one)| one.open.max);
        most.fold(0, u32::saturating_add)
    }

    /// The share of the connections met that was new; `None` where none was met.
    #[must_use]
    pub fn fresh_share(&self) -> Option<f64> {
        let (met, fresh) = self.met();
        (met > 0).then(|| to_f64(fresh) / to_f64(met))
    }

    /// Requests that these processes served; `None` where one of them does not count.
    #[must_use]
    pub fn served(&self) -> Option<u64> {
        self.by_process.iter().map(|(process, _)| process.requests.served()).sum()
    }
}

/// All peers by address, clients aside.
#[must_use]
pub fn peers(recording: &Recording) -> BTreeMap<&str, Peer<'_>> {
    let mut all: BTreeMap<&str, Peer<'_>> = BTreeMap::new();
    for process in &recording.processes {
        for one in &process.connections {
            let Some(peer) = one.peer.as_deref() else { continue };
            all.entry(peer).or_default().by_process.push((process, one));
        }
    }
    all
}
