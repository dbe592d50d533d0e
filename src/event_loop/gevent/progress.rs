//! From what looks at a libev loop show to the iteration it is in. Pure.
//!
//! `mn_now` is the clock: libev sets it right after each poll, so it says when the poll was left. It
//! also sets it right before each poll, so a stamp no later than a look that met the thread in the
//! poll says nothing. And gevent sets it in the midst of an iteration, after each batch of callbacks
//! and when a greenlet starts a timer, so the earliest stamp of an iteration is the one that counts.
//! `loop_count` names the iteration: it is raised right before each poll.
//! (<https://github.com/gevent/gevent/blob/24.2.1/deps/libev/ev.c>, `ev_run`)

use crate::event_loop::{Reading, Running};
use crate::model::CallbackRun;
use crate::units::{Addr, Bounds, Timestamp};

/// What one look showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// `loop_count`.
    pub(super) count: u32,
    /// `mn_now`, on the host's clock.
    pub(super) stamp: Timestamp,
    /// What runs.
    pub(super) place: Place,
    /// Where its thread was found.
    pub(super) thread: Whereabouts,
}

/// How far the loop has got in its iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// Whether it runs callbacks that are due, and not watchers' or none.
    pub(super) calling: bool,
    /// Watchers whose callback is still to be called.
    pub(super) pending: u32,
    /// The callback that is due next, if there is one.
    pub(super) next: Option<Addr>,
}

impl Place {
    /// Whether only a loop that is out of its poll can be here.
    fn is_out(self) -> bool {
        self.calling || self.pending > 0
    }

    /// What tells this place from others of its iteration. A greenlet may make another callback due
    /// while it runs: that is only told while nothing else than callbacks takes one off the queue.
    fn identity(self, count: u32) -> [Addr; 3] {
        let step = u64::from(self.pending) << 1 | u64::from(self.calling);
        let next = self.next.filter(|_| self.calling).unwrap_or_default();
        [Addr(u64::from(count)), Addr(step), next]
    }

    /// How many callbacks have certainly begun from `earlier` to here.
    fn begun_since(self, earlier: Place) -> u32 {
        match (earlier.calling, self.calling) {
            (false, false) => earlier.pending.saturating_sub(self.pending),
            (false, true) => earlier.pending.saturating_add(1),
            // Taken off the queue: another is next, or none. (The first one put on it changes it, too.)
            (true, true) => u32::from(earlier.next.is_some() && earlier.next != self.next),
            (true, false) => 0,
        }
    }
}

/// Where the loop's thread was found, before its memory was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// Asleep in the loop's poll.
    InPoll,
    /// Asleep in another call, or running Python that the loop has called.
    Out,
    /// On a CPU or ready to be, and no Python runs that the loop has called: it may be on its way out of
    /// the poll or into it.
    AtLoop,
    /// It cannot be told.
    Unknown,
}

/// The iteration that a loop is in, as far as looks have shown.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    count: Option<u32>,
    /// The earliest stamp of the time outside the poll.
    began: Option<Timestamp>,
    /// When the thread was last known to be in the poll: a stamp no later than that is from before it.
    polled: Option<Timestamp>,
    place: Place,
    /// Callbacks seen to begin since the first look.
    begun: u32,
    /// What the last looks met, the latest first: one may be asked about after the next was taken.
    met: [Option<([Addr; 3], CallbackRun)>; 4],
}

impl Progress {
    /// Takes a look that was begun at `before`.
    pub(super) fn see(&mut self, seen: Seen, before: Timestamp) -> Reading {
        if self.count != Some(seen.count) {
            let (count, polled) = (Some(seen.count), self.polled);
            *self = Progress { count, polled, ..Progress::default() };
        }
        let is_out = seen.place.is_out();
        match seen.thread {
            // Whatever the loop has pending: one that is run from within another iteration, as when a
            // worker starts, polls before it goes on with that. And one that woke after it was met in
            // its poll has hardly begun.
            Whereabouts::InPoll => {
                self.polled = Some(before);
                (self.began, self.begun) = (None, 0);
                return Reading::Polling;
            }
            _ if is_out => {}
            Whereabouts::AtLoop if self.began.is_some() => {}
            Whereabouts::AtLoop | Whereabouts::Unknown => return Reading::Polling,
            Whereabouts::Out => {}
        }
        if self.polled.is_some_and(|polled| seen.stamp <= polled) {
            // Woken, and not at its clock yet.
            return Reading::Polling;
        }
        match self.began {
            Some(_) => self.begun = self.begun.saturating_add(seen.place.begun_since(self.place)),
            None => self.began = Some(seen.stamp),
        }
        self.place = seen.place;
        let identity = seen.place.identity(seen.count);
        let [first, second, third, _] = self.met;
        self.met = [Some((identity, self.run())), first, second, third];
        let began = Bounds::exactly(self.began.unwrap_or(seen.stamp));
        Reading::Running(Running { began, iteration: Some(u64::from(seen.count)), identity })
    }

    /// The thread sleeps in the poll at `at`, whatever it did since the last look.
    pub(super) fn sleeps_in_poll(&mut self, at: Timestamp) {
        self.polled = self.polled.max(Some(at));
        (self.began, self.begun) = (None, 0);
    }

    /// Which of the iteration's callbacks `running`, one of the last looks, is: of those seen, and of
    /// those known to follow.
    pub(super) fn callback(&self, running: &Running) -> Option<CallbackRun> {
        let mut met = self.met.iter().flatten();
        met.find(|(identity, _)| *identity == running.identity).map(|(_, run)| *run)
    }

    fn run(&self) -> CallbackRun {
        let follow = self.place.pending.saturating_add(u32::from(self.place.next.is_some()));
        let batch = self.begun.saturating_add(1).saturating_add(follow);
        CallbackRun { index: self.begun, batch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The readings of looks at 10, 20, 30, … given as `COUNT STAMP THREAD PENDING CALLING NEXT`.
    fn readings(looks: &[(u32, u64, char, u32, bool, u64)]) -> Vec<String> {
        let mut progress = Progress::default();
        let see = |(turn, look): (usize, &(u32, u64, char, u32, bool, u64))| {
            let (count, stamp, thread, pending, calling, next) = *look;
            let thread = match thread {
                'p' => Whereabouts::InPoll,
                'o' => Whereabouts::Out,
                'l' => Whereabouts::AtLoop,
                _ => Whereabouts::Unknown,
            };
            let next = (next > 0).then_some(Addr(next));
            let place = Place { calling, pending, next };
            let seen = Seen { count, stamp: Timestamp(stamp), place, thread };
            match progress.see(seen, Timestamp(10 * (turn as u64 + 1))) {
                Reading::Running(running) => {
                    let run = progress.callback(&running).unwrap();
                    format!("R{} {}/{}", running.began.lo.0, run.index, run.batch)
                }
                other => format!("{other:?}"),
            }
        };
        looks.iter().enumerate().map(see).collect()
    }

    #[test]
    fn the_earliest_stamp_of_an_iteration_counts() {
        let looks = [(1, 8, 'o', 0, true, 0), (1, 15, 'o', 0, true, 0), (1, 15, 'l', 0, false, 0)];
        assert_eq!(readings(&looks), ["R8 0/1", "R8 0/1", "R8 0/1"]);
    }

    #[test]
    fn a_stamp_from_before_the_poll_says_nothing() {
        let looks = [
            (1, 5, 'p', 0, false, 0),  // asleep since 5
            (1, 5, 'o', 0, false, 0),  // woken, not yet at its clock
            (1, 22, 'o', 0, false, 0), // here it is
            (1, 22, 'p', 0, false, 0), // what was read was of the poll before
            (2, 45, 'o', 0, false, 0),
        ];
        assert_eq!(readings(&looks), ["Polling", "Polling", "R22 0/1", "Polling", "R45 0/1"]);
    }

    #[test]
    fn who_sleeps_in_the_poll_polls_whatever_is_pending() {
        let looks =
            [(1, 5, 'p', 1, false, 0), (1, 5, 'p', 0, true, 0x10), (1, 35, 'o', 1, false, 0)];
        assert_eq!(readings(&looks), ["Polling", "Polling", "R35 0/2"]);
    }

    #[test]
    fn one_that_may_be_at_its_poll_is_not_taken_to_run() {
        let looks = [(1, 5, 'l', 0, false, 0), (1, 5, '?', 0, false, 0), (1, 5, '?', 2, false, 0)];
        assert_eq!(readings(&looks), ["Polling", "Polling", "R5 0/3"]);
    }

    #[test]
    fn callbacks_are_counted_as_far_as_looks_show_them() {
        let looks = [
            (7, 5, 'o', 3, false, 0),    // a watcher's; three to follow
            (7, 5, 'o', 1, false, 0x10), // two later
            (7, 5, 'o', 0, true, 0x20),  // the last of them, and then one of those due
            (7, 5, 'o', 0, true, 0x20),  // still
            (7, 5, 'o', 0, true, 0x30),
            (7, 5, 'o', 0, true, 0),    // the last one
            (7, 5, 'o', 0, true, 0x40), // which made another due
            (8, 75, 'o', 0, true, 0),
        ];
        let expected =
            ["R5 0/4", "R5 2/5", "R5 4/6", "R5 4/6", "R5 5/7", "R5 6/7", "R5 6/8", "R75 0/1"];
        assert_eq!(readings(&looks), expected);
    }
}
