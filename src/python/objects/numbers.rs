//! `int`, `bool` and `float`.
//!
//! <https://github.com/python/cpython/blob/v3.12.1/Include/cpython/longintrepr.h>

use super::Objects;
use super::types::INT;
use crate::layout::shape::IntTag;
use crate::target::{Fields, ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// `PyLong_SHIFT` of all 64-bit builds: bits in a digit.
const DIGIT_BITS: u32 = 30;
/// What an int is not that has more digits.
pub(super) const TOO_LARGE: ReadError = ReadError::Invalid("int so small");
/// Digits that hold any 64-bit number.
const MAX_DIGITS: u64 = 3;

impl Objects<'_> {
    /// An `int` (or `bool`, or an instance of a subclass).
    ///
    /// # Errors
    /// [`ReadError::Invalid`] when there is none or it does not fit, any other [`ReadError`] when
    /// it cannot be read.
    pub fn int(&self, addr: Addr) -> Result<i64, ReadError> {
        let offsets = &self.layout.offsets.object;
        // Up to the first digit, which zero has too; few numbers have more than one.
        let last = offsets.int_digits.saturating_sub(4).max(offsets.int_tag);
        let (head, kind) = self.head(addr, last)?;
        kind.must_be(INT, "int")?;
        let (negative, digits) = self.int_size(Fields(&head).u64(offsets.int_tag)?);
        let magnitude = match digits {
            0 => 0,
            1 => i128::from(Fields(&head).u32(offsets.int_digits)?),
            2..=MAX_DIGITS => self.digits(addr.at(offsets.int_digits), digits)?,
            _ => return Err(TOO_LARGE),
        };
        let value = if negative { magnitude.saturating_neg() } else { magnitude };
        i64::try_from(value).map_err(|_| TOO_LARGE)
    }

    /// Whether an int with this tag is negative, and how many digits it has.
    pub(super) fn int_size(&self, tag: u64) -> (bool, u64) {
        match self.layout.shape.int_tag {
            IntTag::Size => (tag.cast_signed() < 0, tag.cast_signed().unsigned_abs()),
            // 0 is positive, 1 zero, 2 negative.
            IntTag::Tag => (tag & 3 == 2, tag >> 3),
        }
    }

    fn digits(&self, addr: Addr, digits: u64) -> Result<i128, ReadError> {
        let len = usize::try_from(digits.min(MAX_DIGITS)).unwrap_or_default();
        let bytes = self.memory.read_vec(addr, len.saturating_mul(4))?;
        let (digits, _) = bytes.as_chunks::<4>();
        let mut value = 0_i128;
        for (digit, shift) in digits.iter().zip([0, DIGIT_BITS, DIGIT_BITS * 2]) {
            let digit = i128::from(u32::from_le_bytes(*digit));
            if digit >> DIGIT_BITS != 0 {
                return Err(ReadError::Invalid("int"));
            }
            value |= digit.checked_shl(shift).unwrap_or_default();
        }
        Ok(value)
    }

    /// A `float`.
    ///
    /// # Errors
    /// [`ReadError`] when there is none.
    pub fn float(&self, addr: Addr) -> Result<f64, ReadError> {
        let offset = self.layout.offsets.object.float_value;
        let (head, kind) = self.head(addr, offset)?;
        if kind.name != "float" {
            return Err(ReadError::Invalid("float"));
        }
        Fields(&head).u64(offset).map(f64::from_bits)
    }
}
