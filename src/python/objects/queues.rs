//! `_queue.SimpleQueue`, weak references, and counts of containers without their items.

use super::types::DICT;
use super::{Objects, count, object_address};
use crate::layout::shape::SimpleQueue;
use crate::target::{Fields, ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// Where a weak reference keeps what it refers to, `wr_object` (`PyWeakReference`,
/// Include/cpython/weakrefobject.h; the same 3.8 to 3.15).
const WR_OBJECT: u64 = 16;

impl Objects<'_> {
    /// How many items a `queue.SimpleQueue` has.
    ///
    /// # Errors
    /// [`ReadError`] when there is none.
    pub fn simple_queue_len(&self, addr: Addr) -> Result<usize, ReadError> {
        const NO_QUEUE: ReadError = ReadError::Invalid("simple queue");
        let last = match self.layout.shape.simple_queue {
            SimpleQueue::List { items, position } => items.max(position),
            SimpleQueue::Ring { len } => len,
        };
        let (head, kind) = self.head(addr, last)?;
        if kind.name != "_queue.SimpleQueue" {
            return Err(NO_QUEUE);
        }
        match self.layout.shape.simple_queue {
            SimpleQueue::List { items, position } => {
                let taken = count(Fields(&head).u64(position)?)?;
                let list = object_address(Fields(&head).pointer(items)?)?;
                let size = self.memory.read_u64(list.at(self.layout.offsets.object.list_size))?;
                // What was taken is cut off now and then: between the two reads, too.
                Ok(count(size)?.saturating_sub(taken))
            }
            SimpleQueue::Ring { len } => count(Fields(&head).u64(len)?),
        }
    }

    /// How many entries a `dict` has, or an instance of a subclass such as `OrderedDict`.
    ///
    /// # Errors
    /// [`ReadError`] when there is none.
    pub fn dict_len(&self, addr: Addr) -> Result<usize, ReadError> {
        let offset = self.layout.offsets.object.dict_used;
        let (head, kind) = self.head(addr, offset)?;
        kind.must_be(DICT, "dict")?;
        count(Fields(&head).u64(offset)?)
    }

    /// How many elements a `set` has.
    ///
    /// # Errors
    /// [`ReadError`] when there is none.
    pub fn set_len(&self, addr: Addr) -> Result<usize, ReadError> {
        let offset = self.layout.offsets.object.set_used;
        let (head, kind) = self.head(addr, offset)?;
        if kind.name != "set" {
            return Err(ReadError::Invalid("set"));
        }
        count(Fields(&head).u64(offset)?)
    }

    /// What a `weakref.ref` refers to; `None` once that is gone.
    ///
    /// # Errors
    /// [`ReadError`] when there is no weak reference.
    pub fn referent(&self, addr: Addr) -> Result<Option<Addr>, ReadError> {
        let (head, kind) = self.head(addr, WR_OBJECT)?;
        // `weakref` to 3.9, `weakref.ReferenceType` from 3.10 on; `KeyedRef` derives from it.
        if !kind.name.starts_with("weakref") && kind.name != "KeyedRef" {
            return Err(ReadError::Invalid("weak reference"));
        }
        let object = Fields(&head).pointer(WR_OBJECT)?;
        // Dead ones refer to None, which has no place of its own that we know: its type tells.
        let is_gone = self.type_name(object).map_or(true, |name| name == "NoneType");
        Ok((!is_gone).then_some(object))
    }
}
