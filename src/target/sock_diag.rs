//! The kernel's list of sockets, asked for by netlink: only those wanted, with what `/proc` leaves out.
//!
//! Knows `NETLINK_SOCK_DIAG` (sock_diag(7), include/uapi/linux/{sock_diag,inet_diag,unix_diag}.h). It
//! answers for our own network namespace alone. Needs no privilege. Gives sockets by inode; never waits:
//! a dump's parts are ready when they are asked for.

#![allow(unsafe_code)] // one system call that nix offers only with more of itself; it says why it is sound

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{FromRawFd, OwnedFd};

use nix::libc;

use super::net_tables::{Connection, Listener, MAX_SOCKETS};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP` (include/uapi/linux/netlink.h).
const DUMP: u16 = 0x301;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `sizeof(struct nlmsghdr)`.
const HEADER: usize = 16;
/// `sizeof(struct inet_diag_req_v2)` without its first eight bytes: the socket's own id, any.
const ANY_ID: [u8; 48] = [0; 48];
/// `sizeof(struct unix_diag_msg)`: behind it are attributes.
const UNIX_MESSAGE: usize = 16;
/// `UDIAG_SHOW_NAME | UDIAG_SHOW_RQLEN`.
const SHOW: u32 = 0x11;
/// `UNIX_DIAG_NAME` and `UNIX_DIAG_RQLEN`.
const NAME: u16 = 0;
const LENGTHS: u16 = 4;
/// Bytes of one answer: the kernel makes none longer (`netlink_dump`, net/netlink/af_netlink.c).
const ANSWER: usize = 32 * 1024;
/// Most answers read to one question.
const MAX_ANSWERS: usize = 1024;

/// `TCP_ESTABLISHED`, `TCP_CLOSE_WAIT` and `TCP_LISTEN` (include/net/tcp_states.h).
const ESTABLISHED: u32 = 1;
const CLOSE_WAIT: u32 = 8;
const LISTEN: u32 = 10;
/// Those connected, and all that a descriptor may lead to: `TCP_SYN_SENT` (2), `TCP_FIN_WAIT1` (4) and
/// `TCP_FIN_WAIT2`, `TCP_LAST_ACK` (9) and `TCP_CLOSING` (11) too. `TCP_TIME_WAIT` is of nobody's, and a
/// server that closes its connections leaves thousands of them.
const CONNECTED: u32 = 1 << ESTABLISHED | 1 << CLOSE_WAIT;
const HELD: u32 = CONNECTED | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11;

/// An open netlink socket.
#[derive(Debug)]
pub(super) struct SockDiag {
    file: File,
    buffer: Vec<u8>,
}

impl SockDiag {
    /// Opens it; `None` where the kernel has no such thing or a sandbox forbids it.
    pub(super) fn open() -> Option<SockDiag> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: takes numbers only, and gives a new descriptor or -1.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_SOCK_DIAG) };
        if fd < 0 {
            return None;
        }
        // SAFETY: the descriptor was just made, and nobody else knows it.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        Some(SockDiag { file, buffer: vec![0; ANSWER] })
    }

    /// All listening sockets, of TCP and Unix; `None` if the kernel did not tell.
    pub(super) fn listeners(&mut self) -> Option<Vec<Listener>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            self.dump(&inet(family, 1 << LISTEN), &mut |message| {
                found.extend(listener(message));
            })?;
        }
        // Without Unix sockets (a module may be missing) the others are still worth having.
        let _ = self.dump(&unix(), &mut |message| found.extend(unix_listener(message)));
        Some(found)
    }

    /// All connected TCP sockets; `None` if the kernel did not tell.
    pub(super) fn connections(&mut self) -> Option<Vec<Connection>> {
        Some(self.tcp(CONNECTED)?.into_iter().map(|(_, one)| one).collect())
    }

    /// All TCP sockets that somebody holds and that do not listen, each with whether it is connected
    /// both ways; `None` if the kernel did not tell.
    pub(super) fn held(&mut self) -> Option<Vec<(bool, Connection)>> {
        let held = self.tcp(HELD)?.into_iter();
        Some(held.map(|(state, one)| (CONNECTED & 1 << state != 0, one)).collect())
    }

    fn tcp(&mut self, states: u32) -> Option<Vec<(u32, Connection)>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            self.dump(&inet(family, states), &mut |message| {
                if found.len() < MAX_SOCKETS {
                    let state = message.get(1).map(|state| u32::from(*state & 0xf));
                    found.extend(state.zip(connection(message)));
                }
            })?;
        }
        Some(found)
    }

    /// Asks, and gives each message of the answer to `take`.
    fn dump(&mut self, question: &[u8], take: &mut dyn FnMut(&[u8])) -> Option<()> {
        let len = u32::try_from(HEADER.saturating_add(question.len())).ok()?;
        let mut bytes = len.to_le_bytes().to_vec();
        bytes.extend(BY_FAMILY.to_le_bytes());
        bytes.extend(DUMP.to_le_bytes());
        bytes.extend([0; 8]); // sequence, port
        bytes.extend(question);
        self.file.write_all(&bytes).ok()?;
        for _ in 0..MAX_ANSWERS {
            let got = self.file.read(&mut self.buffer).ok()?;
            let mut rest = self.buffer.get(..got)?;
            while rest.len() >= HEADER {
                let len = usize::try_from(u32_at(rest, 0)?).ok()?;
                match u16_at(rest, 4)? {
                    DONE => return Some(()),
                    ERROR => return None,
                    _ => take(rest.get(HEADER..len)?),
                }
                // Messages begin at multiples of four.
                rest = rest.get(len.checked_next_multiple_of(4)?..).unwrap_or_default();
            }
        }
        None
    }
}

/// The question for TCP sockets of a family (`struct inet_diag_req_v2`).
fn inet(family: i32, states: u32) -> Vec<u8> {
    let head = [family, libc::IPPROTO_TCP, 0, 0].map(|byte| u8::try_from(byte).unwrap_or_default());
    [&head[..], &states.to_le_bytes(), &ANY_ID].concat()
}

/// The question for listening Unix sockets (`struct unix_diag_req`).
fn unix() -> Vec<u8> {
    let head = [u8::try_from(libc::AF_UNIX).unwrap_or_default(), 0, 0, 0];
    let states: u32 = 1 << LISTEN;
    [&head[..], &states.to_le_bytes(), &[0; 4], &SHOW.to_le_bytes(), &[0; 8]].concat()
}

/// A `struct inet_diag_msg` of a listening socket: there `idiag_rqueue` is how many connections wait to
/// be accepted, and `idiag_wqueue` how many may (`tcp_diag_get_info`, net/ipv4/tcp_diag.c).
fn listener(message: &[u8]) -> Option<Listener> {
    Some(Listener {
        inode: u32_at(message, 68)?.into(),
        address: address(message, 4, 8)?.to_string(),
        port: Some(address(message, 4, 8)?.port()),
        queue: u32_at(message, 56),
        limit: u32_at(message, 60),
    })
}

/// Of a connected socket `idiag_rqueue` and `idiag_wqueue` are bytes (`tcp_diag_get_info`).
fn connection(message: &[u8]) -> Option<Connection> {
    Some(Connection {
        inode: u32_at(message, 68)?.into(),
        local: address(message, 4, 8)?,
        remote: address(message, 6, 24)?,
        unread: u32_at(message, 56)?,
        unsent: u32_at(message, 60)?,
        is_closed: message.get(1).is_some_and(|state| u32::from(*state) == CLOSE_WAIT),
    })
}

/// Port and address at these offsets, both in network order.
fn address(message: &[u8], port: usize, ip: usize) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(bytes_at(message, port)?);
    let ip = match i32::from(*message.first()?) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(bytes_at::<4>(message, ip)?)),
        libc::AF_INET6 => Ipv6Addr::from(bytes_at::<16>(message, ip)?).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// A `struct unix_diag_msg` of a listening socket with its attributes.
fn unix_listener(message: &[u8]) -> Option<Listener> {
    let inode = u32_at(message, 4)?.into();
    let (mut address, mut lengths) = (None, None);
    let mut rest = message.get(UNIX_MESSAGE..)?;
    while rest.len() >= 4 {
        let len = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..len)?;
        match u16_at(rest, 2)? {
            NAME => address = Some(unix_name(value)),
            LENGTHS => lengths = u32_at(value, 0).zip(u32_at(value, 4)),
            _ => {}
        }
        rest = rest.get(len.checked_next_multiple_of(4)?..).unwrap_or_default();
    }
    let (queue, limit) = lengths.unzip();
    Some(Listener { inode, address: address?, port: None, queue, limit })
}

/// A path, or an abstract name with `@` for its first zero byte.
fn unix_name(bytes: &[u8]) -> String {
    let (at, name) = match bytes.split_first() {
        Some((0, name)) => ("@", name),
        _ => ("", bytes.split(|byte| *byte == 0).next().unwrap_or_default()),
    };
    format!("{at}{}", String::from_utf8_lossy(name))
}

fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes_at(bytes, offset).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes_at(bytes, offset).map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_line_that_nobody_serves_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _clients: Vec<TcpStream> =
            (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let Some(mut diag) = SockDiag::open() else { return };
        let found = diag.listeners().unwrap();
        let ours = found.iter().find(|one| one.address == address.to_string()).unwrap();
        assert_eq!((ours.queue, ours.port), (Some(3), Some(address.port())));
        assert!(ours.limit >= Some(3), "{ours:?}");
        let connected = diag.connections().unwrap();
        assert_eq!(connected.iter().filter(|one| one.remote == address).count(), 3);
    }

    #[test]
    fn unix_sockets_have_a_line_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let Some(mut diag) = SockDiag::open() else { return };
        let found = diag.listeners().unwrap();
        let ours = found.iter().find(|one| one.address == path.display().to_string());
        let Some(ours) = ours else { return }; // a kernel without unix_diag
        assert_eq!(ours.queue, Some(1));
    }

    #[test]
    fn cut_messages_do_no_harm() {
        let whole: Vec<u8> = [2, 10, 0, 0].into_iter().chain(0..200).collect();
        for len in 0..whole.len() {
            let cut = &whole[..len];
            let _ = (listener(cut), connection(cut), unix_listener(cut));
        }
    }
}
