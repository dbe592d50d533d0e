//! What an epoll set waits for, and the counts that some descriptors show.
//!
//! Knows `/proc/PID/fdinfo/FD` (proc_pid_fdinfo(5); `ep_show_fdinfo`, fs/eventpoll.c;
//! `eventfd_show_fdinfo`, fs/eventfd.c; `timerfd_show`, fs/timerfd.c). It is read, never written.

use super::{ProcError, ProcFs};
use crate::units::Pid;

/// Largest list taken of an epoll set: some 10,000 descriptors of a line each.
const SET: u64 = 1024 * 1024;
/// Largest of any other descriptor.
const OTHER: u64 = 4096;

/// A descriptor in an epoll set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polled {
    /// Its number.
    pub fd: i32,
    /// What is waited for, `EPOLLIN` and so on.
    pub events: u32,
    /// The inode behind it, where the kernel tells (from 4.13 on): a socket's is its own.
    pub inode: Option<u64>,
}

/// `EPOLLIN` and `EPOLLOUT` (include/uapi/linux/eventpoll.h).
const READ: u32 = 1;
const WRITE: u32 = 4;
/// `EPOLLET`: told once for each time it becomes ready, so that nothing spins.
const EDGE: u32 = 1 << 31;

impl Polled {
    /// Whether a poll returns as long as there is something to read.
    #[must_use]
    pub fn for_reading(&self) -> bool {
        self.events & READ != 0 && self.events & EDGE == 0
    }

    /// Whether a poll returns as long as there is room to write.
    #[must_use]
    pub fn for_writing(&self) -> bool {
        self.events & WRITE != 0 && self.events & EDGE == 0
    }
}

impl ProcFs {
    /// What the epoll set behind descriptor `epoll` waits for.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn polled(&self, pid: Pid, epoll: i32) -> Result<Vec<Polled>, ProcError> {
        let bytes = self.bytes(pid, &format!("fdinfo/{epoll}"), SET)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().filter_map(polled).collect())
    }

    /// Whether an eventfd or a timerfd has something to read; `None` of any other descriptor.
    #[must_use]
    pub fn counts(&self, pid: Pid, fd: i32) -> Option<bool> {
        let bytes = self.bytes(pid, &format!("fdinfo/{fd}"), OTHER).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let count = |line: &str| {
            // The one is written in hexadecimal, the other is not; whether it is 0 looks the same.
            let count = line.strip_prefix("eventfd-count:").or(line.strip_prefix("ticks:"))?;
            Some(count.trim().bytes().any(|digit| digit != b'0'))
        };
        text.lines().find_map(count)
    }
}

/// `tfd:        5 events:       19 data:                5  pos:0 ino:61 sdev:c`.
fn polled(line: &str) -> Option<Polled> {
    let mut words = line.strip_prefix("tfd:")?.split_ascii_whitespace();
    let fd = words.next()?.parse().ok()?;
    let events = words.next().filter(|word| *word == "events:").and(words.next())?;
    let events = u32::from_str_radix(events, 16).ok()?;
    let inode = words.find_map(|word| u64::from_str_radix(word.strip_prefix("ino:")?, 16).ok());
    Some(Polled { fd, events, inode })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a tree of its own
mod tests {
    use super::*;

    #[test]
    fn a_set_is_read_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("7/fdinfo")).unwrap();
        let set = "pos:\t0\nflags:\t02\nmnt_id:\t15\n\
            tfd:        5 events:       19 data:                5  pos:0 ino:1a2b sdev:9\n\
            tfd:        8 events: 8000001d data:                8  pos:0 ino:61 sdev:c\n\
            tfd:        9 events:        4 data:                9\n\
            tfd: x events: 1\n";
        for (fd, text) in [
            (3, set),
            (5, "pos:\t0\n"),
            (6, "pos:\t0\neventfd-count:                0\neventfd-id: 4\n"),
            (7, "eventfd-count:               1f\n"),
            (8, "clockid: 1\nticks: 0\nsettime flags: 01\n"),
        ] {
            std::fs::write(dir.path().join(format!("7/fdinfo/{fd}")), text).unwrap();
        }
        let procfs = ProcFs::at(dir.path());
        let found = procfs.polled(Pid(7), 3).unwrap();
        let of = |one: &Polled| (one.fd, one.for_reading(), one.for_writing(), one.inode);
        let expected =
            [(5, true, false, Some(0x1a2b)), (8, false, false, Some(0x61)), (9, false, true, None)];
        assert_eq!(found.iter().map(of).collect::<Vec<_>>(), expected);
        let counts = [5, 6, 7, 8, 99].map(|fd| procfs.counts(Pid(7), fd));
        assert_eq!(counts, [None, Some(false), Some(true), Some(false), None]);
        assert!(procfs.polled(Pid(7), 99).is_err());
    }
}
