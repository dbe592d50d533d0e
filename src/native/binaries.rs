//! The files that stacks led into, shared by all processes that map them.
//!
//! A file is known by its device, its inode and its build id, so that one that was replaced under
//! the same name is another.

use std::collections::HashMap;
use std::rc::Rc;

use super::binary::Binary;
use crate::target::Module;

/// Most files kept; a server's stacks lead into some twenty.
const MOST: usize = 256;

/// What tells files apart: device, inode and build id.
type Key = ((u32, u32), u64, Option<Vec<u8>>);

/// Files by what tells them apart.
#[derive(Debug, Default)]
pub struct Binaries {
    known: HashMap<Key, Rc<Binary>>,
}

impl Binaries {
    /// The file of a module; `None` where it cannot be read any more.
    #[must_use]
    pub fn get(&mut self, module: &Module) -> Option<Rc<Binary>> {
        let mapping = module.mappings.first()?;
        let elf = module.open().ok()?;
        let key = (mapping.dev, mapping.inode, elf.build_id());
        if let Some(binary) = self.known.get(&key) {
            return Some(Rc::clone(binary));
        }
        if self.known.len() >= MOST {
            self.known.clear();
        }
        let binary = Rc::new(Binary::new(elf, Some(module)));
        self.known.insert(key, Rc::clone(&binary));
        Some(binary)
    }
}
