//! Which sockets listen and which are connected, in a process's network namespace.
//!
//! Asks the kernel by netlink where the process shares our namespace (`sock_diag.rs`), else reads
//! `/proc/PID/net/{tcp,tcp6}`, which know no limits and no Unix sockets' lines. Both can be long, so
//! answers are kept for a moment: the workers of a server ask about the same sockets. Bounded.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use super::procfs::{ProcError, ProcFs, decimal};
use super::sock_diag::SockDiag;
use super::sockets::{address, lines};
use crate::units::{Nanos, Pid, Timestamp};

/// Most sockets of one kind that are kept.
pub(super) const MAX_SOCKETS: usize = 1 << 16;
/// An answer of listeners is as good as a new one for so long.
const FRESH_LISTENERS: Nanos = Nanos::from_millis(100);
/// The same of connections, of which there may be many.
const FRESH_CONNECTIONS: Nanos = Nanos::from_millis(500);
/// The same where the kernel tells connections alone: it need not write those that are over, of which a server whose
/// connections are used once has tens of thousands (16,000 took 47 ms to read and 2 ms to ask for, measured).
const FRESH_TOLD: Nanos = Nanos::from_millis(100);
/// Most namespaces that answers are kept of.
const MAX_NAMESPACES: usize = 64;
/// Most descriptors of a process that are looked through.
const MAX_DESCRIPTORS: usize = 1 << 14;

/// How `/proc/PID/net/tcp` writes `TCP_LISTEN`, `TCP_ESTABLISHED` and `TCP_CLOSE_WAIT`.
const LISTEN: &[u8] = b"0A";
const CLOSE_WAIT: &[u8] = b"08";
const CONNECTED: [&[u8]; 2] = [b"01", CLOSE_WAIT];

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its inode, which names it in all processes that share it.
    pub inode: u64,
    /// Its address, or a Unix socket's path.
    pub address: String,
    /// Its port, of TCP.
    pub port: Option<u16>,
    /// Connections that wait to be accepted.
    pub queue: Option<u32>,
    /// How many may wait: the smaller of what the program asked for and `net.core.somaxconn`.
    pub limit: Option<u32>,
}

/// A connected TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Its inode.
    pub inode: u64,
    /// Its own address.
    pub local: SocketAddr,
    /// The other end's.
    pub remote: SocketAddr,
    /// Bytes that have come in and were not read.
    pub unread: u32,
    /// Bytes that were written and not taken by the other end.
    pub unsent: u32,
    /// Whether the other end has closed it.
    pub is_closed: bool,
}

/// An answer and when it was given.
type Kept<T> = HashMap<PathBuf, (Timestamp, Rc<Vec<T>>)>;

/// How long it is remembered which namespace a process is in: hardly any ever changes it.
const FRESH_SPACE: Nanos = Nanos::from_secs(2);

/// What is known of a socket's other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// It is connected to this.
    Is(SocketAddr),
    /// It is being connected to this, or was and is being closed.
    Passing(SocketAddr),
    /// It listens at this.
    Listens(SocketAddr),
    /// It was made since connections were last asked for, or is of another kind.
    NotYet,
    /// The kernel told of all TCP sockets that anybody holds, and it is none of them.
    NoTcp,
    /// It is not among the connections there are, or they cannot be told.
    NotAsked,
}

/// Asks for sockets, and keeps the answers for a moment.
#[derive(Debug, Default)]
pub struct NetTables {
    /// `None` until it was tried; then what came of it.
    diag: Option<Option<SockDiag>>,
    spaces: HashMap<Pid, (Timestamp, PathBuf)>,
    listeners: Kept<Listener>,
    connections: Kept<Connection>,
}

impl NetTables {
    /// All listening sockets in the namespace of `pid`; `None` if they cannot be told.
    pub fn listeners(
        &mut self,
        procfs: &ProcFs,
        pid: Pid,
        now: Timestamp,
    ) -> Option<Rc<Vec<Listener>>> {
        let space = self.space(procfs, pid, now)?;
        if let Some(known) = fresh(&self.listeners, &space, now, FRESH_LISTENERS) {
            return Some(known);
        }
        self.ask(procfs, pid, space, now)
    }

    /// The same, asked now, for what must be of one moment.
    pub fn listeners_now(
        &mut self,
        procfs: &ProcFs,
        pid: Pid,
        now: Timestamp,
    ) -> Option<Rc<Vec<Listener>>> {
        let space = procfs.net_namespace(pid).ok()?;
        self.ask(procfs, pid, space, now)
    }

    fn ask(
        &mut self,
        procfs: &ProcFs,
        pid: Pid,
        space: PathBuf,
        now: Timestamp,
    ) -> Option<Rc<Vec<Listener>>> {
        let asked = self.diag(procfs, &space).and_then(SockDiag::listeners);
        let found = asked.or_else(|| read_listeners(procfs, pid))?;
        Some(keep(&mut self.listeners, space, now, found))
    }

    /// All connected TCP sockets in the namespace of `pid`; `None` if they cannot be told.
    pub fn connections(
        &mut self,
        procfs: &ProcFs,
        pid: Pid,
        now: Timestamp,
    ) -> Option<Rc<Vec<Connection>>> {
        let space = self.space(procfs, pid, now)?;
        if let Some(known) = fresh(&self.connections, &space, now, FRESH_CONNECTIONS) {
            return Some(known);
        }
        let asked = self.diag(procfs, &space).and_then(SockDiag::connections);
        let found = asked.or_else(|| read_connections(procfs, pid))?;
        Some(keep(&mut self.connections, space, now, found))
    }

    /// The same, asked now: one may be over within milliseconds. Where that takes long it is what was last asked for, if
    /// that is fresh. Nothing of it is kept: who counts connections needs them as they are when it looks, and not as they
    /// were at somebody else's look.
    pub fn connections_now(
        &mut self,
        procfs: &ProcFs,
        pid: Pid,
        now: Timestamp,
    ) -> Option<Rc<Vec<Connection>>> {
        let space = self.space(procfs, pid, now)?;
        match self.diag(procfs, &space).and_then(SockDiag::connections) {
            Some(found) => Some(Rc::new(found)),
            None => fresh(&self.connections, &space, now, FRESH_CONNECTIONS),
        }
    }

    /// The other end of a socket that is connected, as far as that can be told at no great cost: a server may have a new
    /// one for each request.
    pub fn remote_of(&mut self, procfs: &ProcFs, pid: Pid, inode: u64, now: Timestamp) -> Remote {
        let Some(space) = self.space(procfs, pid, now) else { return Remote::NotAsked };
        let age = self.connections.get(&space).map(|(at, _)| now.since(*at));
        let lasts =
            if self.diag(procfs, &space).is_some() { FRESH_TOLD } else { FRESH_CONNECTIONS };
        let is_due = age.is_none_or(|age| age >= lasts);
        if is_due {
            self.connections.remove(&space);
        }
        let held = if is_due { self.diag(procfs, &space).and_then(SockDiag::held) } else { None };
        let was_told = held.is_some();
        let mut passing = None;
        if let Some(held) = held {
            let (connected, others): (Vec<_>, Vec<_>) =
                held.into_iter().partition(|(is_connected, _)| *is_connected);
            passing = others.into_iter().find(|(_, one)| one.inode == inode);
            let connected = connected.into_iter().map(|(_, one)| one).collect();
            keep(&mut self.connections, space.clone(), now, connected);
        }
        if let Some((_, one)) = passing {
            return Remote::Passing(one.remote);
        }
        let known = match self.connections.get(&space) {
            Some((_, known)) => Some(Rc::clone(known)),
            None => self.connections(procfs, pid, now),
        };
        let Some(known) = known else { return Remote::NotAsked };
        match known.iter().find(|one| one.inode == inode) {
            Some(found) => Remote::Is(found.remote),
            None if !is_due => Remote::NotYet,
            None if was_told => self.listens(procfs, pid, inode, now),
            None => Remote::NotAsked,
        }
    }

    /// Where a socket listens, of which the kernel told that it is not connected.
    fn listens(&mut self, procfs: &ProcFs, pid: Pid, inode: u64, now: Timestamp) -> Remote {
        let Some(listeners) = self.listeners(procfs, pid, now) else { return Remote::NotAsked };
        let one = listeners.iter().find(|one| one.inode == inode && one.port.is_some());
        one.and_then(|one| one.address.parse().ok()).map_or(Remote::NoTcp, Remote::Listens)
    }

    fn space(&mut self, procfs: &ProcFs, pid: Pid, now: Timestamp) -> Option<PathBuf> {
        if let Some((at, space)) = self.spaces.get(&pid)
            && now.since(*at) < FRESH_SPACE
        {
            return Some(space.clone());
        }
        // Those that were not asked for lately have mostly ended.
        self.spaces.retain(|_, (at, _)| now.since(*at) < FRESH_SPACE);
        let space = procfs.net_namespace(pid).ok()?;
        self.spaces.insert(pid, (now, space.clone()));
        Some(space)
    }

    /// What asks the kernel, if it answers for this namespace.
    fn diag(&mut self, procfs: &ProcFs, space: &PathBuf) -> Option<&mut SockDiag> {
        if procfs.own_net_namespace().as_ref() != Some(space) {
            return None;
        }
        self.diag.get_or_insert_with(SockDiag::open).as_mut()
    }
}

fn fresh<T>(kept: &Kept<T>, space: &PathBuf, now: Timestamp, fresh: Nanos) -> Option<Rc<Vec<T>>> {
    let (at, known) = kept.get(space)?;
    (now.since(*at) < fresh).then(|| Rc::clone(known))
}

fn keep<T>(kept: &mut Kept<T>, space: PathBuf, now: Timestamp, found: Vec<T>) -> Rc<Vec<T>> {
    if kept.len() >= MAX_NAMESPACES {
        kept.clear();
    }
    let found = Rc::new(found);
    kept.insert(space, (now, Rc::clone(&found)));
    found
}

/// The inodes of a process's sockets.
///
/// # Errors
/// Any [`ProcError`]: whose descriptors may not be seen is not told.
pub fn socket_inodes(procfs: &ProcFs, pid: Pid) -> Result<Vec<u64>, ProcError> {
    some_socket_inodes(procfs, pid, MAX_DESCRIPTORS)
}

/// Those among the first `limit` descriptors of a process, in no order.
///
/// # Errors
/// Any [`ProcError`].
pub fn some_socket_inodes(procfs: &ProcFs, pid: Pid, limit: usize) -> Result<Vec<u64>, ProcError> {
    let links = procfs.fd_links(pid, limit)?;
    Ok(links.iter().filter_map(|link| super::peers::socket_inode(link)).collect())
}

/// A row of `/proc/PID/net/tcp`.
struct Row<'a> {
    local: &'a [u8],
    remote: &'a [u8],
    state: &'a [u8],
    queues: &'a [u8],
    inode: u64,
}

fn row(line: &[u8]) -> Option<Row<'_>> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (local, remote, state) = (words.nth(1)?, words.next()?, words.next()?);
    let queues = words.next()?;
    Some(Row { local, remote, state, queues, inode: decimal(words.nth(4)?)? })
}

/// What is to be sent and what is to be read, `00000000:0000000C`.
fn both_queues(queues: &[u8]) -> [Option<u32>; 2] {
    let text = std::str::from_utf8(queues).ok();
    let halves = text.and_then(|text| text.split_once(':')).unzip();
    let number = |text: Option<&str>| u32::from_str_radix(text?, 16).ok();
    [number(halves.0), number(halves.1)]
}

/// The kernel lists those that listen first (`tcp_seq_start`, net/ipv4/tcp_ipv4.c), so the rest of a
/// long table need not be read.
fn read_listeners(procfs: &ProcFs, pid: Pid) -> Option<Vec<Listener>> {
    let mut found = Vec::new();
    let mut any = false;
    for table in ["tcp", "tcp6"] {
        any |= lines(procfs, pid, table, |line| {
            let Some(Row { local, state, queues, inode, .. }) = row(line) else { return true };
            if let Some(local) = address(local).filter(|_| state == LISTEN) {
                // Of a listening socket the second is how many wait (`get_tcp4_sock`).
                let [_, queue] = both_queues(queues);
                let (address, port) = (local.to_string(), Some(local.port()));
                found.push(Listener { inode, address, port, queue, limit: None });
            }
            state == LISTEN && found.len() < MAX_SOCKETS
        })
        .is_some();
    }
    any.then_some(found)
}

fn read_connections(procfs: &ProcFs, pid: Pid) -> Option<Vec<Connection>> {
    let mut found = Vec::new();
    let mut any = false;
    for table in ["tcp", "tcp6"] {
        any |= lines(procfs, pid, table, |line| {
            if let Some(Row { local, remote, state, queues, inode }) = row(line)
                && CONNECTED.contains(&state)
                && let (Some(local), Some(remote)) = (address(local), address(remote))
            {
                let [unsent, unread] = both_queues(queues).map(Option::unwrap_or_default);
                let is_closed = state == CLOSE_WAIT;
                found.push(Connection { inode, local, remote, unread, unsent, is_closed });
            }
            found.len() < MAX_SOCKETS
        })
        .is_some();
    }
    any.then_some(found)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // the tree is a made-up one
mod tests {
    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:0000000C 00:00000000 00000000     0        0 547760 2 0000 100 0 0 10 0
   1: 0100007F:C350 0700000A:1538 01 00000000:00000000 02:00000000 00000000     0        0 700 2 0000 20 4 30 10 -1
   2: 0100007F:C351 0700000A:1538 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0000
";

    #[test]
    fn tables_are_read_where_the_kernel_is_not_asked() {
        let dir = tempfile::tempdir().unwrap();
        for part in ["7/net", "7/ns", "7/fd"] {
            std::fs::create_dir_all(dir.path().join(part)).unwrap();
        }
        std::fs::write(dir.path().join("7/net/tcp"), TCP).unwrap();
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(to, dir.path().join(name)).unwrap();
        };
        link("net:[1]", "7/ns/net");
        link("socket:[700]", "7/fd/3");
        link("/dev/null", "7/fd/1");
        let (procfs, mut tables) = (ProcFs::at(dir.path()), NetTables::default());
        let listeners = tables.listeners(&procfs, Pid(7), Timestamp(0)).unwrap();
        let expected = Listener {
            inode: 547_760,
            address: "127.0.0.1:8000".to_owned(),
            port: Some(8000),
            queue: Some(12),
            limit: None,
        };
        assert_eq!(*listeners, [expected]);
        let now = |tables: &mut NetTables| tables.connections_now(&procfs, Pid(7), Timestamp(0));
        assert!(now(&mut tables).is_none(), "it is not read for whoever passes by");
        let connections = tables.connections(&procfs, Pid(7), Timestamp(0)).unwrap();
        assert_eq!(now(&mut tables).unwrap(), connections);
        let peers: Vec<_> =
            connections.iter().map(|one| (one.inode, one.remote.to_string())).collect();
        assert_eq!(peers, [(700, "10.0.0.7:5432".to_owned())]);
        assert_eq!(socket_inodes(&procfs, Pid(7)).unwrap(), [700]);
        // Kept for a moment, and no longer.
        std::fs::write(dir.path().join("7/net/tcp"), "  sl\n").unwrap();
        let at = |ms| Timestamp(0) + Nanos::from_millis(ms);
        assert_eq!(tables.listeners(&procfs, Pid(7), at(99)).unwrap().len(), 1);
        assert_eq!(tables.listeners(&procfs, Pid(7), at(100)).unwrap().len(), 0);
    }

    #[test]
    fn the_kernel_tells_of_any_tcp_socket_without_its_tables() {
        use std::os::fd::{AsRawFd, RawFd};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let procfs = ProcFs::host();
        let us = Pid(std::process::id().cast_signed());
        let remote = |fd: RawFd| {
            let link = procfs.fd_link(us, fd).unwrap();
            let inode = crate::target::peers::socket_inode(&link).unwrap();
            NetTables::default().remote_of(&procfs, us, inode, Timestamp(0))
        };
        if remote(udp.as_raw_fd()) == Remote::NotAsked {
            return; // a sandbox without netlink
        }
        assert_eq!(remote(udp.as_raw_fd()), Remote::NoTcp);
        assert_eq!(remote(client.as_raw_fd()), Remote::Is(address));
        assert_eq!(remote(listener.as_raw_fd()), Remote::Listens(address));
        // One that has said that it will send no more, as gunicorn does before it closes.
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(remote(client.as_raw_fd()), Remote::Passing(address));
    }

    #[test]
    fn what_cannot_be_read_is_not_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("7/ns")).unwrap();
        std::os::unix::fs::symlink("net:[1]", dir.path().join("7/ns/net")).unwrap();
        let (procfs, mut tables) = (ProcFs::at(dir.path()), NetTables::default());
        assert_eq!(tables.listeners(&procfs, Pid(7), Timestamp(0)), None);
        assert!(socket_inodes(&procfs, Pid(7)).is_err());
    }
}
