//! One program or library file, as far as stacks need it: its unwind rules and function names.
//!
//! Everything is read at its first use and kept: the same file is used by every worker of a server.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use super::cold::{EVAL, parts};
use super::rules::{Rule, UnwindTable};
use super::symbols::Symbols;
use crate::target::{ElfFile, Module};

/// Most rules and names kept of one file; a server's stacks touch some hundreds of addresses.
const MOST: usize = 1 << 14;

/// One file.
#[derive(Debug)]
pub struct Binary {
    elf: ElfFile,
    debug: Option<ElfFile>,
    table: OnceCell<Option<UnwindTable>>,
    symbols: OnceCell<Symbols>,
    rules: RefCell<HashMap<u64, Option<Rc<Rule>>>>,
    /// The nameless parts of the interpreter's main function.
    eval_parts: OnceCell<Vec<Range<u64>>>,
    names: RefCell<HashMap<u64, Option<Rc<String>>>>,
}

impl Binary {
    /// The file of `module`, already open, with its debug information where that is installed.
    #[must_use]
    pub fn new(elf: ElfFile, module: Option<&Module>) -> Binary {
        let debug = module.and_then(|module| module.debug_file(&elf));
        Binary {
            elf,
            debug,
            table: OnceCell::new(),
            symbols: OnceCell::new(),
            eval_parts: OnceCell::new(),
            rules: RefCell::default(),
            names: RefCell::default(),
        }
    }

    /// Reads the tables now: the first look at a stack is then not late by some ms.
    pub fn warm(&self) {
        let _ = (self.rule(0), self.name(0));
    }

    /// The files to look for source lines in, the likelier first.
    pub fn files(&self) -> impl Iterator<Item = &ElfFile> {
        self.debug.iter().chain([&self.elf])
    }

    /// The unwind rule at `address`, without bias.
    #[must_use]
    pub fn rule(&self, address: u64) -> Option<Rc<Rule>> {
        kept(&self.rules, address, || self.table()?.rule(address))
    }

    /// The function at `address`, without bias.
    #[must_use]
    pub fn name(&self, address: u64) -> Option<Rc<String>> {
        kept(&self.names, address, || {
            let load = || Symbols::load(&self.elf, self.debug.as_ref());
            let symbols = self.symbols.get_or_init(load);
            let found = symbols.find(address, &self.elf, self.debug.as_ref());
            found.or_else(|| self.is_eval(address).then(|| EVAL.to_owned()))
        })
    }

    /// Where the function at `address` begins, as far as the unwind table tells.
    #[must_use]
    pub fn function_start(&self, address: u64) -> Option<u64> {
        self.table()?.range(address).map(|range| range.start)
    }

    fn is_eval(&self, address: u64) -> bool {
        let find = || self.table().map(|table| parts(&self.elf, table)).unwrap_or_default();
        self.eval_parts.get_or_init(find).iter().any(|part| part.contains(&address))
    }

    fn table(&self) -> Option<&UnwindTable> {
        self.table.get_or_init(|| UnwindTable::load(&self.elf)).as_ref()
    }
}

fn kept<T>(
    known: &RefCell<HashMap<u64, Option<Rc<T>>>>,
    address: u64,
    find: impl FnOnce() -> Option<T>,
) -> Option<Rc<T>> {
    let mut known = known.borrow_mut();
    if let Some(found) = known.get(&address) {
        return found.clone();
    }
    let found = find().map(Rc::new);
    if known.len() >= MOST {
        known.clear();
    }
    known.insert(address, found.clone());
    found
}
