//! The functions that an ELF file names.
//!
//! Takes an open file, gives where each named function begins and ends. Names are left in the file
//! and read one at a time: the tables of names are the largest part, and few of them are asked for.

use goblin::elf::section_header::{SHT_DYNSYM, SHT_SYMTAB, SectionHeader};
use goblin::elf::sym::{STB_LOCAL, STT_FUNC, STT_GNU_IFUNC, Sym};

use super::elf::{CTX, ElfError, ElfFile, SYMBOL, SYMBOLS, UNDEFINED};

/// Longest name taken, in bytes. Names of C++ functions run to some thousands.
const LONGEST: u64 = 4096;
/// Symbols parsed at a time.
const AT_ONCE: usize = 2048;
/// Most functions of one file, 32 MiB of them; the largest libraries have some 500,000.
const MOST: usize = 1 << 20;

/// A function that a symbol names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// Where it begins, without bias.
    pub address: u64,
    /// Its length in bytes; 0 for "unknown".
    pub size: u64,
    /// Whether other files may call it by this name.
    pub exported: bool,
    /// Where its name lies in the file, and how long it may be.
    name: (u64, u16),
}

impl ElfFile {
    /// Every function that a symbol names, in no order; those with several names several times.
    ///
    /// # Errors
    /// See [`ElfError`].
    pub fn functions(&self) -> Result<Vec<Function>, ElfError> {
        let sections = self.sections()?;
        let mut functions = Vec::new();
        for table in &sections {
            if !matches!(table.sh_type, SHT_DYNSYM | SHT_SYMTAB) {
                continue;
            }
            let names = usize::try_from(table.sh_link).ok().and_then(|at| sections.get(at));
            if let Some(names) = names {
                self.functions_of(table, names, &mut functions)?;
            }
        }
        Ok(functions)
    }

    /// A function's name, as the linker knows it; `None` where it is no text.
    #[must_use]
    pub fn function_name(&self, function: &Function) -> Option<String> {
        let (offset, most) = function.name;
        let bytes = self.table(offset, usize::from(most), 1).ok()?;
        let name = bytes.split(|byte| *byte == 0).next()?;
        String::from_utf8(name.to_vec()).ok().filter(|name| !name.is_empty())
    }

    fn functions_of(
        &self,
        table: &SectionHeader,
        names: &SectionHeader,
        functions: &mut Vec<Function>,
    ) -> Result<(), ElfError> {
        let size = usize::try_from(table.sh_size.min(SYMBOLS)).unwrap_or(0);
        let mut left = size / SYMBOL;
        let mut offset = table.sh_offset;
        while left > 0 {
            let count = left.min(AT_ONCE);
            let bytes = self.table(offset, count, SYMBOL)?;
            let symbols =
                Sym::parse(&bytes, 0, count, CTX).map_err(|_| ElfError::Broken("its symbols"))?;
            let found = symbols.iter().filter_map(|symbol| function(symbol, table, names));
            functions.extend(found.take(MOST.saturating_sub(functions.len())));
            left = left.saturating_sub(count);
            offset = offset.saturating_add(bytes.len() as u64);
        }
        Ok(())
    }
}

fn function(symbol: &Sym, table: &SectionHeader, names: &SectionHeader) -> Option<Function> {
    let is_function = matches!(symbol.st_type(), STT_FUNC | STT_GNU_IFUNC);
    if !is_function || symbol.st_shndx == UNDEFINED || symbol.st_value == 0 {
        return None;
    }
    let room = names.sh_size.checked_sub(symbol.st_name as u64)?;
    Some(Function {
        address: symbol.st_value,
        size: symbol.st_size,
        exported: table.sh_type == SHT_DYNSYM && symbol.st_bind() != STB_LOCAL,
        name: (
            names.sh_offset.checked_add(symbol.st_name as u64)?,
            u16::try_from(room.min(LONGEST)).ok()?,
        ),
    })
}
