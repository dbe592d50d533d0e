//! `dict` and its keys: combined tables, and split ones whose keys many objects share.
//!
//! <https://github.com/python/cpython/blob/v3.10.13/Objects/dict-common.h> and
//! <https://github.com/python/cpython/blob/v3.12.1/Include/internal/pycore_dict.h>

use super::strings::State;
use super::types::{DICT, STR};
use super::{MAX_ITEMS, Objects, count, is_final, object_address};
use crate::layout::shape::{Attributes, DictKeys};
use crate::target::{Fields, ReadError, RemoteMemoryExt, Span};
use crate::units::Addr;

/// A key and what it stands for.
pub(super) type Entry = (Addr, Addr);

/// Keys whose texts are compared in one call.
const KEY_CHUNK: usize = 128;
/// Most bytes of a name that is looked for in one call; no attribute's is longer.
const MAX_NAME: usize = 128;
/// `dk_log2_index_bytes` of a table of 2^32 entries, more than we would ever read.
const MAX_LOG2_INDEX_BYTES: u8 = 34;

/// What the first bytes of a key say about its text.
enum Likeness {
    Same,
    Other,
    /// The text is not among them: an instance of a subclass.
    Elsewhere,
}

impl Objects<'_> {
    /// Keys and values of a `dict` (or `frozendict`, or an instance of a subclass) in order. At
    /// most the first `limit` entries of the table are looked at, some of which may be empty.
    ///
    /// # Errors
    /// [`ReadError`] when there is none.
    pub fn dict_items(&self, addr: Addr, limit: usize) -> Result<Vec<(Addr, Addr)>, ReadError> {
        self.sized_dict(addr, limit).map(|(entries, _)| entries)
    }

    /// The same, and how many it has in all.
    pub(super) fn sized_dict(
        &self,
        addr: Addr,
        limit: usize,
    ) -> Result<(Vec<Entry>, usize), ReadError> {
        let offsets = &self.layout.offsets.object;
        let last = offsets.dict_used.max(offsets.dict_keys).max(offsets.dict_values);
        let (head, kind) = self.head(addr, last)?;
        if !kind.is(DICT) && kind.name != "frozendict" {
            return Err(ReadError::Invalid("dict"));
        }
        let fields = Fields(&head);
        let used = count(fields.u64(offsets.dict_used)?)?;
        let keys = fields.pointer(offsets.dict_keys)?;
        let values = fields.pointer(offsets.dict_values)?;
        let entries = if values.is_null() {
            self.keys(keys, limit)?.into_iter().filter(is_live).collect()
        } else {
            self.split_entries(keys, values, limit)?
        };
        Ok((entries, used))
    }

    /// What a `dict` has under a `str` key. Looks at up to 65,536 entries.
    ///
    /// # Errors
    /// [`ReadError`] when there is no dict.
    pub fn dict_get(&self, addr: Addr, key: &str) -> Result<Option<Addr>, ReadError> {
        const MOST: usize = 1 << 16;
        self.find_key(&self.dict_items(addr, MOST)?, key)
    }

    /// The texts that a `dict` has under some `str` keys; `None` for a key that it lacks, or that leads to
    /// no `str`. Looks at up to `limit` entries.
    ///
    /// # Errors
    /// [`ReadError`] when there is no dict.
    pub fn dict_texts<const N: usize>(
        &self,
        addr: Addr,
        keys: [&str; N],
        limit: usize,
    ) -> Result<[Option<String>; N], ReadError> {
        let entries = self.dict_items(addr, limit)?;
        let values = self.find_keys(&entries, keys)?;
        Ok(values.map(|value| value.and_then(|value| self.str(value).ok())))
    }

    /// Where a `dict` keeps what it has under a `str` key. Holds until its keys are another table.
    /// `None` also for a dict whose values lie apart from its keys.
    ///
    /// # Errors
    /// [`ReadError`] when there is no dict.
    pub fn dict_slot(&self, addr: Addr, key: &str) -> Result<Option<DictSlot>, ReadError> {
        /// A thread's or a module's dict has some dozens.
        const MOST: usize = 1 << 12;
        let offsets = &self.layout.offsets.object;
        let (head, kind) = self.head(addr, offsets.dict_keys.max(offsets.dict_values))?;
        kind.must_be(DICT, "dict")?;
        let fields = Fields(&head);
        let keys = fields.pointer(offsets.dict_keys)?;
        if !fields.pointer(offsets.dict_values)?.is_null() {
            return Ok(None);
        }
        let table = self.table(keys, MOST)?;
        let entries = self.entries(&table)?;
        let value = |place: usize| {
            let before = u64::try_from(place).unwrap_or_default().saturating_mul(table.stride());
            // The value is an entry's last word.
            table.entries.at(before.saturating_add(table.stride()).saturating_sub(8))
        };
        for (place, entry) in entries.iter().enumerate().filter(|(_, entry)| is_live(entry)) {
            if self.find_key(std::slice::from_ref(entry), key)?.is_some() {
                return Ok(Some(DictSlot { keys, place: value(place), held: entry.1 }));
            }
        }
        Ok(None)
    }

    /// Entries whose values lie apart from their keys, in a `PyDictValues`; in order.
    pub(super) fn split_entries(
        &self,
        keys: Addr,
        values: Addr,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        /// `SHARED_KEYS_MAX_SIZE` is 30; before 3.11 there was no such limit.
        const MOST: usize = 1 << 12;
        let first = object_address(values)?.at(self.layout.offsets.object.dict_values_first);
        let keys = self.keys(keys, limit.min(MOST))?;
        let places = self.words(first, keys.len())?;
        let order = self.insertion_order(values, keys.len())?;
        let rank = |place| order.iter().position(|next| usize::from(*next) == place);
        let entries = keys.into_iter().zip(places).map(|((key, _), value)| (key, value));
        let mut ranked: Vec<_> = entries
            .enumerate()
            .filter(|(_, entry)| is_live(entry))
            .map(|(place, entry)| (rank(place).unwrap_or(usize::MAX), entry))
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        Ok(ranked.into_iter().map(|(_, entry)| entry).collect())
    }

    /// The places of values in the order they were set. Empty where that is the keys' order.
    fn insertion_order(&self, values: Addr, keys: usize) -> Result<Vec<u8>, ReadError> {
        /// `SHARED_KEYS_MAX_SIZE`.
        const MOST: usize = 30;
        if keys > MOST {
            return Ok(Vec::new());
        }
        match self.layout.shape.attributes {
            Attributes::DictOffset => Ok(Vec::new()),
            // Backwards before the values: prefix size, used size, then the order.
            Attributes::DictOrValuesApart | Attributes::DictOrValuesTagged => {
                let len = keys.saturating_add(2);
                let back = u64::try_from(len).unwrap_or_default().wrapping_neg();
                let mut bytes = self.memory.read_vec(values.at(back), len)?;
                bytes.reverse();
                let used = bytes.get(1).copied().map_or(0, usize::from);
                Ok(bytes.into_iter().skip(2).take(used).collect())
            }
            // Capacity and used size before the values, the order after all there is room for.
            Attributes::InlineValues => {
                let head = self.memory.read_u64(values)?;
                let [capacity, used, ..] = head.to_le_bytes();
                let order = values
                    .at(self.layout.offsets.object.dict_values_first)
                    .at(u64::from(capacity).saturating_mul(8));
                self.memory.read_vec(order, usize::from(used).min(MOST))
            }
        }
    }

    /// The entries of a keys object in order, empty ones too: their places count.
    fn keys(&self, keys: Addr, limit: usize) -> Result<Vec<Entry>, ReadError> {
        self.entries(&self.table(keys, limit)?)
    }

    /// Where a keys object has its entries.
    fn table(&self, keys: Addr, limit: usize) -> Result<Table, ReadError> {
        const NO_KEYS: ReadError = ReadError::Invalid("dict keys");
        let offsets = &self.layout.offsets.object;
        object_address(keys)?;
        let len = usize::try_from(offsets.keys_indices).unwrap_or(usize::MAX);
        let head = self.memory.read_vec(keys, len.min(super::MAX_HEAD))?;
        let fields = Fields(&head);
        let wanted = count(fields.u64(offsets.keys_nentries)?)?.min(limit).min(MAX_ITEMS);
        let index_bytes = match self.layout.shape.dict_keys {
            DictKeys::Sized => {
                let size = fields.u64(offsets.keys_size)?;
                count(size)?;
                // Negative numbers have a meaning, so that an index of n bits counts to 2^(n-1).
                let index: u64 = match size {
                    0..=0xff => 1,
                    0x100..=0xffff => 2,
                    0x1_0000..=0xffff_ffff => 4,
                    _ => 8,
                };
                size.saturating_mul(index)
            }
            DictKeys::Log2 => {
                let log2 = fields.u8(offsets.keys_size)?;
                if log2 > MAX_LOG2_INDEX_BYTES {
                    return Err(NO_KEYS);
                }
                1_u64.checked_shl(log2.into()).ok_or(NO_KEYS)?
            }
        };
        let hashed = match offsets.keys_kind {
            Some(kind) => fields.u8(kind)? == 0, // DICT_KEYS_GENERAL
            None => true,
        };
        let entries = keys.at(offsets.keys_indices).at(index_bytes);
        Ok(Table { entries, hashed, wanted })
    }

    fn entries(&self, table: &Table) -> Result<Vec<Entry>, ReadError> {
        let Table { entries, hashed, wanted } = *table;
        if hashed {
            let words = self.words(entries, wanted.saturating_mul(3))?;
            let (entries, _) = words.as_chunks::<3>();
            Ok(entries.iter().map(|[_, key, value]| (*key, *value)).collect())
        } else {
            let words = self.words(entries, wanted.saturating_mul(2))?;
            let (entries, _) = words.as_chunks::<2>();
            Ok(entries.iter().map(|[key, value]| (*key, *value)).collect())
        }
    }

    /// The value of the first entry whose key is the string `name`.
    pub(super) fn find_key(
        &self,
        entries: &[Entry],
        name: &str,
    ) -> Result<Option<Addr>, ReadError> {
        self.find_keys(entries, [name]).map(|[found]| found)
    }

    /// The same of several names. Compares many keys in one call, as they lie in memory, rather than
    /// reading each as text.
    fn find_keys<const N: usize>(
        &self,
        entries: &[Entry],
        names: [&str; N],
    ) -> Result<[Option<Addr>; N], ReadError> {
        let mut found = [None; N];
        let longest = names.iter().map(|name| name.len()).max().unwrap_or(0);
        if longest > MAX_NAME || !names.iter().all(|name| name.is_ascii()) {
            for (place, name) in found.iter_mut().zip(names) {
                *place = self.find_key_slowly(entries, name)?;
            }
            return Ok(found);
        }
        let ascii = usize::try_from(self.layout.offsets.object.ascii_size).unwrap_or(usize::MAX);
        let size = ascii.saturating_add(longest).min(super::MAX_HEAD);
        let mut rest = entries;
        while !rest.is_empty() && found.iter().any(Option::is_none) {
            let chunk = rest.get(..KEY_CHUNK).unwrap_or(rest);
            let mut buffer = vec![0; size.saturating_mul(chunk.len())];
            let mut spans: Vec<Span<'_>> = chunk
                .iter()
                .zip(buffer.chunks_exact_mut(size))
                .map(|((key, _), bytes)| (*key, bytes))
                .collect();
            let filled = self.memory.read_batch(&mut spans)?;
            for ((key, value), bytes) in chunk.iter().zip(buffer.chunks_exact(size)).take(filled) {
                for (place, name) in
                    found.iter_mut().zip(names).filter(|(place, _)| place.is_none())
                {
                    let own = bytes.get(..ascii.saturating_add(name.len())).unwrap_or(bytes);
                    let is_it = match self.looks_like(own, name) {
                        Likeness::Same => self.is_str(own)?,
                        Likeness::Other => false,
                        Likeness::Elsewhere => {
                            self.find_key_slowly(&[(*key, *value)], name)?.is_some()
                        }
                    };
                    *place = is_it.then_some(*value);
                }
                if found.iter().all(Option::is_some) {
                    return Ok(found);
                }
            }
            // The one that ended the batch is shorter than the name and at the end of mapped
            // memory, or no string at all: look at it by itself.
            let odd = chunk.get(filled..).unwrap_or_default().get(..1).unwrap_or_default();
            for (place, name) in found.iter_mut().zip(names).filter(|(place, _)| place.is_none()) {
                *place = self.find_key_slowly(odd, name)?;
            }
            rest = rest.get(filled.saturating_add(odd.len())..).unwrap_or_default();
        }
        Ok(found)
    }

    fn find_key_slowly(&self, entries: &[Entry], name: &str) -> Result<Option<Addr>, ReadError> {
        for (key, value) in entries {
            match self.str(*key) {
                Ok(text) if text == name => return Ok(Some(*value)),
                Err(error) if is_final(error) => return Err(error),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Whether these can be the first bytes of an ASCII string that is `name`.
    fn looks_like(&self, bytes: &[u8], name: &str) -> Likeness {
        let offsets = &self.layout.offsets.object;
        let fields = Fields(bytes);
        let state = fields.u32(offsets.unicode_state).ok().and_then(State::new);
        let len = u64::try_from(name.len()).ok();
        if fields.u64(offsets.unicode_length).ok() != len {
            return Likeness::Other;
        }
        match state {
            Some(state) if !state.compact => Likeness::Elsewhere,
            Some(state) if state.ascii && bytes.ends_with(name.as_bytes()) => Likeness::Same,
            _ => Likeness::Other,
        }
    }

    fn is_str(&self, bytes: &[u8]) -> Result<bool, ReadError> {
        let kind = Fields(bytes).pointer(self.layout.offsets.object.ob_type);
        match kind.and_then(|kind| self.type_at(kind)) {
            Ok(kind) => Ok(kind.is(STR)),
            Err(error) if is_final(error) => Err(error),
            Err(_) => Ok(false),
        }
    }
}

/// Where a keys object has its entries.
struct Table {
    entries: Addr,
    /// Whether each has its hash in front.
    hashed: bool,
    wanted: usize,
}

impl Table {
    /// Bytes of an entry.
    fn stride(&self) -> u64 {
        if self.hashed { 24 } else { 16 }
    }
}

/// Where a dict keeps one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DictSlot {
    /// The table of the dict's keys.
    pub keys: Addr,
    /// Where the pointer to the value lies.
    pub place: Addr,
    /// The value.
    pub held: Addr,
}

/// Whether an entry is in use. Removed ones keep their place.
fn is_live((key, value): &Entry) -> bool {
    !key.is_null() && !value.is_null()
}
