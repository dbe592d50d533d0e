//! Frame chains: from a thread state to the frames it runs, leaf first.
//!
//! A chain is read mostly in one system call: the frames of the last walk are read again in one
//! batch, with what lies between them, together with the thread's pointer to its innermost frame, and
//! only frames that lie elsewhere cost a read of their own. The thread runs on meanwhile, so a chain is believed only once it was
//! seen twice: as in the last walk, or by a second read of all of it.

use super::Interpreter;
use super::frame_headers::{
    EMPTY, Link, Nearby, Values, header_in, header_len, read_header, read_values,
};
pub use super::stretches::MAX_BYTES as MAX_AT_ONCE;
use super::stretches::Stretches;
use super::threads::Thread;
use crate::layout::shape::FrameLink;
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
/// Most tries at a chain that moves while it is read. Code that calls small functions moves at most
/// tries; giving up at once would show such code less often than it runs.
const MAX_TRIES: usize = 3;
/// Most looks at a chain whose frames stay where they are but change functions.
const MAX_LOOKS: usize = 3;

/// A frame as it lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFrame {
    /// Where the frame lies.
    pub addr: Addr,
    /// Its code object.
    pub code: Addr,
    /// Its last instruction, raw: see [`LastInstruction`](crate::layout::shape::LastInstruction).
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

/// All that a thread changes as it goes on: a thread that is met twice with equal stands, and ran, is
/// in C code that one instruction of Python has called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    print: Fingerprint,
    values: Option<Values>,
}

impl Stand {
    /// Whether its values could be read.
    #[must_use]
    pub fn has_values(&self) -> bool {
        self.values.is_some()
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
    /// All frames of the last walk, shims included; then some of earlier walks, latest first.
    known: Vec<Addr>,
    nearby: Nearby,
    /// What was just read of them and around them.
    ahead: Stretches,
    /// What was read of the chain when it was read again, if it was.
    again: Option<Stretches>,
    /// The last chain that was seen twice, shims included; empty if the last walk failed.
    proven: Vec<(Addr, Link)>,
    /// The `_PyCFrame` of the last walk (3.11, 3.12).
    cframe: Option<Addr>,
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
        let top = self.prefetch(python, thread, MAX_PREFETCH)?;
        let mut truncated = None;
        let mut chain: Vec<(Addr, Link)> = Vec::with_capacity(self.known.len());
        let mut next = top;
        // A chain that comes back to where it was has been read while it moved (Brent 1980).
        let mut milestone = Addr(0);
        self.nearby.forget();
        while !next.is_null() {
            if chain.len() >= MAX_DEPTH {
                truncated = Some(Truncation::DepthLimit);
                break;
            }
            let header = match header_in(&self.ahead, python, next) {
                Some(header) => header,
                None => match self.nearby.header(python, next) {
                    Ok(header) => header,
                    Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
                    Err(_) => {
                        truncated = Some(Truncation::Unreadable);
                        break;
                    }
                },
            };
            if chain.len().is_power_of_two() {
                milestone = next;
            } else if next == milestone {
                self.remember(python, &chain);
                return Ok(None);
            }
            let link = Link::decode(python, &header)?;
            if !link.is_frame() {
                truncated = Some(Truncation::Torn);
                break;
            }
            chain.push((next, link));
            next = link.previous;
        }
        self.remember(python, &chain);
        let again = if chain == proven { &mut [][..] } else { &mut chain[..] };
        if !self.holds_still(python, thread, top, again)? {
            return Ok(None);
        }
        let callers = chain.iter().skip(1).map(Some).chain([None]);
        let real = chain.iter().zip(callers).filter(|((_, link), _)| !link.is_shim);
        let frames = real.map(|(&(addr, Link { code, instruction, is_entry, .. }), caller)| {
            let is_entry = is_entry || caller.is_some_and(|(_, link)| link.is_shim);
            RawFrame { addr, code, instruction, is_entry }
        });
        let frames = frames.collect();
        self.proven = chain;
        Ok(Some(RawStack { frames, truncated }))
    }

    /// Whether the chain is seen twice in a row: the same frames of the same functions. Where each
    /// is in its function is taken from the last look, which reads all of them at once.
    fn holds_still(
        &mut self,
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
        &mut self,
        python: &Interpreter<'_>,
        thread: &Thread,
        top: Addr,
        chain: &mut [(Addr, Link)],
    ) -> Result<Again, ReadError> {
        let mut frames = self.again.take().unwrap_or_default();
        let addrs = chain.iter().map(|(addr, _)| *addr);
        frames.cover(addrs.clone(), header_len(python));
        let mut pointers = self.read_with_pointers(python, thread, &mut frames)?;
        if pointers.is_none() {
            frames.cover_alone(addrs, header_len(python));
            pointers = self.read_with_pointers(python, thread, &mut frames)?;
        }
        let Some((pointer, inner)) = pointers else { return Ok(Again::Moved) };
        let is_top = leads_to(top, self.cframe.filter(|_| has_cframe(python)), pointer, inner);
        let mut again = if is_top { Again::Same } else { Again::Moved };
        for (index, (addr, link)) in chain.iter_mut().enumerate() {
            let header = header_in(&frames, python, *addr).ok_or(ReadError::Unmapped(*addr))?;
            let now = Link::decode(python, &header)?;
            if now.previous != link.previous || now.is_shim != link.is_shim || !now.is_frame() {
                return Ok(Again::Moved);
            }
            if now.code != link.code && index > 0 && again == Again::Same {
                again = Again::Changed;
            }
            *link = now;
        }
        if !chain.is_empty() {
            self.again = Some(frames);
        }
        Ok(again)
    }

    /// Reads these frames and then what leads to the innermost one: the thread's pointer, and what the
    /// `_PyCFrame` holds. `None` if any of it cannot be read.
    fn read_with_pointers(
        &self,
        python: &Interpreter<'_>,
        thread: &Thread,
        frames: &mut Stretches,
    ) -> Result<Option<(Addr, Addr)>, ReadError> {
        let offsets = &python.layout.offsets.thread;
        let (mut word, mut inner) = ([0; 8], [0; 8]);
        let mut spans = frames.spans();
        spans.push((thread.state.at(offsets.frame), &mut word));
        if let Some(cframe) = self.cframe.filter(|_| has_cframe(python)) {
            spans.push((cframe.at(offsets.cframe_current_frame), &mut inner));
        }
        let wanted = spans.len();
        if python.memory.read_batch(&mut spans)? < wanted {
            return Ok(None);
        }
        frames.were_read(wanted);
        Ok(Some((Addr(u64::from_le_bytes(word)), Addr(u64::from_le_bytes(inner)))))
    }

    /// Where the thread stands now.
    ///
    /// # Errors
    /// As [`Walker::fingerprint`].
    pub fn stand(&mut self, python: &Interpreter<'_>, thread: &Thread) -> Result<Stand, ReadError> {
        let print = self.fingerprint(python, thread)?;
        Ok(Stand { print, values: read_values(python, print.top) })
    }

    /// Whether the thread still stands where it stood, in one read.
    #[must_use]
    pub fn stands_still(&self, python: &Interpreter<'_>, thread: &Thread, stand: &Stand) -> bool {
        let offsets = &python.layout.offsets;
        let Some(values) = &stand.values else { return false };
        let top = stand.print.top;
        let (mut word, mut inner, mut header, mut now) = ([0; 8], [0; 8], EMPTY, *values);
        let mut spans: Vec<Span<'_>> = Vec::with_capacity(4);
        spans.push((thread.state.at(offsets.thread.frame), &mut word));
        let cframe = self.cframe.filter(|_| has_cframe(python));
        if let Some(cframe) = cframe {
            spans.push((cframe.at(offsets.thread.cframe_current_frame), &mut inner));
        }
        spans.push((top, header.get_mut(..header_len(python)).unwrap_or_default()));
        spans.push((top.at(offsets.frame.localsplus), &mut now));
        let wanted = spans.len();
        if python.memory.read_batch(&mut spans) != Ok(wanted) {
            return false;
        }
        let pointer = Addr(u64::from_le_bytes(word));
        let is_top = leads_to(top, cframe, pointer, Addr(u64::from_le_bytes(inner)));
        let instruction = Link::decode(python, &header).map(|link| link.instruction);
        is_top && instruction == Ok(stand.print.instruction) && now == *values
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
        let top = self.prefetch(python, thread, 1)?;
        let header = match header_in(&self.ahead, python, top) {
            Some(header) => header,
            None if top.is_null() => return Ok(Fingerprint { top, instruction: 0 }),
            None => read_header(python, top)?,
        };
        let Link { instruction, .. } = Link::decode(python, &header)?;
        Ok(Fingerprint { top, instruction })
    }

    /// Puts the frames of the walk just made before those of earlier ones. Those that could not be
    /// read are forgotten.
    fn remember(&mut self, python: &Interpreter<'_>, chain: &[(Addr, Link)]) {
        let mut walked: Vec<Addr> = chain.iter().map(|(addr, _)| *addr).collect();
        let depth = walked.len();
        let room = depth.saturating_add(MAX_EARLIER).min(MAX_PREFETCH.max(depth));
        for addr in &self.known {
            if walked.len() >= room {
                break;
            }
            let last_walks = walked.get(..depth).unwrap_or_default();
            if !last_walks.contains(addr) && header_in(&self.ahead, python, *addr).is_some() {
                walked.push(*addr);
            }
        }
        self.known = walked;
    }

    /// What [`Walker::fingerprint`] would have shown at the walk just made.
    #[must_use]
    pub fn print(&self) -> Fingerprint {
        let none = Fingerprint { top: Addr(0), instruction: 0 };
        self.proven
            .first()
            .map_or(none, |(top, link)| Fingerprint { top: *top, instruction: link.instruction })
    }

    /// The value of local variable `index` of a frame of the chain just walked, as it was then if that
    /// was read along: see [`local`].
    ///
    /// # Errors
    /// When the frame cannot be read.
    pub fn local(
        &self,
        python: &Interpreter<'_>,
        frame: Addr,
        index: usize,
    ) -> Result<Addr, ReadError> {
        let read = self.again.as_ref().unwrap_or(&self.ahead);
        match read.get(slot(python, frame, index), 8) {
            Some(word) => Fields(word).pointer(0).map(|value| python.untag(value)),
            None => local(python, frame, index),
        }
    }

    /// The innermost frame and up to `most` frames of the last walk, in one system call where
    /// possible.
    fn prefetch(
        &mut self,
        python: &Interpreter<'_>,
        thread: &Thread,
        most: usize,
    ) -> Result<Addr, ReadError> {
        let offsets = &python.layout.offsets.thread;
        let (mut word, mut inner) = ([0; 8], [0; 8]);
        self.again = None;
        self.ahead.cover(self.known.iter().copied().take(most), header_len(python));
        let has_cframe = has_cframe(python);
        let mut spans: Vec<Span<'_>> = vec![(thread.state.at(offsets.frame), &mut word)];
        let guess = self.cframe.filter(|_| has_cframe);
        if let Some(cframe) = guess {
            spans.push((cframe.at(offsets.cframe_current_frame), &mut inner));
        }
        let fixed = spans.len();
        spans.append(&mut self.ahead.spans());
        let filled = python.memory.read_batch(&mut spans)?;
        if filled == 0 {
            return Err(ReadError::Unmapped(thread.state));
        }
        self.ahead.were_read(filled.saturating_sub(fixed));
        let pointer = Addr(u64::from_le_bytes(word));
        Ok(if !has_cframe {
            pointer
        } else if guess == Some(pointer) && filled >= 2 {
            Addr(u64::from_le_bytes(inner))
        } else {
            self.cframe = Some(pointer);
            python.memory.read_pointer(pointer.at(offsets.cframe_current_frame))?
        })
    }
}

/// Whether a thread's pointer, and what the `_PyCFrame` says that it must point to if there is one,
/// lead to the frame `top`.
fn leads_to(top: Addr, cframe: Option<Addr>, pointer: Addr, inner: Addr) -> bool {
    match cframe {
        Some(cframe) => pointer == cframe && inner == top,
        None => pointer == top,
    }
}

/// Whether the way to the innermost frame leads through a `_PyCFrame`.
fn has_cframe(python: &Interpreter<'_>) -> bool {
    python.layout.shape.frame_link == FrameLink::CFrame
}

/// The value of local variable `index` of a frame: a reference without tag bits, or null.
///
/// # Errors
/// When the frame cannot be read.
pub fn local(python: &Interpreter<'_>, frame: Addr, index: usize) -> Result<Addr, ReadError> {
    Ok(python.untag(python.memory.read_pointer(slot(python, frame, index))?))
}

fn slot(python: &Interpreter<'_>, frame: Addr, index: usize) -> Addr {
    let slot = (index as u64).saturating_mul(8);
    frame.at(python.layout.offsets.frame.localsplus).at(slot)
}
