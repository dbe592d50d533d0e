//! A closer look at the loops of a process that uses a CPU for nobody.

use super::ProcessWatch;
use crate::sampler::notes::Notes;
use crate::sampler::pace::now;
use crate::sampler::spin_watch::burst;

impl ProcessWatch {
    /// Looks closer at loops that may spin, if it is time.
    pub(super) fn see_spins(&mut self, notes: &mut Notes) {
        if !self.spins.is_due(now(), self.info.cpu, self.info.requests.last) {
            return;
        }
        let mut loops = std::mem::take(&mut self.loops);
        for watch in loops.iter_mut().filter(|watch| watch.requests.is_none()) {
            let (mut scene, threads) = self.scene(notes);
            let Some(thread) = threads.iter().find(|thread| thread.tid == watch.tid) else {
                continue;
            };
            let known = scene.notes.info(watch.id).and_then(|info| info.spin.take());
            let mut spin = known.unwrap_or_default();
            burst(&mut scene, thread, &mut *watch.clock, &mut spin);
            if let Some(info) = scene.notes.info(watch.id) {
                info.spin = Some(spin);
            }
        }
        self.loops = loops;
    }
}
