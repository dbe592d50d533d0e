//! What a record of the kernel's says: bytes in, facts out. Pure.
//!
//! The layouts are those of `enum perf_event_type` (include/uapi/linux/perf_event.h) for events that
//! sample their identifier and time: a sample begins with both, every other record ends with the
//! time and the identifier. A record that is too short for what it must hold is no record.

use crate::units::{Tid, Timestamp};

use super::ring::RawRecord;

/// `PERF_RECORD_*`.
mod kind {
    pub(super) const LOST: u32 = 2;
    pub(super) const COMM: u32 = 3;
    pub(super) const EXIT: u32 = 4;
    pub(super) const THROTTLE: u32 = 5;
    pub(super) const FORK: u32 = 7;
    pub(super) const SAMPLE: u32 = 9;
    pub(super) const SWITCH: u32 = 14;
}

/// `PERF_RECORD_MISC_COMM_EXEC` and `PERF_RECORD_MISC_SWITCH_OUT` share a bit.
const EXEC_OR_OUT: u16 = 1 << 13;
/// `PERF_RECORD_MISC_SWITCH_OUT_PREEMPT`: it would have gone on.
const PREEMPTED: u16 = 1 << 14;
/// The time and the identifier at the end of every record but a sample.
const TRAILER: usize = 16;

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// An event happened.
    Sample {
        /// Which: see [`Event::id`](super::event::Event::id).
        id: u64,
        /// When.
        time: Timestamp,
        /// What else was asked for.
        rest: &'a [u8],
    },
    /// The thread lost its CPU.
    SwitchedOut {
        /// When.
        time: Timestamp,
        /// It did not go to sleep: somebody else was put in its place.
        preempted: bool,
    },
    /// The thread was given a CPU.
    SwitchedIn {
        /// When.
        time: Timestamp,
    },
    /// There was no room for some records, or the kernel held them back.
    Lost {
        /// How many, as far as it says.
        records: u64,
        /// When room was found again.
        time: Timestamp,
    },
    /// A thread ended.
    Ended {
        /// Which.
        tid: Tid,
        /// When.
        time: Timestamp,
    },
    /// A thread or child was started.
    Started {
        /// Which.
        tid: Tid,
        /// When.
        time: Timestamp,
    },
    /// The process became another program.
    Exec {
        /// When.
        time: Timestamp,
    },
    /// Something that was not asked for.
    Other,
}

/// Decodes a record; `None` if it is cut short.
pub(super) fn decode<'a>(raw: RawRecord<'a>) -> Option<Record<'a>> {
    let body = raw.body;
    if raw.kind == kind::SAMPLE {
        let (id, rest) = word(body)?;
        let (time, rest) = word(rest)?;
        return Some(Record::Sample { id, time: Timestamp(time), rest });
    }
    let time = || {
        let trailer = body.len().checked_sub(TRAILER)?;
        word(body.get(trailer..)?).map(|(time, _)| Timestamp(time))
    };
    Some(match raw.kind {
        kind::SWITCH if raw.misc & EXEC_OR_OUT != 0 => {
            Record::SwitchedOut { time: time()?, preempted: raw.misc & PREEMPTED != 0 }
        }
        kind::SWITCH => Record::SwitchedIn { time: time()? },
        kind::LOST => {
            let (_, rest) = word(body)?;
            Record::Lost { records: word(rest)?.0, time: time()? }
        }
        kind::THROTTLE => Record::Lost { records: 0, time: time()? },
        kind::EXIT => Record::Ended { tid: tid(body)?, time: time()? },
        kind::FORK => Record::Started { tid: tid(body)?, time: time()? },
        kind::COMM if raw.misc & EXEC_OR_OUT != 0 => Record::Exec { time: time()? },
        _ => Record::Other,
    })
}

/// `{ u32 pid, ppid, tid, ptid; u64 time; }` of a thread's start or end.
fn tid(body: &[u8]) -> Option<Tid> {
    let bytes = body.get(8..)?.first_chunk::<4>()?;
    Some(Tid(i32::from_ne_bytes(*bytes)))
}

/// The first eight bytes as a number, and what follows them.
pub(super) fn word(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_ne_bytes(*word), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw<'a>(kind: u32, misc: u16, body: &'a [u8]) -> Option<Record<'a>> {
        decode(RawRecord { kind, misc, body })
    }

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn the_records_the_kernel_writes() {
        let time = Timestamp(77);
        let sample = words(&[5, 77]);
        assert_eq!(raw(9, 0, &sample), Some(Record::Sample { id: 5, time, rest: &[] }));
        let end = words(&[77, 5]);
        assert_eq!(raw(14, 0, &end), Some(Record::SwitchedIn { time }));
        let out = |misc| raw(14, misc, &end);
        assert_eq!(out(1 << 13), Some(Record::SwitchedOut { time, preempted: false }));
        assert_eq!(out(3 << 13), Some(Record::SwitchedOut { time, preempted: true }));
        let lost = words(&[5, 900, 77, 5]);
        assert_eq!(raw(2, 0, &lost), Some(Record::Lost { records: 900, time }));
        let mut task: Vec<u8> = [10i32, 1, 12, 1].iter().flat_map(|n| n.to_ne_bytes()).collect();
        task.extend(words(&[76, 77, 5]));
        assert_eq!(raw(4, 0, &task), Some(Record::Ended { tid: Tid(12), time }));
        assert_eq!(raw(7, 0, &task), Some(Record::Started { tid: Tid(12), time }));
        assert_eq!(raw(3, 0, &task), Some(Record::Other));
        assert_eq!(raw(3, 1 << 13, &task), Some(Record::Exec { time }));
    }

    #[test]
    fn what_is_cut_short_is_nothing() {
        for kind in [2, 4, 7, 9, 14] {
            assert_eq!(raw(kind, 0, &[0; 15]), None, "{kind}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(
            kind in 0u32..20,
            misc in any::<u16>(),
            body in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let _ = raw(kind, misc, &body);
        }
    }
}
