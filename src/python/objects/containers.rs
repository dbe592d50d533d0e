//! `tuple`, `list`, `set`, `frozenset`, `collections.deque` and cells: the addresses they hold.

use super::types::{LIST, TUPLE};
use super::{MAX_ITEMS, Objects, count, object_address};
use crate::target::{Fields, ReadError};
use crate::units::Addr;

/// `BLOCKLEN` of a deque:
/// <https://github.com/python/cpython/blob/v3.12.1/Modules/_collectionsmodule.c#L44>
const BLOCK_ITEMS: usize = 64;
/// Slots of a set's table read at once.
const SET_CHUNK: usize = 512;
/// Most slots of a set's table looked at: it can be nearly empty after many removals.
const MAX_SET_SLOTS: usize = 1 << 18;
/// A hash no object has; the hash of a removed element's slot.
const NO_HASH: u64 = u64::MAX;

impl Objects<'_> {
    /// The first items of a `tuple`, at most `limit`.
    ///
    /// # Errors
    /// [`ReadError`] when there is none.
    pub fn tuple_items(&self, addr: Addr, limit: usize) -> Result<Vec<Addr>, ReadError> {
        self.sized_tuple(addr, limit).map(|(items, _)| items)
    }

    /// The same, and how many it has in all.
    pub(super) fn sized_tuple(
        &self,
        addr: Addr,
        limit: usize,
    ) -> Result<(Vec<Addr>, usize), ReadError> {
        let offsets = &self.layout.offsets.object;
        let (head, kind) = self.head(addr, offsets.tuple_size)?;
        kind.must_be(TUPLE, "tuple")?;
        let len = count(Fields(&head).u64(offsets.tuple_size)?)?;
        Ok((self.words(addr.at(offsets.tuple_items), len.min(limit).min(MAX_ITEMS))?, len))
    }

    /// The first items of a `list`, at most `limit`.
    ///
    /// # Errors
    /// [`ReadError`] when there is none.
    pub fn list_items(&self, addr: Addr, limit: usize) -> Result<Vec<Addr>, ReadError> {
        self.sized_list(addr, limit).map(|(items, _)| items)
    }

    /// How many items a `list` has.
    ///
    /// # Errors
    /// [`ReadError`] when there is none.
    pub fn list_len(&self, addr: Addr) -> Result<usize, ReadError> {
        self.sized_list(addr, 0).map(|(_, len)| len)
    }

    /// The same, and how many it has in all.
    pub(super) fn sized_list(
        &self,
        addr: Addr,
        limit: usize,
    ) -> Result<(Vec<Addr>, usize), ReadError> {
        let offsets = &self.layout.offsets.object;
        let (head, kind) = self.head(addr, offsets.list_size.max(offsets.list_items))?;
        kind.must_be(LIST, "list")?;
        let len = count(Fields(&head).u64(offsets.list_size)?)?;
        let items = Fields(&head).pointer(offsets.list_items)?;
        let wanted = len.min(limit).min(MAX_ITEMS);
        if wanted > 0 {
            object_address(items)?;
        }
        Ok((self.words(items, wanted)?, len))
    }

    /// Elements of a `set` or `frozenset` in no order, at most `limit`.
    ///
    /// # Errors
    /// [`ReadError`] when there is none.
    pub fn set_items(&self, addr: Addr, limit: usize) -> Result<Vec<Addr>, ReadError> {
        self.sized_set(addr, limit).map(|(items, _)| items)
    }

    /// The same, and how many it has in all.
    pub(super) fn sized_set(
        &self,
        addr: Addr,
        limit: usize,
    ) -> Result<(Vec<Addr>, usize), ReadError> {
        let offsets = &self.layout.offsets.object;
        let last = offsets.set_used.max(offsets.set_mask).max(offsets.set_table);
        let (head, kind) = self.head(addr, last)?;
        if kind.name != "set" && kind.name != "frozenset" {
            return Err(ReadError::Invalid("set"));
        }
        let fields = Fields(&head);
        let used = count(fields.u64(offsets.set_used)?)?;
        let slots = count(fields.u64(offsets.set_mask)?)?.saturating_add(1).min(MAX_SET_SLOTS);
        let table = object_address(fields.pointer(offsets.set_table)?)?;
        let wanted = used.min(limit).min(MAX_ITEMS);
        let mut found = Vec::new();
        let mut done = 0_usize;
        while done < slots && found.len() < wanted {
            let chunk = slots.saturating_sub(done).min(SET_CHUNK);
            let from = u64::try_from(done).unwrap_or(u64::MAX).wrapping_mul(16);
            let entries = self.words(table.at(from), chunk.saturating_mul(2))?;
            let (entries, _) = entries.as_chunks::<2>();
            let live = entries.iter().filter(|[key, hash]| !key.is_null() && hash.0 != NO_HASH);
            found.extend(live.map(|[key, _]| *key).take(wanted.saturating_sub(found.len())));
            done = done.saturating_add(chunk);
        }
        Ok((found, used))
    }

    /// How many items a `collections.deque` has.
    ///
    /// # Errors
    /// [`ReadError`] when there is none.
    pub fn deque_len(&self, addr: Addr) -> Result<usize, ReadError> {
        let offset = self.layout.offsets.object.deque_size;
        let (head, kind) = self.head(addr, offset)?;
        if !kind.name.ends_with("deque") {
            return Err(ReadError::Invalid("deque"));
        }
        count(Fields(&head).u64(offset)?)
    }

    /// The leftmost items of a `collections.deque`, at most `limit`.
    ///
    /// # Errors
    /// [`ReadError`] when there is none.
    pub fn deque_items(&self, addr: Addr, limit: usize) -> Result<Vec<Addr>, ReadError> {
        self.sized_deque(addr, limit).map(|(items, _)| items)
    }

    /// The same, and how many it has in all.
    pub(super) fn sized_deque(
        &self,
        addr: Addr,
        limit: usize,
    ) -> Result<(Vec<Addr>, usize), ReadError> {
        let offsets = &self.layout.offsets.object;
        let last = offsets.deque_size.max(offsets.deque_leftblock).max(offsets.deque_leftindex);
        let (head, kind) = self.head(addr, last)?;
        if !kind.name.ends_with("deque") {
            return Err(ReadError::Invalid("deque"));
        }
        let fields = Fields(&head);
        let len = count(fields.u64(offsets.deque_size)?)?;
        let wanted = len.min(limit).min(MAX_ITEMS);
        let mut block = fields.pointer(offsets.deque_leftblock)?;
        let mut first = count(fields.u64(offsets.deque_leftindex)?)?;
        let mut found = Vec::new();
        // A block is a link, the items, and a link. Each gives at least one item, so this ends.
        while found.len() < wanted {
            let words = self.words(object_address(block)?, BLOCK_ITEMS.saturating_add(2))?;
            let [_, items @ .., right] = words.as_slice() else {
                return Err(ReadError::Invalid("deque"));
            };
            let items = items.get(first..).unwrap_or_default();
            if items.is_empty() {
                return Err(ReadError::Invalid("deque"));
            }
            found.extend(items.iter().take(wanted.saturating_sub(found.len())));
            (block, first) = (*right, 0);
        }
        Ok((found, len))
    }

    /// What a cell (a variable shared with a nested function) holds.
    ///
    /// # Errors
    /// [`ReadError`] when there is no cell or it is empty.
    pub fn cell_contents(&self, addr: Addr) -> Result<Addr, ReadError> {
        let offset = self.layout.offsets.object.cell_contents;
        let (head, kind) = self.head(addr, offset)?;
        if kind.name != "cell" {
            return Err(ReadError::Invalid("cell"));
        }
        object_address(Fields(&head).pointer(offset)?)
    }
}
