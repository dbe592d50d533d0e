//! Sockets by inode: whom they talk to.
//!
//! Knows `/proc/PID/net/{tcp,tcp6,udp,udp6,unix}` (proc_pid_net(5)), which show the target's own
//! network namespace. The kernel writes them socket by socket, some tenths of a microsecond each,
//! so a host with 100,000 sockets makes this slow, and for TCP it walks a hash table that is large
//! where the memory is: 5 ms for no socket at all (measured). So callers keep the answer, for long
//! where it says that it cannot change, and we read no more than a stated size.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::procfs::{ProcFs, decimal};
use crate::units::Pid;

/// Most bytes read of one table: some 28,000 TCP sockets, about 20 ms.
const TABLE: u64 = 4 * 1024 * 1024;
/// How the tables write `TCP_ESTABLISHED` and `TCP_LISTEN` (include/net/tcp_states.h). One that is being
/// connected may be connected to another address, if that fails.
const SETTLED: [&[u8]; 2] = [b"01", b"0A"];

/// The tables of all sockets with an address, and of those that are none of TCP's.
pub(super) const ANY: [&str; 4] = ["tcp", "tcp6", "udp", "udp6"];
pub(super) const UDP: [&str; 2] = ["udp", "udp6"];

/// What a socket is bound or connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Socket {
    /// Connected to this address, or being connected.
    Remote(String),
    /// Listening or unconnected, with this address of its own.
    Local(String),
    /// A Unix socket with this path; `@` begins an abstract one.
    Unix(String),
    /// A Unix socket without a name: a client's, or one of a pair.
    Unnamed,
}

/// A socket found in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// What it is bound or connected to.
    pub(super) socket: Socket,
    /// It stays so as long as it lives, for all that programs do: a TCP socket that is connected or
    /// listens, and a Unix socket.
    pub(super) is_settled: bool,
}

/// Finds a socket in the target's network namespace; `None` where it has no address, is of
/// another family, or lies beyond the part of the tables we read.
///
/// Unix sockets first: their table is short, and many wait at one of a pair, which would be looked
/// for in all the others in vain.
/// `tables` are those of other kinds that it may be in.
pub(super) fn find(procfs: &ProcFs, pid: Pid, inode: u64, tables: &[&str]) -> Option<Found> {
    scan(procfs, pid, "unix", |line| unix(line, inode))
        .map(|socket| Found { socket, is_settled: true })
        .or_else(|| {
            tables.iter().find_map(|table| {
                let is_tcp = table.starts_with("tcp");
                let (socket, state) = scan(procfs, pid, table, |line| inet(line, inode))?;
                Some(Found { socket, is_settled: is_tcp && SETTLED.contains(&&state[..]) })
            })
        })
}

/// Every line of a table, until `go_on` says no; `None` where the table cannot be opened.
pub(super) fn lines(
    procfs: &ProcFs,
    pid: Pid,
    table: &str,
    mut go_on: impl FnMut(&[u8]) -> bool,
) -> Option<()> {
    scan(procfs, pid, table, |line| (!go_on(line)).then_some(()));
    procfs.path(pid, format!("net/{table}")).exists().then_some(())
}

/// The first line of a table that `wanted` recognises.
fn scan<T>(
    procfs: &ProcFs,
    pid: Pid,
    table: &str,
    mut wanted: impl FnMut(&[u8]) -> Option<T>,
) -> Option<T> {
    let file = File::open(procfs.path(pid, format!("net/{table}"))).ok()?;
    let mut lines = BufReader::new(file.take(TABLE));
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        if let Some(found) = wanted(line.trim_ascii_end()) {
            return Some(found);
        }
    }
}

/// A line of `tcp`, `tcp6`, `udp` or `udp6`, if it is this socket's; with its state, as written.
fn inet(line: &[u8], inode: u64) -> Option<(Socket, Vec<u8>)> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (local, remote, state) = (words.nth(1)?, words.next()?, words.next()?);
    // Behind the state: queues, timer, retransmits, uid, timeout, inode.
    if decimal(words.nth(5)?)? != inode {
        return None;
    }
    let (local, remote) = (address(local)?, address(remote)?);
    let socket = if remote.port() == 0 && remote.ip().is_unspecified() {
        Socket::Local(local.to_string())
    } else {
        Socket::Remote(remote.to_string())
    };
    Some((socket, state.to_vec()))
}

/// A line of `unix`, if it is this socket's. A client's has no name, and the kernel does not say here
/// who is at its other end.
fn unix(line: &[u8], inode: u64) -> Option<Socket> {
    // The inode is padded to five places (unix_seq_show, net/unix/af_unix.c).
    let rest = line.splitn(7, |b| *b == b' ').nth(6)?.trim_ascii_start();
    let mut halves = rest.splitn(2, |b| *b == b' ');
    if decimal(halves.next()?)? != inode {
        return None;
    }
    let name = halves.next().map(|name| String::from_utf8_lossy(name).into_owned());
    Some(name.map_or(Socket::Unnamed, Socket::Unix))
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
        let unnamed = b"0: 00000003 00000000 00000000 0001 03  1008";
        assert_eq!(unix(unnamed, 1008), Some(Socket::Unnamed));
        assert_eq!(unix(unnamed, 1007), None);
    }

    #[test]
    fn a_connection_that_is_being_made_may_be_made_elsewhere_yet() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("1/net")).unwrap();
        let rest = "00000000:00000000 00:00000000 00000000     0        0";
        let line = |remote: &str, state: &str, inode: u64| {
            format!("   0: 0100007F:9C40 {remote} {state} {rest} {inode} 1 0000000000000000 20\n")
        };
        let tcp = [
            line("0700000A:1538", "01", 7),
            line("0700000A:1538", "02", 8),
            line("00000000:0000", "0A", 9),
        ];
        std::fs::write(dir.path().join("1/net/tcp"), tcp.concat()).unwrap();
        let udp = line("0700000A:0035", "01", 10);
        std::fs::write(dir.path().join("1/net/udp"), udp).unwrap();
        let unix = "0: 3 0 0 0001 03 11\n";
        std::fs::write(dir.path().join("1/net/unix"), unix).unwrap();
        let find = |inode| find(&ProcFs::at(dir.path()), Pid(1), inode, &ANY);
        let found = |socket, is_settled| Some(Found { socket, is_settled });
        let remote = || Socket::Remote("10.0.0.7:5432".to_owned());
        assert_eq!(find(7), found(remote(), true));
        assert_eq!(find(8), found(remote(), false));
        assert_eq!(find(9), found(Socket::Local("127.0.0.1:40000".to_owned()), true));
        assert_eq!(find(10), found(Socket::Remote("10.0.0.7:53".to_owned()), false));
        assert_eq!(find(11), found(Socket::Unnamed, true));
        assert_eq!(find(12), None);
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
