//! What an object has from its class: the names of its classes, and attributes that are the class's
//! own (a default that no instance has set).

use super::{Objects, object_address};
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

// `PyTypeObject`, the same on 64-bit builds from 3.8 to 3.15:
// <https://github.com/python/cpython/blob/v3.13.0/Include/cpython/object.h#L147>.
const TP_BASE: u64 = 256;
const TP_DICT: u64 = 264;
/// Most classes followed from one to the next it is derived from; a cycle must end somewhere.
const MAX_BASES: usize = 16;

impl Objects<'_> {
    /// The names of the object's class and of what that is derived from, by first bases.
    ///
    /// # Errors
    /// [`ReadError`] when no object is there.
    pub fn class_names(&self, addr: Addr) -> Result<Vec<String>, ReadError> {
        self.names_of_bases(self.type_of(addr)?)
    }

    /// The same of a class itself.
    ///
    /// # Errors
    /// [`ReadError`] when no class is there.
    pub fn names_of_bases(&self, kind: Addr) -> Result<Vec<String>, ReadError> {
        self.bases(kind)?.into_iter().map(|kind| self.name_of_type(kind)).collect()
    }

    /// What the object's class, or the first of its bases that has it, holds under `name`.
    ///
    /// # Errors
    /// [`ReadError`] when no object is there.
    pub fn class_attribute(&self, addr: Addr, name: &str) -> Result<Option<Addr>, ReadError> {
        for kind in self.bases(self.type_of(addr)?)? {
            // Types written in C keep theirs elsewhere from 3.12 on, and have none of these.
            let Ok(dict) = object_address(self.memory.read_pointer(kind.at(TP_DICT))?) else {
                break;
            };
            if let Some(value) = self.dict_get(dict, name)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The class at `kind` and what it is derived from, by first bases.
    ///
    /// # Errors
    /// [`ReadError`] when no class is there.
    pub fn bases(&self, kind: Addr) -> Result<Vec<Addr>, ReadError> {
        let mut found = vec![object_address(kind)?];
        let mut next = self.memory.read_pointer(kind.at(TP_BASE))?;
        while !next.is_null() && found.len() < MAX_BASES {
            found.push(object_address(next)?);
            next = self.memory.read_pointer(next.at(TP_BASE))?;
        }
        Ok(found)
    }
}
