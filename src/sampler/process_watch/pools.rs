//! Has a process's pools looked at, and whoever may wait for one that is not known yet.

use super::ProcessWatch;
use crate::model::{PoolInfo, PoolReading};
use crate::sampler::notes::Notes;
use crate::sampler::pace::now;
use crate::sampler::pool_watch::{Around, PoolWatch};
use crate::sampler::waiting_tasks::meet_pools;
use crate::target::ReadError;
use crate::units::{Tid, Timestamp};

/// With fewer requests in flight none of them waits for a pool, or it is no matter.
const SEVERAL: u64 = 2;

impl ProcessWatch {
    pub(super) fn see_pools(&mut self, notes: &mut Notes, at: Timestamp) -> Result<(), ReadError> {
        if self.pools.are_tasks_due(at) && self.requests.in_flight() >= SEVERAL {
            let (mut scene, threads) = self.scene(notes);
            meet_pools(&mut scene, threads)?;
        }
        let serving: Vec<Tid> = { self.loops.iter().filter(|watch| watch.requests.is_some()) }
            .map(|watch| watch.tid)
            .collect();
        let python = self.located.view(&self.memory);
        let around = Around {
            threads: &self.threads,
            worker: self.server.objects.worker,
            awaited: &mut self.awaited,
            serving: Some(&serving),
        };
        self.pools.see(&python, &mut self.codes, around, &mut self.info.pools, at)
    }

    /// The pools that are there now, as they are now; those met so far among them.
    pub(in crate::sampler) fn pools_now(
        &mut self,
    ) -> Result<Vec<(PoolInfo, PoolReading)>, ReadError> {
        let python = self.located.view(&self.memory);
        let around = Around {
            threads: &self.threads,
            worker: self.server.objects.worker,
            awaited: &mut self.awaited,
            serving: None,
        };
        PoolWatch::default().now(&python, &mut self.codes, around, now())
    }
}
