//! What the sampler writes down: the growing half of a recording.
//!
//! Takes raw stacks and looks, gives interned ones, within bounds. Concludes nothing.

use super::births::Births;
use super::natives::Natives;
use crate::model::{
    CpuState, EdgeStatus, Frame, FrameKind, Gap, GilState, LoopId, LoopInfo, LoopKind, LoopState,
    LoopTally, Losses, Peer, Sample, Stack, StackId, Tables, Throttle, Wait,
};
use crate::python::Interpreter;
use crate::python::code_objects::CodeCache;
use crate::python::frames::RawStack;
use crate::target::net_tables::NetTables;
use crate::target::{PeerText, Waiting};
use crate::units::{Nanos, Pid, Tid, Timestamp};

/// Most background samples kept in order. Past it they are folded into one per thread and stack:
/// the flamegraph stays exact, only the order in time is lost.
const MAX_SAMPLES: usize = 100_000;
/// Most looks at loops kept: some 20,000 stalls. Past it looks are dropped, and counted.
const MAX_STATES: usize = 100_000;

/// Most gaps kept: as many as looks could witness.
const MAX_GAPS: usize = 100_000;

/// Most times a quota was spent kept: ten a second for hours.
const MAX_THROTTLES: usize = 100_000;

/// A recording in the making.
#[derive(Debug, Default)]
pub struct Notes {
    /// Interned tables.
    pub tables: Tables,
    /// Loops seen.
    pub loops: Vec<LoopInfo>,
    /// Looks worth keeping.
    pub states: Vec<LoopState>,
    /// Times outside the poll worth keeping.
    pub gaps: Vec<Gap>,
    /// Times a CPU quota was spent.
    pub throttles: Vec<Throttle>,
    /// Background samples.
    pub samples: Vec<Sample>,
    /// Time spent on them since whoever limits it asked last.
    pub sampling: Nanos,
    /// What could not be seen.
    pub losses: Losses,
    /// C stacks: which to read, and the files they led into.
    pub natives: Natives,
    /// What the kernel's tables of sockets said last.
    pub sockets: NetTables,
    /// What the kernel began last.
    pub births: Births,
}

/// Where a process's relative paths begin.
#[derive(Debug, Clone, Default)]
pub struct WorkingDirectory(pub String);

impl WorkingDirectory {
    /// `file` as an absolute path, as the target sees it; names that are no paths stay.
    #[must_use]
    pub fn absolute(&self, file: &str) -> String {
        if file.starts_with('/') || file.starts_with('<') || self.0.is_empty() {
            return file.to_owned();
        }
        format!("{}/{}", self.0.trim_end_matches('/'), file.trim_start_matches("./"))
    }
}

/// Name and file of the code that CPython itself puts between a call of a class and its `__init__`,
/// from 3.12 on: nobody wrote it.
/// (<https://github.com/python/cpython/blob/v3.13.0/Python/specialize.c#L2870>)
const INIT_CLEANUP: &str = "__init__";

/// Threads that serve requests and loops together: past it no more of such threads are followed, and that is counted as
/// dropped. Half of what a recording file may hold, so that event loops always have room; a minute of a server
/// that makes a thread for each of 130 requests a second.
const MAX_REQUEST_THREADS: usize = 8192;

impl Notes {
    /// Writes a raw stack down.
    pub fn stack(
        &mut self,
        python: &Interpreter<'_>,
        codes: &mut CodeCache,
        directory: &WorkingDirectory,
        raw: &RawStack,
        now: Timestamp,
    ) -> StackId {
        codes.recheck(python, &raw.frames, now);
        let mut frames = Vec::with_capacity(raw.frames.len());
        for frame in &raw.frames {
            // A frame whose code cannot be read was being pushed or popped: nobody was in it.
            let Ok(code) = codes.get(python, frame.code, now) else { continue };
            if code.name == INIT_CLEANUP && code.filename == INIT_CLEANUP {
                continue;
            }
            let line = code.line(python, frame);
            let id = code.interned(line, || {
                let function = self.tables.name(&code.name);
                let file = Some(self.tables.name(&directory.absolute(&code.filename)));
                let kind = FrameKind::Python;
                self.tables.frame(Frame { kind, function, file, line, module: None })
            });
            frames.push(id);
        }
        self.tables.stack(Stack { frames, truncated: raw.truncated })
    }

    /// Writes down what a thread waits for.
    pub fn wait(&mut self, waiting: &Waiting, is_gil: bool) -> CpuState {
        let syscall = self.tables.name(&waiting.syscall);
        let peer = if is_gil {
            Some(Peer::Gil)
        } else {
            waiting.peer.as_ref().map(|peer| match peer {
                PeerText::Remote(text) => Peer::Remote(self.tables.name(text)),
                PeerText::Local(text) => Peer::Local(self.tables.name(text)),
                PeerText::Path(text) => Peer::Path(self.tables.name(text)),
                PeerText::Child(pid) => Peer::Child(*pid),
            })
        };
        let wait = self.tables.wait(Wait { syscall, fd: waiting.fd, peer });
        CpuState::Blocked { wait: Some(wait) }
    }

    /// Whether a thread seen like this waits for the interpreter lock.
    #[must_use]
    pub fn waits_for_gil(&self, cpu: CpuState) -> bool {
        let CpuState::Blocked { wait: Some(wait) } = cpu else { return false };
        self.tables.get_wait(wait).is_some_and(|wait| wait.peer == Some(Peer::Gil))
    }

    /// A loop that was found; the same loop found again keeps its id.
    pub fn add_loop(&mut self, pid: Pid, tid: Tid, kind: LoopKind, now: Timestamp) -> LoopId {
        let id = LoopId(u32::try_from(self.loops.len()).unwrap_or(u32::MAX));
        self.loops.push(LoopInfo {
            id,
            pid,
            tid,
            kind,
            first_seen: now,
            last_seen: now,
            tally: LoopTally::default(),
            edges: EdgeStatus::Off,
            traced: None,
            spin: None,
        });
        id
    }

    /// Whether a thread that serves requests may be added: some servers make a thread for each. One that may not is
    /// counted as dropped.
    pub fn has_room_for_requests(&mut self) -> bool {
        let has_room = self.loops.len() < MAX_REQUEST_THREADS;
        self.losses.dropped = self.losses.dropped.saturating_add(u64::from(!has_room));
        has_room
    }

    /// The counts of a loop.
    pub fn tally(&mut self, id: LoopId) -> Option<&mut LoopTally> {
        self.loops.get_mut(id.0 as usize).map(|info| &mut info.tally)
    }

    /// Notes that a loop was still there.
    pub fn saw_loop(&mut self, id: LoopId, now: Timestamp) {
        if let Some(info) = self.loops.get_mut(id.0 as usize) {
            info.last_seen = now;
        }
    }

    /// Keeps looks, as far as there is room.
    pub fn keep(&mut self, states: &mut Vec<LoopState>) {
        let room = MAX_STATES.saturating_sub(self.states.len());
        self.losses.dropped += states.len().saturating_sub(room) as u64;
        states.truncate(room);
        self.states.append(states);
    }

    /// Keeps a time outside the poll, if there is room.
    pub fn gap(&mut self, gap: Gap) {
        if self.gaps.len() < MAX_GAPS {
            self.gaps.push(gap);
        } else {
            self.losses.dropped += 1;
        }
    }

    /// Keeps a time a quota was spent, if there is room.
    pub fn throttle(&mut self, throttle: Throttle) {
        if self.throttles.len() < MAX_THROTTLES {
            self.throttles.push(throttle);
        } else {
            self.losses.dropped += 1;
        }
    }

    /// What is known of a loop.
    pub fn info(&mut self, id: LoopId) -> Option<&mut LoopInfo> {
        self.loops.get_mut(id.0 as usize)
    }

    /// Adds a background sample; where `last` is the thread's previous one and nothing changed, it
    /// grows instead. Returns its place.
    pub fn sample(&mut self, last: Option<usize>, sample: Sample) -> usize {
        if let Some(previous) = last.and_then(|index| self.samples.get_mut(index))
            && previous.pid == sample.pid
            && previous.tid == sample.tid
            && previous.stack == sample.stack
            && previous.cpu == sample.cpu
            && previous.gil == sample.gil
        {
            previous.count = previous.count.saturating_add(sample.count);
            previous.weight += sample.weight;
            return last.unwrap_or_default();
        }
        if self.samples.len() >= MAX_SAMPLES {
            self.fold_samples();
        }
        self.samples.push(sample);
        self.samples.len().saturating_sub(1)
    }

    fn fold_samples(&mut self) {
        type Key = (Pid, Tid, StackId, CpuState, GilState);
        let mut places: std::collections::HashMap<Key, usize> = std::collections::HashMap::new();
        let mut folded: Vec<Sample> = Vec::new();
        for sample in std::mem::take(&mut self.samples) {
            let key = (sample.pid, sample.tid, sample.stack, sample.cpu, sample.gil);
            match places.get(&key).and_then(|place| folded.get_mut(*place)) {
                Some(same) => {
                    same.count = same.count.saturating_add(sample.count);
                    same.weight += sample.weight;
                }
                None => {
                    places.insert(key, folded.len());
                    folded.push(sample);
                }
            }
        }
        if folded.len() >= MAX_SAMPLES / 2 {
            // Nothing repeats: the later half goes, and is counted.
            self.losses.dropped += (folded.len() - MAX_SAMPLES / 2) as u64;
            folded.truncate(MAX_SAMPLES / 2);
        }
        self.samples = folded;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_found_no_room_are_counted_as_dropped() {
        let mut notes = Notes::default();
        for tid in 0..8192 {
            assert!(notes.has_room_for_requests());
            notes.add_loop(Pid(7), Tid(tid), LoopKind::NoLoop, Timestamp(0));
        }
        assert!(!notes.has_room_for_requests());
        assert_eq!(notes.losses.dropped, 1);
    }
}
