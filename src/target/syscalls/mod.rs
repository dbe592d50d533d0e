//! System calls by number: their names, and what each one waits for.
//!
//! Takes a number and six registers, gives a name and a [`Subject`]. Knows nothing of any process;
//! reads nothing. Numbers differ by architecture, meanings by name only, so the second half of this
//! file is the same for all.

// The other architecture's table is compiled for the tests alone.
#[cfg(any(test, target_arch = "aarch64"))]
mod aarch64;
#[cfg(any(test, not(target_arch = "aarch64")))]
mod x86_64;

use crate::units::Addr;

#[cfg(target_arch = "aarch64")]
use aarch64::CALLS;
#[cfg(not(target_arch = "aarch64"))]
use x86_64::CALLS;

/// What a call works on, as far as its arguments tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Nothing that has a name: time, memory, a lock.
    Nothing,
    /// A file descriptor.
    Fd(i32),
    /// A socket and the address it is being connected to.
    Connect {
        /// The socket.
        fd: i32,
        /// The `struct sockaddr`.
        address: Addr,
        /// Its length in bytes.
        length: u64,
    },
    /// An array of `struct pollfd`.
    Poll {
        /// The array.
        fds: Addr,
        /// Its entries.
        count: u64,
    },
    /// Up to three `fd_set`s.
    Select {
        /// The sets for reading, writing and errors; null where not given.
        sets: [Addr; 3],
        /// One more than the highest descriptor in them.
        count: u64,
    },
    /// One child process, by its pid in the target's namespace; -1 and the like mean any child.
    Child(i32),
    /// A file by its name.
    Path {
        /// The directory a relative name starts from; `None` is the working directory.
        dir: Option<i32>,
        /// The name, ending with a zero byte.
        name: Addr,
    },
}

/// The kernel's name of a call of this machine's architecture.
#[must_use]
pub fn name(nr: u64) -> Option<&'static str> {
    lookup(CALLS, nr)
}

/// The number of a call by the kernel's name, on this machine's architecture.
#[must_use]
pub fn number(name: &str) -> Option<u64> {
    CALLS.iter().find(|(_, known)| *known == name).map(|(number, _)| u64::from(*number))
}

/// Which argument of the call, from 0, is the file descriptor it works on.
#[must_use]
pub fn fd_argument(nr: u64) -> Option<usize> {
    fd_position(name(nr)?)
}

/// Whether the call waits for any of several descriptors: what an event loop sleeps in.
#[must_use]
pub fn is_poll_like(nr: u64) -> bool {
    name(nr).is_some_and(|name| {
        matches!(
            name,
            "epoll_wait"
                | "epoll_pwait"
                | "epoll_pwait2"
                | "epoll_wait_old"
                | "poll"
                | "ppoll"
                | "select"
                | "pselect6"
                | "io_uring_enter"
                | "io_getevents"
                | "io_pgetevents"
        )
    })
}

/// What the call named `name` works on, by its arguments (section 2 of the manual pages).
#[must_use]
pub fn subject(name: &str, args: [u64; 6]) -> Subject {
    let [a, b, c, d, ..] = args;
    match name {
        "connect" => Subject::Connect { fd: fd(a), address: Addr(b), length: c & 0xffff_ffff },
        "poll" | "ppoll" => Subject::Poll { fds: Addr(a), count: b },
        "select" | "pselect6" => {
            Subject::Select { sets: [Addr(b), Addr(c), Addr(d)], count: a & 0xffff_ffff }
        }
        "wait4" => Subject::Child(fd(a)),
        "waitid" => match a {
            1 => Subject::Child(fd(b)), // P_PID
            3 => Subject::Fd(fd(b)),    // P_PIDFD
            _ => Subject::Child(-1),
        },
        _ if names_a_file(name) => Subject::Path { dir: None, name: Addr(a) },
        _ if names_a_file_in_a_directory(name) => {
            /// `AT_FDCWD`, include/uapi/linux/fcntl.h.
            const WORKING_DIRECTORY: i32 = -100;
            let dir = Some(fd(a)).filter(|dir| *dir != WORKING_DIRECTORY);
            Subject::Path { dir, name: Addr(b) }
        }
        _ => match fd_position(name).and_then(|position| args.get(position)) {
            Some(arg) => Subject::Fd(fd(*arg)),
            None => Subject::Nothing,
        },
    }
}

/// The calls that work on one descriptor. Calls that never sleep are listed too where a page fault
/// or a lock inside the kernel can make them.
fn fd_position(name: &str) -> Option<usize> {
    match name {
        "read" | "write" | "pread64" | "pwrite64" | "readv" | "writev" | "preadv" | "pwritev"
        | "preadv2" | "pwritev2" | "close" | "lseek" | "ioctl" | "fcntl" | "flock" | "fsync"
        | "fdatasync" | "sync_file_range" | "syncfs" | "ftruncate" | "fallocate" | "fadvise64"
        | "readahead" | "fstat" | "fstatfs" | "fchmod" | "fchown" | "fchdir" | "getdents"
        | "getdents64" | "dup" | "dup2" | "dup3" | "sendfile" | "copy_file_range" | "splice"
        | "tee" | "vmsplice" | "fsetxattr" | "fgetxattr" | "flistxattr" | "fremovexattr" => Some(0),
        "connect" | "accept" | "accept4" | "bind" | "listen" | "shutdown" | "sendto"
        | "recvfrom" | "sendmsg" | "recvmsg" | "sendmmsg" | "recvmmsg" | "getsockname"
        | "getpeername" | "getsockopt" | "setsockopt" => Some(0),
        "epoll_wait" | "epoll_pwait" | "epoll_pwait2" | "epoll_wait_old" | "epoll_ctl"
        | "io_uring_enter" | "inotify_add_watch" | "timerfd_settime" | "timerfd_gettime"
        | "mq_timedsend" | "mq_timedreceive" | "pidfd_send_signal" | "process_madvise" => Some(0),
        "mmap" => Some(4),
        _ => None,
    }
}

/// The name is the first argument.
fn names_a_file(name: &str) -> bool {
    matches!(
        name,
        "open"
            | "creat"
            | "stat"
            | "lstat"
            | "access"
            | "readlink"
            | "unlink"
            | "rename"
            | "mkdir"
            | "rmdir"
            | "chmod"
            | "chown"
            | "lchown"
            | "truncate"
            | "link"
            | "chdir"
            | "statfs"
            | "utime"
            | "utimes"
            | "execve"
            | "getxattr"
            | "setxattr"
            | "listxattr"
    )
}

/// A directory's descriptor comes first, then the name.
fn names_a_file_in_a_directory(name: &str) -> bool {
    matches!(
        name,
        "openat"
            | "openat2"
            | "newfstatat"
            | "statx"
            | "faccessat"
            | "faccessat2"
            | "readlinkat"
            | "unlinkat"
            | "renameat"
            | "renameat2"
            | "mkdirat"
            | "fchmodat"
            | "fchmodat2"
            | "fchownat"
            | "linkat"
            | "utimensat"
            | "futimesat"
            | "execveat"
            | "name_to_handle_at"
    )
}

/// A descriptor or pid in a register: its low half, signed.
fn fd(register: u64) -> i32 {
    let [a, b, c, d, ..] = register.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

fn lookup(calls: &[(u16, &'static str)], nr: u64) -> Option<&'static str> {
    let found = calls.binary_search_by_key(&nr, |(number, _)| u64::from(*number)).ok()?;
    calls.get(found).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_are_sorted_and_known_by_their_landmarks() {
        for calls in [x86_64::CALLS, aarch64::CALLS] {
            assert!(calls.is_sorted_by(|a, b| a.0 < b.0));
        }
        // arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h
        let landmarks = [
            ("read", 0, 63),
            ("recvfrom", 45, 207),
            ("futex", 202, 98),
            ("clock_nanosleep", 230, 115),
            ("epoll_pwait", 281, 22),
            ("openat2", 437, 437),
            ("cachestat", 451, 451),
        ];
        for (name, x86, arm) in landmarks {
            assert_eq!(lookup(x86_64::CALLS, x86), Some(name));
            assert_eq!(lookup(aarch64::CALLS, arm), Some(name));
        }
        assert_eq!(lookup(x86_64::CALLS, 9999), None);
        assert_eq!(lookup(aarch64::CALLS, u64::MAX), None);
    }

    #[test]
    fn every_call_we_speak_of_exists() {
        let known = |name: &str| {
            x86_64::CALLS.iter().chain(aarch64::CALLS).any(|(_, known)| *known == name)
        };
        let source = include_str!("mod.rs");
        let rules = source.split("pub fn is_poll_like").nth(1).unwrap();
        let rules = rules.split("#[cfg(test)]").next().unwrap();
        let names: Vec<&str> = rules.split('"').skip(1).step_by(2).collect();
        assert!(names.len() > 100, "{}", names.len());
        for name in names {
            assert!(known(name), "{name}");
        }
    }

    #[test]
    fn subjects() {
        let args = [7, 0x1000, 16, 0x2000, 5, 6];
        assert_eq!(subject("recvfrom", args), Subject::Fd(7));
        assert_eq!(subject("mmap", args), Subject::Fd(5));
        assert_eq!(subject("futex", args), Subject::Nothing);
        assert_eq!(subject("wait4", [u64::MAX, 0, 0, 0, 0, 0]), Subject::Child(-1));
        assert_eq!(subject("waitid", [1, 99, 0, 0, 0, 0]), Subject::Child(99));
        assert_eq!(
            subject("connect", args),
            Subject::Connect { fd: 7, address: Addr(0x1000), length: 16 }
        );
        let working_directory = [0xffff_ff9c, 0x1000, 0, 0, 0, 0];
        assert_eq!(
            subject("openat", working_directory),
            Subject::Path { dir: None, name: Addr(0x1000) }
        );
    }
}
