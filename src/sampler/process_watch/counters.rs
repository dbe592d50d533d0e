//! What a process's server counts, and what it adds to its server as a whole.

use super::ProcessWatch;
use crate::model::{CrowdLook, Role};
use crate::sampler::crowd_watch::Part;
use crate::server::counters::{Counts, counts};
use crate::units::Timestamp;

impl ProcessWatch {
    /// The counters of a process that began while we watched began at 0 with it.
    pub fn count_from(&mut self, began: Timestamp) {
        if self.forked.is_some_and(|born| born >= began) {
            self.info.requests.first = Some(0);
        }
    }

    /// What its server's counters say now.
    pub(in crate::sampler) fn counts(&self) -> Counts {
        let python = self.located.view(&self.memory);
        counts(&python, &self.server.objects, self.server.topology.class)
    }

    pub(super) fn count_requests(&mut self, at: Timestamp, at_last: bool) {
        let python = self.located.view(&self.memory);
        let (objects, class) = (&self.server.objects, self.server.topology.class);
        self.requests.look(&python, objects, class, &mut self.info.requests, (at, at_last));
    }

    /// What it adds to its server as a whole; `None` of a process that serves nobody by threads of its
    /// own, or from no socket that is known.
    pub(in crate::sampler) fn part_of_crowd(&self) -> Option<Part> {
        if self.info.topology.role == Role::Master || self.info.listeners.is_empty() {
            return None;
        }
        let mut inodes: Vec<u64> = self.info.listeners.iter().map(|one| one.inode).collect();
        inodes.sort_unstable();
        let held = self.loops.iter().filter(|watch| watch.requests.is_some() && watch.is_running());
        let held = u32::try_from(held.count()).unwrap_or(u32::MAX);
        let threads = self.info.occupancy.limit;
        // gthread takes connections in before it has a thread for them. Nobody waits while one is free,
        // and then it need not be asked.
        let is_full = threads.is_some_and(|threads| held >= threads);
        let ask = self.request_threads.in_gthread && is_full;
        let taken_in = if ask { self.counts().in_flight } else { None };
        let queued = taken_in.map_or(0, |all| all.saturating_sub(u64::from(held)));
        // waitress and cheroot do so too, and have a pool that knows.
        let of_pool = self.pools.waiting_for_threads(&self.info.pools).filter(|_| is_full);
        let queued = u32::try_from(queued).unwrap_or(u32::MAX).max(of_pool.unwrap_or(0));
        Some(Part { inodes, threads, held, queued })
    }

    /// Its server was looked at as a whole.
    pub(in crate::sampler) fn see_crowd(&mut self, look: CrowdLook) {
        self.info.occupancy.crowd.get_or_insert_default().add(look);
    }
}
