//! Frame chains: from a thread state to the frames it runs, leaf first.
//!
//! A chain is read mostly in one system call: the frames of the last walk are read again in one
//! batch together with the thread's pointer to its innermost frame, and only frames not among them
//! cost a read of their own.

use std::collections::HashMap;

use super::Interpreter;
use super::threads::Thread;
use crate::layout::shape::{FrameLink, LastInstruction};
use crate::model::Truncation;
use crate::target::{Fields, ReadError, RemoteMemory, RemoteMemoryExt, Span};
use crate::units::Addr;

/// Most frames of one stack. CPython's own recursion limit is 1000 by default; deeper stacks keep
/// their leaf end and say that they were cut.
pub const MAX_DEPTH: usize = 2048;
/// Most frames read again ahead of a walk. Deeper ones rarely stay where they were.
const MAX_PREFETCH: usize = 256;
/// Bytes read of each frame: enough for the header of every version (`PyFrameObject.f_lasti` at
/// 104 in 3.9 is the furthest field).
const HEADER: usize = 112;

/// A frame as it lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFrame {
    /// Where the frame lies.
    pub addr: Addr,
    /// Its code object.
    pub code: Addr,
    /// Its last instruction, raw: see [`LastInstruction`].
    pub instruction: u64,
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

type Header = [u8; HEADER];

/// Walks one thread's frames, remembering where they were.
#[derive(Debug, Default)]
pub struct Walker {
    /// All frames of the last walk, shims included.
    known: Vec<Addr>,
    /// The `_PyCFrame` of the last walk (3.11, 3.12).
    cframe: Option<Addr>,
}

struct Prefetched {
    top: Addr,
    headers: HashMap<Addr, Header>,
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
        let Prefetched { top, headers } = self.prefetch(python, thread)?;
        let mut stack = RawStack::default();
        let mut known = Vec::with_capacity(self.known.len());
        let mut next = top;
        while !next.is_null() {
            if known.len() >= MAX_DEPTH {
                stack.truncated = Some(Truncation::DepthLimit);
                break;
            }
            let header = match headers.get(&next) {
                Some(header) => *header,
                None => match read_header(python.memory, next) {
                    Ok(header) => header,
                    Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
                    Err(_) => {
                        stack.truncated = Some(Truncation::Unreadable);
                        break;
                    }
                },
            };
            known.push(next);
            let link = decode(python, next, &header)?;
            if let Some(frame) = link.frame {
                stack.frames.push(frame);
            }
            next = link.previous;
        }
        self.known = known;
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
        let leaf = self.known.first().copied();
        let known = std::mem::take(&mut self.known);
        self.known.extend(leaf);
        let prefetched = self.prefetch(python, thread);
        self.known = known;
        let Prefetched { top, headers } = prefetched?;
        let header = match headers.get(&top) {
            Some(header) => *header,
            None if top.is_null() => return Ok(Fingerprint { top, instruction: 0 }),
            None => read_header(python.memory, top)?,
        };
        let instruction = instruction_of(python, &header)?;
        Ok(Fingerprint { top, instruction })
    }

    /// The innermost frame and the frames of the last walk, in one system call where possible.
    fn prefetch(
        &mut self,
        python: &Interpreter<'_>,
        thread: &Thread,
    ) -> Result<Prefetched, ReadError> {
        let offsets = &python.layout.offsets.thread;
        let ahead = self.known.len().min(MAX_PREFETCH);
        let ahead: Vec<Addr> = self.known.iter().take(ahead).copied().collect();
        let (mut word, mut inner) = ([0; 8], [0; 8]);
        let mut buffers: Vec<Header> = vec![[0; HEADER]; ahead.len()];
        let has_cframe = python.layout.shape.frame_link == FrameLink::CFrame;
        let mut spans: Vec<Span<'_>> = Vec::with_capacity(ahead.len().saturating_add(2));
        spans.push((thread.state.at(offsets.frame), &mut word));
        let guess = self.cframe.filter(|_| has_cframe);
        if let Some(cframe) = guess {
            spans.push((cframe.at(offsets.cframe_current_frame), &mut inner));
        }
        let fixed = spans.len();
        for (addr, buffer) in ahead.iter().zip(buffers.iter_mut()) {
            spans.push((*addr, buffer));
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
        let good = filled.saturating_sub(fixed);
        let headers = ahead.into_iter().zip(buffers).take(good).collect();
        Ok(Prefetched { top, headers })
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

fn read_header(memory: &dyn RemoteMemory, addr: Addr) -> Result<Header, ReadError> {
    let mut header = [0; HEADER];
    memory.read(addr, &mut header)?;
    Ok(header)
}

struct Link {
    frame: Option<RawFrame>,
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
    let frame = (!is_shim && code.is_plausible()).then_some(RawFrame {
        addr,
        code,
        instruction: instruction_of(python, header)?,
    });
    Ok(Link { frame, previous })
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
