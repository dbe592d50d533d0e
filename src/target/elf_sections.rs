//! Whole sections of an ELF file: for whoever has to see all of one, such as unwind tables.
//!
//! Takes a name and how much of it to take at most, gives bytes. Sections that are compressed or
//! larger than asked for are left out: half a table would be believed to be a whole one.

use goblin::elf::note::NT_GNU_BUILD_ID;
use goblin::elf::section_header::{SHF_COMPRESSED, SHT_NOBITS, SectionHeader};

use super::elf::{ElfError, ElfFile, Segment};

/// Longest note or link taken: a build id is 20 bytes, a file name at most 255 (limits.h).
const SMALL: u64 = 4096;
/// The header of a note: three 32-bit numbers (elf(5), `Elf64_Nhdr`); then the name, `GNU\0`.
const NOTE_HEADER: usize = 12;
const GNU: &[u8] = b"GNU\0";

/// A section's place in memory, without bias, and its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Section {
    /// Where it is to lie; 0 where it is not loaded.
    pub address: u64,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl ElfFile {
    /// A section by its name; `None` where there is none that holds bytes, and where it has more
    /// than `most`.
    ///
    /// # Errors
    /// See [`ElfError`].
    pub fn section_bytes(&self, name: &str, most: u64) -> Result<Option<Section>, ElfError> {
        let holds = |header: &SectionHeader| {
            header.sh_type != SHT_NOBITS
                && header.sh_flags & u64::from(SHF_COMPRESSED) == 0
                && header.sh_size <= most
        };
        let Some(header) = self.section_header(name, holds)? else { return Ok(None) };
        let size = usize::try_from(header.sh_size).map_err(|_| ElfError::Broken("a section"))?;
        let bytes = self.table(header.sh_offset, size, 1)?;
        Ok(Some(Section { address: header.sh_addr, bytes }))
    }

    /// Bytes as they are loaded at `address`, without bias. The caller bounds `size`.
    ///
    /// # Errors
    /// See [`ElfError`]; also where the file does not hold all of them.
    pub fn loaded_bytes(&self, address: u64, size: u64) -> Result<Vec<u8>, ElfError> {
        let place = |segment: Segment| {
            let inside = address.checked_sub(segment.address)?;
            let fits = inside.checked_add(size)? <= segment.file_size;
            fits.then(|| segment.offset.checked_add(inside)).flatten()
        };
        let offset = self.segments()?.into_iter().find_map(place);
        let size = usize::try_from(size).ok();
        let (offset, size) = offset.zip(size).ok_or(ElfError::Broken("an address"))?;
        self.table(offset, size, 1)
    }

    /// What tells this build of the file from every other (`ld --build-id`), where it has that.
    #[must_use]
    pub fn build_id(&self) -> Option<Vec<u8>> {
        let note = self.section_bytes(".note.gnu.build-id", SMALL).ok()??.bytes;
        let word = |at: usize| {
            let bytes = note.get(at..at.checked_add(4)?)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let (name, length, kind) = (word(0)?, word(4)?, word(8)?);
        let rest = note.get(NOTE_HEADER..)?.strip_prefix(GNU)?;
        let is_id = usize::try_from(name).ok()? == GNU.len() && kind == NT_GNU_BUILD_ID;
        is_id.then(|| rest.get(..usize::try_from(length).ok()?).map(<[u8]>::to_vec)).flatten()
    }

    /// The name of the file that holds this one's debug information, where it names one
    /// (`objcopy --add-gnu-debuglink`).
    #[must_use]
    pub fn debug_link(&self) -> Option<String> {
        let link = self.section_bytes(".gnu_debuglink", SMALL).ok()??.bytes;
        let name = link.split(|byte| *byte == 0).next().filter(|name| !name.is_empty())?;
        String::from_utf8(name.to_vec()).ok()
    }
}
