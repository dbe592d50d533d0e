//! `/proc/PID/stat` and `/proc/PID/task/TID/stat`: one line of counters.
//!
//! Knows the places of the fields (proc_pid_stat(5)). Never reads more than the one line.

use nix::unistd::{SysconfVar, sysconf};

use super::{ProcError, ProcFs, SMALL, decimal};
use crate::units::{Nanos, Pid, Tid};

/// Ticks per second in `/proc`: `USER_HZ`, part of the kernel's interface and 100 on every
/// architecture stallspy is built for (include/asm-generic/param.h), whatever the kernel's own HZ.
const USER_HZ: u64 = 100;

/// What we take from `stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The name, at most 15 bytes.
    pub comm: String,
    /// `R` running, `S` asleep, `D` asleep on a disk, `T` stopped, `t` traced, `Z` ended, `X` dead.
    pub state: char,
    /// The parent.
    pub ppid: Pid,
    /// Whether its process group is the one its terminal sends Ctrl-C to.
    pub in_foreground: bool,
    /// CPU time used, in user and kernel mode; 10 ms steps.
    pub cpu: Nanos,
    /// Threads in the process.
    pub threads: u32,
    /// When it began, since boot (`CLOCK_BOOTTIME`); 10 ms steps. Together with the pid it tells
    /// this process from a later one with the same pid.
    pub started: Nanos,
    /// Addresses in use, in bytes.
    pub mapped_bytes: u64,
    /// Resident memory in bytes; the kernel's own, slightly late count.
    pub rss_bytes: u64,
}

impl Stat {
    /// Whether it has ended and only waits to be collected.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

impl ProcFs {
    /// A process's counters, all its threads together.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn stat(&self, pid: Pid) -> Result<Stat, ProcError> {
        self.stat_file(pid, "stat")
    }

    /// One thread's counters; memory and thread count are the process's.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn thread_stat(&self, pid: Pid, tid: Tid) -> Result<Stat, ProcError> {
        self.stat_file(pid, &format!("task/{tid}/stat"))
    }

    fn stat_file(&self, pid: Pid, file: &str) -> Result<Stat, ProcError> {
        let bytes = self.bytes(pid, file, SMALL)?;
        parse(&bytes, page_bytes()).ok_or_else(|| self.malformed(pid, file, "a field is missing"))
    }
}

/// The state letter of a `stat` line. The name before it may hold any byte, also `)`.
pub(in crate::target) fn state(line: &[u8]) -> Option<char> {
    after_name(line)?.trim_ascii_start().first().map(|byte| char::from(*byte))
}

/// The major faults counted in a `stat` line (`majflt`, field 12).
pub(in crate::target) fn major_faults(line: &[u8]) -> Option<u64> {
    let mut fields =
        after_name(line)?.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    // The state is field 3.
    decimal(fields.nth(9)?)
}

fn parse(line: &[u8], page_bytes: u64) -> Option<Stat> {
    let open = line.iter().position(|b| *b == b'(')?;
    let close = line.iter().rposition(|b| *b == b')')?;
    let name = line.get(open.checked_add(1)?..close)?;
    let rest: Vec<&[u8]> = after_name(line)?
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty())
        .collect();
    // proc(5) counts from 1 and the state is field 3.
    let field = |number: usize| rest.get(number.checked_sub(3)?).copied();
    let count = |number: usize| decimal(field(number)?);
    let group = field(5)?;
    Some(Stat {
        comm: String::from_utf8_lossy(name).into_owned(),
        state: state(line)?,
        ppid: Pid(i32::try_from(count(4)?).ok()?),
        in_foreground: field(8)? == group, // -1 without a terminal, and no group is -1
        cpu: ticks(count(14)?.saturating_add(count(15)?)),
        threads: u32::try_from(count(20)?).ok()?,
        started: ticks(count(22)?),
        mapped_bytes: count(23)?,
        rss_bytes: count(24)?.saturating_mul(page_bytes),
    })
}

fn after_name(line: &[u8]) -> Option<&[u8]> {
    let close = line.iter().rposition(|b| *b == b')')?;
    line.get(close.checked_add(1)?..)
}

pub(super) fn ticks(count: u64) -> Nanos {
    Nanos::from_secs(1).scaled(count, USER_HZ)
}

/// `rss` is counted in pages of the running kernel: 4 KiB on x86_64, up to 64 KiB on aarch64.
fn page_bytes() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &[u8] = b"9474 (a) S (b) R 9471 9471 6875 34816 9471 4194304 129 0 0 0 \
        150 25 0 0 20 0 3 0 144289 2990080 391 18446744073709551615 1 1 0 0 0 0 0 6 0 1\n";

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = parse(LINE, 4096).unwrap();
        assert_eq!(stat.comm, "a) S (b");
        assert_eq!((stat.state, stat.ppid, stat.threads), ('R', Pid(9471), 3));
        assert_eq!(stat.cpu, Nanos::from_millis(1750));
        assert_eq!(stat.started, Nanos::from_millis(1_442_890));
        assert_eq!(stat.rss_bytes, 391 * 4096);
        assert!(stat.in_foreground && !stat.has_ended());
    }

    #[test]
    fn hostile_numbers_do_not_overflow() {
        let line = String::from_utf8_lossy(LINE).replace(" 150 25 ", " 18446744073709551615 9 ");
        assert_eq!(parse(line.as_bytes(), u64::MAX).unwrap().rss_bytes, u64::MAX);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (parse(&bytes, 4096), state(&bytes));
        }

        #[test]
        fn a_cut_line_is_refused_or_read(end in 0..LINE.len()) {
            let _ = parse(&LINE[..end], 4096);
        }
    }
}
