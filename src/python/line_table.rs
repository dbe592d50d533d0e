//! Which line an instruction belongs to: the three encodings CPython has used since 3.8.
//!
//! Takes a code object's table as bytes, gives a line. Pure: no I/O, no allocation. The bytes are
//! another process's and may be anything; decoding takes time linear in their number and never
//! panics. Meaning outside the table (negative or absurd lines) is `None`.

use crate::layout::shape::LineTable;

/// The line of the instruction at `offset_bytes` from the start of the code, `None` where the
/// table gives no line (code the compiler made up), ends before it, or makes no sense.
#[must_use]
pub fn line_at(kind: LineTable, table: &[u8], firstlineno: u32, offset_bytes: u64) -> Option<u32> {
    let line = match kind {
        LineTable::Lnotab => lnotab(table, firstlineno.into(), offset_bytes),
        LineTable::Pep626 => pep626(table, firstlineno.into(), offset_bytes),
        LineTable::Locations => locations(table, firstlineno.into(), offset_bytes),
    }?;
    u32::try_from(line).ok().filter(|line| *line > 0)
}

/// `PyCode_Addr2Line` in
/// <https://github.com/python/cpython/blob/v3.9.18/Objects/codeobject.c>: a pair moves on by so
/// many bytes, then by so many lines. The last line goes on to the end of the code.
fn lnotab(table: &[u8], firstlineno: i64, wanted: u64) -> Option<i64> {
    let (mut line, mut offset) = (firstlineno, 0_u64);
    let (pairs, _) = table.as_chunks::<2>();
    for [bytes, lines] in pairs {
        offset = offset.saturating_add(u64::from(*bytes));
        if offset > wanted {
            break;
        }
        line = line.saturating_add(lines.cast_signed().into());
    }
    Some(line)
}

/// `advance` in <https://github.com/python/cpython/blob/v3.10.13/Objects/codeobject.c>: a pair
/// moves on by so many lines, then covers so many bytes. -128 lines means none at all.
fn pep626(table: &[u8], firstlineno: i64, wanted: u64) -> Option<i64> {
    let (mut line, mut end) = (firstlineno, 0_u64);
    let (pairs, _) = table.as_chunks::<2>();
    for [bytes, lines] in pairs {
        let lines = lines.cast_signed();
        if lines != i8::MIN {
            line = line.saturating_add(lines.into());
        }
        end = end.saturating_add(u64::from(*bytes));
        if wanted < end {
            return (lines != i8::MIN).then_some(line);
        }
    }
    None
}

/// A byte with this bit begins an entry; bytes without it go on with one.
const ENTRY_START: u8 = 0x80;
/// In a varint byte: another one follows.
const VARINT_MORE: u8 = 0x40;
/// `sizeof(_Py_CODEUNIT)`.
const CODE_UNIT: u64 = 2;

/// The format is told in
/// <https://github.com/python/cpython/blob/v3.12.1/Objects/locations.md>: an entry covers 1 to 8
/// code units and moves on by so many lines; columns follow, which are skipped here.
fn locations(table: &[u8], firstlineno: i64, wanted: u64) -> Option<i64> {
    let (mut line, mut end) = (firstlineno, 0_u64);
    let mut rest = table;
    while let [head, tail @ ..] = rest {
        let (code, units) = ((head >> 3) & 0xf, u64::from(head & 7).saturating_add(1));
        line = line.saturating_add(match code {
            10..=12 => i64::from(code).saturating_sub(10),
            13 | 14 => signed_varint(tail)?,
            _ => 0,
        });
        end = end.saturating_add(units.saturating_mul(CODE_UNIT));
        if wanted < end {
            return (code != 15).then_some(line);
        }
        let next = tail.iter().position(|byte| byte & ENTRY_START != 0)?;
        rest = tail.get(next..)?;
    }
    None
}

/// Six bits a byte, lowest first; the lowest bit of all is the sign.
fn signed_varint(bytes: &[u8]) -> Option<i64> {
    let mut value = 0_i64;
    // 32 bits are all that CPython writes, so six bytes.
    for (index, byte) in (0_u32..6).zip(bytes) {
        let bits = i64::from(byte & (VARINT_MORE - 1));
        value |= bits.checked_shl(index.saturating_mul(6))?;
        if byte & VARINT_MORE == 0 {
            let magnitude = value >> 1;
            return Some(if value & 1 == 0 { magnitude } else { magnitude.saturating_neg() });
        }
    }
    None
}

#[cfg(test)]
mod tests;
