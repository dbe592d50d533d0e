//! One thread's hot files, kept open: what it does in the kernel and how its time was spent.
//!
//! Takes a pid and a tid; each look is one `pread` into a buffer on the stack, so that it costs
//! about a microsecond and allocates nothing. An open file stays bound to its thread: a later
//! thread with the same id is never mistaken for it. Never names a system call and never waits.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::errno::Errno;

use super::procfs::{ProcFs, stat};
use crate::model::SchedTimes;
use crate::units::{Addr, Nanos, Pid, Tid, Timestamp};

/// Longest line taken: a `stat` line is at most some 400 bytes, the others below 200.
const LINE: usize = 1024;

/// What a thread does, by `/proc/PID/task/TID/syscall` (proc_pid_syscall(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyscallState {
    /// On a CPU, or ready to be.
    Running,
    /// Asleep in a system call.
    Blocked {
        /// The call's number on this architecture.
        nr: u64,
        /// Its arguments, as the registers hold them.
        args: [u64; 6],
        /// The stack pointer in user space.
        sp: Addr,
        /// The program counter in user space.
        pc: Addr,
    },
    /// Asleep outside a system call: in a page fault, or stopped.
    BlockedOutside {
        /// The stack pointer in user space.
        sp: Addr,
        /// The program counter in user space.
        pc: Addr,
    },
    /// The thread has ended.
    Ended,
    /// The kernel does not let us look, or lacks the file (`CONFIG_HAVE_ARCH_TRACEHOOK`).
    Denied,
}

/// A thread's files. Each is opened at its first use.
#[derive(Debug)]
pub struct ThreadFiles {
    syscall: KeptFile,
    schedstat: KeptFile,
    stat: KeptFile,
}

impl ThreadFiles {
    /// The files of thread `tid` of `pid`. Opens nothing yet.
    #[must_use]
    pub fn new(procfs: &ProcFs, pid: Pid, tid: Tid) -> ThreadFiles {
        let file = |name| KeptFile::new(procfs.path(pid, format!("task/{tid}/{name}")));
        ThreadFiles { syscall: file("syscall"), schedstat: file("schedstat"), stat: file("stat") }
    }

    /// What the thread does right now.
    #[must_use]
    pub fn syscall(&self) -> SyscallState {
        let mut buf = [0; LINE];
        match self.syscall.read(&mut buf) {
            // The kernel never writes anything else; unreadable and unknown come to the same.
            Ok(line) => parse_syscall(line).unwrap_or(SyscallState::Denied),
            Err(Errno::ESRCH | Errno::ENOENT) => SyscallState::Ended,
            Err(_) => SyscallState::Denied,
        }
    }

    /// The thread's scheduler clock, stamped with `now`; `None` where the kernel keeps none
    /// (`CONFIG_SCHED_INFO`, Documentation/scheduler/sched-stats.rst) or the thread has ended.
    ///
    /// While the thread is on a CPU, `on_cpu` lags by up to one scheduler tick.
    #[must_use]
    pub fn sched(&self, now: Timestamp) -> Option<SchedTimes> {
        self.sched_and_runs(now).map(|(times, _)| times)
    }

    /// Both: [`ThreadFiles::sched`] and [`ThreadFiles::runs`].
    #[must_use]
    pub fn sched_and_runs(&self, now: Timestamp) -> Option<(SchedTimes, u64)> {
        let mut buf = [0; LINE];
        parse_sched(self.schedstat.read(&mut buf).ok()?, now)
    }

    /// How often the thread has been put on a CPU: as long as this stands still, a thread that
    /// sleeps has slept on (`sched_info_arrive`, kernel/sched/stats.h). `None` as for
    /// [`ThreadFiles::sched`].
    #[must_use]
    pub fn runs(&self) -> Option<u64> {
        self.sched_and_runs(Timestamp(0)).map(|(_, runs)| runs)
    }

    /// The thread's state letter, as in [`Stat::state`](super::procfs::Stat::state); `None` once
    /// it has ended.
    #[must_use]
    pub fn state(&self) -> Option<char> {
        let mut buf = [0; LINE];
        stat::state(self.stat.read(&mut buf).ok()?)
    }

    /// How often the thread had to wait for memory that was on a disk: its major page faults.
    #[must_use]
    pub fn major_faults(&self) -> Option<u64> {
        let mut buf = [0; LINE];
        stat::major_faults(self.stat.read(&mut buf).ok()?)
    }
}

/// A file opened at its first use and then re-read from its beginning.
#[derive(Debug)]
struct KeptFile {
    path: PathBuf,
    file: OnceCell<File>,
}

impl KeptFile {
    fn new(path: PathBuf) -> KeptFile {
        KeptFile { path, file: OnceCell::new() }
    }

    /// The file's present content, up to the buffer's length. `/proc` writes a file anew for each
    /// read at offset 0 (Documentation/filesystems/seq_file.rst), and whole where it fits.
    fn read<'a>(&self, buf: &'a mut [u8]) -> Result<&'a [u8], Errno> {
        let file = match self.file.get() {
            Some(file) => file,
            None => {
                // Only success is kept: a failure may be as passing as too many open files.
                let file = File::open(&self.path).map_err(|error| errno(&error))?;
                self.file.get_or_init(|| file)
            }
        };
        let length = file.read_at(buf, 0).map_err(|error| errno(&error))?;
        buf.get(..length).ok_or(Errno::EINVAL)
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

fn parse_syscall(line: &[u8]) -> Option<SyscallState> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let nr = match words.next()? {
        "running" => return Some(SyscallState::Running),
        "-1" => None,
        number => Some(number.parse().ok()?),
    };
    let mut register = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let Some(nr) = nr else {
        let (sp, pc) = (Addr(register()?), Addr(register()?));
        // A thread that has given up its stack has ended (collect_syscall, lib/syscall.c).
        let ended = sp.is_null() && pc.is_null();
        return Some(if ended {
            SyscallState::Ended
        } else {
            SyscallState::BlockedOutside { sp, pc }
        });
    };
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = register()?;
    }
    Some(SyscallState::Blocked { nr, args, sp: Addr(register()?), pc: Addr(register()?) })
}

fn parse_sched(line: &[u8], now: Timestamp) -> Option<(SchedTimes, u64)> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let mut number = || words.next()?.parse::<u64>().ok();
    let (on_cpu, run_delay, runs) = (number()?, number()?, number()?);
    // A kernel that keeps no account writes zeros (proc_pid_schedstat, fs/proc/base.c); a thread
    // that runs has been scheduled at least once.
    if runs == 0 {
        return None;
    }
    Some((SchedTimes { at: now, on_cpu: Nanos(on_cpu), run_delay: Nanos(run_delay) }, runs))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lines_the_kernel_writes() {
        assert_eq!(parse_syscall(b"running\n"), Some(SyscallState::Running));
        assert_eq!(parse_syscall(b"-1 0x0 0x0\n"), Some(SyscallState::Ended));
        assert_eq!(
            parse_syscall(b"-1 0x7ffe 0x1234\n"),
            Some(SyscallState::BlockedOutside { sp: Addr(0x7ffe), pc: Addr(0x1234) })
        );
        assert_eq!(
            parse_syscall(b"45 0x7 0x1 0xffffffffffffffff 0x0 0x0 0x0 0x7ffe 0x1234\n"),
            Some(SyscallState::Blocked {
                nr: 45,
                args: [7, 1, u64::MAX, 0, 0, 0],
                sp: Addr(0x7ffe),
                pc: Addr(0x1234)
            })
        );
        assert_eq!(parse_syscall(b"45 0x7 0x1"), None);
    }

    #[test]
    fn a_kernel_without_accounts_gives_none() {
        assert_eq!(parse_sched(b"0 0 0\n", Timestamp(9)), None);
        let (times, runs) = parse_sched(b"1097954 250 3\n", Timestamp(9)).unwrap();
        assert_eq!(runs, 3);
        assert_eq!(times.at, Timestamp(9));
        assert_eq!((times.on_cpu, times.run_delay), (Nanos(1_097_954), Nanos(250)));
    }

    #[test]
    fn a_thread_that_never_was_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let files = ThreadFiles::new(&ProcFs::at(dir.path()), Pid(1), Tid(2));
        assert_eq!(files.syscall(), SyscallState::Ended);
        assert_eq!(files.sched(Timestamp(0)), None);
        assert_eq!(files.runs(), None);
        assert_eq!((files.state(), files.major_faults()), (None, None));
    }

    #[test]
    fn major_faults_are_the_twelfth_field() {
        let line = b"7 (a ) 9) S 1 7 7 0 -1 4194560 2101 33 41 5 30 12 0 0 20 0 1 0 100 0 0\n";
        assert_eq!(stat::major_faults(line), Some(41));
        assert_eq!(stat::major_faults(b"7 (a) S 1 7"), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse_syscall(&bytes), parse_sched(&bytes, Timestamp(0)));
        }

        #[test]
        fn nearly_right_lines_never_panic(line in "-?[0-9]{0,22}( 0x[0-9a-f]{0,20}){0,10}") {
            let _ = parse_syscall(line.as_bytes());
        }
    }
}
