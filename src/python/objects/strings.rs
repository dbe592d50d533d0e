//! `str` and `bytes`.
//!
//! <https://github.com/python/cpython/blob/v3.12.1/Include/cpython/unicodeobject.h>

use std::rc::Rc;

use super::types::{BYTES, STR, Type};
use super::{Objects, count, object_address};
use crate::target::{Fields, ReadError, RemoteMemoryExt, Span};
use crate::units::Addr;

/// Most characters read of a `str`.
pub(super) const MAX_CHARS: usize = 4096;
/// Read along with a string's header: most names in a program are shorter, and so cost one call.
const TAIL: usize = 96;

/// `PyASCIIObject.state`. GIL builds of 3.8 to 3.15 all have `interned:2 kind:3 compact:1 ascii:1`
/// in its lowest byte; the bytes above are padding that nobody initialises.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    /// Bytes a character takes: 1, 2 or 4.
    pub kind: usize,
    /// The characters follow the header, rather than lie elsewhere.
    pub compact: bool,
    /// All characters are ASCII, and the header is the short one.
    pub ascii: bool,
}

impl State {
    /// `None` for a state no finished string has.
    pub(super) fn new(state: u32) -> Option<State> {
        let kind = match (state >> 2) & 7 {
            1 => 1,
            2 => 2,
            4 => 4,
            _ => return None, // 0: a string of 3.11 or older that is not ready
        };
        let state = State { kind, compact: state >> 5 & 1 == 1, ascii: state >> 6 & 1 == 1 };
        (!state.ascii || kind == 1).then_some(state)
    }
}

impl Objects<'_> {
    /// A `str` (or an instance of a subclass). At most 4096 characters are read, the rest is cut
    /// off; a lone surrogate becomes U+FFFD.
    ///
    /// # Errors
    /// [`ReadError`] when no `str` is there.
    pub fn str(&self, addr: Addr) -> Result<String, ReadError> {
        self.str_prefix(addr, MAX_CHARS).map(|(text, _)| text)
    }

    /// The first characters of a `str`, at most `limit`; and how many it has in all.
    pub(super) fn str_prefix(
        &self,
        addr: Addr,
        limit: usize,
    ) -> Result<(String, usize), ReadError> {
        const NO_STR: ReadError = ReadError::Invalid("str");
        let offsets = &self.layout.offsets.object;
        object_address(addr)?;
        let mut header = [0; 64];
        let header_len = usize::try_from(offsets.ascii_size).unwrap_or(usize::MAX);
        let header = header.get_mut(..header_len).ok_or(NO_STR)?;
        let mut tail = [0; TAIL];
        let mut spans: [Span<'_>; 2] =
            [(addr, &mut *header), (addr.at(offsets.ascii_size), &mut tail)];
        let filled = self.memory.read_batch(&mut spans)?;
        if filled == 0 {
            return Err(ReadError::Unmapped(addr));
        }
        let tail = if filled > 1 { tail.as_slice() } else { &[] };

        let fields = Fields(header);
        self.type_at(fields.pointer(offsets.ob_type)?)?.must_be(STR, "str")?;
        let chars = count(fields.u64(offsets.unicode_length)?)?;
        let state = State::new(fields.u32(offsets.unicode_state)?).ok_or(NO_STR)?;
        let wanted = chars.min(limit).min(MAX_CHARS).saturating_mul(state.kind);

        // Where the characters begin, from the end of the short header on.
        let more = offsets.compact_size.saturating_sub(offsets.ascii_size);
        let start = match (state.compact, state.ascii) {
            (true, true) => 0,
            (true, false) => more,
            (false, _) => {
                let data = match Fields(tail).pointer(more) {
                    Ok(data) => data,
                    Err(_) => self.memory.read_pointer(addr.at(offsets.compact_size))?,
                };
                return Ok((decode(&self.data(data, wanted)?, state.kind), chars));
            }
        };
        let from = usize::try_from(start).unwrap_or(usize::MAX);
        if let Some(bytes) = tail.get(from..).and_then(|bytes| bytes.get(..wanted)) {
            return Ok((decode(bytes, state.kind), chars));
        }
        let bytes = self.data(addr.at(offsets.ascii_size).at(start), wanted)?;
        Ok((decode(&bytes, state.kind), chars))
    }

    fn data(&self, addr: Addr, len: usize) -> Result<Vec<u8>, ReadError> {
        if len == 0 {
            return Ok(Vec::new());
        }
        if !addr.is_plausible() {
            return Err(ReadError::Invalid("str"));
        }
        self.memory.read_vec(addr, len)
    }

    /// A `bytes` object of at most `limit` bytes.
    ///
    /// # Errors
    /// [`ReadError::Invalid`] when there is none or it is longer, any other [`ReadError`] when it
    /// cannot be read.
    pub fn bytes(&self, addr: Addr, limit: usize) -> Result<Vec<u8>, ReadError> {
        let (bytes, len) = self.bytes_prefix(addr, limit)?;
        if len > limit { Err(ReadError::Invalid("bytes so short")) } else { Ok(bytes) }
    }

    /// The first bytes of a `bytes` object, at most `limit`; and how many it has in all.
    pub(super) fn bytes_prefix(
        &self,
        addr: Addr,
        limit: usize,
    ) -> Result<(Vec<u8>, usize), ReadError> {
        let offsets = &self.layout.offsets.object;
        let (head, kind): (Vec<u8>, Rc<Type>) = self.head(addr, offsets.bytes_size)?;
        kind.must_be(BYTES, "bytes")?;
        let len = count(Fields(&head).u64(offsets.bytes_size)?)?;
        Ok((self.data(addr.at(offsets.bytes_value), len.min(limit))?, len))
    }
}

/// Characters of `kind` bytes each, as text.
fn decode(bytes: &[u8], kind: usize) -> String {
    let character = |code: u32| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    match kind {
        1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
        2 => {
            let (units, _) = bytes.as_chunks::<2>();
            units.iter().map(|unit| character(u16::from_le_bytes(*unit).into())).collect()
        }
        _ => {
            let (units, _) = bytes.as_chunks::<4>();
            units.iter().map(|unit| character(u32::from_le_bytes(*unit))).collect()
        }
    }
}
