//! What a blocked thread waits for, in words.
//!
//! Takes what `/proc/PID/task/TID/syscall` showed, gives the call's name and the file, peer or
//! child behind it. Reads the arguments it points to from the target's memory, never more than a
//! stated number of bytes: they may be gone, torn or anything at all by the time we look.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::memory::{RemoteMemory, RemoteMemoryExt};
use super::peers::{PeerText, Peers};
use super::procfs::ProcFs;
use super::syscalls::{self, Subject};
use super::thread_files::SyscallState;
use crate::units::{Addr, Pid, Timestamp};

/// Entries read of a `pollfd` array: what it waits on is nearly always the first.
const POLLED: u64 = 64;
/// Descriptors an `fd_set` holds in every C library (`FD_SETSIZE`).
const SELECTED: u64 = 1024;
/// Longest file name read; the kernel allows 4096 (`PATH_MAX`), a report's line does not.
const NAME: usize = 1024;
/// Smallest page size: a name is read up to a page's end at a time, for the next page may not be
/// there.
const PAGE: u64 = 4096;
/// `sizeof(struct sockaddr_un)`, the longest address we know.
const ADDRESS: u64 = 110;

/// A system call a thread sleeps in, with what is behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The kernel's name of the call, `syscall_N` where the number is unknown.
    pub syscall: String,
    /// The descriptor it works on.
    pub fd: Option<i32>,
    /// What is behind that, or the file or child it names.
    pub peer: Option<PeerText>,
}

impl Peers {
    /// Says what a thread of `pid` in this state waits for; `None` unless it is in a system call.
    ///
    /// A `futex` has no descriptor and no peer: whether it is the interpreter's lock, only the
    /// caller can tell. `now` only ages the answers kept.
    pub fn describe(
        &mut self,
        procfs: &ProcFs,
        memory: &dyn RemoteMemory,
        pid: Pid,
        state: &SyscallState,
        now: Timestamp,
    ) -> Option<Waiting> {
        let SyscallState::Blocked { nr, args, .. } = *state else { return None };
        let Some(name) = syscalls::name(nr) else {
            return Some(Waiting { syscall: format!("syscall_{nr}"), fd: None, peer: None });
        };
        let mut behind = |fd: Option<i32>| fd.and_then(|fd| self.behind(procfs, pid, fd, now));
        let (fd, peer) = match syscalls::subject(name, args) {
            Subject::Nothing => (None, None),
            // Always the same inode, and it tells nothing of what is waited for.
            Subject::Fd(fd) if name.starts_with("epoll_") => (Some(fd), None),
            Subject::Fd(fd) => (Some(fd), behind(Some(fd))),
            Subject::Connect { fd, address, length } => {
                (Some(fd), sockaddr(memory, address, length).or_else(|| behind(Some(fd))))
            }
            Subject::Poll { fds, count } => {
                let fd = first_polled(memory, fds, count);
                (fd, behind(fd))
            }
            Subject::Select { sets, count } => {
                let fd = first_selected(memory, sets, count);
                (fd, behind(fd))
            }
            Subject::Child(child) => (None, (child > 0).then_some(PeerText::Child(child))),
            Subject::Path { dir, name } => match read_name(memory, name) {
                // An empty name stands for the directory's descriptor itself (AT_EMPTY_PATH).
                Some(name) if name.is_empty() => (dir, behind(dir)),
                Some(name) => (None, Some(PeerText::Path(name))),
                None => (None, None),
            },
        };
        // A descriptor below zero is none: the call is about to fail, or maps no file.
        let fd = fd.filter(|fd| *fd >= 0);
        Some(Waiting { syscall: name.to_owned(), fd, peer })
    }
}

/// The first descriptor in a `struct pollfd { int fd; short events, revents; }` array; a negative
/// one is skipped, as the kernel does.
fn first_polled(memory: &dyn RemoteMemory, fds: Addr, count: u64) -> Option<i32> {
    for entry in 0..count.min(POLLED) {
        let fd = memory.read_u32(fds.at(entry.checked_mul(8)?)).ok()?.cast_signed();
        if fd >= 0 {
            return Some(fd);
        }
    }
    None
}

/// The lowest descriptor in any of the sets.
fn first_selected(memory: &dyn RemoteMemory, sets: [Addr; 3], count: u64) -> Option<i32> {
    let words = count.min(SELECTED).div_ceil(64);
    for word in 0..words {
        let at = |set: Addr| set.at(word.saturating_mul(8));
        let given = sets.iter().filter(|set| !set.is_null());
        let bits = given.fold(0, |bits, set| bits | memory.read_u64(at(*set)).unwrap_or(0));
        if bits != 0 {
            let fd = word.checked_mul(64)?.checked_add(u64::from(bits.trailing_zeros()))?;
            return i32::try_from(fd).ok();
        }
    }
    None
}

/// A `struct sockaddr` in the target: `AF_UNIX`, `AF_INET` or `AF_INET6`.
fn sockaddr(memory: &dyn RemoteMemory, address: Addr, length: u64) -> Option<PeerText> {
    let bytes = memory.read_vec(address, usize::try_from(length.min(ADDRESS)).ok()?).ok()?;
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    if u16::from_le_bytes(*family) == 1 {
        return unix_path(rest).map(PeerText::Path);
    }
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let ip = match u16::from_le_bytes(*family) {
        2 => IpAddr::V4(Ipv4Addr::from(*rest.first_chunk::<4>()?)),
        10 => Ipv6Addr::from(*rest.get(4..)?.first_chunk::<16>()?).to_canonical(), // flow label first
        _ => return None,
    };
    Some(PeerText::Remote(SocketAddr::new(ip, u16::from_be_bytes(*port)).to_string()))
}

/// `sun_path`: ends with a zero byte, or begins with one where it is abstract, shown as `@`.
fn unix_path(path: &[u8]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    if *first == 0 {
        return Some(format!("@{}", String::from_utf8_lossy(rest)));
    }
    let end = path.iter().position(|b| *b == 0).unwrap_or(path.len());
    Some(String::from_utf8_lossy(path.get(..end)?).into_owned())
}

/// A name ending with a zero byte; cut at [`NAME`] bytes.
fn read_name(memory: &dyn RemoteMemory, at: Addr) -> Option<String> {
    let mut name: Vec<u8> = Vec::new();
    while name.len() < NAME {
        let next = at.at(u64::try_from(name.len()).ok()?);
        let to_page_end = PAGE.saturating_sub(next.0 % PAGE).min(256);
        let piece = memory.read_vec(next, usize::try_from(to_page_end).ok()?).ok()?;
        match piece.iter().position(|b| *b == 0) {
            Some(end) => {
                name.extend(piece.get(..end)?);
                break;
            }
            None => name.extend(piece),
        }
    }
    name.truncate(NAME);
    Some(String::from_utf8_lossy(&name).into_owned())
}
