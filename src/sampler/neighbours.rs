//! Who on this machine is at the other end of the watched processes' connections, and what CPU time they use.
//!
//! The kernel lists both ends of a connection within a network namespace, each with its inode; whose that is stands
//! among the descriptors of some process. These are walked a few at a time, so that no look at a loop comes late.
//! Bounded; a process whose descriptors we may not see is not told.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use super::notes::Notes;
use super::process_watch::ProcessWatch;
use crate::model::Neighbour;
use crate::target::ProcFs;
use crate::target::net_tables::{Connection, some_socket_inodes};
use crate::units::{Nanos, Pid, Timestamp};

/// Connections are made by then, and the rest of a short recording is long enough to show a mean.
const FIRST_WALK: Nanos = Nanos::from_secs(1);
/// From the end of one walk to the begin of the next: who had no connection just then may have one.
const BETWEEN_WALKS: Nanos = Nanos::from_secs(5);
/// Distance of two steps of a walk. A step takes some tenths of a millisecond.
const STEP_EVERY: Nanos = Nanos::from_millis(50);
/// A loop that is stalled puts a step off for at most so long: a look at it must not come late.
const LONGEST_WAIT: Nanos = Nanos::from_secs(5);
/// Processes looked at in one step.
const STEP: usize = 8;
/// Descriptors of one process that are looked at: enough to meet one of a client's many connections.
const MAX_DESCRIPTORS: usize = 256;
/// Most processes that one walk looks at.
const MAX_WALKED: usize = 1 << 13;
/// Most neighbours that are told apart.
const MAX_NEIGHBOURS: usize = 64;
/// Distance of readings of their CPU time: one may end at any time.
const COUNT_EVERY: Nanos = Nanos::from_secs(2);

/// Looks for neighbours, and counts what CPU time they use.
#[derive(Debug, Default)]
pub(super) struct NeighbourWatch {
    known: Vec<Known>,
    /// Processes still to be looked at, the next one last.
    walk: Vec<Pid>,
    next_walk: Option<Timestamp>,
    next_step: Timestamp,
    next_count: Timestamp,
}

#[derive(Debug)]
struct Known {
    pid: Pid,
    name: String,
    of: BTreeSet<Pid>,
    /// Tells it from a later process with the same pid.
    started: Nanos,
    met: Timestamp,
    cpu_before: Nanos,
    /// The last reading.
    at: Timestamp,
    cpu: Nanos,
}

impl NeighbourWatch {
    /// Takes the next step, if it is time.
    pub(super) fn see(
        &mut self,
        procfs: &ProcFs,
        processes: &[ProcessWatch],
        notes: &mut Notes,
        at: Timestamp,
    ) {
        if at >= self.next_count {
            self.next_count = at + COUNT_EVERY;
            self.count(procfs, at);
        }
        let begin = *self.next_walk.get_or_insert(at + FIRST_WALK);
        let due = self.next_step.max(begin);
        let put_off = at < due + LONGEST_WAIT && processes.iter().any(ProcessWatch::is_stalled);
        if at < due || put_off {
            return;
        }
        self.next_step = at + STEP_EVERY;
        let ends = other_ends(procfs, processes, notes, at);
        if self.walk.is_empty() && !ends.is_empty() {
            self.walk = procfs.pids().unwrap_or_default();
            self.walk.truncate(MAX_WALKED);
        }
        for _ in 0..STEP {
            let Some(pid) = self.walk.pop() else { break };
            if !processes.iter().any(|watch| watch.pid == pid) {
                self.look_at(procfs, pid, &ends, at);
            }
        }
        if self.walk.is_empty() {
            self.next_walk = Some(at + BETWEEN_WALKS);
        }
    }

    /// Whether a process holds the other end of any connection.
    fn look_at(&mut self, procfs: &ProcFs, pid: Pid, ends: &HashMap<u64, Pid>, at: Timestamp) {
        let Ok(inodes) = some_socket_inodes(procfs, pid, MAX_DESCRIPTORS) else { return };
        let of: BTreeSet<Pid> =
            inodes.iter().filter_map(|inode| ends.get(inode)).copied().collect();
        if of.is_empty() {
            return;
        }
        let Ok(stat) = procfs.stat(pid) else { return };
        let is_it = |one: &&mut Known| one.pid == pid && one.started == stat.started;
        if let Some(known) = self.known.iter_mut().find(is_it) {
            known.of.extend(of);
        } else if self.known.len() < MAX_NEIGHBOURS {
            let (name, started, cpu) = (stat.comm, stat.started, stat.cpu);
            self.known.push(Known { pid, name, of, started, met: at, cpu_before: cpu, at, cpu });
        }
    }

    fn count(&mut self, procfs: &ProcFs, at: Timestamp) {
        for known in &mut self.known {
            let Ok(stat) = procfs.stat(known.pid) else { continue };
            if stat.started == known.started {
                (known.at, known.cpu) = (at, stat.cpu);
            }
        }
    }

    /// Those that were met, with what they used until `at`.
    pub(super) fn finish(mut self, procfs: &ProcFs, at: Timestamp) -> Vec<Neighbour> {
        self.count(procfs, at);
        let told = self.known.into_iter().map(|one| Neighbour {
            pid: one.pid,
            name: one.name,
            of: one.of.into_iter().collect(),
            cpu: one.cpu.saturating_sub(one.cpu_before),
            known: one.at.since(one.met),
        });
        told.collect()
    }
}

/// The other ends of all connections of the watched processes that end in their own network namespace, by inode, each
/// with whose it is.
fn other_ends(
    procfs: &ProcFs,
    processes: &[ProcessWatch],
    notes: &mut Notes,
    at: Timestamp,
) -> HashMap<u64, Pid> {
    let mut ends = HashMap::new();
    let mut tables: HashMap<PathBuf, Option<Rc<Vec<Connection>>>> = HashMap::new();
    for watch in processes {
        let (own, ports) = watch.connected();
        if own.is_empty() && ports.is_empty() {
            continue;
        }
        let Ok(space) = procfs.net_namespace(watch.pid) else { continue };
        let mut ask = || notes.sockets.connections_now(procfs, watch.pid, at);
        let Some(all) = tables.entry(space).or_insert_with(&mut ask) else { continue };
        ends.extend(ends_of(all, own, ports).map(|inode| (inode, watch.pid)));
    }
    ends
}

/// The inodes at the other ends of connections that are among `own`, or that came in at `ports`: those of clients may
/// live too short to have been met among a process's own.
fn ends_of(all: &[Connection], own: &HashSet<u64>, ports: &[u16]) -> impl Iterator<Item = u64> {
    let is_own = |one: &&Connection| own.contains(&one.inode) || ports.contains(&one.local.port());
    let pairs: HashSet<(SocketAddr, SocketAddr)> =
        all.iter().filter(is_own).map(|one| (one.remote, one.local)).collect();
    let other = all.iter().filter(move |one| pairs.contains(&(one.local, one.remote)));
    other.map(|one| one.inode).filter(|inode| *inode != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(inode: u64, local: &str, remote: &str) -> Connection {
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        Connection { inode, local, remote, unread: 0, unsent: 0, is_closed: false }
    }

    #[test]
    fn the_other_end_is_the_one_with_the_addresses_the_other_way_round() {
        let all = [
            // A client that waits to be accepted: the server's end is nobody's yet.
            connection(0, "127.0.0.1:8000", "127.0.0.1:40001"),
            connection(11, "127.0.0.1:40001", "127.0.0.1:8000"),
            // A database's connection of its own, and somebody else's.
            connection(12, "127.0.0.1:40002", "127.0.0.1:5432"),
            connection(13, "127.0.0.1:5432", "127.0.0.1:40002"),
            connection(14, "127.0.0.1:40003", "127.0.0.1:5432"),
            connection(15, "127.0.0.1:5432", "127.0.0.1:40003"),
            // A client from elsewhere.
            connection(16, "10.0.0.1:8000", "10.0.0.9:40004"),
        ];
        let ends: BTreeSet<u64> = ends_of(&all, &HashSet::from([12, 16]), &[8000]).collect();
        assert_eq!(ends, BTreeSet::from([11, 13]));
    }

    #[test]
    fn a_process_is_told_by_its_sockets_and_counted_until_it_ends() {
        use std::net::{TcpListener, TcpStream};
        use std::os::fd::AsRawFd;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let procfs = ProcFs::host();
        let us = Pid(i32::try_from(std::process::id()).unwrap());
        let link = procfs.fd_link(us, client.as_raw_fd()).unwrap();
        let text = link.to_string_lossy().into_owned();
        let inode: u64 = text.trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap();
        let mut watch = NeighbourWatch::default();
        let second = |n: u64| Timestamp(0) + Nanos::from_secs(n);
        watch.look_at(&procfs, us, &HashMap::from([(inode + 1_000_000, Pid(1))]), second(1));
        assert!(watch.known.is_empty());
        watch.look_at(&procfs, us, &HashMap::from([(inode, Pid(1))]), second(1));
        watch.look_at(&procfs, us, &HashMap::from([(inode, Pid(2))]), second(2));
        let told = watch.finish(&procfs, second(5));
        let [one] = &told[..] else { panic!("{told:?}") };
        assert_eq!(
            (one.pid, &one.of[..], one.known),
            (us, &[Pid(1), Pid(2)][..], Nanos::from_secs(4))
        );
    }
}
