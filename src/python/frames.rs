//! Frame chains: from a thread state to the frames it runs, leaf first.
//!
//! A chain is read mostly in one system call: the frames of the last walk are read again in one
//! batch together with the thread's pointer to its innermost frame, and only frames not among them
//! cost a read of their own. The thread runs on meanwhile, so a chain is believed only once it was
//! seen twice: as in the last walk, or by a second read of all of it.

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
/// Most tries at a chain that moves while it is read. Code that calls small functions moves at most
/// tries; giving up at once would show such code less often than it runs.
const MAX_TRIES: usize = 3;
/// Most looks at a chain whose frames stay where they are but change functions.
const MAX_LOOKS: usize = 3;
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

/// What a frame's bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    code: Addr,
    instruction: u64,
    /// The interpreter's own frame, which runs no Python.
    is_shim: bool,
    previous: Addr,
}

impl Link {
    /// Whether it can be a frame: each but the interpreter's own has a code object.
    fn is_frame(&self) -> bool {
        self.is_shim || self.code.is_plausible()
    }
}

/// What a chain was found to be when it was read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    Same,
    /// Some frame is another function's now.
    Changed,
    /// Its frames lie elsewhere.
    Moved,
}

/// Walks one thread's frames, remembering where they were.
#[derive(Debug, Default)]
pub struct Walker {
    /// All frames of the last walk, shims included.
    known: Vec<Addr>,
    /// The last chain that was seen twice, shims included; empty if the last walk failed.
    proven: Vec<(Addr, Link)>,
    /// The `_PyCFrame` of the last walk (3.11, 3.12).
    cframe: Option<Addr>,
}

struct Prefetched {
    top: Addr,
    headers: HashMap<Addr, Header>,
}

impl Walker {
    /// Reads the chain of `thread`; a chain that moved meanwhile, a few times.
    ///
    /// # Errors
    /// When the innermost frame cannot be found at all, or the chain never held still
    /// ([`ReadError::Invalid`]): it would mix two moments.
    pub fn walk(
        &mut self,
        python: &Interpreter<'_>,
        thread: &Thread,
    ) -> Result<RawStack, ReadError> {
        for _ in 0..MAX_TRIES {
            if let Some(stack) = self.try_walk(python, thread)? {
                return Ok(stack);
            }
        }
        Err(ReadError::Invalid("frame chain that holds still"))
    }

    /// `None` if the chain moved.
    fn try_walk(
        &mut self,
        python: &Interpreter<'_>,
        thread: &Thread,
    ) -> Result<Option<RawStack>, ReadError> {
        let proven = std::mem::take(&mut self.proven);
        let Prefetched { top, headers } = self.prefetch(python, thread)?;
        let mut truncated = None;
        let mut chain = Vec::with_capacity(self.known.len());
        let mut next = top;
        while !next.is_null() {
            if chain.len() >= MAX_DEPTH {
                truncated = Some(Truncation::DepthLimit);
                break;
            }
            let header = match headers.get(&next) {
                Some(header) => *header,
                None => match read_header(python.memory, next) {
                    Ok(header) => header,
                    Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
                    Err(_) => {
                        truncated = Some(Truncation::Unreadable);
                        break;
                    }
                },
            };
            let link = decode(python, &header)?;
            if !link.is_frame() {
                truncated = Some(Truncation::Torn);
                break;
            }
            chain.push((next, link));
            next = link.previous;
        }
        self.known = chain.iter().map(|(addr, _)| *addr).collect();
        let again = if chain == proven { &mut [][..] } else { &mut chain[..] };
        if !self.holds_still(python, thread, top, again)? {
            return Ok(None);
        }
        let real = chain.iter().filter(|(_, link)| !link.is_shim);
        let frames = real
            .map(|&(addr, Link { code, instruction, .. })| RawFrame { addr, code, instruction })
            .collect();
        self.proven = chain;
        Ok(Some(RawStack { frames, truncated }))
    }

    /// Whether the chain is seen twice in a row: the same frames of the same functions. Where each
    /// is in its function is taken from the last look, which reads all of them at once.
    fn holds_still(
        &self,
        python: &Interpreter<'_>,
        thread: &Thread,
        top: Addr,
        chain: &mut [(Addr, Link)],
    ) -> Result<bool, ReadError> {
        for _ in 0..MAX_LOOKS {
            match self.look_again(python, thread, top, chain)? {
                Again::Same => return Ok(true),
                Again::Changed => {}
                Again::Moved => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Reads the chain once more, and then the thread's pointer to it. The innermost frame alone
    /// may have become another function's: as all below it was the same before and after, it is
    /// then taken as it is now.
    fn look_again(
        &self,
        python: &Interpreter<'_>,
        thread: &Thread,
        top: Addr,
        chain: &mut [(Addr, Link)],
    ) -> Result<Again, ReadError> {
        let offsets = &python.layout.offsets.thread;
        let (mut word, mut inner) = ([0; 8], [0; 8]);
        let mut headers: Vec<Header> = vec![[0; HEADER]; chain.len()];
        let mut spans: Vec<Span<'_>> = Vec::with_capacity(chain.len().saturating_add(2));
        for ((addr, _), header) in chain.iter().zip(headers.iter_mut()) {
            spans.push((*addr, header));
        }
        spans.push((thread.state.at(offsets.frame), &mut word));
        let cframe = self.cframe.filter(|_| has_cframe(python));
        if let Some(cframe) = cframe {
            spans.push((cframe.at(offsets.cframe_current_frame), &mut inner));
        }
        let wanted = spans.len();
        if python.memory.read_batch(&mut spans)? < wanted {
            return Ok(Again::Moved);
        }
        let pointer = Addr(u64::from_le_bytes(word));
        let is_top = match cframe {
            Some(cframe) => pointer == cframe && Addr(u64::from_le_bytes(inner)) == top,
            None => pointer == top,
        };
        let mut again = if is_top { Again::Same } else { Again::Moved };
        for (index, ((_, link), header)) in chain.iter_mut().zip(&headers).enumerate() {
            let now = decode(python, header)?;
            if now.previous != link.previous || now.is_shim != link.is_shim || !now.is_frame() {
                return Ok(Again::Moved);
            }
            if now.code != link.code && index > 0 && again == Again::Same {
                again = Again::Changed;
            }
            *link = now;
        }
        Ok(again)
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
        let has_cframe = has_cframe(python);
        let mut spans: Vec<Span<'_>> = Vec::with_capacity(ahead.len() + 2);
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
}

/// Whether the way to the innermost frame leads through a `_PyCFrame`.
fn has_cframe(python: &Interpreter<'_>) -> bool {
    python.layout.shape.frame_link == FrameLink::CFrame
}

fn read_header(memory: &dyn RemoteMemory, addr: Addr) -> Result<Header, ReadError> {
    let mut header = [0; HEADER];
    memory.read(addr, &mut header)?;
    Ok(header)
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

fn decode(python: &Interpreter<'_>, header: &Header) -> Result<Link, ReadError> {
    let offsets = &python.layout.offsets.frame;
    let fields = Fields(header);
    let owner = offsets.owner.map(|offset| fields.u8(offset)).transpose()?;
    let is_shim = match (owner, python.layout.shape.first_shim_owner) {
        (Some(owner), Some(first)) => owner >= first,
        _ => false,
    };
    Ok(Link {
        code: python.untag(fields.pointer(offsets.code)?),
        instruction: instruction_of(python, header)?,
        is_shim,
        previous: fields.pointer(offsets.previous)?,
    })
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
