//! From edges to outings: when the thread left its own poll, when it came back, and what it did in
//! between. A pure state machine.
//!
//! Only exits that follow an entry into the watched poll count: a callback may poll something else
//! meanwhile. Where records are missing, nothing is known until the next entry. Never gives two
//! outings that overlap, never gives one whose two ends were not both seen.

#![cfg_attr(not(test), allow(clippy::arithmetic_side_effects))] // lengths add without overflow

use crate::units::{Nanos, Timestamp};

/// Something that happened to the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// It entered its own poll.
    Entered(Timestamp),
    /// It left some poll.
    Left(Timestamp),
    /// It lost its CPU, by force or to sleep.
    SwitchedOut {
        /// When.
        at: Timestamp,
        /// By force.
        preempted: bool,
    },
    /// It was given a CPU.
    SwitchedIn(Timestamp),
    /// Records are missing before this.
    Lost(Timestamp),
    /// It ended, or became another program.
    Ended(Timestamp),
}

/// A stretch of time outside the poll, seen from one end to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outing {
    /// When the thread left its poll.
    pub left: Timestamp,
    /// When it entered it again.
    pub entered: Timestamp,
    /// Time on a CPU.
    pub on_cpu: Nanos,
    /// Time off the CPU that began with going to sleep; the wait for a CPU after waking included.
    pub off_cpu: Nanos,
    /// Time off the CPU that began with being put off it.
    pub preempted: Nanos,
}

impl Outing {
    /// How long it lasted.
    #[must_use]
    pub fn length(&self) -> Nanos {
        self.entered.since(self.left)
    }
}

/// Where the thread is, as far as edges tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Whereabouts {
    /// Not known: nothing was seen yet, or records are missing.
    #[default]
    Unknown,
    /// In its poll since then.
    Inside(Timestamp),
    /// Out of its poll since then.
    Outside(Timestamp),
    /// Ended, or another program.
    Ended,
}

/// What the last edges say of a thread that entered its poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Nap {
    /// Nothing, or it woke there.
    #[default]
    None,
    /// It has just entered.
    Entered,
    /// It entered and gave up its CPU, and nothing since.
    Asleep,
}

impl Nap {
    fn after(self, edge: Edge) -> Nap {
        match (edge, self) {
            (Edge::Entered(_), _) => Nap::Entered,
            (Edge::SwitchedOut { preempted: false, .. }, Nap::Entered) => Nap::Asleep,
            _ => Nap::None,
        }
    }
}

/// The state machine of one thread.
#[derive(Debug, Clone, Default)]
pub struct Pairing {
    whereabouts: Whereabouts,
    /// No edge can be older than the one before it.
    latest: Timestamp,
    nap: Nap,
    off_since: Option<(Timestamp, bool)>,
    off_cpu: Nanos,
    preempted: Nanos,
}

impl Pairing {
    /// Where the thread is now.
    #[must_use]
    pub fn whereabouts(&self) -> Whereabouts {
        self.whereabouts
    }

    /// Whether the last that happened was that the thread entered its poll and went to sleep. It is there
    /// still, even if a record of its leaving could go missing: it has had no CPU to leave with.
    #[must_use]
    pub fn is_asleep_inside(&self) -> bool {
        matches!(self.whereabouts, Whereabouts::Inside(_)) && self.nap == Nap::Asleep
    }

    /// Whether the thread is out of its poll, and has lost its CPU.
    #[must_use]
    pub fn is_off_cpu(&self) -> bool {
        matches!(self.whereabouts, Whereabouts::Outside(_)) && self.off_since.is_some()
    }

    /// Something else than edges has shown that the thread is in its poll at `at`. Believed only
    /// while edges have told nothing.
    pub fn assume_inside(&mut self, at: Timestamp) {
        if self.whereabouts == Whereabouts::Unknown {
            self.whereabouts = Whereabouts::Inside(at);
        }
    }

    /// What is known so far holds no longer.
    pub fn forget(&mut self) {
        self.whereabouts = Whereabouts::Unknown;
    }

    /// Takes the next edge; gives an outing if it ended with this.
    pub fn feed(&mut self, edge: Edge) -> Option<Outing> {
        if self.whereabouts == Whereabouts::Ended {
            return None;
        }
        self.nap = self.nap.after(edge);
        match edge {
            Edge::Entered(at) => {
                let at = self.advance(at);
                let before = std::mem::replace(&mut self.whereabouts, Whereabouts::Inside(at));
                let Whereabouts::Outside(left) = before else { return None };
                self.back_on_cpu(at);
                let off = self.off_cpu + self.preempted;
                Some(Outing {
                    left,
                    entered: at,
                    on_cpu: at.since(left).saturating_sub(off),
                    off_cpu: self.off_cpu,
                    preempted: self.preempted,
                })
            }
            Edge::Left(at) => {
                let at = self.advance(at);
                if matches!(self.whereabouts, Whereabouts::Inside(_)) {
                    self.whereabouts = Whereabouts::Outside(at);
                    self.off_since = None;
                    self.off_cpu = Nanos::ZERO;
                    self.preempted = Nanos::ZERO;
                }
                None
            }
            Edge::SwitchedOut { at, preempted } => {
                let at = self.advance(at);
                if matches!(self.whereabouts, Whereabouts::Outside(_)) {
                    self.back_on_cpu(at);
                    self.off_since = Some((at, preempted));
                }
                None
            }
            Edge::SwitchedIn(at) => {
                let at = self.advance(at);
                self.back_on_cpu(at);
                None
            }
            Edge::Lost(at) => {
                self.advance(at);
                self.forget();
                None
            }
            Edge::Ended(at) => {
                self.advance(at);
                self.whereabouts = Whereabouts::Ended;
                None
            }
        }
    }

    /// The time of an edge, never before that of an earlier one.
    fn advance(&mut self, at: Timestamp) -> Timestamp {
        self.latest = self.latest.max(at);
        self.latest
    }

    fn back_on_cpu(&mut self, at: Timestamp) {
        if let Some((since, preempted)) = self.off_since.take() {
            let off = at.since(since);
            if preempted {
                self.preempted += off;
            } else {
                self.off_cpu += off;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `E5` entered at 5, `L5` left, `S5` went to sleep, `P5` preempted, `C5` on a CPU again, `X5`
    /// records lost, `Z5` ended.
    fn edges(story: &str) -> Vec<Edge> {
        let edge = |word: &str| {
            let at = Timestamp(word[1..].parse().unwrap());
            match &word[..1] {
                "E" => Edge::Entered(at),
                "L" => Edge::Left(at),
                "S" => Edge::SwitchedOut { at, preempted: false },
                "P" => Edge::SwitchedOut { at, preempted: true },
                "C" => Edge::SwitchedIn(at),
                "X" => Edge::Lost(at),
                "Z" => Edge::Ended(at),
                other => panic!("{other}"),
            }
        };
        story.split_whitespace().map(edge).collect()
    }

    /// `left-entered on/off/preempted` of each outing.
    fn outings(story: &str) -> String {
        let mut pairing = Pairing::default();
        let found = edges(story).into_iter().filter_map(|edge| pairing.feed(edge));
        let text = found.map(|o| {
            let split = format!("{}/{}/{}", o.on_cpu.0, o.off_cpu.0, o.preempted.0);
            format!("{}-{} {split}", o.left.0, o.entered.0)
        });
        text.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn truth_table() {
        let table = [
            // Two iterations.
            ("E1 L5 E9 L12 E20", "5-9 4/0/0, 12-20 8/0/0"),
            // The first exit has no entry: where it came from is not known.
            ("L5 E9 L12 E20", "12-20 8/0/0"),
            // A callback polls something else, whose entry is filtered out.
            ("E1 L5 L7 L8 E9", "5-9 4/0/0"),
            // Asleep, then put off the CPU.
            ("E1 L5 S6 C16 P20 C23 E30", "5-30 12/10/3"),
            // Asleep in the poll: no part of any outing.
            ("E1 S2 C90 L91 E95", "91-95 4/0/0"),
            // A switch back that was not seen is taken to have come at the next edge.
            ("E1 L5 S6 E16", "5-16 1/10/0"),
            ("E1 L5 S6 P10 C12 E16", "5-16 5/4/2"),
            // Lost records: nothing is known until the next entry.
            ("E1 L5 X7 E9 L12 E20", "12-20 8/0/0"),
            ("E1 X3 L5 E9 L12 E20", "12-20 8/0/0"),
            // An exit is missing though nothing was told as lost.
            ("E1 E9 L12 E20", "12-20 8/0/0"),
            // The end is the end.
            ("E1 L5 Z7 E9 L12 E20", ""),
            // Times that run backwards are taken as standing still.
            ("E1 L5 E3", "5-5 0/0/0"),
        ];
        for (story, expected) in table {
            assert_eq!(outings(story), expected, "{story}");
        }
    }

    #[test]
    fn a_thread_sleeps_in_its_poll_from_its_going_to_sleep_there_to_whatever_is_next() {
        let sleeps = |story: &str| {
            let mut pairing = Pairing::default();
            for edge in edges(story) {
                let _ = pairing.feed(edge);
            }
            pairing.is_asleep_inside()
        };
        assert!(sleeps("E1 S2"));
        assert!(sleeps("E1 S2 C5 L6 E7 S8"));
        // Awake there, woken, put off its CPU by force, or asleep after it woke: it may be out, if the
        // record of its leaving was held back.
        for story in ["E1", "E1 S2 C5", "E1 P2", "E1 S2 C5 S6", "E1 P2 C3 S4", "E1 S2 X3"] {
            assert!(!sleeps(story), "{story}");
        }
        // Asleep elsewhere, and where it was assumed to be only.
        for story in ["L1 S2", "E1 L5 S6", "S2", "E1 S2 Z3"] {
            assert!(!sleeps(story), "{story}");
        }
    }

    #[test]
    fn what_is_assumed_never_overrides_what_was_seen() {
        let mut pairing = Pairing::default();
        pairing.assume_inside(Timestamp(3));
        assert_eq!(pairing.feed(Edge::Left(Timestamp(5))), None);
        assert_eq!(pairing.whereabouts(), Whereabouts::Outside(Timestamp(5)));
        pairing.assume_inside(Timestamp(6));
        assert_eq!(pairing.feed(Edge::Entered(Timestamp(9))).unwrap().left, Timestamp(5));
    }

    proptest! {
        #[test]
        fn outings_never_overlap_and_their_parts_fit(
            story in prop::collection::vec((0usize..7, 0u64..1000), 0..200),
        ) {
            let mut pairing = Pairing::default();
            let mut end = Timestamp(0);
            for (kind, at) in story {
                let at = Timestamp(at);
                let edge = match kind {
                    0 => Edge::Entered(at),
                    1 => Edge::Left(at),
                    2 => Edge::SwitchedOut { at, preempted: false },
                    3 => Edge::SwitchedOut { at, preempted: true },
                    4 => Edge::SwitchedIn(at),
                    5 => Edge::Lost(at),
                    _ => Edge::Ended(at),
                };
                if let Some(outing) = pairing.feed(edge) {
                    prop_assert!(outing.left >= end && outing.entered >= outing.left);
                    let parts = outing.on_cpu + outing.off_cpu + outing.preempted;
                    prop_assert_eq!(parts, outing.length());
                    end = outing.entered;
                }
            }
        }
    }
}
