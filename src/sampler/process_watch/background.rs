//! Background samples of a process's threads.

use super::ProcessWatch;
use crate::sampler::notes::Notes;
use crate::sampler::pace::{Pace, now};
use crate::sampler::thread_watch::Round;
use crate::target::ReadError;
use crate::units::Nanos;

impl ProcessWatch {
    /// Background samples of all threads; looks at loops that fall due meanwhile go first.
    pub(super) fn sample(
        &mut self,
        notes: &mut Notes,
        pace: &Pace,
        period: Nanos,
    ) -> Result<(), ReadError> {
        if self.threads.iter().all(|thread| thread.sits_out(pace.stride)) {
            self.threads.iter_mut().for_each(|thread| thread.skip(pace.stride));
            self.gil.leave_out();
            return Ok(());
        }
        let round = Round { period, stride: pace.stride, held: self.held() };
        let (holders, looks) = self.gil.count(&round.held, &mut self.info.gil);
        for info in self.info.threads.iter_mut().filter(|info| holders.contains(&info.tid)) {
            info.gil_held += looks;
        }
        // Who holds the lock goes first: what it does then is what is asked for.
        let mut order: Vec<usize> = (0..self.threads.len()).collect();
        order.sort_by_key(|index| {
            let tid = self.threads.get(*index).map(|thread| thread.tid);
            !tid.is_some_and(|tid| holders.contains(&tid))
        });
        for index in order {
            if self.loops.iter().any(|watch| watch.due() <= now()) {
                self.run_loops(notes, pace)?;
            }
            let (mut scene, threads) = self.scene(notes);
            let Some(thread) = threads.get_mut(index) else { break };
            let tid = thread.tid;
            if let Some(stack) = thread.sample(&mut scene, &round, now())? {
                self.find_loops(notes, tid, &stack);
            }
        }
        Ok(())
    }
}
