//! The whole machine: `/proc/stat`'s first line and `/proc/meminfo` (proc_stat(5), proc_meminfo(5)).

use std::fs::File;
use std::io::Read;

use super::stat::ticks;
use super::status::words;
use super::{ProcFs, decimal};
use crate::units::Nanos;

/// As much of `/proc/stat` as is read: its first line is at the top, and the rest has a line for each
/// CPU and one for all interrupts.
const STAT_HEAD: u64 = 4096;
/// As much of it as is read to count CPUs: their lines come first, and are of at most 128 bytes; Linux
/// is built for up to 8,192 of them.
const STAT_ALL: u64 = 1 << 20;
/// Largest `meminfo` taken; it has some 60 short lines.
const MEMINFO: u64 = 64 * 1024;

/// CPU time of all CPUs together since the machine began, in steps of 10 ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTotals {
    /// Used, in user and kernel mode, for guests and interrupts.
    pub busy: Nanos,
    /// Idle, waiting for a disk included.
    pub idle: Nanos,
    /// Taken by the host of a virtual machine.
    pub stolen: Nanos,
}

impl ProcFs {
    /// What all CPUs did since the machine began; `None` where it is not shown.
    #[must_use]
    pub fn cpu_totals(&self) -> Option<CpuTotals> {
        let mut text = Vec::new();
        File::open(self.top("stat")).ok()?.take(STAT_HEAD).read_to_end(&mut text).ok()?;
        parse(&text)
    }

    /// CPUs that are online: those that `/proc/stat` has a line of.
    #[must_use]
    pub fn cpus_online(&self) -> Option<u32> {
        let mut text = Vec::new();
        File::open(self.top("stat")).ok()?.take(STAT_ALL).read_to_end(&mut text).ok()?;
        let is_cpu = |line: &&[u8]| {
            line.strip_prefix(b"cpu")
                .is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit))
        };
        let count = text.split(|byte| *byte == b'\n').filter(is_cpu).count();
        u32::try_from(count).ok().filter(|count| *count > 0)
    }

    /// Memory that can be had without swapping, in bytes.
    #[must_use]
    pub fn memory_available(&self) -> Option<u64> {
        let mut text = Vec::new();
        File::open(self.top("meminfo")).ok()?.take(MEMINFO).read_to_end(&mut text).ok()?;
        kibibytes(&text, b"MemAvailable:")
    }
}

/// The value of a line in kB, in bytes.
pub(super) fn kibibytes(text: &[u8], key: &'static [u8]) -> Option<u64> {
    words(text, key).next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn parse(text: &[u8]) -> Option<CpuTotals> {
    let line = text.split(|byte| *byte == b'\n').next()?.strip_prefix(b"cpu ")?;
    let times: Vec<Nanos> = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .map(|word| decimal(word).map(ticks))
        .collect::<Option<_>>()?;
    // user nice system idle iowait irq softirq steal; guests' times are in the first two.
    let [user, nice, system, idle, iowait, irq, softirq, stolen, ..] = times.as_slice() else {
        return None;
    };
    let busy = [user, nice, system, irq, softirq].into_iter().copied().sum();
    let idle = [idle, iowait].into_iter().copied().sum();
    Some(CpuTotals { busy, idle, stolen: *stolen })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_not_counted_twice() {
        let text = b"cpu  1 2 4 8 16 32 64 128 256 512\ncpu0 9 9 9 9 9 9 9 9 9 9\n";
        let ms = |n: u64| Nanos::from_millis(10 * n);
        let want = CpuTotals { busy: ms(1 + 2 + 4 + 32 + 64), idle: ms(24), stolen: ms(128) };
        assert_eq!(parse(text), Some(want));
        for odd in [&b""[..], b"cpu 1 2", b"cpu a b c d e f g h", b"cpu0 1 2 3 4 5 6 7 8"] {
            assert_eq!(parse(odd), None);
        }
    }

    #[test]
    fn memory_is_told_in_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let text = "MemTotal:  100 kB\nMemAvailable:  70 kB\n";
        std::fs::write(dir.path().join("meminfo"), text).unwrap();
        let procfs = ProcFs::at(dir.path());
        assert_eq!(procfs.memory_available(), Some(70 * 1024));
        assert_eq!(procfs.cpu_totals(), None);
    }
}
