//! From what looks at a loop without a clock show to the iteration it is in. Pure.
//!
//! Such a loop says whether it polls, and keeps something that no two iterations have alike, but not
//! always: how long the poll may sleep, counted from a clock, or the time at which it began to fire
//! timers. Two looks that find the same mark saw one iteration. Two that find a thread asleep in the
//! same call, and not put on a CPU in between, did as well. Where neither can be had, nobody knows
//! how often it polled between two looks, and it is left to the kernel's record to say. So a loop that
//! spins quickly is never taken for one that stands still.

use super::{Reading, Running};
use crate::units::{Addr, Bounds, Nanos, Timestamp};

/// An iteration that was going on at the first look began at an unknown time before: it is told as
/// having begun this much before that look, which is before we attached.
const BEFORE_FIRST: Nanos = Nanos::from_millis(10);

/// Where a look met the loop's thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// Asleep in the loop's poll.
    InPoll,
    /// Asleep in a call of the loop's own that is not its poll: it has nothing to poll for.
    Napping,
    /// Out of its poll, in what the loop called.
    Out,
    /// In the loop's own code: about to poll, just back, or between two callbacks.
    AtLoop,
}

/// What tells an iteration from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Marks {
    /// Set right before each poll.
    pub(super) pause: Option<u64>,
    /// Set when the iteration begins to fire timers.
    pub(super) turn: Option<u64>,
    /// The call that the thread sleeps in, and how often it had been put on a CPU before.
    pub(super) rest: Option<Rest>,
}

/// A thread asleep: equal means that it has slept on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    /// Its stack pointer and program counter.
    pub(super) place: (Addr, Addr),
    /// How often it had been put on a CPU.
    pub(super) runs: u64,
}

impl Marks {
    fn are_none(self) -> bool {
        self == Marks::default()
    }

    /// Whether both are certainly of one iteration.
    fn meet(self, other: Marks) -> bool {
        let same = |one: Option<u64>, other| one.is_some() && one == other;
        same(self.pause, other.pause)
            || same(self.turn, other.turn)
            || self.rest.is_some() && self.rest == other.rest
    }
}

/// What one look showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) thread: Whereabouts,
    pub(super) marks: Marks,
    /// When the iteration began to fire timers, if it has, on the host's clock.
    pub(super) turned: Option<Timestamp>,
    /// What the loop called.
    pub(super) subject: Addr,
}

/// The iteration that a loop is in, as far as looks have shown.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Turns {
    /// The last look that met the thread in its poll, or in an iteration that is over.
    before: Option<Timestamp>,
    running: Option<Iteration>,
}

#[derive(Debug, Clone, Copy)]
struct Iteration {
    marks: Marks,
    began: Bounds<Timestamp>,
    /// The last look at it.
    seen: Timestamp,
}

impl Turns {
    /// Takes a look that was begun at `at`.
    pub(super) fn see(&mut self, seen: Seen, at: Timestamp) -> Reading {
        match seen.thread {
            Whereabouts::InPoll => {
                *self = Turns { before: Some(at), running: None };
                Reading::Polling
            }
            Whereabouts::Napping => {
                *self = Turns { before: Some(at), running: None };
                // To the kernel's record it is out of its poll. What it sees then is no stall: this
                // began at no time that it could know.
                between(Bounds::exactly(Timestamp(0)), Addr(0))
            }
            Whereabouts::AtLoop => self.doubt(Addr(0)),
            Whereabouts::Out if seen.marks.are_none() => {
                if let Some(running) = self.running.take() {
                    self.before = Some(running.seen);
                }
                self.doubt(seen.subject)
            }
            Whereabouts::Out => Reading::Running(self.run(seen, at)),
        }
    }

    /// The thread has slept ever since the last look, and sleeps at `at`.
    pub(super) fn still(&mut self, at: Timestamp) {
        match &mut self.running {
            Some(running) => running.seen = running.seen.max(at),
            None => self.before = self.before.map(|before| before.max(at)),
        }
    }

    /// It may have polled at any time since it was last seen to.
    fn doubt(&self, subject: Addr) -> Reading {
        let lo = self.before.unwrap_or_default();
        between(Bounds { lo, hi: Running::ANY_TIME }, subject)
    }

    fn run(&mut self, seen: Seen, at: Timestamp) -> Running {
        let known = self.running.filter(|running| running.marks.meet(seen.marks));
        let began = known.map_or_else(|| self.began(seen, at), |known| known.began);
        // A mark that is not seen at this look, because what it lies in is not at its place, holds on.
        let marks = known.map_or(seen.marks, |known| Marks {
            pause: seen.marks.pause.or(known.marks.pause),
            turn: seen.marks.turn.or(known.marks.turn),
            rest: seen.marks.rest,
        });
        self.running = Some(Iteration { marks, began, seen: at });
        let identity = [
            Addr(marks.pause.unwrap_or_default()),
            Addr(marks.turn.unwrap_or_default()),
            seen.subject,
        ];
        Running { began, iteration: None, identity }
    }

    /// When an iteration that is new to us began.
    fn began(&self, seen: Seen, at: Timestamp) -> Bounds<Timestamp> {
        let last = self.running.map(|running| running.seen).or(self.before);
        let lo = last.unwrap_or_else(|| at.before(BEFORE_FIRST)).min(at);
        match seen.turned {
            Some(turned) if turned >= lo && turned <= at => Bounds::exactly(turned),
            _ => Bounds { lo, hi: at },
        }
    }
}

fn between(began: Bounds<Timestamp>, subject: Addr) -> Reading {
    let identity = [Addr(0), Addr(0), subject];
    Reading::Between(Running { began, iteration: None, identity })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings of looks at 100, 110, 120, …, as `WHERE PAUSE TURN REST`: `p` in its poll, `n` napping,
    /// `l` at its own code, `o` out; marks are 0 where there is none.
    fn readings(looks: &[(char, u64, u64, u64)]) -> Vec<String> {
        let mut turns = Turns::default();
        let see = |(step, look): (usize, &(char, u64, u64, u64))| {
            let (place, pause, turn, rest) = *look;
            let thread = match place {
                'p' => Whereabouts::InPoll,
                'n' => Whereabouts::Napping,
                'l' => Whereabouts::AtLoop,
                _ => Whereabouts::Out,
            };
            let some = |mark: u64| (mark > 0).then_some(mark);
            let rest = some(rest).map(|runs| Rest { place: (Addr(1), Addr(2)), runs });
            let marks = Marks { pause: some(pause), turn: some(turn), rest };
            let turned = some(turn).map(Timestamp);
            let seen = Seen { thread, marks, turned, subject: Addr(7) };
            match turns.see(seen, Timestamp(100 + 10 * step as u64)) {
                Reading::Running(running) => {
                    format!("R{}-{}", running.began.lo.0, running.began.hi.0)
                }
                Reading::Between(running) if running.began.hi.0 == 0 => "nap".to_owned(),
                Reading::Between(running) => format!("?{}", running.began.lo.0),
                other => format!("{other:?}"),
            }
        };
        looks.iter().enumerate().map(see).collect()
    }

    #[test]
    fn one_mark_is_one_iteration() {
        let looks =
            [('p', 5, 0, 0), ('o', 5, 0, 0), ('o', 5, 0, 0), ('o', 6, 0, 0), ('p', 7, 0, 0)];
        assert_eq!(readings(&looks), ["Polling", "R100-110", "R100-110", "R120-130", "Polling"]);
    }

    #[test]
    fn a_loop_that_spins_is_new_at_every_look() {
        let looks = [('o', 1, 0, 0), ('o', 2, 0, 0), ('o', 3, 0, 0)];
        assert_eq!(readings(&looks)[1..], ["R100-110", "R110-120"]);
        // Where nothing tells, the kernel may.
        let looks = [('p', 0, 0, 0), ('o', 0, 0, 0), ('o', 0, 0, 0), ('l', 0, 0, 0)];
        assert_eq!(readings(&looks), ["Polling", "?100", "?100", "?100"]);
    }

    #[test]
    fn the_time_at_which_timers_were_fired_is_exact() {
        let looks = [('p', 5, 0, 0), ('o', 5, 104, 0), ('o', 5, 104, 0)];
        assert_eq!(readings(&looks), ["Polling", "R104-104", "R104-104"]);
        // One from before the poll is what memory still holds.
        let looks = [('p', 0, 0, 0), ('o', 0, 90, 0)];
        assert_eq!(readings(&looks)[1], "R100-110");
        // It began before its timers were fired, and was seen then.
        let looks = [('p', 5, 0, 0), ('o', 5, 0, 0), ('o', 5, 115, 0)];
        assert_eq!(readings(&looks), ["Polling", "R100-110", "R100-110"]);
    }

    #[test]
    fn who_sleeps_on_in_one_call_has_not_polled() {
        let looks =
            [('p', 0, 0, 0), ('o', 0, 0, 3), ('o', 0, 0, 3), ('o', 0, 0, 4), ('o', 0, 0, 0)];
        assert_eq!(readings(&looks), ["Polling", "R100-110", "R100-110", "R120-130", "?130"]);
    }

    #[test]
    fn what_was_going_on_at_the_first_look_began_before() {
        assert_eq!(readings(&[('o', 5, 0, 0)]), ["R0-100"]);
    }

    #[test]
    fn what_comes_after_a_sleep_began_after_it() {
        let seen = |pause| Seen {
            thread: Whereabouts::Out,
            marks: Marks { pause: Some(pause), ..Marks::default() },
            turned: None,
            subject: Addr(0),
        };
        let mut turns = Turns::default();
        turns.see(seen(1), Timestamp(100));
        turns.still(Timestamp(190));
        let Reading::Running(running) = turns.see(seen(2), Timestamp(200)) else { panic!() };
        assert_eq!(running.began, Bounds { lo: Timestamp(190), hi: Timestamp(200) });
    }

    #[test]
    fn a_nap_is_not_a_time_out_of_the_poll() {
        assert_eq!(
            readings(&[('p', 5, 0, 0), ('n', 6, 0, 0), ('o', 6, 0, 0)])[1..],
            ["nap", "R110-120"]
        );
    }
}
