//! The bytes of an ELF file: on a disk, or in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where the bytes of an ELF file are.
#[derive(Debug)]
pub(super) enum Bytes {
    File(File),
    /// A file that only exists in memory: the kernel's own (vdso(7)).
    Memory(Vec<u8>),
}

impl Bytes {
    /// Fills `buf` from `offset`, or fails.
    pub(super) fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Bytes::File(file) => file.read_exact_at(buf, offset),
            Bytes::Memory(bytes) => {
                let start = usize::try_from(offset).ok();
                let end = start.and_then(|start| start.checked_add(buf.len()));
                let found = start.zip(end).and_then(|(start, end)| bytes.get(start..end));
                buf.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}
