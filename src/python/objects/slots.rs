//! Attributes that a class keeps in `__slots__`: their places are in the class's member descriptors.
//!
//! `PyMemberDescrObject` and `PyMemberDef`:
//! <https://github.com/python/cpython/blob/v3.12.1/Include/cpython/descrobject.h>; the places below
//! were measured in 3.8 to 3.15.

use super::Objects;
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// Offset of `d_member` in a member descriptor.
const D_MEMBER: u64 = 40;
/// Offset of `offset` in a `PyMemberDef`.
const MEMBER_OFFSET: u64 = 16;
/// Largest offset of a slot that is believed: an instance of 8192 slots.
const MAX_OFFSET: u64 = 1 << 16;

impl Objects<'_> {
    /// The attribute `name` of the instance at `addr`, whether it is in its `__dict__` or a slot;
    /// `None` when it has no such one or it is not set.
    ///
    /// # Errors
    /// [`ReadError`] when no object is there.
    pub fn member(&self, addr: Addr, name: &str) -> Result<Option<Addr>, ReadError> {
        if let Some(found) = self.attribute(addr, name)? {
            return Ok(Some(found));
        }
        match self.class_attribute(addr, name)? {
            Some(descriptor) => self.slot_value(addr, descriptor),
            None => Ok(None),
        }
    }

    /// What is in the slot that `descriptor` describes; the default that the class has under this name
    /// is no slot.
    fn slot_value(&self, addr: Addr, descriptor: Addr) -> Result<Option<Addr>, ReadError> {
        if self.type_name(descriptor)? != "member_descriptor" {
            return Ok(None);
        }
        let member = self.memory.read_pointer(descriptor.at(D_MEMBER))?;
        let offset = self.memory.read_u64(member.at(MEMBER_OFFSET))?;
        if !(8..MAX_OFFSET).contains(&offset) {
            return Err(ReadError::Invalid("slot"));
        }
        let value = self.memory.read_pointer(addr.at(offset))?;
        Ok(value.is_plausible().then_some(value))
    }
}
