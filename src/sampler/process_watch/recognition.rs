//! Which server runs a process: asked until that is certain.

use super::{DISCOVERY, ProcessWatch};
use crate::python::frames::RawStack;
use crate::sampler::notes::Notes;
use crate::sampler::pace::now;
use crate::sampler::thread_watch::{Scene, ThreadWatch};
use crate::server::bare;
use crate::server::facts::MODULE;
use crate::server::hub::beside;
use crate::server::settings::settings;
use crate::server::{Facts, Place, ServerObjects, recognise};
use crate::target::ReadError;
use crate::units::{Nanos, Timestamp};

/// Longest time until a process whose server is not known for certain is asked again: a program that is no
/// server stays one.
const RECOGNITION: Nanos = Nanos::from_secs(5);
/// Most threads whose stacks are searched for a server; the main thread is the first.
const MAX_ASKED: usize = 32;
/// Most source files remembered for recognising the server.
const MAX_FILES: usize = 4096;

/// When a process whose server is not known for certain is asked again: after [`DISCOVERY`], then after twice
/// that, and so on up to [`RECOGNITION`]. All begins anew when code of a file not seen before runs: as a
/// server starts, that is so all the time, and what it becomes right after the last of its files would else
/// be told seconds late.
#[derive(Debug)]
pub(super) struct Asking {
    next: Timestamp,
    step: Nanos,
    /// How many source files were known when it was last asked.
    files: usize,
}

impl Asking {
    /// Of a process attached to at this time.
    pub(super) fn new(attached: Timestamp) -> Asking {
        Asking { next: attached, step: DISCOVERY, files: 0 }
    }

    /// Whether it is to be asked at `at`, when so many source files are known; it is taken to be.
    fn is_due(&mut self, files: usize, at: Timestamp) -> bool {
        let is_news = files != self.files;
        if at < self.next && !is_news {
            return false;
        }
        if is_news {
            (self.files, self.step) = (files, DISCOVERY);
        }
        self.next = at + self.step;
        self.step = Nanos(self.step.0.saturating_mul(2)).min(RECOGNITION);
        true
    }

    /// Asked in vain at `at`: the main thread's stack did not hold still.
    fn was_in_vain(&mut self, at: Timestamp) {
        (self.next, self.step) = (at + DISCOVERY, DISCOVERY);
    }
}

impl ProcessWatch {
    /// Remembers the source files whose functions are on a stack. A module's body runs as it is imported,
    /// which says nothing of what the process does.
    pub(in crate::sampler) fn remember_files(&mut self, stack: &RawStack) {
        let python = self.located.view(&self.memory);
        self.codes.recheck(&python, &stack.frames, now());
        for frame in &stack.frames {
            let Ok(code) = self.codes.get(&python, frame.code, now()) else { continue };
            if code.name != MODULE
                && self.files.len() < MAX_FILES
                && !self.files.contains(&code.filename)
            {
                self.files.insert(code.filename.clone());
            }
        }
    }

    /// Finds out which server runs the process, as long as that is not certain. Returns whether its role is
    /// another one now.
    ///
    /// # Errors
    /// [`ReadError::Gone`] and [`ReadError::Denied`].
    pub(in crate::sampler) fn recognise(&mut self, notes: &mut Notes) -> Result<bool, ReadError> {
        if self.server.is_settled || !self.asking.is_due(self.files.len(), now()) {
            return Ok(false);
        }
        let (stacks, is_whole) = self.stacks(notes)?;
        if !is_whole {
            self.asking.was_in_vain(now());
            if self.server.topology.server != bare::NAME {
                return Ok(false);
            }
        }
        let command = self.procfs.cmdline(self.pid).unwrap_or_default();
        let parent = self.procfs.cmdline(self.info.ppid).unwrap_or_default();
        let files: Vec<String> = self.files.iter().cloned().collect();
        let python = self.located.view(&self.memory);
        let facts = Facts {
            command: &command,
            parent: &parent,
            stacks: &stacks,
            files: &files,
            python: Some(&python),
            procfs: &self.procfs,
            pid: self.pid,
        };
        self.server = recognise(&facts);
        self.server.is_settled &= is_whole;
        self.info.config = settings(&facts, &self.server);
        let before = std::mem::replace(&mut self.info.topology, self.server.topology.clone());
        Ok(before.role != self.info.topology.role)
    }

    /// The stacks of the first threads with their names, the main thread's first. One that does not
    /// hold still is left out; also tells whether the main thread's is there, which mostly is what tells.
    fn stacks(&mut self, notes: &mut Notes) -> Result<(Vec<Vec<Place>>, bool), ReadError> {
        let is_main = |watch: &ThreadWatch| watch.tid.0 == self.pid.0;
        let main = self.threads.iter().position(is_main);
        let others = (0..self.threads.len()).filter(|index| Some(*index) != main);
        let order: Vec<usize> = main.into_iter().chain(others).take(MAX_ASKED).collect();
        let (mut stacks, mut is_whole) = (Vec::with_capacity(order.len()), true);
        let worker = self.server.objects.worker;
        for index in order {
            let (mut scene, threads) = self.scene(notes);
            let Some(thread) = threads.get_mut(index) else { break };
            match thread.walk(&mut scene) {
                Ok(stack) => {
                    let parked = beside(&scene.python, scene.codes, &stack, worker, now());
                    for stack in std::iter::once(&stack).chain(&parked) {
                        stacks.push(places(&mut scene, stack));
                    }
                }
                Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
                Err(_) => is_whole &= Some(index) != main,
            }
        }
        Ok((stacks, is_whole))
    }

    /// Where its server's own objects lie, as far as that is known.
    #[must_use]
    pub fn server_objects(&self) -> ServerObjects {
        self.server.objects
    }
}

/// A stack's frames with their names; frames that are being pushed or popped have none.
fn places(scene: &mut Scene<'_>, stack: &RawStack) -> Vec<Place> {
    let frames = stack.frames.iter();
    let named = frames.filter_map(|raw| {
        let code = scene.codes.get(&scene.python, raw.code, now()).ok()?;
        Some(Place {
            function: code.name.clone(),
            file: code.filename.clone(),
            frame: raw.addr,
            locals: code.locals.clone(),
        })
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times in ms from 0 to `end`, one in ten, at which a process is asked whose files are so many.
    fn asked(end: u64, files: impl Fn(u64) -> usize) -> Vec<u64> {
        let mut asking = Asking::new(Timestamp(0));
        let is_due = |ms: &u64| asking.is_due(files(*ms), Timestamp(0) + Nanos::from_millis(*ms));
        (0..=end / 10).map(|step| 10 * step).filter(is_due).collect()
    }

    #[test]
    fn a_program_that_stays_what_it_is_is_asked_less_and_less_often() {
        let all = asked(30_000, |_| 3);
        assert_eq!(all[..6], [0, 100, 300, 700, 1500, 3100]);
        assert_eq!(all[6..], [6300, 11_300, 16_300, 21_300, 26_300]);
    }

    #[test]
    fn what_a_process_becomes_after_the_last_of_its_files_is_asked_for_at_once() {
        // A file every 50 ms for 5 s, and then none.
        let all = asked(6000, |ms| usize::try_from(ms.min(5000) / 50).unwrap_or(0));
        assert_eq!(all.len(), 101 + 3);
        assert_eq!(all[100..], [5000, 5100, 5300, 5700]);
    }
}
