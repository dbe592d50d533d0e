//! What is behind a file descriptor of another process.
//!
//! Takes a pid and a descriptor, gives a name for the other end. Keeps the answers for sockets for a
//! short while, because finding one may mean reading a long table. Never opens what it names.

use std::path::Path;

use super::procfs::{ProcFs, decimal};
use super::sockets::{self, Socket};
pub use super::waits::Waiting;
use crate::units::{Nanos, Pid, Timestamp};

/// How long an answer for a socket holds. Its inode is its own for life; what can change is an
/// unconnected socket being connected.
const FRESH: Nanos = Nanos::from_secs(2);
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

/// Finds what is behind descriptors, and remembers sockets for a while.
#[derive(Debug, Default)]
pub struct Peers {
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    pid: Pid,
    inode: u64,
    peer: PeerText,
    at: Timestamp,
}

impl Peers {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Peers {
        Peers::default()
    }

    /// What descriptor `fd` of `pid` leads to; `None` where it is not open or we may not look.
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
        self.kept.retain(|kept| now.since(kept.at) < FRESH);
        if let Some(kept) = self.kept.iter().find(|kept| kept.pid == pid && kept.inode == inode) {
            return Some(kept.peer.clone());
        }
        let peer = match sockets::find(procfs, pid, inode) {
            Some(Socket::Remote(address)) => PeerText::Remote(address),
            Some(Socket::Local(address)) => PeerText::Local(address),
            Some(Socket::Unix(path)) => PeerText::Path(path),
            None => PeerText::Path(link.to_string_lossy().into_owned()),
        };
        if self.kept.len() >= KEPT {
            self.kept.remove(0); // The oldest: they are kept in the order they were found.
        }
        self.kept.push(Kept { pid, inode, peer: peer.clone(), at: now });
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

    #[test]
    fn answers_are_kept_a_while_and_no_more_than_so_many() {
        let dir = tempfile::tempdir().unwrap();
        let fds = dir.path().join("1/fd");
        std::fs::create_dir_all(&fds).unwrap();
        std::fs::create_dir_all(dir.path().join("1/net")).unwrap();
        let unix = dir.path().join("1/net/unix");
        std::fs::write(&unix, "0: 2 0 1 0001 01 7 /run/old\n").unwrap();
        for fd in 7..200 {
            let target = format!("socket:[{fd}]");
            std::os::unix::fs::symlink(target, fds.join(fd.to_string())).unwrap();
        }
        let (procfs, mut peers) = (ProcFs::at(dir.path()), Peers::new());
        let mut at = |fd, now| peers.behind(&procfs, Pid(1), fd, Timestamp(now)).unwrap();
        let old = PeerText::Path("/run/old".to_owned());
        assert_eq!(at(7, 0), old);
        std::fs::write(&unix, "0: 2 0 1 0001 01 7 /run/new\n").unwrap();
        assert_eq!(at(7, 1_999_999_999), old);
        assert_eq!(at(7, 2_000_000_000), PeerText::Path("/run/new".to_owned()));
        for fd in 8..200 {
            assert_eq!(at(fd, 2_000_000_001), PeerText::Path(format!("socket:[{fd}]")));
        }
        assert_eq!(peers.kept.len(), KEPT);
    }
}
