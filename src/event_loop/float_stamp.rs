//! Stamps that loops in Python keep as float objects of seconds on `CLOCK_MONOTONIC`.

use crate::python::Interpreter;
use crate::target::{Fields, ReadError};
use crate::units::{Addr, Timestamp};

/// Bytes of a float object: refcount, type, value.
pub const FLOAT_SIZE: usize = 24;

/// Reads float objects, and no others.
#[derive(Debug, Clone, Copy, Default)]
pub struct Floats {
    /// `PyFloat_Type`, once found by its name: never learnt from an unchecked read.
    kind: Option<Addr>,
}

impl Floats {
    /// The value in these bytes of an object; `None` if it is no float.
    ///
    /// # Errors
    /// When there are too few bytes.
    pub fn value(
        &mut self,
        python: &Interpreter<'_>,
        object: &[u8],
    ) -> Result<Option<f64>, ReadError> {
        let kind = Fields(object).pointer(python.layout.offsets.object.ob_type)?;
        match self.kind {
            Some(known) if known == kind => {}
            Some(_) => return Ok(None),
            None if python.objects().name_of_type(kind).is_ok_and(|name| name == "float") => {
                self.kind = Some(kind);
            }
            None => return Ok(None),
        }
        let value = Fields(object).u64(python.layout.offsets.object.float_value)?;
        Ok(Some(f64::from_bits(value)))
    }
}

/// Seconds on the target's clock as a time on the host's.
#[must_use]
pub fn to_timestamp(seconds: f64, clock_offset: i64) -> Option<Timestamp> {
    /// Beyond this a float of seconds cannot be a monotonic time: 300 years.
    const MAX_SECONDS: f64 = 1e10;
    if !(0.0..MAX_SECONDS).contains(&seconds) {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked just above
    let nanos = (seconds * 1e9).round() as u64;
    nanos.checked_add_signed(clock_offset.checked_neg()?).map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_told_on_the_hosts_clock() {
        assert_eq!(to_timestamp(2.000_000_001, 0), Some(Timestamp(2_000_000_001)));
        assert_eq!(to_timestamp(5.0, 3_000_000_000), Some(Timestamp(2_000_000_000)));
    }

    #[test]
    fn no_number_of_seconds_is_trusted() {
        for garbage in [f64::NAN, f64::INFINITY, -1.0, 1e300, -0.5] {
            assert_eq!(to_timestamp(garbage, 0), None, "{garbage}");
        }
        assert_eq!(to_timestamp(1.0, i64::MIN), None);
    }
}
