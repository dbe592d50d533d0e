//! `/proc/PID/status` and its neighbours: ids in other namespaces, the user, the CPUs.
//!
//! Knows the `Key:\tvalue` lines (proc_pid_status(5)) and `timens_offsets` (time_namespaces(7)).
//! Never guesses: a key this kernel does not write is an error or, where stated, its default.

use std::collections::HashMap;

use super::{ProcError, ProcFs, SMALL};
use crate::units::{Pid, Tid};

impl ProcFs {
    /// The id the process has for itself, in its innermost pid namespace; its own pid where there
    /// is no other namespace.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn namespace_pid(&self, pid: Pid) -> Result<i32, ProcError> {
        self.innermost_id(pid, "status")
    }

    /// Thread ids as the process itself knows them (`gettid` there) → as we know them. Threads
    /// that end meanwhile are left out.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn namespace_tids(&self, pid: Pid) -> Result<HashMap<i32, Tid>, ProcError> {
        let tids = self.tids(pid)?;
        // All threads of a process are in one pid namespace (CLONE_THREAD, clone(2)); where it is ours, no
        // more need be read.
        if self.is_in_our_pid_namespace(pid)? {
            return Ok(tids.into_iter().map(|tid| (tid.0, tid)).collect());
        }
        let mut inner = HashMap::new();
        for tid in tids {
            match self.innermost_id(pid, &format!("task/{tid}/status")) {
                Ok(id) => inner.insert(id, tid),
                Err(ProcError::NoSuchProcess(_) | ProcError::Io { .. }) => continue,
                Err(error) => return Err(error),
            };
        }
        Ok(inner)
    }

    /// The effective user: whose permissions it has, and who may look at it.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn uid(&self, pid: Pid) -> Result<u32, ProcError> {
        let text = self.bytes(pid, "status", SMALL)?;
        // Real, effective, saved, file system.
        words(&text, b"Uid:")
            .nth(1)
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| self.malformed(pid, "status", "no user id"))
    }

    /// Who traces it by ptrace(2), if anybody does: a debugger, another profiler.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn tracer(&self, pid: Pid) -> Result<Option<Pid>, ProcError> {
        let text = self.bytes(pid, "status", SMALL)?;
        words(&text, b"TracerPid:")
            .next()
            .and_then(|word| word.parse().ok())
            .map(|tracer| (tracer != 0).then_some(Pid(tracer)))
            .ok_or_else(|| self.malformed(pid, "status", "no tracer"))
    }

    /// How many CPUs it may run on.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn cpus_allowed(&self, pid: Pid) -> Result<u32, ProcError> {
        let text = self.bytes(pid, "status", SMALL)?;
        let mask = words(&text, b"Cpus_allowed:").next();
        mask.and_then(count_bits).ok_or_else(|| self.malformed(pid, "status", "no CPU mask"))
    }

    /// What to add to our `CLOCK_MONOTONIC` to get the target's, in nanoseconds: 0 unless one of
    /// us is in a time namespace. Kernels without them (before 5.6) have one clock for all.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn monotonic_offset(&self, pid: Pid) -> Result<i64, ProcError> {
        let theirs = match self.bytes(pid, "timens_offsets", SMALL) {
            Ok(text) => parse_offset(&text)
                .ok_or_else(|| self.malformed(pid, "timens_offsets", "no monotonic offset"))?,
            Err(ProcError::Io { .. }) => 0,
            Err(error) => return Err(error),
        };
        // A recorded tree has no `self`: its reader was in the initial namespace.
        let ours = std::fs::read(self.top("self/timens_offsets")).unwrap_or_default();
        Ok(theirs.saturating_sub(parse_offset(&ours).unwrap_or(0)))
    }

    /// Whether its pid is the same to itself and to us.
    fn is_in_our_pid_namespace(&self, pid: Pid) -> Result<bool, ProcError> {
        let text = self.bytes(pid, "status", SMALL)?;
        // One id for each namespace it is in. Before 4.1 the kernel tells of ours alone.
        Ok(words(&text, b"NSpid:").nth(1).is_none())
    }

    fn innermost_id(&self, pid: Pid, file: &str) -> Result<i32, ProcError> {
        let text = self.bytes(pid, file, SMALL)?;
        // Outermost first. `NSpid` came with 4.1; before it `Pid` is all there is.
        let id = words(&text, b"NSpid:").last().or_else(|| words(&text, b"Pid:").next());
        id.and_then(|word| word.parse().ok())
            .ok_or_else(|| self.malformed(pid, file, "no process id"))
    }
}

/// The words behind a key, none where the key is missing.
pub(super) fn words<'a>(text: &'a [u8], key: &'static [u8]) -> impl Iterator<Item = &'a str> {
    text.split(|b| *b == b'\n')
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| std::str::from_utf8(rest).ok())
        .unwrap_or_default()
        .split_ascii_whitespace()
}

/// Bits set in a mask such as `ff,ffffffff`.
fn count_bits(mask: &str) -> Option<u32> {
    mask.chars()
        .filter(|c| *c != ',')
        .try_fold(0_u32, |bits, digit| Some(bits.saturating_add(digit.to_digit(16)?.count_ones())))
}

/// Nanoseconds of `monotonic  SECONDS  NANOSECONDS`; the seconds may be negative.
fn parse_offset(text: &[u8]) -> Option<i64> {
    let mut words = words(text, b"monotonic");
    let seconds: i64 = words.next()?.parse().ok()?;
    let nanos: i64 = words.next()?.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a tree of its own
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn masks_longer_than_a_word_are_counted() {
        assert_eq!(count_bits("3"), Some(2));
        assert_eq!(count_bits("ff,00000000,ffffffff"), Some(40));
        assert_eq!(count_bits("xyz"), None);
    }

    #[test]
    fn offsets_may_be_negative() {
        let text = b"monotonic         -5         250000000\nboottime            0         0\n";
        assert_eq!(parse_offset(text), Some(-4_750_000_000));
        assert_eq!(parse_offset(b"monotonic 99999999999999 0"), None);
    }

    #[test]
    fn threads_statuses_are_read_only_where_their_namespace_is_another() {
        let dir = tempfile::tempdir().unwrap();
        for tid in [7, 9] {
            std::fs::create_dir_all(dir.path().join(format!("7/task/{tid}"))).unwrap();
        }
        let tids = |ids: &str| {
            std::fs::write(dir.path().join("7/status"), format!("Pid:\t7\n{ids}")).unwrap();
            ProcFs::at(dir.path()).namespace_tids(Pid(7)).unwrap()
        };
        let ours = HashMap::from([(7, Tid(7)), (9, Tid(9))]);
        // The first as before Linux 4.1. No thread has a status, so that none can be read.
        assert_eq!([tids(""), tids("NSpid:\t7\n")], [ours.clone(), ours]);
        assert_eq!(tids("NSpid:\t7\t1\n"), HashMap::new());
    }

    #[test]
    fn a_key_is_matched_whole() {
        let text = b"NStgid:\t9\t1\nPid:\t7\nNSpid:\t7\t3\n";
        assert_eq!(words(text, b"NSpid:").collect::<Vec<_>>(), ["7", "3"]);
        assert_eq!(words(text, b"Pid:").collect::<Vec<_>>(), ["7"]);
        assert_eq!(words(text, b"Uid:").count(), 0);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse_offset(&bytes), words(&bytes, b"Pid:").count());
        }
    }
}
