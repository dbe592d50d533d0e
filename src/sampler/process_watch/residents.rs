//! Has what lives in a process looked at, at the beginning and when nothing else is watched any more.

use super::ProcessWatch;
use crate::model::Role;
use crate::sampler::notes::Notes;
use crate::sampler::resident_watch::{ResidentWatch, Who};
use crate::sampler::thread_watch::{Scene, ThreadWatch};
use crate::units::{Tid, Timestamp};

impl ProcessWatch {
    /// Takes the first look, if it is time.
    pub(super) fn see_residents(&mut self, notes: &mut Notes, stalled: bool, at: Timestamp) {
        if self.residents.is_due(self.info.attached, stalled, at) {
            self.look_at_residents(notes, ResidentWatch::open);
        }
    }

    /// Takes the last look, once nothing else is watched any more, and closes the books.
    pub fn close(&mut self, notes: &mut Notes) {
        if self.info.ended.is_none() {
            self.info.residents = self.look_at_residents(notes, ResidentWatch::close).flatten();
        }
        let counts = self.memory.counts();
        notes.losses.reads += counts.reads;
        notes.losses.failed_reads += counts.failed;
    }

    /// Whatever lives in a master is there once.
    fn look_at_residents<T>(
        &mut self,
        notes: &mut Notes,
        look: impl FnOnce(&mut ResidentWatch, &mut Scene<'_>, &mut [ThreadWatch], Who<'_>) -> T,
    ) -> Option<T> {
        let topology = &self.info.topology;
        if topology.role == Role::Master {
            return None;
        }
        let (class, attached) = (topology.class, self.info.attached);
        let mut busy: Vec<Tid> = self.loops.iter().map(|watch| watch.tid).collect();
        busy.push(Tid(self.pid.0));
        let stdlib = self.info.stdlib.clone();
        let mut residents = std::mem::take(&mut self.residents);
        let (mut scene, threads) = self.scene(notes);
        let who = Who { busy: &busy, stdlib: stdlib.as_deref(), class, attached };
        let seen = look(&mut residents, &mut scene, threads, who);
        self.residents = residents;
        Some(seen)
    }
}
