//! Frame chains: from a thread state to the frames it runs, leaf first.
//!
//! A chain is read mostly in one system call: the frames of the last walk are read again in one
//! batch together with the thread's pointer to its innermost frame, and only frames not among them
//! cost a read of their own.

use super::Interpreter;
use super::frame_headers::{EMPTY, Header, Nearby, header_len, read_header};
use super::threads::Thread;
use crate::layout::shape::{FrameLink, LastInstruction};
use crate::model::Truncation;
use crate::target::{Fields, ReadError, RemoteMemoryExt, Span};
use crate::units::Addr;

/// Most frames of one stack. CPython's own recursion limit is 1000 by default; deeper stacks keep
/// their leaf end and say that they were cut.
pub const MAX_DEPTH: usize = 2048;
/// Most frames read again ahead of a walk. Deeper ones rarely stay where they were.
const MAX_PREFETCH: usize = 256;
/// Frames of earlier walks that are read again along with those of the last: a thread goes back and
/// forth between a few stacks, whose frames lie at the same places each time. One more frame in a
/// batch costs a tenth of a read of its own.
const MAX_EARLIER: usize = 16;
/// A frame as it lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFrame {
    /// Where the frame lies.
    pub addr: Addr,
    /// Its code object.
    pub code: Addr,
    /// Its last instruction, raw: see [`LastInstruction`].
    pub instruction: u64,
    /// Whether C entered the interpreter with it: a C function of its own runs it and the frames
    /// that it called from Python.
    pub is_entry: bool,
}

/// A chain of frames, leaf first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawStack {
    /// The frames that run Python code.
    pub frames: Vec<RawFrame>,
    /// Why the root is missing, if it is.
    pub truncated: Option<Truncation>,
}

/// What a thread's innermost frame looks like; two equal prints mean that, as far as memory tells,
/// the thread has not moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// The innermost frame, shims included.
    top: Addr,
    /// Its instruction.
    instruction: u64,
}

/// Objects and frames lie at multiples of this.
const ALIGNMENT: u64 = 8;
/// Walks one thread's frames, remembering where they were.
#[derive(Debug, Default)]
pub struct Walker {
    /// All frames of the last walk, shims included; then some of earlier walks, latest first.
    known: Vec<Addr>,
    /// How many of them are of the last walk.
    depth: usize,
    nearby: Nearby,
    /// What was just read of them.
    headers: Vec<Header>,
    /// The `_PyCFrame` of the last walk (3.11, 3.12).
    cframe: Option<Addr>,
}

struct Prefetched {
    top: Addr,
    /// How many of the frames of the last walk were read again.
    good: usize,
}

impl Walker {
    /// Reads the chain of `thread`.
    ///
    /// # Errors
    /// When the innermost frame cannot be found at all, or moved while the chain was read
    /// ([`ReadError::Invalid`]): such a chain may mix two moments.
    pub fn walk(
        &mut self,
        python: &Interpreter<'_>,
        thread: &Thread,
    ) -> Result<RawStack, ReadError> {
        let Prefetched { top, good } = self.prefetch(python, thread, MAX_PREFETCH)?;
        let mut stack = RawStack::default();
        stack.frames.reserve(self.depth);
        let mut known = Vec::with_capacity(self.known.len());
        // Where the walk is among the frames of the last one: mostly they come in the same order.
        let mut place = 0;
        let mut next = top;
        // A chain that comes back to where it was has been read while it moved (Brent 1980).
        let mut milestone = Addr(0);
        self.nearby.forget();
        while !next.is_null() {
            if known.len() >= MAX_DEPTH {
                stack.truncated = Some(Truncation::DepthLimit);
                break;
            }
            let header = match self.prefetched(next, good, &mut place) {
                Some(header) => header,
                None => match self.nearby.header(python, next) {
                    Ok(header) => header,
                    Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
                    Err(_) => {
                        stack.truncated = Some(Truncation::Unreadable);
                        break;
                    }
                },
            };
            known.push(next);
            if known.len().is_power_of_two() {
                milestone = next;
            } else if next == milestone {
                return Err(ReadError::Invalid("frame chain without a circle"));
            }
            let link = decode(python, next, &header)?;
            match (link.frame, stack.frames.last_mut()) {
                (Some(frame), _) => stack.frames.push(frame),
                // The interpreter's own frame calls what C entered with.
                (None, Some(called)) if link.is_shim => called.is_entry = true,
                (None, _) => {}
            }
            next = link.previous;
        }
        self.remember(known, good);
        if self.top(python, thread)? != top {
            return Err(ReadError::Invalid("frame chain that holds still"));
        }
        Ok(stack)
    }

    /// The thread's fingerprint now.
    ///
    /// # Errors
    /// When the innermost frame cannot be read.
    pub fn fingerprint(
        &mut self,
        python: &Interpreter<'_>,
        thread: &Thread,
    ) -> Result<Fingerprint, ReadError> {
        let Prefetched { top, good } = self.prefetch(python, thread, 1)?;
        let header = match self.prefetched(top, good, &mut 0) {
            Some(header) => header,
            None if top.is_null() => return Ok(Fingerprint { top, instruction: 0 }),
            None => read_header(python, top)?,
        };
        let instruction = instruction_of(python, &header)?;
        Ok(Fingerprint { top, instruction })
    }

    /// Puts the frames of the walk just made before those of earlier ones. Those that could not be
    /// read, behind the first `good`, are forgotten.
    fn remember(&mut self, mut walked: Vec<Addr>, good: usize) {
        let depth = walked.len();
        let room = depth.saturating_add(MAX_EARLIER).min(MAX_PREFETCH.max(depth));
        for (index, addr) in self.known.iter().enumerate() {
            if walked.len() >= room {
                break;
            }
            let last_walks = walked.get(..depth).unwrap_or_default();
            if index < good && !last_walks.contains(addr) {
                walked.push(*addr);
            }
        }
        self.known = walked;
        self.depth = depth;
    }

    /// The header of a frame, if it was one of the first `good` of the last walk; looked for from
    /// `place` on, which moves behind it.
    fn prefetched(&self, addr: Addr, good: usize, place: &mut usize) -> Option<Header> {
        let known = self.known.get(..good)?;
        let (before, from) = known.split_at_checked(*place)?;
        let found = match from.iter().position(|frame| *frame == addr) {
            Some(index) => place.checked_add(index)?,
            None => before.iter().position(|frame| *frame == addr)?,
        };
        *place = found.checked_add(1)?;
        self.headers.get(found).copied()
    }

    /// The innermost frame and up to `most` frames of the last walk, in one system call where
    /// possible.
    fn prefetch(
        &mut self,
        python: &Interpreter<'_>,
        thread: &Thread,
        most: usize,
    ) -> Result<Prefetched, ReadError> {
        let offsets = &python.layout.offsets.thread;
        let ahead = self.known.len().min(most);
        let (mut word, mut inner) = ([0; 8], [0; 8]);
        self.headers.resize(ahead.max(self.headers.len()), EMPTY);
        let has_cframe = python.layout.shape.frame_link == FrameLink::CFrame;
        let mut spans: Vec<Span<'_>> = Vec::with_capacity(ahead.saturating_add(2));
        spans.push((thread.state.at(offsets.frame), &mut word));
        let guess = self.cframe.filter(|_| has_cframe);
        if let Some(cframe) = guess {
            spans.push((cframe.at(offsets.cframe_current_frame), &mut inner));
        }
        let fixed = spans.len();
        let len = header_len(python);
        for (addr, buffer) in self.known.iter().zip(self.headers.iter_mut()).take(ahead) {
            spans.push((*addr, buffer.get_mut(..len).unwrap_or_default()));
        }
        let filled = python.memory.read_batch(&mut spans)?;
        if filled == 0 {
            return Err(ReadError::Unmapped(thread.state));
        }
        let pointer = Addr(u64::from_le_bytes(word));
        let top = if !has_cframe {
            pointer
        } else if guess == Some(pointer) && filled >= 2 {
            Addr(u64::from_le_bytes(inner))
        } else {
            self.cframe = Some(pointer);
            python.memory.read_pointer(pointer.at(offsets.cframe_current_frame))?
        };
        Ok(Prefetched { top, good: filled.saturating_sub(fixed).min(ahead) })
    }

    fn top(&self, python: &Interpreter<'_>, thread: &Thread) -> Result<Addr, ReadError> {
        let offsets = &python.layout.offsets.thread;
        let pointer = python.memory.read_pointer(thread.state.at(offsets.frame))?;
        if python.layout.shape.frame_link == FrameLink::CFrame {
            return python.memory.read_pointer(pointer.at(offsets.cframe_current_frame));
        }
        Ok(pointer)
    }
}

struct Link {
    frame: Option<RawFrame>,
    is_shim: bool,
    previous: Addr,
}

fn instruction_of(python: &Interpreter<'_>, header: &Header) -> Result<u64, ReadError> {
    let offset = python.layout.offsets.frame.instruction;
    match python.layout.shape.last_instruction {
        LastInstruction::Bytes | LastInstruction::Units => {
            Fields(header).u32(offset).map(u64::from)
        }
        LastInstruction::Pointer => Fields(header).u64(offset),
    }
}

fn decode(python: &Interpreter<'_>, addr: Addr, header: &Header) -> Result<Link, ReadError> {
    let offsets = &python.layout.offsets.frame;
    let fields = Fields(header);
    let previous = fields.pointer(offsets.previous)?;
    let owner = offsets.owner.map(|offset| fields.u8(offset)).transpose()?;
    let is_shim = match (owner, python.layout.shape.first_shim_owner) {
        (Some(owner), Some(first)) => owner >= first,
        _ => false,
    };
    let code = python.untag(fields.pointer(offsets.code)?);
    // A frame just pushed may have no code yet. Anything else that is no address of an object means
    // that the chain led out of the frames: it moved.
    let is_object = code.is_plausible() && code.0.is_multiple_of(ALIGNMENT);
    if !is_shim && !code.is_null() && !is_object {
        return Err(ReadError::Invalid("frame"));
    }
    let frame = (!is_shim && is_object).then_some(RawFrame {
        addr,
        code,
        instruction: instruction_of(python, header)?,
        is_entry: match (owner, offsets.is_entry) {
            (None, _) => true,
            (_, Some(offset)) => fields.u8(offset)? != 0,
            (_, None) => previous.is_null(),
        },
    });
    Ok(Link { frame, is_shim, previous })
}

/// The value of local variable `index` of a frame: a reference without tag bits, or null.
///
/// # Errors
/// When the frame cannot be read.
pub fn local(python: &Interpreter<'_>, frame: Addr, index: usize) -> Result<Addr, ReadError> {
    let slot = (index as u64).saturating_mul(8);
    let addr = frame.at(python.layout.offsets.frame.localsplus).at(slot);
    Ok(python.untag(python.memory.read_pointer(addr)?))
}
