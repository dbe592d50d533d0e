//! When a process without a loop is asked which libraries it has loaded: the library of a loop may have
//! been since, mostly as the process begins, and the file that says so is a long one.
//!
//! To load a library takes addresses (`mmap` of its segments), and how many a process uses is known anyway.

use crate::units::{Nanos, Timestamp};

/// Least distance of two readings, once the process is no longer [`YOUNG`]; before that each refresh may
/// read.
const LIBRARIES: Nanos = Nanos::from_secs(5);
/// A server imports its application for so long.
const YOUNG: Nanos = Nanos::from_secs(10);
/// Longest time without a reading, however few addresses were taken: as many may have been given back.
const ANYWAY: Nanos = Nanos::from_secs(30);

/// When libraries were last read.
#[derive(Debug, Default)]
pub(super) struct Libraries {
    next: Timestamp,
    anyway: Timestamp,
    /// The size of the address space before that, in bytes.
    mapped: Option<u64>,
}

impl Libraries {
    /// Whether they are to be read now, the process using so many bytes of addresses, if that is known,
    /// and having been watched for so long.
    pub(super) fn are_due(&mut self, mapped: Option<u64>, watched: Nanos, at: Timestamp) -> bool {
        let is_same = mapped.is_some() && mapped == self.mapped;
        if at < self.next || (is_same && at < self.anyway) {
            return false;
        }
        self.next = at + if watched < YOUNG { Nanos::ZERO } else { LIBRARIES };
        self.anyway = at + ANYWAY;
        self.mapped = mapped;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether they are due at each of these seconds, with so many bytes.
    fn due(asked: &[(u64, Option<u64>)]) -> Vec<bool> {
        let mut libraries = Libraries::default();
        let mut ask = |(at, mapped): &(u64, Option<u64>)| {
            let watched = Nanos::from_secs(*at);
            libraries.are_due(*mapped, watched, Timestamp(0) + watched)
        };
        asked.iter().map(&mut ask).collect()
    }

    #[test]
    fn read_when_addresses_were_taken_and_now_and_then() {
        let one = Some(4096);
        assert_eq!(
            due(&[(0, one), (1, one), (2, Some(8192)), (3, one), (4, one)]),
            [true, false, true, true, false]
        );
        assert_eq!(
            due(&[(11, one), (12, one), (16, one), (40, one), (41, one)]),
            [true, false, false, false, true]
        );
    }

    #[test]
    fn an_old_process_is_read_seldom_and_one_of_unknown_size_as_often() {
        let sizes =
            [(11, Some(1)), (15, Some(2)), (16, Some(3)), (20, None), (21, None), (26, None)];
        assert_eq!(due(&sizes), [true, false, true, false, true, true]);
    }
}
