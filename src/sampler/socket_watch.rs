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
/// The kernel is asked for all connections at least this often, though the process holds the same sockets
/// as when it had none: one of them may have been connected since.
const CONNECTED_ANYWAY: Nanos = Nanos::from_secs(5);
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
    /// Those of them that were connected, and when that was asked.
    connected: HashSet<u64>,
    asked: Timestamp,
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

    /// The sockets that were connected at the last scan, and the ports it listens at.
    #[must_use]
    pub fn connected(&self) -> (&HashSet<u64>, &[u16]) {
        (&self.connected, &self.ports)
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
        let own: HashSet<u64> = own.into_iter().collect();
        let has_still_none = self.looks > 0
            && self.connected.is_empty()
            && own == self.own
            && at.since(self.asked) < CONNECTED_ANYWAY;
        self.own = own;
        if has_still_none {
            self.count(&[], sockets.connections);
            self.looks = self.looks.saturating_add(1);
            return;
        }
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
        self.asked = at;
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
                infos.push(ConnectionInfo {
                    peer: name,
                    open,
                    met: 0,
                    fresh: 0,
                    libraries: Vec::new(),
                });
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

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // the tree is a made-up one
mod tests {
    use super::*;

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    /// A process 7 whose sockets have these inodes, the first of which is connected if `connected`.
    fn process(dir: &std::path::Path, inodes: &[u64], connected: bool) {
        for part in ["7/net", "7/ns", "7/fd"] {
            std::fs::create_dir_all(dir.join(part)).unwrap();
        }
        let row = "   0: 0100007F:C350 0700000A:1538 01 00000000:00000000 02:00000000 00000000 0 0 700 2\n";
        let table = if connected { format!("{HEAD}{row}") } else { HEAD.to_owned() };
        std::fs::write(dir.join("7/net/tcp"), table).unwrap();
        let links = inodes.iter().map(|inode| format!("socket:[{inode}]"));
        for (fd, link) in links.enumerate() {
            let _ = std::os::unix::fs::symlink(link, dir.join(format!("7/fd/{fd}")));
        }
        let _ = std::os::unix::fs::symlink("net:[1]", dir.join("7/ns/net"));
    }

    #[test]
    fn who_had_no_connection_is_asked_again_with_new_sockets_or_after_a_while() {
        let second = |n: u64| Timestamp(0) + Nanos::from_secs(n);
        // With the same sockets, and with one more.
        for (more, seen) in [(&[700_u64][..], [0, 0, 1]), (&[700, 701], [0, 1, 1])] {
            let dir = tempfile::tempdir().unwrap();
            let procfs = ProcFs::at(dir.path());
            let (mut watch, mut tables) = (SocketWatch::default(), NetTables::default());
            let (mut listeners, mut connections) = (Vec::new(), Vec::new());
            let mut scan = |at, cpu| {
                let mut sockets =
                    Sockets { listeners: &mut listeners, connections: &mut connections };
                watch.scan((&procfs, Pid(7)), &mut tables, &mut sockets, Nanos(cpu), at);
                sockets.connections.len()
            };
            process(dir.path(), &[700], false);
            let first = scan(second(10), 1);
            process(dir.path(), more, true);
            assert_eq!([first, scan(second(11), 2), scan(second(15), 3)], seen);
        }
    }
}
