//! The search for loops, and for threads that serve requests without one.

use std::rc::Rc;

use super::{ProcessWatch, REFRESH};
use crate::event_loop::{Clock, PROBES, Probe};
use crate::model::{LoopKind, Role};
use crate::python::frames::RawStack;
use crate::sampler::loop_watch::LoopWatch;
use crate::sampler::notes::Notes;
use crate::sampler::pace::{Pace, now, wall_ahead};
use crate::server::request_clock::{self, Known};
use crate::target::ReadError;
use crate::units::{Tid, Timestamp};

impl ProcessWatch {
    /// Brings the list of threads up to date and looks for loops in those that run none.
    pub(super) fn discover(&mut self, notes: &mut Notes, pace: &Pace) -> Result<(), ReadError> {
        let at = now();
        let is_time = at >= self.next_refresh;
        let births = notes.births.so_far(&self.procfs, at);
        let changed = if !is_time && self.has_same_threads(births) {
            self.request_threads.compared(at);
            false
        } else {
            self.update_threads()?
        };
        // A process that is no master after all may run a loop that nobody looked for.
        let has_new_role = self.recognise(notes)?;
        let changed = has_new_role || changed;
        // A stack that stands still is not looked at twice by samples, while a loop may have begun in
        // it that has no frame of its own.
        let wanted = is_time || pace.sample.is_none() || self.request_threads.are_short_lived;
        if changed || wanted {
            let without_loop: Vec<usize> = (0..self.threads.len())
                .filter(|index| {
                    let tid = self.threads.get(*index).map(|thread| thread.tid);
                    !self.loops.iter().any(|watch| Some(watch.tid) == tid)
                })
                .collect();
            // Where threads are looked for all the time, most stand where they stood.
            let anew = is_time || has_new_role || !self.request_threads.are_short_lived;
            for index in without_loop {
                let (mut scene, threads) = self.scene(notes);
                let Some(thread) = threads.get_mut(index) else { break };
                let tid = thread.tid;
                if let Ok(stack) = thread.walk(&mut scene) {
                    let is_known = !anew && thread.was_searched(&stack, at);
                    if !is_known {
                        self.find_loops(notes, tid, &stack);
                    }
                }
                self.run_loops(notes, pace)?;
            }
        }
        self.out_of_sight.retain(|(since, _)| now().since(*since) < REFRESH);
        if is_time {
            self.next_refresh = now() + REFRESH;
            self.refresh();
            let in_kernel = self.stat.as_ref().map(|stat| stat.threads);
            self.complete.found(births, self.threads.len(), in_kernel);
            self.see_spins(notes);
            self.see_libraries(now());
        }
        Ok(())
    }

    /// Whether its threads are those that were listed last, as far as that is known without reading the
    /// list: they are when it is time.
    fn has_same_threads(&mut self, births: Option<u64>) -> bool {
        if self.threads.iter().any(|thread| thread.has_ended) {
            return false;
        }
        // Who has not run has made no thread. One that a thread unknown to the interpreter has made is
        // met when it is time.
        self.complete.holds(births) || self.quiet.ask(&self.threads)
    }

    /// Whether any of its threads runs a loop or serves requests, at one look.
    ///
    /// # Errors
    /// [`ReadError::Gone`] and [`ReadError::Denied`].
    pub(in crate::sampler) fn serves(&mut self, notes: &mut Notes) -> Result<bool, ReadError> {
        self.introduce(notes)?;
        for index in 0..self.threads.len() {
            let (mut scene, threads) = self.scene(notes);
            let Some(thread) = threads.get_mut(index) else { break };
            let tid = thread.tid;
            if let Ok(stack) = thread.walk(&mut scene) {
                self.find_loops(notes, tid, &stack);
            }
        }
        Ok(!self.loops.is_empty())
    }

    /// Looks for loops, and for signs of the server, in a stack just read.
    pub(super) fn find_loops(&mut self, notes: &mut Notes, tid: Tid, stack: &RawStack) {
        self.remember_files(stack);
        if self.info.topology.role == Role::Master {
            // What a master runs of its own (gunicorn's control interface) serves nobody.
            return;
        }
        let watched = self.loops.iter().find(|watch| watch.tid == tid);
        if watched.is_some_and(|watch| watch.clock.is_on(stack)) {
            return;
        }
        let forked = self.forked;
        let at = now();
        if self.find_requests(notes, tid, stack, at) {
            return;
        }
        for probe in PROBES {
            let Some(clock) = self.probe(notes, *probe, tid, stack, at) else { continue };
            let object = clock.loop_object();
            let again = self.known_loops.iter().find(|known| known.0 == tid && known.1 == object);
            let id = match again {
                Some(known) => known.2,
                None => {
                    let id = notes.add_loop(self.pid, tid, probe.kind(), at);
                    self.known_loops.push((tid, object, id));
                    id
                }
            };
            let mut watch = LoopWatch::new(id, tid, clock, at);
            let edges = &mut self.out_of_sight;
            if let Some(index) = edges.iter().position(|(_, edges)| edges.loop_id() == id) {
                watch.edges = edges.swap_remove(index).1;
            }
            if let Some(born) = forked {
                watch.ignore_before(born);
            }
            // One thread runs one loop: the one it ran before is over.
            if let Some(index) = self.loops.iter().position(|watch| watch.tid == tid) {
                let mut gone = self.loops.remove(index);
                let (mut scene, _) = self.scene(notes);
                gone.end(&mut scene, at);
            }
            self.loops.push(watch);
            return;
        }
        if let Some(thread) = self.threads.iter_mut().find(|thread| thread.tid == tid) {
            thread.free_at = at;
            thread.searched = Some(stack.clone());
        }
    }

    /// Looks for a thread that serves requests without a loop. Where the process has a loop, only a
    /// known server's threads are: what a loop hands to a thread does not hold the loop up.
    fn find_requests(
        &mut self,
        notes: &mut Notes,
        tid: Tid,
        stack: &RawStack,
        at: Timestamp,
    ) -> bool {
        if self.request_threads.is_full(&self.loops) || !notes.has_room_for_requests() {
            return false;
        }
        let has_loop = self.loops() > 0;
        let (in_gthread, size) = (self.request_threads.in_gthread, self.request_threads.size());
        let codes = Rc::clone(&self.request_threads.codes);
        let (mut scene, threads) = self.scene(notes);
        let Some(thread) = threads.iter().find(|thread| thread.tid == tid) else { return false };
        let wall_ahead = wall_ahead();
        let free_at = thread.free_at;
        let known = Known { codes, in_gthread, has_loop, size, free_at, wall_ahead };
        let mut sight = thread.sight(&mut scene, stack, at);
        let found = request_clock::find(&mut sight, known);
        self.request_threads.learn(&mut self.info.occupancy, found.learnt);
        let Some(clock) = found.clock else { return false };
        let object = clock.loop_object();
        let again = self.known_loops.iter().find(|known| known.0 == tid && known.1 == object);
        let id = again
            .map_or_else(|| notes.add_loop(self.pid, tid, LoopKind::NoLoop, at), |known| known.2);
        if again.is_none() {
            self.known_loops.push((tid, object, id));
        }
        self.loops.push(LoopWatch::of_requests(id, tid, clock, at));
        true
    }

    /// Asks a probe; `None` if there is no such thread, or no loop of its kind on it.
    fn probe(
        &mut self,
        notes: &mut Notes,
        probe: &dyn Probe,
        tid: Tid,
        stack: &RawStack,
        at: Timestamp,
    ) -> Option<Box<dyn Clock>> {
        let (mut scene, threads) = self.scene(notes);
        let thread = threads.iter().find(|thread| thread.tid == tid)?;
        probe.find(&mut thread.sight(&mut scene, stack, at)).ok()?
    }
}
