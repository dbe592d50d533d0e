//! What is behind a file descriptor of another process.
//!
//! Takes a pid and a descriptor, gives a name for the other end. Keeps the answers for sockets for a
//! while, because finding one may mean reading a long table. Never opens what it names.

use std::path::Path;

use super::net_tables::{NetTables, Remote};
use super::procfs::{ProcFs, decimal};
use super::sockets::{self, ANY, Found, Socket, UDP};
pub use super::waits::Waiting;
use crate::units::{Nanos, Pid, Timestamp};

/// How long an answer for a socket holds. Its inode is its own for life; what can change is an
/// unconnected socket being connected.
const FRESH: Nanos = Nanos::from_secs(2);
/// The same where the socket is connected or listens. Programs do not change that again; the kernel would
/// let them.
const FRESH_SETTLED: Nanos = Nanos::from_secs(60);
/// Answers kept. A stalled loop sits on one socket; a server's threads on a few each.
const KEPT: usize = 64;

/// The other end of what a thread waits on, as text; see [`crate::model::Peer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerText {
    /// A connected socket's remote address.
    Remote(String),
    /// A listening or unconnected socket's own address.
    Local(String),
    /// A file, pipe, eventfd or Unix socket by the name the kernel gives it.
    Path(String),
    /// A child process being waited for, by its pid in the target's namespace.
    Child(i32),
}

/// Finds what is behind descriptors, and remembers sockets for a while. One that was just made may not be found at once.
#[derive(Debug, Default)]
pub struct Peers {
    kept: Vec<Kept>,
    tables: NetTables,
}

#[derive(Debug)]
struct Kept {
    pid: Pid,
    inode: u64,
    peer: PeerText,
    at: Timestamp,
    lasts: Nanos,
}

impl Peers {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Peers {
        Peers::default()
    }

    /// What descriptor `fd` of `pid` leads to; `None` where it is not open, we may not look, or it is too new.
    /// `now` only ages the answers kept.
    pub fn behind(
        &mut self,
        procfs: &ProcFs,
        pid: Pid,
        fd: i32,
        now: Timestamp,
    ) -> Option<PeerText> {
        let link = procfs.fd_link(pid, fd).ok()?;
        let Some(inode) = socket_inode(&link) else {
            let path = procfs.as_target_sees(pid, &link);
            return Some(PeerText::Path(path.to_string_lossy().into_owned()));
        };
        self.kept.retain(|kept| now.since(kept.at) < kept.lasts);
        if let Some(kept) = self.kept.iter().find(|kept| kept.pid == pid && kept.inode == inode) {
            return Some(kept.peer.clone());
        }
        let found = match self.tables.remote_of(procfs, pid, inode, now) {
            Remote::Is(remote) => {
                Some(Found { socket: Socket::Remote(remote.to_string()), is_settled: true })
            }
            // Where each request has a new one, looking for every one would cost more than all else; those that
            // threads wait at for long are found in a moment.
            Remote::NotYet => return None,
            Remote::Passing(remote) => {
                Some(Found { socket: Socket::Remote(remote.to_string()), is_settled: false })
            }
            Remote::Listens(local) => {
                Some(Found { socket: Socket::Local(local.to_string()), is_settled: true })
            }
            Remote::NoTcp => sockets::find(procfs, pid, inode, &UDP),
            Remote::NotAsked => sockets::find(procfs, pid, inode, &ANY),
        };
        let is_settled = found.as_ref().is_some_and(|found| found.is_settled);
        let peer = match found.map(|found| found.socket) {
            Some(Socket::Remote(address)) => PeerText::Remote(address),
            Some(Socket::Local(address)) => PeerText::Local(address),
            Some(Socket::Unix(path)) => PeerText::Path(path),
            Some(Socket::Unnamed) | None => PeerText::Path(link.to_string_lossy().into_owned()),
        };
        if self.kept.len() >= KEPT {
            self.kept.remove(0); // The oldest: they are kept in the order they were found.
        }
        let lasts = if is_settled { FRESH_SETTLED } else { FRESH };
        self.kept.push(Kept { pid, inode, peer: peer.clone(), at: now, lasts });
        Some(peer)
    }
}

/// The inode in `socket:[123]`.
pub(super) fn socket_inode(link: &Path) -> Option<u64> {
    decimal(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_has_a_sockets_inode() {
        assert_eq!(socket_inode(Path::new("socket:[42]")), Some(42));
        for other in ["pipe:[42]", "socket:[42", "socket:[]", "/socket:[42]"] {
            assert_eq!(socket_inode(Path::new(other)), None, "{other}");
        }
    }

    /// A process 1 with a descriptor for each of `fds`, which leads to a socket of that inode.
    fn process(fds: std::ops::Range<i32>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("1/fd");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(dir.path().join("1/net")).unwrap();
        for fd in fds {
            let target = format!("socket:[{fd}]");
            std::os::unix::fs::symlink(target, folder.join(fd.to_string())).unwrap();
        }
        dir
    }

    /// A table of connected sockets, with one.
    fn table(remote: &str, inode: u64) -> String {
        format!("0: 0100007F:9C40 {remote} 01 0:0 00:0 00000000 0 0 {inode} 1 0 20\n")
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn sockets_are_not_looked_for_one_by_one_where_each_request_has_a_new_one() {
        let dir = process(7..10);
        std::fs::create_dir_all(dir.path().join("1/ns")).unwrap();
        std::os::unix::fs::symlink("net:[1]", dir.path().join("1/ns/net")).unwrap();
        let tcp = dir.path().join("1/net/tcp");
        let rows = |inodes: &[u64]| -> String {
            inodes.iter().map(|inode| table("0700000A:1538", *inode)).collect()
        };
        std::fs::write(&tcp, rows(&[7])).unwrap();
        let (procfs, mut peers) = (ProcFs::at(dir.path()), Peers::new());
        let mut at = |fd, now| peers.behind(&procfs, Pid(1), fd, Timestamp(now));
        let remote = Some(PeerText::Remote("10.0.0.7:5432".to_owned()));
        assert_eq!(at(7, 0), remote);
        std::fs::write(&tcp, rows(&[7, 8])).unwrap();
        assert_eq!(at(8, SECOND / 10), None);
        assert_eq!(at(7, SECOND / 10), remote);
        assert_eq!(at(8, SECOND / 2), remote);
        // What is no connection is looked for elsewhere once they were asked for anew.
        assert_eq!(at(9, SECOND * 6 / 10), None);
        assert_eq!(at(9, SECOND), Some(PeerText::Path("socket:[9]".to_owned())));
    }

    #[test]
    fn answers_are_kept_a_while_and_no_more_than_so_many() {
        let dir = process(7..200);
        let udp = dir.path().join("1/net/udp");
        std::fs::write(&udp, table("0700000A:1538", 7)).unwrap();
        let (procfs, mut peers) = (ProcFs::at(dir.path()), Peers::new());
        let mut at = |fd, now| peers.behind(&procfs, Pid(1), fd, Timestamp(now)).unwrap();
        let old = PeerText::Remote("10.0.0.7:5432".to_owned());
        assert_eq!(at(7, 0), old);
        std::fs::write(&udp, table("0800000A:1538", 7)).unwrap();
        assert_eq!(at(7, 2 * SECOND - 1), old);
        assert_eq!(at(7, 2 * SECOND), PeerText::Remote("10.0.0.8:5432".to_owned()));
        for fd in 8..200 {
            assert_eq!(at(fd, 2 * SECOND + 1), PeerText::Path(format!("socket:[{fd}]")));
        }
        assert_eq!(peers.kept.len(), KEPT);
    }

    #[test]
    fn a_connection_is_not_looked_for_again_while_its_descriptor_leads_to_it() {
        let dir = process(7..9);
        std::fs::write(dir.path().join("1/net/tcp"), table("0700000A:1538", 7)).unwrap();
        // One of a pair, as multiprocessing's pipes are.
        std::fs::write(dir.path().join("1/net/unix"), "0: 3 0 0 0001 03 8\n").unwrap();
        let (procfs, mut peers) = (ProcFs::at(dir.path()), Peers::new());
        let mut at = |fd, now| peers.behind(&procfs, Pid(1), fd, Timestamp(now)).unwrap();
        let remote = PeerText::Remote("10.0.0.7:5432".to_owned());
        let unnamed = PeerText::Path("socket:[8]".to_owned());
        assert_eq!((at(7, 0), at(8, 0)), (remote.clone(), unnamed.clone()));
        std::fs::write(dir.path().join("1/net/tcp"), table("0800000A:1538", 9)).unwrap();
        std::fs::write(dir.path().join("1/net/unix"), "0: 2 0 1 0001 01 8 /run/new\n").unwrap();
        assert_eq!((at(7, 60 * SECOND - 1), at(8, 60 * SECOND - 1)), (remote, unnamed));
        // A descriptor used again leads to another inode, whatever is remembered of the one before.
        let link = dir.path().join("1/fd/7");
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("socket:[9]", &link).unwrap();
        let other = PeerText::Remote("10.0.0.8:5432".to_owned());
        assert_eq!(at(7, 60 * SECOND - 1), other);
        assert_eq!(at(8, 60 * SECOND), PeerText::Path("/run/new".to_owned()));
    }
}
