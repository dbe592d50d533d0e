//! Whether a thread can have begun since a process's list of threads was found complete.
//!
//! The kernel counts: the pid it handed out last is one small file for all processes together, while to
//! compare a list costs each process a call. A list is complete once the kernel knows no more threads of
//! the process than the interpreter does; where there are others, one of them may enter the interpreter
//! without being new, and nothing is said. That a thread has ended is not told here.

use crate::target::{NewestPid, ProcFs};
use crate::units::{Nanos, Timestamp};

/// An answer of the kernel's so old serves all processes that ask at one wake-up.
const FRESH: Nanos = Nanos::from_millis(5);

/// What the kernel handed out last.
#[derive(Debug, Default)]
pub struct Births {
    newest: NewestPid,
    read: Option<(Timestamp, Option<u64>)>,
}

impl Births {
    /// What tells the births so far from those at any other time. Ask before reading what is to be true
    /// as long as there are no others.
    pub fn so_far(&mut self, procfs: &ProcFs, at: Timestamp) -> Option<u64> {
        if let Some((read, newest)) = self.read
            && at.since(read) < FRESH
        {
            return newest;
        }
        let newest = self.newest.read(procfs);
        self.read = Some((at, newest));
        newest
    }
}

/// Whether one process's list of threads is complete.
#[derive(Debug, Default)]
pub struct Complete {
    /// The births by which it was.
    by: Option<u64>,
}

impl Complete {
    /// The list, read after these `births`, has so many threads, and the kernel knew so many after that.
    pub fn found(&mut self, births: Option<u64>, listed: usize, in_kernel: Option<u32>) {
        let is_whole = in_kernel
            .is_some_and(|count| usize::try_from(count).is_ok_and(|count| count <= listed));
        self.by = births.filter(|_| is_whole);
    }

    /// Whether it still is, after these births.
    #[must_use]
    pub fn holds(&self, births: Option<u64>) -> bool {
        self.by.is_some() && self.by == births
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a tree of its own
mod tests {
    use super::*;

    #[test]
    fn a_list_is_complete_until_anything_begins() {
        let mut list = Complete::default();
        assert!(!list.holds(None) && !list.holds(Some(7)));
        list.found(Some(7), 2, Some(2));
        assert!(list.holds(Some(7)) && !list.holds(Some(8)) && !list.holds(None));
        // One has ended since the list was read.
        list.found(Some(8), 2, Some(1));
        assert!(list.holds(Some(8)));
    }

    #[test]
    fn where_the_kernel_knows_more_threads_or_says_nothing_it_is_not() {
        for (births, in_kernel) in [(Some(7), Some(3)), (Some(7), None), (None, Some(2))] {
            let mut list = Complete::default();
            list.found(Some(6), 2, Some(2));
            list.found(births, 2, in_kernel);
            assert!(!list.holds(births) && !list.holds(Some(6)));
        }
    }

    #[test]
    fn one_answer_serves_all_that_ask_at_one_time() {
        let dir = tempfile::tempdir().unwrap();
        let say = |newest: u32| {
            let line = format!("0.00 0.00 0.00 1/100 {newest}\n");
            std::fs::write(dir.path().join("loadavg"), line).unwrap();
        };
        let (procfs, mut births) = (ProcFs::at(dir.path()), Births::default());
        say(41);
        assert_eq!(births.so_far(&procfs, Timestamp(0)), Some(41));
        say(42);
        assert_eq!(births.so_far(&procfs, Timestamp(FRESH.0 - 1)), Some(41));
        assert_eq!(births.so_far(&procfs, Timestamp(FRESH.0)), Some(42));
    }
}
