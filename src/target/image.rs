//! Recorded memory: the blocks a look at a process touched, in memory and as a file.
//!
//! Takes blocks, gives bytes through the same seam as a running process, so that everything above
//! runs on a recording as it does live. Never guesses a byte that was not recorded. Blocks are far
//! smaller than pages: what lies beside what was read is nobody's business, and would make the
//! files several times larger. The file is hostile input: every count in it is checked before it is
//! believed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::memory::{ReadError, RemoteMemory};
use crate::units::Addr;

/// Bytes in a block. It divides every kernel's page, so that a block with one readable byte is
/// readable whole; most objects that are read fit into one.
pub const BLOCK_BYTES: usize = 128;
/// The same, as a number of the target's.
const BLOCK: u64 = 128;

/// First bytes of the file; the last two count its versions.
const MAGIC: &[u8; 16] = b"stallspy-image02";
/// Most blocks we load, 64 MiB; a look at a server touches some hundreds.
const MOST_BLOCKS: usize = 512 * 1024;
/// A run of zeros shorter than this is written as it is: telling of it costs 4 bytes.
const WORTHWHILE: usize = 5;

type Block = Box<[u8; BLOCK_BYTES]>;

/// Recorded blocks, by address.
///
/// The file begins with 16 bytes of magic and version; then, for each block in ascending order, its
/// number (address / 128, u64), followed by parts until 128 bytes are told: how many zeros (u16),
/// how many bytes after them (u16), those bytes. All numbers are little-endian.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ImageMemory {
    blocks: BTreeMap<u64, Block>,
}

impl ImageMemory {
    /// No blocks.
    #[must_use]
    pub fn new() -> ImageMemory {
        ImageMemory::default()
    }

    /// Puts `bytes` at `addr`; what else lies on the blocks touched stays, and is zero where they
    /// are new. For building images by hand.
    pub fn insert(&mut self, addr: Addr, bytes: &[u8]) {
        let mut rest = bytes;
        let mut next = addr.0;
        while !rest.is_empty() {
            let block =
                self.blocks.entry(next / BLOCK).or_insert_with(|| Box::new([0; BLOCK_BYTES]));
            let room = block.get_mut(offset_in_block(next)..).unwrap_or_default();
            let (now, later) = rest.split_at(room.len().min(rest.len()));
            for (to, from) in room.iter_mut().zip(now) {
                *to = *from;
            }
            // The next block begins the rest; the very last block of all wraps to the first.
            next = (next / BLOCK).wrapping_add(1).wrapping_mul(BLOCK);
            rest = later;
        }
    }

    /// How many blocks are recorded.
    #[must_use]
    pub fn block_count(&self) -> usize {
        self.blocks.len()
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
        let mut blocks = BTreeMap::new();
        while let Some(number) = block_number(&mut from)? {
            if blocks.last_key_value().is_some_and(|(last, _)| *last >= number) {
                return Err(invalid("the blocks of the memory image are out of order"));
            }
            if blocks.len() >= MOST_BLOCKS {
                return Err(invalid("the memory image is larger than 64 MiB"));
            }
            blocks.insert(number, read_block(&mut from)?);
        }
        Ok(ImageMemory { blocks })
    }

    /// Writes the file format to any sink.
    ///
    /// # Errors
    /// Where the sink does not take it.
    pub fn write_to(&self, mut to: impl Write) -> io::Result<()> {
        to.write_all(MAGIC)?;
        for (number, block) in &self.blocks {
            to.write_all(&number.to_le_bytes())?;
            write_block(block.as_slice(), &mut to)?;
        }
        Ok(())
    }

    /// Keeps a whole block.
    pub(super) fn keep(&mut self, number: u64, block: Block) {
        self.blocks.insert(number, block);
    }

    /// Whether a block is there.
    pub(super) fn has(&self, number: u64) -> bool {
        self.blocks.contains_key(&number)
    }
}

impl RemoteMemory for ImageMemory {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        let mut rest = buf;
        let mut next = addr.0;
        while !rest.is_empty() {
            let block = self.blocks.get(&(next / BLOCK)).ok_or(ReadError::Unmapped(Addr(next)))?;
            let there = block.get(offset_in_block(next)..).unwrap_or_default();
            let (now, later) = rest.split_at_mut(there.len().min(rest.len()));
            now.copy_from_slice(there.get(..now.len()).unwrap_or_default());
            next = (next / BLOCK).wrapping_add(1).wrapping_mul(BLOCK);
            rest = later;
        }
        Ok(())
    }
}

/// The numbers of the blocks a span touches; an empty span touches none.
pub(super) fn blocks_of(addr: Addr, length: usize) -> impl Iterator<Item = u64> {
    let last = u64::try_from(length).ok().and_then(|length| length.checked_sub(1));
    let blocks = last.map(|last| (addr.0 / BLOCK, addr.0.saturating_add(last) / BLOCK));
    blocks.into_iter().flat_map(|(first, last)| first..=last)
}

fn offset_in_block(addr: u64) -> usize {
    usize::try_from(addr % BLOCK).unwrap_or(0)
}

fn block_number(from: &mut impl Read) -> io::Result<Option<u64>> {
    let mut number = [0; 8];
    let (first, rest) = number.split_at_mut(1);
    // The file may end before a block and nowhere else.
    if from.read(first)? == 0 {
        return Ok(None);
    }
    from.read_exact(rest)?;
    Ok(Some(u64::from_le_bytes(number)))
}

fn read_block(from: &mut impl Read) -> io::Result<Block> {
    let mut block: Block = Box::new([0; BLOCK_BYTES]);
    let mut rest: &mut [u8] = block.as_mut_slice();
    while !rest.is_empty() {
        let mut counts = [0; 4];
        from.read_exact(&mut counts)?;
        let [a, b, c, d] = counts;
        let zeros = usize::from(u16::from_le_bytes([a, b]));
        let bytes = usize::from(u16::from_le_bytes([c, d]));
        let told =
            rest.split_at_mut_checked(zeros).and_then(|(_, rest)| rest.split_at_mut_checked(bytes));
        let Some((told, later)) = told.filter(|_| zeros > 0 || bytes > 0) else {
            return Err(invalid("a block of the memory image does not hold 128 bytes"));
        };
        from.read_exact(told)?;
        rest = later;
    }
    Ok(block)
}

fn write_block(block: &[u8], to: &mut impl Write) -> io::Result<()> {
    let mut rest = block;
    while !rest.is_empty() {
        let (zeros, behind) = rest.split_at(zeros_at(rest));
        let (bytes, later) = behind.split_at(bytes_at(behind));
        for count in [zeros.len(), bytes.len()] {
            let count = u16::try_from(count).map_err(|_| invalid("a block is too long"))?;
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
