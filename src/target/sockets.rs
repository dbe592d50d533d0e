//! Sockets by inode: whom they talk to.
//!
//! Knows `/proc/PID/net/{tcp,tcp6,udp,udp6,unix}` (proc_pid_net(5)), which show the target's own
//! network namespace. The kernel writes them socket by socket, some tenths of a microsecond each,
//! so a host with 100,000 sockets makes this slow: callers keep the answer, and we read no more
//! than a stated size.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::procfs::{ProcFs, decimal};
use crate::units::Pid;

/// Most bytes read of one table: some 28,000 TCP sockets, about 20 ms.
const TABLE: u64 = 4 * 1024 * 1024;

/// What a socket is bound or connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Socket {
    /// Connected to this address, or being connected.
    Remote(String),
    /// Listening or unconnected, with this address of its own.
    Local(String),
    /// A Unix socket with this path; `@` begins an abstract one.
    Unix(String),
}

/// Finds a socket in the target's network namespace; `None` where it has no address, is of
/// another family, or lies beyond the part of the tables we read.
pub(super) fn find(procfs: &ProcFs, pid: Pid, inode: u64) -> Option<Socket> {
    ["tcp", "tcp6", "udp", "udp6"]
        .into_iter()
        .find_map(|table| scan(procfs, pid, table, |line| inet(line, inode)))
        .or_else(|| scan(procfs, pid, "unix", |line| unix(line, inode)))
}

/// Every line of a table, until `go_on` says no; `None` where the table cannot be opened.
pub(super) fn lines(
    procfs: &ProcFs,
    pid: Pid,
    table: &str,
    mut go_on: impl FnMut(&[u8]) -> bool,
) -> Option<()> {
    scan(procfs, pid, table, |line| (!go_on(line)).then_some(Socket::Unix(String::new())));
    procfs.path(pid, format!("net/{table}")).exists().then_some(())
}

/// The first line of a table that `wanted` recognises.
fn scan(
    procfs: &ProcFs,
    pid: Pid,
    table: &str,
    mut wanted: impl FnMut(&[u8]) -> Option<Socket>,
) -> Option<Socket> {
    let file = File::open(procfs.path(pid, format!("net/{table}"))).ok()?;
    let mut lines = BufReader::new(file.take(TABLE));
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        if let Some(socket) = wanted(line.trim_ascii_end()) {
            return Some(socket);
        }
    }
}

/// A line of `tcp`, `tcp6`, `udp` or `udp6`, if it is this socket's.
fn inet(line: &[u8], inode: u64) -> Option<Socket> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (local, remote) = (words.nth(1)?, words.next()?);
    // Behind the addresses: st, queues, timer, retransmits, uid, timeout, inode.
    if decimal(words.nth(6)?)? != inode {
        return None;
    }
    let (local, remote) = (address(local)?, address(remote)?);
    if remote.port() == 0 && remote.ip().is_unspecified() {
        Some(Socket::Local(local.to_string()))
    } else {
        Some(Socket::Remote(remote.to_string()))
    }
}

/// A line of `unix`, if it is this socket's and the socket has a name. A client's has none, and
/// the kernel does not say here who is at its other end.
fn unix(line: &[u8], inode: u64) -> Option<Socket> {
    // The inode is padded to five places (unix_seq_show, net/unix/af_unix.c).
    let rest = line.splitn(7, |b| *b == b' ').nth(6)?.trim_ascii_start();
    let mut halves = rest.splitn(2, |b| *b == b' ');
    if decimal(halves.next()?)? != inode {
        return None;
    }
    Some(Socket::Unix(String::from_utf8_lossy(halves.next()?).into_owned()))
}

/// `0700000A:01BB`, or 32 digits for IPv6: each 32-bit word as the CPU reads it from network order,
/// which on a little-endian machine turns its bytes round. The port is plain.
pub(super) fn address(field: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = std::str::from_utf8(field).ok()?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = [0; 16];
    let used = octets.get_mut(..ip.len() / 2)?;
    for (word, digits) in used.chunks_exact_mut(4).zip(ip.as_bytes().chunks_exact(8)) {
        let digits = std::str::from_utf8(digits).ok()?;
        word.copy_from_slice(&u32::from_str_radix(digits, 16).ok()?.to_le_bytes());
    }
    let [a, b, c, d, ..] = octets;
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        // An IPv4 peer of an IPv6 socket is shown as what it is.
        32 => Ipv6Addr::from(octets).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(field: &str) -> Option<String> {
        address(field.as_bytes()).map(|address| address.to_string())
    }

    #[test]
    fn addresses() {
        assert_eq!(shown("0700000A:01BB").unwrap(), "10.0.0.7:443");
        assert_eq!(shown("00000000000000000000000001000000:01BB").unwrap(), "[::1]:443");
        assert_eq!(shown("B80D0120000000000000000001000000:0050").unwrap(), "[2001:db8::1]:80");
        assert_eq!(shown("0000000000000000FFFF00000700000A:1538").unwrap(), "10.0.0.7:5432");
        for odd in ["", ":", "0700000A", "0700000A:", "07:01BB", "0700000A:1FFFF", "ÄÄÄÄ:01BB"]
        {
            assert_eq!(shown(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_path_with_spaces() {
        let line = b"0000000000000000: 00000002 00000000 00010000 0001 01  1007 /run/a b.sock";
        assert_eq!(unix(line, 1007), Some(Socket::Unix("/run/a b.sock".to_owned())));
        assert_eq!(unix(line, 1008), None);
        assert_eq!(unix(b"0: 00000003 00000000 00000000 0001 03  1008", 1008), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(line in prop::collection::vec(any::<u8>(), 0..200), inode: u64) {
            let _ = (inet(&line, inode), unix(&line, inode), address(&line));
        }

        #[test]
        fn nearly_right_addresses_never_panic(field in "[0-9A-F]{0,40}:[0-9A-F]{0,8}") {
            let _ = address(field.as_bytes());
        }
    }
}
