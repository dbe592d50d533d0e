//! Which server runs a process: asked until that is certain.

use super::ProcessWatch;
use crate::python::frames::RawStack;
use crate::sampler::notes::Notes;
use crate::sampler::pace::now;
use crate::sampler::thread_watch::{Scene, ThreadWatch};
use crate::server::hub::beside;
use crate::server::settings::settings;
use crate::server::{Facts, Place, ServerObjects, recognise};
use crate::target::ReadError;
use crate::units::Nanos;

/// A process whose server is not known for certain is asked again after [`DISCOVERY`], then after twice
/// that, and so on up to this: a server imports its application for seconds, and a program that is no
/// server stays one.
const RECOGNITION: Nanos = Nanos::from_secs(5);
/// Most threads whose stacks are searched for a server; the main thread is the first.
const MAX_ASKED: usize = 32;
/// Most source files remembered for recognising the server.
const MAX_FILES: usize = 4096;

impl ProcessWatch {
    pub(in crate::sampler) fn remember_files(&mut self, stack: &RawStack) {
        let python = self.located.view(&self.memory);
        self.codes.recheck(&python, &stack.frames, now());
        for frame in &stack.frames {
            let Ok(code) = self.codes.get(&python, frame.code, now()) else { continue };
            if self.files.len() < MAX_FILES && !self.files.contains(&code.filename) {
                self.files.insert(code.filename.clone());
            }
        }
    }

    /// Finds out which server runs the process, as long as that is not certain.
    ///
    /// # Errors
    /// [`ReadError::Gone`] and [`ReadError::Denied`].
    pub(in crate::sampler) fn recognise(&mut self, notes: &mut Notes) -> Result<(), ReadError> {
        let at = now();
        // Files not seen before may be the server's.
        let is_news = self.files.len() != self.recognised_by;
        if self.server.is_settled || (at < self.next_recognition && !is_news) {
            return Ok(());
        }
        self.recognised_by = self.files.len();
        self.next_recognition = at + self.recognition_step;
        self.recognition_step = Nanos(self.recognition_step.0.saturating_mul(2)).min(RECOGNITION);
        let stacks = self.stacks(notes)?;
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
        self.info.config = settings(&facts, &self.server);
        self.info.topology = self.server.topology.clone();
        Ok(())
    }

    /// The stacks of the first threads with their names, the main thread's first. One that does not
    /// hold still is left out.
    fn stacks(&mut self, notes: &mut Notes) -> Result<Vec<Vec<Place>>, ReadError> {
        let is_main = |watch: &ThreadWatch| watch.tid.0 == self.pid.0;
        let main = self.threads.iter().position(is_main);
        let others = (0..self.threads.len()).filter(|index| Some(*index) != main);
        let order: Vec<usize> = main.into_iter().chain(others).take(MAX_ASKED).collect();
        let mut stacks = Vec::with_capacity(order.len());
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
                Err(_) => {}
            }
        }
        Ok(stacks)
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
