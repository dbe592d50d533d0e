//! Reads a server's own counters now and then: often while requests are served, seldom while none
//! are.
//!
//! The distance to the next look is set by what the last one saw, before the next is taken: so each
//! look stands for the time since the one before, and idle workers cost little.

use crate::model::{RequestTally, WorkerClass};
use crate::python::Interpreter;
use crate::server::ServerObjects;
use crate::server::counters::{Counts, counts};
use crate::target::Prefetch;
use crate::units::{Nanos, Timestamp};

/// Distance of looks while requests are served: requests in flight are known to a few percent after
/// 30 s.
const BUSY: Nanos = Nanos::from_millis(50);
/// Distance of looks at a server that has served none for a while.
const IDLE: Nanos = Nanos::from_secs(1);

/// Watches one process's counters.
#[derive(Debug)]
pub struct RequestWatch {
    next: Timestamp,
    step: Nanos,
    last: Option<(Timestamp, Counts)>,
    /// Counters lie at the end of some forty pointers.
    ahead: Prefetch,
}

impl Default for RequestWatch {
    fn default() -> RequestWatch {
        RequestWatch {
            next: Timestamp::default(),
            step: BUSY,
            last: None,
            ahead: Prefetch::default(),
        }
    }
}

impl RequestWatch {
    /// Looks, if it is time or `at_last`. `at` is now.
    pub fn look(
        &mut self,
        python: &Interpreter<'_>,
        objects: &ServerObjects,
        class: WorkerClass,
        tally: &mut RequestTally,
        (at, at_last): (Timestamp, bool),
    ) {
        if at < self.next && !at_last {
            return;
        }
        let seen = self.counts(python, objects, class);
        let quiet = self.last.is_some_and(|(_, last)| {
            last.requests == seen.requests && seen.in_flight.unwrap_or(0) == 0
        });
        self.step = if quiet { Nanos(self.step.0.saturating_mul(2)).min(IDLE) } else { BUSY };
        self.next = at + self.step;
        if seen == Counts::default() {
            return;
        }
        let before = self.last.and_then(|(_, last)| last.requests);
        if before.is_some_and(|before| seen.requests > Some(before)) {
            tally.risen = Some(at);
        }
        tally.first = tally.first.or(seen.requests);
        tally.last = seen.requests.or(tally.last);
        if let Some(in_flight) = seen.in_flight {
            if let Some((before, _)) = self.last {
                let span = at.since(before);
                tally.looked += span;
                tally.in_flight += Nanos(span.0.saturating_mul(in_flight));
            }
            tally.in_flight_max = tally.in_flight_max.max(in_flight);
        }
        self.last = Some((at, seen));
    }

    /// How many requests were in flight at the last look; 0 where nothing counts them.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.last.and_then(|(_, counts)| counts.in_flight).unwrap_or(0)
    }

    fn counts(
        &mut self,
        python: &Interpreter<'_>,
        objects: &ServerObjects,
        class: WorkerClass,
    ) -> Counts {
        self.ahead.read(python.memory, |memory| {
            counts(&Interpreter { memory, types: None, ..*python }, objects, class)
        })
    }
}
