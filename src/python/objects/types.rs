//! Types: what an object must be before it is read as anything.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::{Objects, object_address};
use crate::target::{Fields, ReadError, RemoteMemory, RemoteMemoryExt, Span};
use crate::units::Addr;

/// Most bytes of a type's name.
const MAX_NAME: usize = 256;
/// A read that ends here cannot fail for what lies beyond: the smallest page of any kernel.
const PAGE: u64 = 4096;

// <https://github.com/python/cpython/blob/v3.13.0/Include/object.h>; the same since 3.8 where the
// version has them at all.
/// `Py_TPFLAGS_INLINE_VALUES`.
pub(super) const INLINE_VALUES: u64 = 1 << 2;
/// `Py_TPFLAGS_MANAGED_DICT`.
pub(super) const MANAGED_DICT: u64 = 1 << 4;
/// `Py_TPFLAGS_LONG_SUBCLASS`.
pub(super) const INT: u64 = 1 << 24;
/// `Py_TPFLAGS_LIST_SUBCLASS`.
pub(super) const LIST: u64 = 1 << 25;
/// `Py_TPFLAGS_TUPLE_SUBCLASS`.
pub(super) const TUPLE: u64 = 1 << 26;
/// `Py_TPFLAGS_BYTES_SUBCLASS`.
pub(super) const BYTES: u64 = 1 << 27;
/// `Py_TPFLAGS_UNICODE_SUBCLASS`.
pub(super) const STR: u64 = 1 << 28;
/// `Py_TPFLAGS_DICT_SUBCLASS`.
pub(super) const DICT: u64 = 1 << 29;
/// `Py_TPFLAGS_TYPE_SUBCLASS`.
pub(super) const TYPE: u64 = 1 << 31;

/// What a type says about its instances.
#[derive(Debug)]
pub(super) struct Type {
    pub addr: Addr,
    pub name: String,
    pub flags: u64,
    pub basicsize: i64,
    pub itemsize: i64,
    pub dictoffset: i64,
}

impl Type {
    pub(super) fn read(objects: &Objects<'_>, addr: Addr) -> Result<Type, ReadError> {
        object_address(addr)?;
        let offsets = &objects.layout.offsets.object;
        let last = offsets.tp_dictoffset.max(offsets.tp_flags);
        let len = usize::try_from(last.saturating_add(8)).unwrap_or(usize::MAX);
        let bytes = objects.memory.read_vec(addr, len.min(super::MAX_HEAD))?;
        let fields = Fields(&bytes);
        let signed = |offset| fields.u64(offset).map(u64::cast_signed);
        Ok(Type {
            addr,
            name: read_name(objects.memory, fields.pointer(offsets.tp_name)?)?,
            flags: fields.u64(offsets.tp_flags)?,
            basicsize: signed(offsets.tp_basicsize)?,
            itemsize: signed(offsets.tp_itemsize)?,
            dictoffset: signed(offsets.tp_dictoffset)?,
        })
    }

    pub(super) fn is(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Errs with what was wanted when this is not it.
    pub(super) fn must_be(&self, flag: u64, wanted: &'static str) -> Result<(), ReadError> {
        if self.is(flag) { Ok(()) } else { Err(ReadError::Invalid(wanted)) }
    }
}

/// A C string that can be a type's name: not empty, no control characters, not endless.
fn read_name(memory: &dyn RemoteMemory, addr: Addr) -> Result<String, ReadError> {
    const NO_NAME: ReadError = ReadError::Invalid("type name");
    if !addr.is_plausible() {
        return Err(NO_NAME);
    }
    let mut bytes = [0; MAX_NAME];
    let to_page_end = PAGE.saturating_sub(addr.0 & (PAGE - 1));
    let first = usize::try_from(to_page_end).unwrap_or(MAX_NAME).min(MAX_NAME);
    // A name may end with its page: what follows is read along, and may be missing.
    let (here, beyond) = bytes.split_at_mut(first);
    let mut spans: Vec<Span<'_>> = vec![(addr, here)];
    if !beyond.is_empty() {
        spans.push((addr.at(to_page_end), beyond));
    }
    let wanted = spans.len();
    let filled = memory.read_batch(&mut spans)?;
    let ends_here = bytes.iter().take(first).any(|byte| *byte == 0);
    if filled == 0 || (filled < wanted && !ends_here) {
        return Err(ReadError::Unmapped(addr));
    }
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() || text.len() == MAX_NAME {
        return Err(NO_NAME);
    }
    let name = std::str::from_utf8(text).map_err(|_| NO_NAME)?;
    if name.contains(char::is_control) { Err(NO_NAME) } else { Ok(name.to_owned()) }
}

/// The types met so far. One may be shared by all readers of a process, as long as somebody forgets
/// them every now and then: a class can end, and another lie where it was.
#[derive(Debug, Clone, Default)]
pub struct TypeCache(RefCell<HashMap<Addr, Rc<Type>>>);

impl TypeCache {
    /// Past this many the cache starts anew: all readers together see some dozens of kinds of object.
    const MOST: usize = 256;

    /// Forgets all of them.
    pub fn forget(&self) {
        self.0.borrow_mut().clear();
    }

    pub(super) fn get(&self, addr: Addr) -> Option<Rc<Type>> {
        self.0.borrow().get(&addr).cloned()
    }

    pub(super) fn insert(&self, kind: Rc<Type>) {
        let mut known = self.0.borrow_mut();
        if known.len() >= TypeCache::MOST {
            known.clear();
        }
        known.insert(kind.addr, kind);
    }
}

/// A reader's own types, or those of all readers.
#[derive(Debug)]
pub(super) enum Types<'a> {
    Own(TypeCache),
    Shared(&'a TypeCache),
}

impl Types<'_> {
    pub(super) fn cache(&self) -> &TypeCache {
        match self {
            Types::Own(cache) => cache,
            Types::Shared(cache) => cache,
        }
    }
}
