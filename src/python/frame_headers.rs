//! Single frames: reading their headers and what lies around them, and what the bytes say.

use super::Interpreter;
use super::stretches::Stretches;
use crate::layout::shape::LastInstruction;
use crate::target::{Fields, ReadError};
use crate::units::Addr;

/// Most bytes read of each frame: enough for the header of every version (`PyFrameObject.f_lasti`
/// at 104 in 3.9 is the furthest field).
const HEADER: usize = 112;

/// Where a frame has to be read by itself, its page is read from its beginning on: the frames of those
/// that called it lie before it. At least so many bytes before it are read, and behind it.
const AROUND: u64 = 512;
/// The smallest page of any supported kernel.
const PAGE: u64 = 4096;

/// The first bytes of a frame; only [`header_len`] of them are read.
pub(super) type Header = [u8; HEADER];

/// A header nothing was read into yet.
pub(super) const EMPTY: Header = [0; HEADER];

/// Objects and frames lie at multiples of this.
const ALIGNMENT: u64 = 8;

/// What a frame's bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) code: Addr,
    /// Where it is in its function: see [`LastInstruction`].
    pub(super) instruction: u64,
    /// The interpreter's own frame, which runs no Python.
    pub(super) is_shim: bool,
    /// C entered the interpreter with it; also true if the caller is the interpreter's own frame.
    pub(super) is_entry: bool,
    pub(super) previous: Addr,
}

impl Link {
    pub(super) fn decode(python: &Interpreter<'_>, header: &Header) -> Result<Link, ReadError> {
        let offsets = &python.layout.offsets.frame;
        let fields = Fields(header);
        let owner = offsets.owner.map(|offset| fields.u8(offset)).transpose()?;
        let is_shim = match (owner, python.layout.shape.first_shim_owner) {
            (Some(owner), Some(first)) => owner >= first,
            _ => false,
        };
        let instruction = match python.layout.shape.last_instruction {
            LastInstruction::Bytes | LastInstruction::Units => {
                u64::from(fields.u32(offsets.instruction)?)
            }
            LastInstruction::Pointer => fields.u64(offsets.instruction)?,
        };
        let code = python.untag(fields.pointer(offsets.code)?);
        let previous = fields.pointer(offsets.previous)?;
        let is_entry = match (owner, offsets.is_entry) {
            (None, _) => true,
            (Some(_), Some(offset)) => fields.u8(offset)? != 0,
            (Some(_), None) => previous.is_null(),
        };
        Ok(Link { code, instruction, is_shim, is_entry, previous })
    }

    /// Whether it can be a frame: each but the interpreter's own has a code object.
    pub(super) fn is_frame(&self) -> bool {
        self.is_shim || (self.code.is_plausible() && self.code.0.is_multiple_of(ALIGNMENT))
    }
}

/// Bytes of a frame before its local variables, as far as we use them: the frame at the end of a
/// piece of the data stack has nothing readable behind it.
pub(super) fn header_len(python: &Interpreter<'_>) -> usize {
    usize::try_from(python.layout.offsets.frame.localsplus).map_or(HEADER, |len| len.min(HEADER))
}

/// The header of the frame at `addr`, if it is among what was read.
pub(super) fn header_in(read: &Stretches, python: &Interpreter<'_>, addr: Addr) -> Option<Header> {
    let mut header = EMPTY;
    let len = header_len(python);
    header.get_mut(..len)?.copy_from_slice(read.get(addr, len)?);
    Some(header)
}

pub(super) fn read_header(python: &Interpreter<'_>, addr: Addr) -> Result<Header, ReadError> {
    let mut header = [0; HEADER];
    let len = header_len(python);
    let wanted = header.get_mut(..len).ok_or(ReadError::Invalid("frame layout"))?;
    python.memory.read(addr, wanted)?;
    Ok(header)
}

/// Local variables and the evaluation stack of a frame, as far as they lie in the first words:
/// whatever Python does changes one of them.
pub(super) type Values = [u8; 256];

/// The values of the frame at `addr`; `None` at the end of a piece of the data stack, where not so
/// much can be read.
pub(super) fn read_values(python: &Interpreter<'_>, addr: Addr) -> Option<Values> {
    let mut values = [0; size_of::<Values>()];
    let from = addr.at(python.layout.offsets.frame.localsplus);
    python.memory.read(from, &mut values).ok().map(|()| values)
}

/// What lies around the frames that had to be read one by one in this walk: frames made one after
/// another are often neighbours.
#[derive(Debug, Default)]
pub(super) struct Nearby {
    pieces: Vec<(Addr, Vec<u8>)>,
    used: usize,
}

impl Nearby {
    pub(super) fn forget(&mut self) {
        self.used = 0;
    }

    pub(super) fn header(
        &mut self,
        python: &Interpreter<'_>,
        addr: Addr,
    ) -> Result<Header, ReadError> {
        let (memory, len) = (python.memory, header_len(python));
        let known = self.pieces.get(..self.used).unwrap_or_default();
        let found = known.iter().rev().find_map(|(from, bytes)| within(*from, bytes, addr, len));
        if let Some(header) = found {
            return Ok(header);
        }
        let in_page = addr.0 % PAGE;
        let before = if in_page < AROUND { AROUND } else { in_page };
        let from = Addr(addr.0.saturating_sub(before));
        if self.used == self.pieces.len() {
            self.pieces.push((from, Vec::new()));
        }
        if let Some((at, bytes)) = self.pieces.get_mut(self.used) {
            *at = from;
            let size = before.saturating_add(len as u64).saturating_add(AROUND);
            bytes.resize(usize::try_from(size).unwrap_or(len), 0);
            if memory.read(from, bytes).is_ok() {
                self.used = self.used.saturating_add(1);
                return within(from, bytes, addr, len).ok_or(ReadError::Unmapped(addr));
            }
        }
        read_header(python, addr)
    }
}

/// The header at `addr`, if it lies wholly within `bytes`, read at `from`.
fn within(from: Addr, bytes: &[u8], addr: Addr, len: usize) -> Option<Header> {
    let start = usize::try_from(addr.0.checked_sub(from.0)?).ok()?;
    let wanted = bytes.get(start..start.checked_add(len)?)?;
    let mut header = [0; HEADER];
    header.get_mut(..len)?.copy_from_slice(wanted);
    Some(header)
}
