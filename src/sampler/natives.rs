//! C stacks as they are written down.
//!
//! Takes a thread that sleeps, gives interned frames: those that its innermost Python frame has
//! called, or all of them put together with the Python frames.

use std::collections::HashMap;
use std::rc::Rc;

use super::thread_watch::Scene;
use crate::model::{Frame, FrameId, FrameKind, NativeStacks, Stack, StackId, Truncation};
use crate::native::binary::Binary;
use crate::native::lines::{SourceLine, lines};
use crate::native::{
    AddressSpace, Binaries, End, NativeFrame, Piece, Registers, Role, StackBytes, Trace, is_shown,
    leaf, merge, sleeper,
};
use crate::python::frames::RawStack;
use crate::target::ThreadFiles;
use crate::units::Timestamp;

/// What is wanted of C stacks, and the files that they led into so far.
#[derive(Debug, Default)]
pub struct Natives {
    /// Which stacks to read.
    pub wanted: NativeStacks,
    /// Shared by all processes.
    pub binaries: Binaries,
}

/// A C stack, looked up.
#[derive(Debug)]
pub struct NativeStack {
    /// Leaf first, all of it.
    pub trace: Trace,
    /// What each frame of it is.
    pub frames: Vec<NativeFrame>,
    roles: Vec<Role>,
}

impl NativeStack {
    /// Reads the stack of a thread that sleeps; `None` if it does not, or ran meanwhile.
    pub fn of_sleeper(
        scene: &mut Scene<'_>,
        files: &ThreadFiles,
        now: Timestamp,
    ) -> Option<NativeStack> {
        let (procfs, memory) = (scene.procfs, scene.memory);
        let binaries = &mut scene.notes.natives.binaries;
        let trace = sleeper(files, procfs, memory, scene.space, binaries, now)?;
        Some(NativeStack::look_up(trace, scene.space, binaries))
    }

    /// The stack of a thread that ran: from its registers, and the bytes of its stack from the stack
    /// pointer up, as both were copied at one moment.
    #[must_use]
    pub fn of_runner(
        scene: &mut Scene<'_>,
        registers: Registers,
        stack: &StackBytes<'_>,
        now: Timestamp,
    ) -> NativeStack {
        let (procfs, memory) = (scene.procfs, scene.memory);
        let binaries = &mut scene.notes.natives.binaries;
        let trace = scene.space.walk(registers, stack, procfs, memory, binaries, now);
        NativeStack::look_up(trace, scene.space, binaries)
    }

    fn look_up(trace: Trace, space: &mut AddressSpace, binaries: &mut Binaries) -> NativeStack {
        let frames: Vec<NativeFrame> =
            trace.frames.iter().map(|at| space.frame(binaries, *at)).collect();
        let roles = frames.iter().map(|frame| frame.role).collect();
        NativeStack { trace, frames, roles }
    }

    /// The places of the frames that the innermost Python frame has called.
    pub fn leaf(&self) -> impl Iterator<Item = usize> + '_ {
        let called = self.roles.iter().take(leaf(&self.roles)).enumerate();
        called.filter(|(at, role)| is_shown(*at, **role)).map(|(at, _)| at)
    }

    /// The places of all frames, this stack's and those of `python`.
    #[must_use]
    pub fn merged(&self, python: &RawStack) -> Vec<Piece> {
        let entries: Vec<bool> = python.frames.iter().map(|frame| frame.is_entry).collect();
        merge(&self.roles, &entries, self.trace.end == End::Root)
    }

    /// Writes down what the innermost Python frame has called; `None` for nothing.
    pub fn written_leaf(&self, scene: &mut Scene<'_>) -> Option<StackId> {
        let frames: Vec<FrameId> =
            self.leaf().filter_map(|at| self.written_frame(scene, at)).collect();
        let stack = Stack { frames, truncated: None };
        (!stack.frames.is_empty()).then(|| scene.notes.tables.stack(stack))
    }

    /// Writes the whole down, together with `python`, which was written as `stack`.
    pub fn written_whole(
        &self,
        scene: &mut Scene<'_>,
        python: &RawStack,
        stack: StackId,
    ) -> Option<StackId> {
        let Stack { frames: known, truncated } = scene.notes.tables.get_stack(stack)?.clone();
        if known.len() != python.frames.len() {
            // A frame that could not be read was left out: the places would be wrong.
            return None;
        }
        let frames = self.merged(python).into_iter().filter_map(|piece| match piece {
            Piece::Native(at) => self.written_frame(scene, at),
            Piece::Python(at) => known.get(at).copied(),
        });
        let frames = frames.collect();
        let truncated: Option<Truncation> = truncated;
        Some(scene.notes.tables.stack(Stack { frames, truncated }))
    }

    fn written_frame(&self, scene: &mut Scene<'_>, at: usize) -> Option<FrameId> {
        let frame = self.frames.get(at)?;
        let tables = &mut scene.notes.tables;
        let function = tables.name(&frame.function);
        let module = frame.module.as_ref().map(|module| tables.name(module));
        let kind = FrameKind::Native;
        Some(tables.frame(Frame { kind, function, file: None, line: None, module }))
    }
}

/// Source lines looked up so far, by module and address in it. For a single look at a process:
/// reading them takes long.
#[derive(Debug, Default)]
pub struct SourceLines {
    known: HashMap<(String, u64), Option<SourceLine>>,
}

impl SourceLines {
    /// The source lines of a trace, as many as its frames.
    pub fn of(&mut self, scene: &mut Scene<'_>, trace: &Trace) -> Vec<Option<SourceLine>> {
        let binaries = &mut scene.notes.natives.binaries;
        let mut places = Vec::new();
        let mut wanted: HashMap<String, (Rc<Binary>, Vec<u64>)> = HashMap::new();
        for frame in &trace.frames {
            let place = scene.space.place(binaries, frame.lookup());
            let place = place.and_then(|(binary, module, address)| {
                Some((binary?, module.path.clone(), address))
            });
            let Some((binary, module, address)) = place else {
                places.push(None);
                continue;
            };
            if !self.known.contains_key(&(module.clone(), address)) {
                let addresses = wanted.entry(module.clone()).or_insert((binary, Vec::new()));
                addresses.1.push(address);
            }
            places.push(Some((module, address)));
        }
        for (module, (binary, addresses)) in wanted {
            let mut found: Vec<Option<SourceLine>> = vec![None; addresses.len()];
            for file in binary.files() {
                for (slot, line) in found.iter_mut().zip(lines(file, &addresses)) {
                    *slot = slot.take().or(line);
                }
            }
            let keys = addresses.into_iter().map(|address| (module.clone(), address));
            self.known.extend(keys.zip(found));
        }
        let line = |place: Option<(String, u64)>| self.known.get(&place?).cloned().flatten();
        places.into_iter().map(line).collect()
    }
}
