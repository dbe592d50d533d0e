//! All threads of one process that serve requests: how many are held, and whether new ones may have
//! begun.
//!
//! Takes the watches of these threads, gives the counts of how many were held at the same time.
//! Never looks at a thread itself.

use std::cell::RefCell;
use std::rc::Rc;

use super::loop_watch::LoopWatch;
use super::pace::Pace;
use crate::model::Occupancy;
use crate::python::code_objects::CodeCache;
use crate::server::request_places::Learnt;
use crate::units::{Nanos, Timestamp};

/// Most threads watched of one process. Those of a pool that large are hardly all of use; past it
/// the others are sampled like any thread.
const MOST: usize = 256;
/// The size of a worker's pool that was read alike so many times in a row is not read again: gunicorn makes
/// the pool when the worker begins, and a pool's size never changes.
const ALIKE: u8 = 3;

/// The threads of one process that serve requests.
#[derive(Debug)]
pub struct RequestThreads {
    /// The process runs gunicorn's gthread.
    pub in_gthread: bool,
    /// New threads come with new connections; one that has only begun may not show yet what it is.
    pub are_short_lived: bool,
    /// Code objects that their clocks have read.
    pub codes: Rc<RefCell<CodeCache>>,
    /// The size last read, and how many times in a row.
    size: Option<(u32, u8)>,
    /// When the list of threads was last compared with the target's.
    compared: Timestamp,
    next_count: Timestamp,
}

impl RequestThreads {
    /// None known yet.
    #[must_use]
    pub fn new(attached: Timestamp) -> RequestThreads {
        RequestThreads {
            in_gthread: false,
            are_short_lived: false,
            codes: Rc::default(),
            size: None,
            compared: attached,
            next_count: attached,
        }
    }

    /// Takes what a stack told.
    pub fn learn(&mut self, occupancy: &mut Occupancy, learnt: Learnt) {
        self.in_gthread |= learnt.in_gthread;
        self.are_short_lived |= learnt.has_thread_per_connection;
        occupancy.limit = learnt.limit.or(occupancy.limit);
        if let Some(size) = learnt.limit {
            let times = self.size.filter(|(known, _)| *known == size).map_or(0, |(_, times)| times);
            self.size = Some((size, times.saturating_add(1)));
        }
    }

    /// How many threads may serve requests at the same time, if that need not be read any more.
    #[must_use]
    pub fn size(&self) -> Option<u32> {
        self.size.filter(|(_, times)| *times >= ALIKE).map(|(size, _)| size)
    }

    /// The list of threads is being compared. Returns when it was before: a thread that is new began
    /// after that.
    pub fn compared(&mut self, at: Timestamp) -> Timestamp {
        std::mem::replace(&mut self.compared, at)
    }

    /// Whether a thread may have begun whose request should not be missed.
    #[must_use]
    pub fn are_new_ones_due(&self, pace: &Pace, at: Timestamp) -> bool {
        self.due(pace).is_some_and(|due| at >= due)
    }

    /// When they should be looked for, if they should.
    #[must_use]
    pub fn due(&self, pace: &Pace) -> Option<Timestamp> {
        self.are_short_lived.then(|| pace.next_tick(self.compared))
    }

    /// Whether no more threads should be watched.
    #[must_use]
    pub fn is_full(&self, loops: &[LoopWatch]) -> bool {
        loops.len() >= MOST
    }

    /// Counts how many are held, if that is due.
    pub fn count(
        &mut self,
        loops: &[LoopWatch],
        occupancy: &mut Occupancy,
        pace: &Pace,
        at: Timestamp,
    ) {
        let mut threads = loops.iter().filter(|watch| watch.requests.is_some()).peekable();
        if at < self.next_count || (threads.peek().is_none() && occupancy.busy.is_empty()) {
            return;
        }
        self.next_count = at + Nanos(pace.base(false).0);
        occupancy.count(threads.filter(|watch| watch.is_running()).count());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_believed_once_it_was_read_alike() {
        let (mut threads, mut occupancy) =
            (RequestThreads::new(Timestamp(0)), Occupancy::default());
        let mut learn = |limit| {
            threads.learn(&mut occupancy, Learnt { limit, ..Learnt::default() });
            threads.size()
        };
        let read = [Some(4), Some(4), Some(9), None, Some(4), Some(4), Some(4), None];
        let believed = read.map(&mut learn);
        assert_eq!(believed, [None, None, None, None, None, None, Some(4), Some(4)]);
    }
}
