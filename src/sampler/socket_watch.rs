//! The sockets of one process under observation: who waits to be accepted, and whom it is connected to.
//!
//! The lines before listening sockets are looked at a few times a second, which costs some 20 µs for all
//! workers that share them together. Which sockets are the process's own is in its descriptors, one link
//! to read for each: that is done so seldom that it costs next to nothing, and not while a loop stalls.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::pace::{POOL_LOOK, now};
use crate::model::{ConnectionInfo, Level, ListenerInfo};
use crate::target::ProcFs;
use crate::target::net_tables::{Connection, NetTables, socket_inodes};
use crate::units::{Nanos, Pid, Timestamp};

/// Least distance of two scans of the descriptors.
const SCAN: Nanos = Nanos::from_secs(1);
/// A scan takes at most this part of the time from one to the next: 0.25 % of a CPU.
const SCAN_PART: u64 = 400;
/// A stall longer than this does not put a scan off.
const LONGEST_WAIT: Nanos = Nanos::from_secs(5);
/// Most listening sockets of a process that are looked at.
const MAX_LISTENERS: usize = 32;
/// Most peers of a process that are told apart.
const MAX_PEERS: usize = 32;

/// The sockets of one process.
#[derive(Debug, Default)]
pub struct SocketWatch {
    next_look: Timestamp,
    next_scan: Timestamp,
    /// Inodes of the process's sockets at the last scan.
    own: HashSet<u64>,
    /// Those of them that were connected.
    connected: HashSet<u64>,
    /// Ports it listens at: connections of these are clients'.
    ports: Vec<u16>,
    /// Connections to each peer at the last scan.
    last: Vec<Option<u32>>,
    /// Looks at connections so far.
    looks: u64,
    /// CPU time of the process at the last scan: without more of it nothing has changed.
    cpu: Nanos,
}

/// What is known of a process's sockets.
#[derive(Debug)]
pub struct Sockets<'a> {
    /// Listening ones.
    pub listeners: &'a mut Vec<ListenerInfo>,
    /// Connected ones, by peer.
    pub connections: &'a mut Vec<ConnectionInfo>,
}

impl SocketWatch {
    /// Looks at what is due. `cpu` is the CPU time the process has used, `stalled` whether a loop of it
    /// is being looked into.
    pub fn see(
        &mut self,
        (procfs, pid): (&ProcFs, Pid),
        tables: &mut NetTables,
        sockets: &mut Sockets<'_>,
        (cpu, stalled): (Nanos, bool),
        at: Timestamp,
    ) {
        let put_off = stalled && at < self.next_scan + LONGEST_WAIT;
        if at >= self.next_scan && !put_off {
            self.scan((procfs, pid), tables, sockets, cpu, at);
            let spent = now().since(at);
            self.next_scan = at + SCAN.max(Nanos(spent.0.saturating_mul(SCAN_PART)));
        }
        if at >= self.next_look {
            // All processes look at the same times: one answer of the kernel's serves them.
            let turn = POOL_LOOK.0.max(1);
            self.next_look = Timestamp((at.0 / turn).saturating_add(1).saturating_mul(turn));
            self.look_at_lines((procfs, pid), tables, sockets, at);
        }
    }

    fn look_at_lines(
        &mut self,
        (procfs, pid): (&ProcFs, Pid),
        tables: &mut NetTables,
        sockets: &mut Sockets<'_>,
        at: Timestamp,
    ) {
        let Some(listeners) = tables.listeners(procfs, pid, at) else { return };
        self.ports.clear();
        for one in listeners.iter().filter(|one| self.own.contains(&one.inode)) {
            self.ports.extend(one.port);
            let known = sockets.listeners.iter_mut().find(|known| known.inode == one.inode);
            if let Some(known) = known {
                known.add(one.queue, one.limit);
            } else if sockets.listeners.len() < MAX_LISTENERS {
                let (inode, address, queue) = (one.inode, one.address.clone(), Level::default());
                let mut info = ListenerInfo { inode, address, limit: None, queue, waiting: 0 };
                info.add(one.queue, one.limit);
                sockets.listeners.push(info);
            }
        }
    }

    /// Finds out which sockets are the process's own, and counts those that are connected.
    fn scan(
        &mut self,
        (procfs, pid): (&ProcFs, Pid),
        tables: &mut NetTables,
        sockets: &mut Sockets<'_>,
        cpu: Nanos,
        at: Timestamp,
    ) {
        let idle = self.looks > 0 && cpu == self.cpu;
        self.cpu = cpu;
        if idle {
            // It opened and closed nothing that is worth a scan: what a peer closed is still a
            // descriptor of its. Which are new is asked of the next scan.
            self.looks = self.looks.saturating_add(1);
            for (info, last) in sockets.connections.iter_mut().zip(&self.last) {
                info.open.add(*last);
            }
            return;
        }
        let Ok(own) = socket_inodes(procfs, pid) else { return };
        self.own = own.into_iter().collect();
        if self.looks == 0 {
            // The ports are needed to tell who called whom.
            let listeners = tables.listeners(procfs, pid, at);
            let own = listeners.iter().flat_map(|all| all.iter());
            let own = own.filter(|one| self.own.contains(&one.inode));
            self.ports.extend(own.filter_map(|one| one.port));
        }
        let Some(all) = tables.connections(procfs, pid, at) else { return };
        let own: Vec<&Connection> =
            all.iter().filter(|one| self.own.contains(&one.inode)).collect();
        self.count(&own, sockets.connections);
        self.connected = own.iter().map(|one| one.inode).collect();
        self.looks = self.looks.saturating_add(1);
    }

    /// Counts connections by peer; a peer that has none now is counted, too.
    fn count(&mut self, own: &[&Connection], infos: &mut Vec<ConnectionInfo>) {
        let ports = std::mem::take(&mut self.ports);
        let peer = |one: &Connection| {
            let is_client = ports.contains(&one.local.port());
            (!is_client).then_some(one.remote)
        };
        let mut peers: Vec<Option<SocketAddr>> = own.iter().map(|one| peer(one)).collect();
        peers.sort_unstable();
        peers.dedup();
        for one in peers {
            let name = one.map(|address| address.to_string());
            if infos.len() < MAX_PEERS && !infos.iter().any(|info| info.peer == name) {
                // It had none at the looks before.
                let open = Level { looks: self.looks, sum: 0, max: 0 };
                infos.push(ConnectionInfo { peer: name, open, met: 0, fresh: 0 });
            }
        }
        self.last.clear();
        for info in infos {
            let to_it =
                |one: &&&Connection| peer(one).map(|address| address.to_string()) == info.peer;
            let (mut count, mut fresh) = (0_u64, 0_u64);
            for one in own.iter().filter(to_it) {
                count = count.saturating_add(1);
                fresh = fresh.saturating_add(u64::from(!self.connected.contains(&one.inode)));
            }
            info.open.add(u32::try_from(count).ok());
            if self.looks > 0 {
                info.met = info.met.saturating_add(count);
                info.fresh = info.fresh.saturating_add(fresh);
            }
            self.last.push(u32::try_from(count).ok());
        }
        self.ports = ports;
    }
}
