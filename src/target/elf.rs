//! ELF files, read piece by piece.
//!
//! Takes an open file, gives its segments, sections and single symbols (elf(5)). Never holds a
//! whole file or a whole table, for symbol tables run to hundreds of megabytes: names are found by
//! streaming. The file is hostile input: every offset and count in it is checked or bounded.

use std::fs::File;
use std::io;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::Elf;
use goblin::elf::header::header64::SIZEOF_EHDR;
use goblin::elf::header::{EI_CLASS, EI_DATA, ELFCLASS64, ELFDATA2LSB, ET_DYN, ET_EXEC, Header};
use goblin::elf::program_header::{PF_W, PF_X, PT_LOAD, ProgramHeader};
use goblin::elf::section_header::{SHF_ALLOC, SHT_DYNSYM, SHT_SYMTAB, SectionHeader};
use goblin::elf::sym::{STT_FUNC, STT_NOTYPE, STT_OBJECT, Sym};

use super::elf_bytes::Bytes;

/// The only kind we read: so are all targets.
pub(super) const CTX: Ctx = Ctx { container: Container::Big, le: Endian::Little };
/// Sizes of the tables' entries in such a file.
const PROGRAM_HEADER: usize = 56;
const SECTION_HEADER: usize = 64;
pub(super) const SYMBOL: usize = 24;

/// Section of a symbol that another file defines (`SHN_UNDEF`).
pub(super) const UNDEFINED: usize = 0;

/// Most program headers read; linkers write about a dozen.
const MOST_SEGMENTS: usize = 256;
/// Most section headers read, 1 MiB; linkers write a few dozen for what is loaded.
const MOST_SECTIONS: usize = 16 * 1024;
/// Longest table of section names read.
const SECTION_NAMES: u64 = 1 << 20;
/// Most bytes read of one symbol table and of its names: 2.7 million symbols.
pub(super) const SYMBOLS: u64 = 64 << 20;
/// Read at a time when streaming; a multiple of [`SYMBOL`].
const CHUNK: usize = 2048 * SYMBOL;
/// Places in a table of names where a name may end with the one sought.
const MOST_PLACES: usize = 64;

/// Why a file could not be read as ELF.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// It is something else, or for another kind of machine.
    #[error("not a 64-bit little-endian ELF file")]
    NotElf,
    /// It contradicts itself, or ends early.
    #[error("a broken ELF file: {0}")]
    Broken(&'static str),
    /// It could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One part of the file that is loaded into memory. Addresses are the file's own, without bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// How much of it the file holds, in bytes.
    pub file_size: u64,
    /// Where it is to lie.
    pub address: u64,
    /// Its length in memory, in bytes; what the file does not hold is zero (`.bss`).
    pub size: u64,
    /// Whether it may be written.
    pub writable: bool,
    /// Whether it may be executed.
    pub executable: bool,
}

/// An ELF file, open.
#[derive(Debug)]
pub struct ElfFile {
    bytes: Bytes,
    header: Header,
}

/// Reads the header of a file that lies in memory.
///
/// # Errors
/// See [`ElfError`].
pub fn in_memory(bytes: Vec<u8>) -> Result<ElfFile, ElfError> {
    ElfFile::new(Bytes::Memory(bytes))
}

impl ElfFile {
    /// Reads the header.
    ///
    /// # Errors
    /// See [`ElfError`].
    pub fn open(file: File) -> Result<ElfFile, ElfError> {
        ElfFile::new(Bytes::File(file))
    }

    fn new(bytes: Bytes) -> Result<ElfFile, ElfError> {
        let mut start = [0; SIZEOF_EHDR];
        bytes.read_exact_at(&mut start, 0).map_err(too_short)?;
        let header = Elf::parse_header(&start).map_err(|_| ElfError::NotElf)?;
        let is = |at: usize, value: u8| header.e_ident.get(at) == Some(&value);
        let known = is(EI_CLASS, ELFCLASS64) && is(EI_DATA, ELFDATA2LSB);
        if known && matches!(header.e_type, ET_EXEC | ET_DYN) {
            Ok(ElfFile { bytes, header })
        } else {
            Err(ElfError::NotElf)
        }
    }

    /// Whether it must be loaded at its own addresses.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.header.e_type == ET_EXEC
    }

    /// What is loaded into memory, in the file's order.
    ///
    /// # Errors
    /// See [`ElfError`].
    pub fn segments(&self) -> Result<Vec<Segment>, ElfError> {
        let count = usize::from(self.header.e_phnum).min(MOST_SEGMENTS);
        let headers: Vec<ProgramHeader> = if count == 0 {
            Vec::new()
        } else {
            let bytes = self.table(self.header.e_phoff, count, PROGRAM_HEADER)?;
            ProgramHeader::parse(&bytes, 0, count, CTX)
                .map_err(|_| ElfError::Broken("its program headers"))?
        };
        let loaded = headers.iter().filter(|header| header.p_type == PT_LOAD);
        let segments = loaded.map(|header| Segment {
            offset: header.p_offset,
            file_size: header.p_filesz,
            address: header.p_vaddr,
            size: header.p_memsz,
            writable: header.p_flags & PF_W != 0,
            executable: header.p_flags & PF_X != 0,
        });
        Ok(segments.collect())
    }

    /// Where a section lies in memory, without bias, and its length; `None` where there is none of
    /// this name or it is not loaded.
    ///
    /// # Errors
    /// See [`ElfError`].
    pub fn section(&self, name: &str) -> Result<Option<(u64, u64)>, ElfError> {
        let is_loaded = |header: &SectionHeader| {
            header.sh_flags & u64::from(SHF_ALLOC) != 0 && header.sh_addr != 0
        };
        let found = self.section_header(name, is_loaded)?;
        Ok(found.map(|header| (header.sh_addr, header.sh_size)))
    }

    /// The first section of this name that `fits`.
    pub(super) fn section_header(
        &self,
        name: &str,
        fits: impl Fn(&SectionHeader) -> bool,
    ) -> Result<Option<SectionHeader>, ElfError> {
        let sections = self.sections()?;
        let index = match usize::from(self.header.e_shstrndx) {
            // Does not fit there: the first section has it instead (elf(5), SHN_XINDEX).
            0xffff => sections.first().and_then(|first| usize::try_from(first.sh_link).ok()),
            index => Some(index),
        };
        let Some(names) = index.and_then(|index| sections.get(index)) else { return Ok(None) };
        let size = usize::try_from(names.sh_size.min(SECTION_NAMES)).unwrap_or(0);
        let names = self.table(names.sh_offset, size, 1)?;
        let has_name = |header: &SectionHeader| {
            let found = names.get(header.sh_name..).and_then(|at| at.strip_prefix(name.as_bytes()));
            found.is_some_and(|rest| rest.first() == Some(&0))
        };
        Ok(sections.into_iter().find(|header| fits(header) && has_name(header)))
    }

    /// Where a symbol lies in memory, without bias, and its size: the exported ones are searched
    /// first, then those a stripped file no longer has.
    ///
    /// # Errors
    /// See [`ElfError`].
    pub fn symbol(&self, name: &str) -> Result<Option<(u64, u64)>, ElfError> {
        let sections = self.sections()?;
        for kind in [SHT_DYNSYM, SHT_SYMTAB] {
            for table in sections.iter().filter(|header| header.sh_type == kind) {
                let names = usize::try_from(table.sh_link).ok().and_then(|at| sections.get(at));
                let Some(names) = names else { continue };
                let places = self.places_of(name, names)?;
                if places.is_empty() {
                    continue;
                }
                if let Some(found) = self.defined(&places, table)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    pub(super) fn sections(&self) -> Result<Vec<SectionHeader>, ElfError> {
        if self.header.e_shoff == 0 {
            return Ok(Vec::new());
        }
        let parse = |count: usize| {
            let bytes = self.table(self.header.e_shoff, count, SECTION_HEADER)?;
            SectionHeader::parse_from(&bytes, 0, count, CTX)
                .map_err(|_| ElfError::Broken("its section headers"))
        };
        let count = match usize::from(self.header.e_shnum) {
            // Does not fit there either.
            0 => parse(1)?.first().and_then(|first| usize::try_from(first.sh_size).ok()),
            count => Some(count),
        };
        match count {
            Some(0) | None => Ok(Vec::new()),
            Some(count) => parse(count.min(MOST_SECTIONS)),
        }
    }

    /// The offsets in a table of names at which `name` begins. It may be the tail of another:
    /// linkers share them.
    fn places_of(&self, name: &str, names: &SectionHeader) -> Result<Vec<u64>, ElfError> {
        let name = name.as_bytes();
        if name.is_empty() {
            return Ok(Vec::new());
        }
        let size = names.sh_size.min(SYMBOLS);
        let mut places = Vec::new();
        let mut chunk: Vec<u8> = Vec::new();
        let mut next = 0;
        while next < size && places.len() < MOST_PLACES {
            // The end of the last chunk may be the beginning of the name.
            chunk.drain(..chunk.len().saturating_sub(name.len()));
            let first = next.saturating_sub(chunk.len() as u64);
            let length = size.saturating_sub(next).min(CHUNK as u64);
            let more = usize::try_from(length).unwrap_or(0);
            chunk.extend(self.table(names.sh_offset.saturating_add(next), more, 1)?);
            let ends = chunk.iter().enumerate().filter(|(_, byte)| **byte == 0);
            let found = ends.filter_map(|(end, _)| {
                let start = end.checked_sub(name.len())?;
                (chunk.get(start..end)? == name).then_some(first.saturating_add(start as u64))
            });
            places.extend(found.take(MOST_PLACES));
            next = next.saturating_add(length);
        }
        Ok(places)
    }

    /// The first symbol of a table that has its name at one of `places` and is defined here.
    fn defined(
        &self,
        places: &[u64],
        table: &SectionHeader,
    ) -> Result<Option<(u64, u64)>, ElfError> {
        let size = table.sh_size.min(SYMBOLS);
        let mut next = 0;
        while next < size {
            let length = size.saturating_sub(next).min(CHUNK as u64);
            let count = usize::try_from(length).unwrap_or(0) / SYMBOL;
            if count == 0 {
                break;
            }
            let bytes = self.table(table.sh_offset.saturating_add(next), count, SYMBOL)?;
            let symbols =
                Sym::parse(&bytes, 0, count, CTX).map_err(|_| ElfError::Broken("its symbols"))?;
            let found = symbols.iter().find(|symbol| {
                // Names of source files and thread-local variables have no address.
                matches!(symbol.st_type(), STT_NOTYPE | STT_OBJECT | STT_FUNC)
                    && symbol.st_shndx != UNDEFINED
                    && places.contains(&(symbol.st_name as u64))
            });
            if let Some(symbol) = found {
                return Ok(Some((symbol.st_value, symbol.st_size)));
            }
            next = next.saturating_add(length);
        }
        Ok(None)
    }

    /// `count` entries of `each` bytes at `offset`. Callers bound the count.
    pub(super) fn table(
        &self,
        offset: u64,
        count: usize,
        each: usize,
    ) -> Result<Vec<u8>, ElfError> {
        let size = count.checked_mul(each).ok_or(ElfError::Broken("a table is too long"))?;
        let mut bytes = vec![0; size];
        self.bytes.read_exact_at(&mut bytes, offset).map_err(too_short)?;
        Ok(bytes)
    }
}

fn too_short(error: io::Error) -> ElfError {
    match error.kind() {
        // Also for an offset no file can have.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
            ElfError::Broken("it ends early")
        }
        _ => ElfError::Io(error),
    }
}
