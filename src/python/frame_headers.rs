//! Reading single frames: their headers, and what lies around them.

use super::Interpreter;
use crate::target::ReadError;
use crate::units::Addr;

/// Most bytes read of each frame: enough for the header of every version (`PyFrameObject.f_lasti`
/// at 104 in 3.9 is the furthest field).
const HEADER: usize = 112;

/// Bytes read where a frame has to be read by itself, and how many of them lie before it.
const PIECE: usize = 1024;
const BEFORE: u64 = 512;

/// The first bytes of a frame; only [`header_len`] of them are read.
pub(super) type Header = [u8; HEADER];

/// A header nothing was read into yet.
pub(super) const EMPTY: Header = [0; HEADER];

/// Bytes of a frame before its local variables, as far as we use them: the frame at the end of a
/// piece of the data stack has nothing readable behind it.
pub(super) fn header_len(python: &Interpreter<'_>) -> usize {
    usize::try_from(python.layout.offsets.frame.localsplus).map_or(HEADER, |len| len.min(HEADER))
}

pub(super) fn read_header(python: &Interpreter<'_>, addr: Addr) -> Result<Header, ReadError> {
    let mut header = [0; HEADER];
    let len = header_len(python);
    let wanted = header.get_mut(..len).ok_or(ReadError::Invalid("frame layout"))?;
    python.memory.read(addr, wanted)?;
    Ok(header)
}

/// What lies around the frames that had to be read one by one in this walk: frames made one after
/// another are often neighbours.
#[derive(Debug, Default)]
pub(super) struct Nearby {
    pieces: Vec<(Addr, [u8; PIECE])>,
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
        let from = Addr(addr.0.saturating_sub(BEFORE));
        if self.used == self.pieces.len() {
            self.pieces.push((from, [0; PIECE]));
        }
        if let Some((at, bytes)) = self.pieces.get_mut(self.used) {
            *at = from;
            if memory.read(from, bytes).is_ok() {
                self.used = self.used.saturating_add(1);
                return within(from, bytes, addr, len).ok_or(ReadError::Unmapped(addr));
            }
        }
        read_header(python, addr)
    }
}

/// The header at `addr`, if it lies wholly within `bytes`, read at `from`.
fn within(from: Addr, bytes: &[u8; PIECE], addr: Addr, len: usize) -> Option<Header> {
    let start = usize::try_from(addr.0.checked_sub(from.0)?).ok()?;
    let wanted = bytes.get(start..start.checked_add(len)?)?;
    let mut header = [0; HEADER];
    header.get_mut(..len)?.copy_from_slice(wanted);
    Some(header)
}
