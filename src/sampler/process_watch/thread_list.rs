//! A process's threads, as its interpreter lists them now.

use super::ProcessWatch;
use crate::model::ThreadInfo;
use crate::python::threads::{ThreadIds, threads, unchanged};
use crate::sampler::pace::now;
use crate::sampler::thread_watch::ThreadWatch;
use crate::target::{ProcError, ReadError};

impl ProcessWatch {
    /// Returns whether the list changed.
    pub(in crate::sampler) fn update_threads(&mut self) -> Result<bool, ReadError> {
        let compared = self.request_threads.compared(now());
        let python = self.located.view(&self.memory);
        let known: Vec<_> = self.threads.iter().map(|watch| watch.thread).collect();
        let are_reused = self.request_threads.are_short_lived;
        if !are_reused && unchanged(&python, &known) {
            return Ok(false);
        }
        self.quiet.forget();
        let found = threads(&python)?;
        // Where threads come and go, a new one lies where one was that has ended: its number differs.
        if are_reused && found == known && found.iter().all(|thread| thread.native.is_some()) {
            return Ok(false);
        }
        let ids = match self.procfs.namespace_tids(self.pid) {
            Ok(by_native) => ThreadIds { by_native },
            Err(ProcError::NoSuchProcess(_)) => return Err(ReadError::Gone),
            Err(_) => return Ok(false),
        };
        let mut watches = std::mem::take(&mut self.threads);
        for (index, thread) in found.iter().copied().enumerate() {
            let is_known = |watch: &ThreadWatch| {
                watch.thread == thread
                    && (!are_reused || ids.of(&self.memory, &thread) == Some(watch.tid))
            };
            if let Some(same) = watches.iter().position(is_known) {
                self.threads.push(watches.swap_remove(same));
                continue;
            }
            let Some(tid) = ids.of(&self.memory, &thread) else { continue };
            // A thread about to start has its creator's ids (CPython fills a PyThreadState in where it
            // is made), so of two that claim a kernel thread the older is right. It comes later in the
            // list; the other is missing from ours, so that the next comparison finds a difference.
            if found.iter().skip(index + 1).any(|older| ids.of(&self.memory, older) == Some(tid)) {
                continue;
            }
            let mut watch = ThreadWatch::new(&self.procfs, self.pid, tid, thread);
            watch.free_at = compared;
            self.threads.push(watch);
            if !self.info.threads.iter().any(|info| info.tid == tid) {
                let name = self.procfs.comm(self.pid, tid).unwrap_or_default();
                self.info.threads.push(ThreadInfo { tid, name, python_name: None, gil_held: 0 });
            }
        }
        self.gil.update(&self.located.view(&self.memory), &self.threads);
        Ok(true)
    }
}
