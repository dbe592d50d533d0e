//! Who the workers are connected to: each peer over all processes.
//!
//! Takes a recording, gives sums per peer, and what each is. Knows no rule.

use std::collections::BTreeMap;

use super::services::{Known, service_of};
use crate::model::{Connecting, ConnectionInfo, ProcessInfo, Recording};
use crate::units::to_f64;

/// One peer of a server's.
#[derive(Debug, Clone, Default)]
pub struct Peer<'a> {
    /// Each process that had a connection to it, and what was seen of these.
    pub by_process: Vec<(&'a ProcessInfo, &'a ConnectionInfo)>,
}

impl Peer<'_> {
    /// What it is, by its port or by who was met waiting for it.
    #[must_use]
    pub fn known(&self, address: &str) -> Known {
        service_of(address, self.libraries())
    }

    /// What was seen waiting for it.
    fn libraries(&self) -> impl Iterator<Item = &str> {
        self.by_process.iter().flat_map(|(_, one)| &one.libraries).map(String::as_str)
    }

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

/// What the peer at an address is. A greenlet's wait is not seen in a system call, so that nobody may have been met waiting
/// for it: then it is what a driver that was seen connecting talks to, if that is no other peer and this is the only
/// one that is not known.
#[must_use]
pub fn known(all: &BTreeMap<&str, Peer<'_>>, connecting: &[Connecting], address: &str) -> Known {
    let by_address: Vec<(&str, Known)> =
        all.iter().map(|(address, peer)| (*address, peer.known(address))).collect();
    let mut unknown = by_address.iter().filter(|(_, one)| one.service.name.is_empty());
    let is_only =
        unknown.next().is_some_and(|(one, _)| *one == address) && unknown.next().is_none();
    let is_others =
        |library: &str| by_address.iter().any(|(_, one)| one.service.is_driver(library));
    let drivers = connecting.iter().map(|one| one.library.as_str());
    let own = drivers.filter(|library| is_only && !is_others(library));
    let libraries = all.get(address).map(Peer::libraries);
    service_of(address, libraries.into_iter().flatten().chain(own))
}
