//! Recorded memory: the pages a look at a process touched, in memory and as a file.
//!
//! Takes pages, gives bytes through the same seam as a running process, so that everything above
//! runs on a recording as it does live. Never guesses a byte that was not recorded. The file is
//! hostile input: every count in it is checked before it is believed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::memory::{ReadError, RemoteMemory};
use crate::units::Addr;

/// Bytes in a recorded page: the smallest page any supported kernel has.
pub const PAGE_BYTES: usize = 4096;
/// The same, as a number of the target's.
const PAGE: u64 = 4096;

/// First bytes of the file; the last two count its versions.
const MAGIC: &[u8; 16] = b"stallspy-image01";
/// Most pages we load, 64 MiB; a look at a server touches some dozens.
const MOST_PAGES: usize = 16 * 1024;
/// A run of zeros shorter than this is written as it is: telling of it costs 4 bytes.
const WORTHWHILE: usize = 5;

type Page = Box<[u8; PAGE_BYTES]>;

/// Recorded pages, by address.
///
/// The file begins with 16 bytes of magic and version; then, for each page in ascending order, its
/// number (address / 4096, u64), followed by parts until 4096 bytes are told: how many zeros (u16),
/// how many bytes after them (u16), those bytes. All numbers are little-endian.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ImageMemory {
    pages: BTreeMap<u64, Page>,
}

impl ImageMemory {
    /// No pages.
    #[must_use]
    pub fn new() -> ImageMemory {
        ImageMemory::default()
    }

    /// Puts `bytes` at `addr`; what else lies on the pages touched stays, and is zero where they
    /// are new. For building images by hand.
    pub fn insert(&mut self, addr: Addr, bytes: &[u8]) {
        let mut rest = bytes;
        let mut next = addr.0;
        while !rest.is_empty() {
            let page = self.pages.entry(next / PAGE).or_insert_with(|| Box::new([0; PAGE_BYTES]));
            let room = page.get_mut(offset_in_page(next)..).unwrap_or_default();
            let (now, later) = rest.split_at(room.len().min(rest.len()));
            for (to, from) in room.iter_mut().zip(now) {
                *to = *from;
            }
            // The next page begins the rest; the very last page of all wraps to the first.
            next = (next / PAGE).wrapping_add(1).wrapping_mul(PAGE);
            rest = later;
        }
    }

    /// How many pages are recorded.
    #[must_use]
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Reads a file written by [`ImageMemory::save`].
    ///
    /// # Errors
    /// Where the file cannot be read, and [`io::ErrorKind::InvalidData`] where it is no image.
    pub fn load(path: &Path) -> io::Result<ImageMemory> {
        ImageMemory::read_from(BufReader::new(File::open(path)?))
    }

    /// Writes the image to a file, replacing it.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        self.write_to(&mut out)?;
        out.flush()
    }

    /// Reads the file format from any source.
    ///
    /// # Errors
    /// As [`ImageMemory::load`].
    pub fn read_from(mut from: impl Read) -> io::Result<ImageMemory> {
        let mut magic = [0; 16];
        from.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(invalid("not a memory image of this version"));
        }
        let mut pages = BTreeMap::new();
        while let Some(number) = page_number(&mut from)? {
            if pages.last_key_value().is_some_and(|(last, _)| *last >= number) {
                return Err(invalid("the pages of the memory image are out of order"));
            }
            if pages.len() >= MOST_PAGES {
                return Err(invalid("the memory image is larger than 64 MiB"));
            }
            pages.insert(number, read_page(&mut from)?);
        }
        Ok(ImageMemory { pages })
    }

    /// Writes the file format to any sink.
    ///
    /// # Errors
    /// Where the sink does not take it.
    pub fn write_to(&self, mut to: impl Write) -> io::Result<()> {
        to.write_all(MAGIC)?;
        for (number, page) in &self.pages {
            to.write_all(&number.to_le_bytes())?;
            write_page(page.as_slice(), &mut to)?;
        }
        Ok(())
    }

    /// Keeps a whole page.
    pub(super) fn keep(&mut self, number: u64, page: Page) {
        self.pages.insert(number, page);
    }

    /// Whether a page is there.
    pub(super) fn has(&self, number: u64) -> bool {
        self.pages.contains_key(&number)
    }
}

impl RemoteMemory for ImageMemory {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        let mut rest = buf;
        let mut next = addr.0;
        while !rest.is_empty() {
            let page = self.pages.get(&(next / PAGE)).ok_or(ReadError::Unmapped(Addr(next)))?;
            let there = page.get(offset_in_page(next)..).unwrap_or_default();
            let (now, later) = rest.split_at_mut(there.len().min(rest.len()));
            for (to, from) in now.iter_mut().zip(there) {
                *to = *from;
            }
            next = (next / PAGE).wrapping_add(1).wrapping_mul(PAGE);
            rest = later;
        }
        Ok(())
    }
}

/// The numbers of the pages a span touches; an empty span touches none.
pub(super) fn pages_of(addr: Addr, length: usize) -> impl Iterator<Item = u64> {
    let last = u64::try_from(length).ok().and_then(|length| length.checked_sub(1));
    let pages = last.map(|last| (addr.0 / PAGE, addr.0.saturating_add(last) / PAGE));
    pages.into_iter().flat_map(|(first, last)| first..=last)
}

fn offset_in_page(addr: u64) -> usize {
    usize::try_from(addr % PAGE).unwrap_or(0)
}

fn page_number(from: &mut impl Read) -> io::Result<Option<u64>> {
    let mut number = [0; 8];
    let (first, rest) = number.split_at_mut(1);
    // The file may end before a page and nowhere else.
    if from.read(first)? == 0 {
        return Ok(None);
    }
    from.read_exact(rest)?;
    Ok(Some(u64::from_le_bytes(number)))
}

fn read_page(from: &mut impl Read) -> io::Result<Page> {
    let mut page: Page = Box::new([0; PAGE_BYTES]);
    let mut rest: &mut [u8] = page.as_mut_slice();
    while !rest.is_empty() {
        let mut counts = [0; 4];
        from.read_exact(&mut counts)?;
        let [a, b, c, d] = counts;
        let zeros = usize::from(u16::from_le_bytes([a, b]));
        let bytes = usize::from(u16::from_le_bytes([c, d]));
        let told =
            rest.split_at_mut_checked(zeros).and_then(|(_, rest)| rest.split_at_mut_checked(bytes));
        let Some((told, later)) = told.filter(|_| zeros > 0 || bytes > 0) else {
            return Err(invalid("a page of the memory image does not hold 4096 bytes"));
        };
        from.read_exact(told)?;
        rest = later;
    }
    Ok(page)
}

fn write_page(page: &[u8], to: &mut impl Write) -> io::Result<()> {
    let mut rest = page;
    while !rest.is_empty() {
        let (zeros, behind) = rest.split_at(zeros_at(rest));
        let (bytes, later) = behind.split_at(bytes_at(behind));
        for count in [zeros.len(), bytes.len()] {
            let count = u16::try_from(count).map_err(|_| invalid("a page is too long"))?;
            to.write_all(&count.to_le_bytes())?;
        }
        to.write_all(bytes)?;
        rest = later;
    }
    Ok(())
}

/// How many zeros `bytes` begin with.
fn zeros_at(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len())
}

/// How many bytes come before the next run of zeros worth telling of.
fn bytes_at(bytes: &[u8]) -> usize {
    bytes
        .windows(WORTHWHILE)
        .position(|window| window.iter().all(|b| *b == 0))
        .unwrap_or(bytes.len())
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
