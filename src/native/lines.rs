//! Addresses to source lines, by DWARF.
//!
//! Takes a file with debug information and addresses, gives file and line of those it knows. Reads
//! whole debug sections for one question and keeps nothing: for a single look, never while watching.

use addr2line::Context;
use addr2line::gimli::{Dwarf, DwarfSections, EndianSlice, LittleEndian};

use crate::target::ElfFile;

/// Most bytes of one debug section; that of CPython's code has some 10 MB.
const MOST: u64 = 64 << 20;
/// Most bytes of the table of lines: every byte of it may become a row of 24.
const MOST_LINES: u64 = 8 << 20;

/// A line of source code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceLine {
    /// The file, as its compiler saw it.
    pub file: String,
    /// The line, from 1.
    pub line: Option<u32>,
}

/// The lines of `addresses`, without bias, as many as those.
#[must_use]
pub fn lines(elf: &ElfFile, addresses: &[u64]) -> Vec<Option<SourceLine>> {
    let nothing = || addresses.iter().map(|_| None).collect();
    let load = |id: addr2line::gimli::SectionId| {
        let most = if id.name() == ".debug_line" { MOST_LINES } else { MOST };
        let found = elf.section_bytes(id.name(), most).ok().flatten();
        Ok::<Vec<u8>, ()>(found.map(|section| section.bytes).unwrap_or_default())
    };
    let Ok(sections) = DwarfSections::load(load) else { return nothing() };
    let dwarf: Dwarf<EndianSlice<'_, LittleEndian>> =
        sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
    let Ok(context) = Context::from_dwarf(dwarf) else { return nothing() };
    let line = |address: &u64| {
        let found = context.find_location(*address).ok()??;
        Some(SourceLine { file: found.file?.to_owned(), line: found.line })
    };
    addresses.iter().map(line).collect()
}
