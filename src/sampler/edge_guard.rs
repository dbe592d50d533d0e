//! Whether the kernel's record of a loop's edges can be believed: each look at the loop is held
//! against it. Pure.
//!
//! A BPF program that another tool has put on the same tracepoints can swallow every record, and
//! nothing tells of it (`perf_trace_run_bpf_submit`, kernel/events/core.c). The record would then
//! show one endless time outside the poll, or none. But a look is older than the drain that follows
//! it, so whatever it saw has been recorded by then, or never will be: two that disagree prove a
//! loss.

use crate::event_loop::{Reading, Running};
use crate::target::edges::Whereabouts;
use crate::units::{Bounds, Nanos, Timestamp};

/// A stamp may be off by this beyond its own bounds: asyncio's is a float of seconds.
const STAMP_STEP: Nanos = Nanos::from_micros(1);

/// What a look tells of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They agree, or can.
    Sound,
    /// The thread has been out of its poll since then, though the loop's clock says polling.
    Leaving(Timestamp),
    /// The thread is in its poll, and the record has it outside since then. Unless it entered in
    /// this very moment, which another drain tells, records are missing.
    Suspect(Timestamp),
    /// Records are missing.
    Blind,
}

/// The looks that fell into one outing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Vouchers {
    /// When the thread left its poll: which outing.
    left: Timestamp,
    /// Looks that found it out of its poll.
    pub(super) sure: u32,
    /// Looks that could not tell.
    pub(super) unclear: u32,
}

/// Holds looks against the record of one loop.
#[derive(Debug, Clone, Default)]
pub(super) struct EdgeGuard {
    vouchers: Vouchers,
    /// The iteration seen in an outing: the outing, the loop's own name of the iteration.
    iteration: Option<(Timestamp, u64)>,
    /// A stamp for which no exit was recorded; a second one settles it.
    missed: Option<Bounds<Timestamp>>,
}

impl EdgeGuard {
    /// Holds a look that was begun at `before` against where the record, drained after it, has the
    /// thread. Records have come since `since`. `is_in_poll` asks the kernel about the thread.
    pub(super) fn check(
        &mut self,
        reading: Reading,
        before: Timestamp,
        whereabouts: Whereabouts,
        since: Timestamp,
        is_in_poll: impl FnOnce() -> bool,
    ) -> Verdict {
        match (reading, whereabouts) {
            (Reading::Running(running), Whereabouts::Outside(left)) => {
                self.check_stamp(running, left, before)
            }
            (Reading::Running(running), Whereabouts::Inside(entered)) => {
                self.miss(running.began, running.began.lo > entered)
            }
            (Reading::Running(running), Whereabouts::Unknown) => {
                self.miss(running.began, running.began.lo > since)
            }
            (_, Whereabouts::Outside(left)) if left >= before => Verdict::Sound,
            (Reading::Polling, Whereabouts::Outside(left)) if is_in_poll() => {
                Verdict::Suspect(left)
            }
            (Reading::Polling, Whereabouts::Outside(left)) => {
                self.voucher(left).sure += 1;
                Verdict::Leaving(left)
            }
            (Reading::Between(_) | Reading::Moving | Reading::Torn, Whereabouts::Outside(left)) => {
                self.voucher(left).unclear += 1;
                Verdict::Sound
            }
            _ => Verdict::Sound,
        }
    }

    /// The looks that fell into the outing that began at `left`.
    pub(super) fn vouchers(&self, left: Timestamp) -> Vouchers {
        if self.vouchers.left == left { self.vouchers } else { Vouchers::default() }
    }

    /// The thread is out of its poll by both. One outing is one iteration.
    fn check_stamp(&mut self, running: Running, left: Timestamp, before: Timestamp) -> Verdict {
        self.missed = None;
        if running.began.hi + STAMP_STEP < left || left >= before {
            // The look was of the iteration before this outing.
            return Verdict::Sound;
        }
        let before = self.iteration.filter(|(outing, _)| *outing == left);
        self.iteration = running.iteration.map(|this| (left, this)).or(before);
        match (before, running.iteration) {
            (Some((_, other)), Some(this)) if other != this => Verdict::Blind,
            _ => {
                self.voucher(left).sure += 1;
                Verdict::Sound
            }
        }
    }

    /// An iteration began, says the loop; the record knows of no exit.
    fn miss(&mut self, began: Bounds<Timestamp>, is_missing: bool) -> Verdict {
        match self.missed {
            Some(other) if is_missing && other != began => return Verdict::Blind,
            _ => self.missed = is_missing.then_some(began),
        }
        Verdict::Sound
    }

    fn voucher(&mut self, left: Timestamp) -> &mut Vouchers {
        if self.vouchers.left != left {
            self.vouchers = Vouchers { left, ..Vouchers::default() };
        }
        &mut self.vouchers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Addr;

    const SINCE: Timestamp = Timestamp(1_000_000);

    fn ms(ms: u64) -> Timestamp {
        Timestamp(ms * 1_000_000)
    }

    /// One look: `R90` running since 90, `P` polling, `T` torn, at this time, with the record at
    /// `I80` inside since 80, `O80` outside, `?` unknown.
    fn look(guard: &mut EdgeGuard, look: &str, at: u64, record: &str, in_poll: bool) -> Verdict {
        let number = |text: &str| ms(text[1..].parse().unwrap());
        let reading = match &look[..1] {
            "R" => Reading::Running(Running {
                began: Bounds::exactly(number(look)),
                iteration: Some(number(look).0),
                identity: [Addr(1); 3],
            }),
            "P" => Reading::Polling,
            _ => Reading::Torn,
        };
        let whereabouts = match &record[..1] {
            "I" => Whereabouts::Inside(number(record)),
            "O" => Whereabouts::Outside(number(record)),
            _ => Whereabouts::Unknown,
        };
        guard.check(reading, ms(at), whereabouts, SINCE, || in_poll)
    }

    fn verdicts(looks: &[(&str, u64, &str, bool)]) -> Verdict {
        let mut guard = EdgeGuard::default();
        let all = looks
            .iter()
            .map(|(seen, at, record, in_poll)| look(&mut guard, seen, *at, record, *in_poll));
        all.last().unwrap()
    }

    #[test]
    fn truth_table() {
        let table = [
            // All is well.
            (&[("P", 100, "I80", true)][..], Verdict::Sound),
            (&[("R90", 100, "O90", false)], Verdict::Sound),
            (&[("R90", 100, "O90", false), ("R90", 110, "O90", false)], Verdict::Sound),
            // Between the look and the drain it went on.
            (&[("R90", 100, "I101", false)], Verdict::Sound),
            (&[("R90", 100, "O102", false)], Verdict::Sound),
            (&[("P", 100, "O101", false)], Verdict::Sound),
            // Out of its poll and not back in Python.
            (&[("P", 100, "O90", false)], Verdict::Leaving(ms(90))),
            // Records stopped while it was outside: it polls, or has run two iterations since.
            (&[("P", 100, "O90", true)], Verdict::Suspect(ms(90))),
            (&[("R90", 100, "O90", false), ("R104", 110, "O90", false)], Verdict::Blind),
            // Records stopped while it was inside: it runs, and no exit came. Twice, to be sure.
            (&[("R90", 100, "I80", false)], Verdict::Sound),
            (&[("R90", 100, "I80", false), ("R90", 110, "I80", false)], Verdict::Sound),
            (&[("R90", 100, "I80", false), ("R105", 110, "I80", false)], Verdict::Blind),
            // An exit came in between: all is well again.
            (
                &[
                    ("R90", 100, "I80", false),
                    ("R91", 105, "O91", false),
                    ("R95", 110, "I94", false),
                ],
                Verdict::Sound,
            ),
            // Records never came. What began before we listened tells nothing.
            (&[("R90", 100, "?", false), ("R105", 110, "?", false)], Verdict::Blind),
            (&[("R0", 100, "?", false), ("R0", 110, "?", false)], Verdict::Sound),
        ];
        for (looks, expected) in table {
            assert_eq!(verdicts(looks), expected, "{looks:?}");
        }
    }

    #[test]
    fn looks_vouch_for_the_outing_they_fell_into() {
        let mut guard = EdgeGuard::default();
        look(&mut guard, "P", 95, "O90", false);
        look(&mut guard, "T", 97, "O90", false);
        look(&mut guard, "R96", 100, "O90", false);
        look(&mut guard, "T", 101, "O102", false);
        let vouchers = guard.vouchers(ms(90));
        assert_eq!((vouchers.sure, vouchers.unclear), (2, 1));
        assert_eq!(guard.vouchers(ms(102)).sure, 0);
    }
}
