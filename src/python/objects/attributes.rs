//! Attributes of an instance: what is, or would be, in its `__dict__`.
//!
//! Where they lie changed with almost every version: see
//! [`Attributes`]. Slots (`__slots__`) and attributes of the class
//! are not among them.

use super::dicts::Entry;
use super::types::{INLINE_VALUES, INT, MANAGED_DICT, Type};
use super::{Objects, is_final, object_address};
use crate::layout::shape::Attributes;
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

// Words before an object, where objects with `Py_TPFLAGS_MANAGED_DICT` keep their attributes:
// <https://github.com/python/cpython/blob/v3.11.7/Include/internal/pycore_object.h#L230>,
// <https://github.com/python/cpython/blob/v3.12.1/Include/internal/pycore_object.h#L360>,
// <https://github.com/python/cpython/blob/v3.13.0/Include/internal/pycore_object.h#L700>.
/// Two words: the values (3.11 only), then the dict, or (3.12) the dict or the values.
const WORDS_BEFORE: i64 = -32;
/// `PyDictValues.valid`, 3.13 on: 0 once a dict has taken the values over.
const VALUES_VALID: u64 = 3;
/// `PyMemberDescrObject.d_member` (Include/cpython/descrobject.h; the same 3.8 to 3.15).
const DESCRIPTOR_MEMBER: u64 = 40;
/// `PyMemberDef.offset` (Include/descrobject.h; the same 3.8 to 3.15).
const MEMBER_OFFSET: u64 = 16;
/// Most bytes an instance takes before its dict pointer: what is more is garbage.
const MAX_INSTANCE: i64 = 1 << 40;

impl Objects<'_> {
    /// The attributes of the instance at `addr`, at most `limit`, by name. Empty for an object that
    /// keeps none.
    ///
    /// # Errors
    /// [`ReadError`] when no object is there.
    pub fn attributes(&self, addr: Addr, limit: usize) -> Result<Vec<(String, Addr)>, ReadError> {
        let mut named = Vec::new();
        for (key, value) in self.attribute_entries(addr, limit)? {
            match self.str(key) {
                Ok(name) => named.push((name, value)),
                Err(error) if is_final(error) => return Err(error),
                Err(_) => {} // a key that is no string, or was replaced as we looked
            }
        }
        Ok(named)
    }

    /// The attribute `name` of the instance at `addr`; `None` when it has no such one.
    ///
    /// # Errors
    /// [`ReadError`] when no object is there.
    pub fn attribute(&self, addr: Addr, name: &str) -> Result<Option<Addr>, ReadError> {
        const MOST: usize = 1 << 12;
        self.find_key(&self.attribute_entries(addr, MOST)?, name)
    }

    /// What the instance at `addr` has in the slot `name` (`__slots__`) of its class itself; `None` when
    /// there is no such slot, or nothing in it.
    ///
    /// # Errors
    /// [`ReadError`] when no object is there.
    pub fn slot(&self, addr: Addr, name: &str) -> Result<Option<Addr>, ReadError> {
        let Some(place) = self.slot_place(addr, name)? else { return Ok(None) };
        let held = self.memory.read_pointer(addr.at(place))?;
        Ok(held.is_plausible().then_some(held))
    }

    /// How many bytes into the instance at `addr`, and every other of its class itself, the slot `name`
    /// lies; `None` when there is no such slot.
    ///
    /// # Errors
    /// [`ReadError`] when no object is there.
    pub fn slot_place(&self, addr: Addr, name: &str) -> Result<Option<u64>, ReadError> {
        let kind = self.type_at(self.type_of(addr)?)?;
        // `tp_dict` lies three words before `tp_dictoffset` (Include/cpython/object.h, 3.8 to 3.15).
        let dict = self.layout.offsets.object.tp_dictoffset.wrapping_sub(24);
        let dict = self.memory.read_pointer(kind.addr.at(dict))?;
        let Some(descriptor) = self.dict_get(dict, name)? else { return Ok(None) };
        if self.type_name(descriptor)? != "member_descriptor" {
            return Ok(None);
        }
        let member = self.memory.read_pointer(descriptor.at(DESCRIPTOR_MEMBER))?;
        let offset = self.memory.read_u64(member.at(MEMBER_OFFSET))?;
        if i64::try_from(offset).map_or(true, |offset| offset >= kind.basicsize) {
            return Err(ReadError::Invalid("slot"));
        }
        Ok(Some(offset))
    }

    fn attribute_entries(&self, addr: Addr, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let kind = self.type_at(self.type_of(addr)?)?;
        let how = self.layout.shape.attributes;
        if how == Attributes::DictOffset || !kind.is(MANAGED_DICT) {
            let Some(place) = self.dict_place(addr, &kind)? else { return Ok(Vec::new()) };
            let dict = self.memory.read_pointer(place)?;
            return if dict.is_null() { Ok(Vec::new()) } else { self.dict_items(dict, limit) };
        }
        let words = self.words(displaced(addr, WORDS_BEFORE), 2)?;
        let [values, dict] = words.as_slice() else {
            return Err(ReadError::Invalid("attributes"));
        };
        match how {
            Attributes::DictOrValuesTagged if dict.0 & 1 == 1 => {
                self.values(&kind, dict.at(1), limit)
            }
            _ if !dict.is_null() => self.dict_items(*dict, limit),
            Attributes::DictOrValuesApart if !values.is_null() => {
                self.values(&kind, *values, limit)
            }
            Attributes::InlineValues if kind.is(INLINE_VALUES) => {
                let size = u64::try_from(kind.basicsize).unwrap_or_default();
                let values = addr.at(size);
                if self.memory.read_u8(values.at(VALUES_VALID))? == 0 {
                    return Ok(Vec::new());
                }
                self.values(&kind, values, limit)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Values whose keys the type keeps.
    fn values(&self, kind: &Type, values: Addr, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let Some(offset) = self.layout.offsets.object.ht_cached_keys else {
            return Ok(Vec::new());
        };
        let keys = self.memory.read_pointer(kind.addr.at(offset))?;
        self.split_entries(keys, values, limit)
    }

    /// Where the pointer to an instance's dict lies, as `_PyObject_GetDictPtr` says. A negative
    /// `tp_dictoffset` counts from the instance's end.
    fn dict_place(&self, addr: Addr, kind: &Type) -> Result<Option<Addr>, ReadError> {
        const NO_PLACE: ReadError = ReadError::Invalid("dict offset");
        if kind.dictoffset >= 0 {
            let offset = u64::try_from(kind.dictoffset.min(MAX_INSTANCE)).unwrap_or_default();
            return Ok((offset > 0).then(|| addr.at(offset)));
        }
        let offsets = &self.layout.offsets.object;
        let size = self.memory.read_u64(addr.at(offsets.tuple_size))?;
        let items = if kind.is(INT) {
            let (_, digits) = self.int_size(size);
            i64::try_from(digits).map_err(|_| NO_PLACE)?
        } else {
            size.cast_signed().checked_abs().ok_or(NO_PLACE)?
        };
        let end = items
            .checked_mul(kind.itemsize)
            .and_then(|bytes| bytes.checked_add(kind.basicsize))
            .and_then(|bytes| bytes.checked_add(7))
            .ok_or(NO_PLACE)?
            & !7;
        let offset = end.checked_add(kind.dictoffset).ok_or(NO_PLACE)?;
        if !(1..MAX_INSTANCE).contains(&offset) {
            return Err(NO_PLACE);
        }
        object_address(displaced(addr, offset)).map(Some)
    }
}

/// `addr + offset`, wrapping: the read that follows fails on its own.
fn displaced(addr: Addr, offset: i64) -> Addr {
    Addr(addr.0.wrapping_add_signed(offset))
}
