//! Python objects in another process's memory, read from outside.
//!
//! Takes addresses, gives values as Rust knows them. Every pointer is checked for plausibility,
//! every count against a limit before anything is allocated, every kind against the object's type:
//! a stale or hostile address gives a [`ReadError`], never a panic, an endless loop, or a value of
//! another kind. Never calls anything in the target: no `__repr__`, no properties.

mod attributes;
mod classes;
mod containers;
mod dates;
mod dicts;
mod numbers;
mod queues;
mod repr;
mod slots;
mod strings;
mod types;

use std::fmt;
use std::rc::Rc;

pub use dates::{DATA as DATETIME_DATA, PACKED as DATETIME_PACKED};
pub use dicts::DictSlot;
pub use repr::ReprLimits;
pub use types::TypeCache;
use types::{Type, Types};

use crate::layout::Layout;
use crate::target::{ReadError, RemoteMemory, RemoteMemoryExt};
use crate::units::Addr;

/// Most items read of any container, whatever the caller's limit: 24 MiB of dict entries.
const MAX_ITEMS: usize = 1 << 20;

/// Reads objects. Make one for a few reads and drop it: it remembers the types it has met, if it is
/// not given what others have met.
pub struct Objects<'a> {
    memory: &'a dyn RemoteMemory,
    layout: &'a Layout,
    types: Types<'a>,
}

impl fmt::Debug for Objects<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("version", &self.layout.version).finish_non_exhaustive()
    }
}

impl<'a> Objects<'a> {
    /// A reader of the objects in `memory`, which are laid out as `layout` says.
    #[must_use]
    pub fn new(memory: &'a dyn RemoteMemory, layout: &'a Layout) -> Objects<'a> {
        Objects { memory, layout, types: Types::Own(TypeCache::default()) }
    }

    /// The same, which knows the types that other readers of the process have met.
    #[must_use]
    pub fn sharing(self, types: &'a TypeCache) -> Objects<'a> {
        Objects { types: Types::Shared(types), ..self }
    }

    /// The address of the object's type.
    ///
    /// # Errors
    /// [`ReadError`] when no object can be there.
    pub fn type_of(&self, addr: Addr) -> Result<Addr, ReadError> {
        object_address(addr)?;
        let kind = self.memory.read_pointer(addr.at(self.layout.offsets.object.ob_type))?;
        object_address(kind)
    }

    /// The name of the object's type: `tp_name`, which is dotted for types written in C
    /// (`collections.deque`) and bare for the others.
    ///
    /// # Errors
    /// [`ReadError`] when no object is there.
    pub fn type_name(&self, addr: Addr) -> Result<String, ReadError> {
        self.name_of_type(self.type_of(addr)?)
    }

    /// The name of the type at `kind` itself.
    ///
    /// # Errors
    /// [`ReadError`] when no type is there.
    pub fn name_of_type(&self, kind: Addr) -> Result<String, ReadError> {
        self.type_at(kind).map(|kind| kind.name.clone())
    }

    fn type_at(&self, kind: Addr) -> Result<Rc<Type>, ReadError> {
        if let Some(known) = self.types.cache().get(kind) {
            return Ok(known);
        }
        let kind = Rc::new(Type::read(self, kind)?);
        self.types.cache().insert(Rc::clone(&kind));
        Ok(kind)
    }

    /// An object's first bytes, up to and including the word at `last`; and its type. Never more
    /// than the object has, so that this works at the very end of mapped memory.
    fn head(&self, addr: Addr, last: u64) -> Result<(Vec<u8>, Rc<Type>), ReadError> {
        object_address(addr)?;
        let len = usize::try_from(last.saturating_add(8)).unwrap_or(usize::MAX).min(MAX_HEAD);
        let bytes = self.memory.read_vec(addr, len)?;
        let fields = crate::target::Fields(&bytes);
        let kind = object_address(fields.pointer(self.layout.offsets.object.ob_type)?)?;
        let kind = self.type_at(kind)?;
        Ok((bytes, kind))
    }

    /// `count` words from `addr` on. The caller bounds `count`.
    fn words(&self, addr: Addr, count: usize) -> Result<Vec<Addr>, ReadError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.memory.read_vec(addr, count.saturating_mul(8))?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(words.iter().map(|word| Addr(u64::from_le_bytes(*word))).collect())
    }
}

/// Most bytes of one object's fixed part: every offset used is far below.
const MAX_HEAD: usize = 1024;

/// `addr`, if an object can be there: all are 8-byte aligned at least.
fn object_address(addr: Addr) -> Result<Addr, ReadError> {
    let fits = addr.is_plausible() && addr.0.trailing_zeros() >= 3;
    if fits { Ok(addr) } else { Err(ReadError::Invalid("object")) }
}

/// A `Py_ssize_t` that must be a count: not negative, and at most a terabyte's worth.
fn count(value: u64) -> Result<usize, ReadError> {
    const MOST: u64 = 1 << 40;
    if value > MOST {
        return Err(ReadError::Invalid("count"));
    }
    usize::try_from(value).map_err(|_| ReadError::Invalid("count"))
}

/// Whether reading anything else makes sense after this error.
fn is_final(error: ReadError) -> bool {
    matches!(error, ReadError::Gone | ReadError::Denied)
}

#[cfg(test)]
mod tests;
