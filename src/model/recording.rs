//! The recording: everything observed, nothing concluded. The pivot of the whole program.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{
    Frame, FrameId, Gap, LoopId, LoopInfo, LoopState, Machine, NameId, Neighbour, ProcessInfo,
    Role, Sample, Stack, StackId, Stall, Throttle, Wait, WaitId,
};
use crate::units::{Nanos, Pid, Timestamp};

/// What the user asked for that changes what was observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The shortest stall to report.
    pub threshold: Nanos,
    /// Background sampling, looks a second.
    pub rate_hz: f64,
    /// Nobody asked for that rate: where sampling would cost too much, fewer looks were taken, each
    /// standing for several.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rate_is_most: bool,
    /// Threads that run were paused while their stacks were read.
    #[serde(default)]
    pub blocking: bool,
    /// Which C stacks were read.
    #[serde(default)]
    pub native: NativeStacks,
}

/// Which C stacks are read. Of threads that sleep only, for now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NativeStacks {
    /// None.
    Off,
    /// What the innermost Python frame of a stall does.
    #[default]
    Stalls,
    /// Those, and whole ones in background samples.
    All,
}

/// Interned strings, frames, stacks and waits. An id is an index; ids never change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tables {
    /// Strings.
    pub names: Vec<String>,
    /// Frames.
    pub frames: Vec<Frame>,
    /// Stacks.
    pub stacks: Vec<Stack>,
    /// System calls waited in.
    pub waits: Vec<Wait>,
    #[serde(skip)]
    index: Index,
}

#[derive(Debug, Clone, Default)]
struct Index {
    names: HashMap<String, NameId>,
    frames: HashMap<Frame, FrameId>,
    stacks: HashMap<Stack, StackId>,
    waits: HashMap<Wait, WaitId>,
}

/// Two tables are equal when they hold the same things, whatever was looked up so far.
impl PartialEq for Index {
    fn eq(&self, _: &Index) -> bool {
        true
    }
}

/// Most entries a table takes. Ids are 32 bits; a target that makes up names without end (or a
/// hostile one) must not grow our memory without end either.
pub const MAX_TABLE: usize = 1 << 20;

fn next_id(len: usize) -> u32 {
    // The last slot is shared by everything past the limit.
    u32::try_from(len.min(MAX_TABLE)).unwrap_or(u32::MAX)
}

impl Tables {
    /// The id of a string, adding it if it is new.
    pub fn name(&mut self, text: &str) -> NameId {
        if let Some(id) = self.index.names.get(text) {
            return *id;
        }
        let id = NameId(next_id(self.names.len()));
        if self.names.len() < MAX_TABLE {
            self.names.push(text.to_owned());
            self.index.names.insert(text.to_owned(), id);
        } else if self.names.len() == MAX_TABLE {
            self.names.push("(too many names)".to_owned());
        }
        id
    }

    /// The id of a frame, adding it if it is new.
    pub fn frame(&mut self, frame: Frame) -> FrameId {
        if let Some(id) = self.index.frames.get(&frame) {
            return *id;
        }
        let id = FrameId(next_id(self.frames.len()));
        if self.frames.len() <= MAX_TABLE {
            self.frames.push(frame.clone());
            if self.frames.len() <= MAX_TABLE {
                self.index.frames.insert(frame, id);
            }
        }
        id
    }

    /// The id of a stack, adding it if it is new.
    pub fn stack(&mut self, stack: Stack) -> StackId {
        if let Some(id) = self.index.stacks.get(&stack) {
            return *id;
        }
        let id = StackId(next_id(self.stacks.len()));
        if self.stacks.len() <= MAX_TABLE {
            self.stacks.push(stack.clone());
            if self.stacks.len() <= MAX_TABLE {
                self.index.stacks.insert(stack, id);
            }
        }
        id
    }

    /// The id of a wait, adding it if it is new.
    pub fn wait(&mut self, wait: Wait) -> WaitId {
        if let Some(id) = self.index.waits.get(&wait) {
            return *id;
        }
        let id = WaitId(next_id(self.waits.len()));
        if self.waits.len() <= MAX_TABLE {
            self.waits.push(wait.clone());
            if self.waits.len() <= MAX_TABLE {
                self.index.waits.insert(wait, id);
            }
        }
        id
    }

    /// A string by its id; `?` for an id that is not in the table (a damaged file).
    #[must_use]
    pub fn text(&self, id: NameId) -> &str {
        self.names.get(id.0 as usize).map_or("?", String::as_str)
    }

    /// A frame by its id.
    #[must_use]
    pub fn get_frame(&self, id: FrameId) -> Option<&Frame> {
        self.frames.get(id.0 as usize)
    }

    /// Whether a frame is of this function: the end of its file's name, and its own.
    #[must_use]
    pub fn is_function(&self, frame: &Frame, (file, function): (&str, &str)) -> bool {
        self.text(frame.function) == function
            && frame.file.is_some_and(|of| self.text(of).ends_with(file))
    }

    /// Whether two frames are of the same function.
    #[must_use]
    pub fn is_same_function(&self, one: FrameId, other: FrameId) -> bool {
        let place = |id| self.get_frame(id).map(|frame| (frame.kind, frame.file, frame.function));
        one == other || place(one).is_some() && place(one) == place(other)
    }

    /// A stack by its id.
    #[must_use]
    pub fn get_stack(&self, id: StackId) -> Option<&Stack> {
        self.stacks.get(id.0 as usize)
    }

    /// A wait by its id.
    #[must_use]
    pub fn get_wait(&self, id: WaitId) -> Option<&Wait> {
        self.waits.get(id.0 as usize)
    }

    /// The frames of a stack, leaf first.
    pub fn frames_of(&self, id: StackId) -> impl Iterator<Item = (FrameId, &Frame)> {
        self.get_stack(id)
            .map_or(&[][..], |stack| &stack.frames)
            .iter()
            .filter_map(|id| self.get_frame(*id).map(|frame| (*id, frame)))
    }
}

/// What could not be observed, counted. Printed in every report's footer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Reads of the target's memory that were tried.
    pub reads: u64,
    /// Looks thrown away because the memory changed under them.
    pub torn_reads: u64,
    /// Reads the kernel refused (unmapped, denied).
    pub failed_reads: u64,
    /// Base ticks that came later than one whole interval: times nobody looked.
    pub late_ticks: u64,
    /// Loop states, gaps or samples dropped to keep memory bounded.
    pub dropped: u64,
    /// Edges that the kernel had no room to record.
    #[serde(default)]
    pub lost_edges: u64,
    /// Times a loop's edges failed to be recorded though it certainly had some: from then on its
    /// own clock was relied on.
    #[serde(default)]
    pub blind_edges: u64,
    /// Stalls that only one of a loop's own clock and the kernel's record shows, or that they show
    /// differently. Worked out from the rest of the recording.
    #[serde(default)]
    pub edge_disagreements: u64,
}

/// Everything measured in one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// The stallspy version that recorded it.
    pub version: String,
    /// What was asked for.
    pub settings: Settings,
    /// When observation began.
    pub attached: Timestamp,
    /// When it ended.
    pub detached: Timestamp,
    /// Interned tables.
    pub tables: Tables,
    /// Watched processes.
    pub processes: Vec<ProcessInfo>,
    /// Event loops found in them, and threads that serve requests without one.
    pub loops: Vec<LoopInfo>,
    /// Looks at loops that had been busy for a while, and the look that saw each of them end; in
    /// time order. Of a run of looks that show the same, the first and the last are kept.
    pub loop_states: Vec<LoopState>,
    /// Times outside the poll as the kernel recorded them, of half the threshold or longer; of each
    /// loop in time order.
    pub gaps: Vec<Gap>,
    /// Times a CPU quota of a process was spent, of each process in time order.
    pub throttles: Vec<Throttle>,
    /// Background samples, in time order.
    pub samples: Vec<Sample>,
    /// The whole machine meanwhile.
    #[serde(default, skip_serializing_if = "Machine::is_empty")]
    pub machine: Machine,
    /// Processes on it that watched ones talk to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub neighbours: Vec<Neighbour>,
    /// What could not be seen.
    pub losses: Losses,
    /// CPU time stallspy itself used.
    pub own_cpu: Nanos,
}

impl Recording {
    /// How long a process was watched.
    #[must_use]
    pub fn lived(&self, process: &ProcessInfo) -> Nanos {
        process.ended.unwrap_or(self.detached).since(process.attached.max(self.attached))
    }

    /// A loop by its id.
    #[must_use]
    pub fn get_loop(&self, id: LoopId) -> Option<&LoopInfo> {
        // Ids are places, unless the file was made by hand.
        let there = self.loops.get(id.0 as usize).filter(|info| info.id == id);
        there.or_else(|| self.loops.iter().find(|info| info.id == id))
    }

    /// The event loops of those who serve requests. A master may have one, too (gunicorn's, from 25.1
    /// on, for its control socket); nobody waits for it.
    pub fn event_loops(&self) -> impl Iterator<Item = &LoopInfo> {
        let is_master = |pid| {
            self.get_process(pid).is_some_and(|process| process.topology.role == Role::Master)
        };
        self.loops.iter().filter(move |info| info.kind.is_loop() && !is_master(info.pid))
    }

    /// The threads that serve requests without a loop, one request at a time.
    pub fn request_threads(&self) -> impl Iterator<Item = &LoopInfo> {
        self.loops.iter().filter(|info| !info.kind.is_loop())
    }

    /// A process by its pid (the latest one, should a pid have been reused).
    #[must_use]
    pub fn get_process(&self, pid: Pid) -> Option<&ProcessInfo> {
        self.processes.iter().rev().find(|info| info.pid == pid)
    }

    /// The part of a stall that lies within the recording. A stall that began before can be longer
    /// than everything that was observed.
    #[must_use]
    pub fn observed(&self, stall: &Stall) -> Nanos {
        let (from, until) = self.observed_span(stall);
        until.since(from)
    }

    /// From when until when that part was.
    #[must_use]
    pub fn observed_span(&self, stall: &Stall) -> (Timestamp, Timestamp) {
        let inside = |at: Timestamp| at.clamp(self.attached, self.detached.max(self.attached));
        let end = if stall.ongoing { stall.ended.hi } else { stall.ended.middle() };
        (inside(stall.began.middle()), inside(end))
    }

    /// A stall and what other lines took of it, each with the part of its time that lies within the recording; of
    /// the stall itself, that is what is left.
    #[must_use]
    pub fn parts<'a>(&self, stall: &'a Stall) -> Vec<(Cow<'a, Stall>, Nanos)> {
        let others: Vec<Stall> = stall.others().collect();
        let times: Vec<Nanos> = others.iter().map(|other| self.observed(other)).collect();
        let rest = self.observed(stall).saturating_sub(times.iter().copied().sum());
        let others = others.into_iter().map(Cow::Owned).zip(times);
        std::iter::once((Cow::Borrowed(stall), rest)).chain(others).collect()
    }

    /// How long the recording lasted.
    #[must_use]
    pub fn length(&self) -> Nanos {
        self.detached.since(self.attached)
    }
}
