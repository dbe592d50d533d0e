//! Wrappers around a memory: one keeps what is read, one fails where it is told to.
//!
//! [`TeeMemory`] makes the images that tests read; [`FaultyMemory`] makes the bad luck that tests
//! must survive. Neither changes a byte.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::image::{ImageMemory, PAGE_BYTES, pages_of};
use super::memory::{ReadError, RemoteMemory};
use crate::units::Addr;

/// Keeps every page that is touched, whole, as it was at its first touch.
///
/// Later reads of a page are answered from what was kept, so that whatever was read through it
/// reads the same from its image. It shows one look at a process: make another for the next look.
#[derive(Debug)]
pub struct TeeMemory<M> {
    inner: M,
    image: RefCell<ImageMemory>,
}

impl<M: RemoteMemory> TeeMemory<M> {
    /// Keeps nothing yet.
    #[must_use]
    pub fn new(inner: M) -> TeeMemory<M> {
        TeeMemory { inner, image: RefCell::new(ImageMemory::new()) }
    }

    /// The pages touched.
    #[must_use]
    pub fn into_image(self) -> ImageMemory {
        self.image.into_inner()
    }
}

impl<M: RemoteMemory> RemoteMemory for TeeMemory<M> {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        for number in pages_of(addr, buf.len()) {
            if self.image.borrow().has(number) {
                continue;
            }
            let mut page = Box::new([0; PAGE_BYTES]);
            let start = Addr(number.wrapping_mul(PAGE_BYTES as u64));
            self.inner.read(start, page.as_mut_slice()).map_err(|error| match error {
                // Of the bytes that were asked for, and not of the page's beginning.
                ReadError::Unmapped(_) => ReadError::Unmapped(addr.max(start)),
                other => other,
            })?;
            self.image.borrow_mut().keep(number, page);
        }
        self.image.borrow().read(addr, buf)
    }
}

/// Fails every read that touches a chosen address, and counts how often.
#[derive(Debug)]
pub struct FaultyMemory<M> {
    inner: M,
    faults: BTreeMap<Addr, Fault>,
}

#[derive(Debug)]
struct Fault {
    error: ReadError,
    hits: Cell<u32>,
}

impl<M: RemoteMemory> FaultyMemory<M> {
    /// Finds nothing mapped at each of `addrs`.
    #[must_use]
    pub fn new(inner: M, addrs: impl IntoIterator<Item = Addr>) -> FaultyMemory<M> {
        addrs.into_iter().fold(FaultyMemory { inner, faults: BTreeMap::new() }, |memory, addr| {
            memory.failing(addr, ReadError::Unmapped(addr))
        })
    }

    /// Fails with this error at this address too.
    #[must_use]
    pub fn failing(mut self, addr: Addr, error: ReadError) -> FaultyMemory<M> {
        self.faults.insert(addr, Fault { error, hits: Cell::new(0) });
        self
    }

    /// How many reads failed at `addr`.
    #[must_use]
    pub fn hits(&self, addr: Addr) -> u32 {
        self.faults.get(&addr).map_or(0, |fault| fault.hits.get())
    }

    /// The faults nothing ran into: a test that injects one must reach it.
    #[must_use]
    pub fn unreached(&self) -> Vec<Addr> {
        let unreached = self.faults.iter().filter(|(_, fault)| fault.hits.get() == 0);
        unreached.map(|(addr, _)| *addr).collect()
    }
}

impl<M: RemoteMemory> RemoteMemory for FaultyMemory<M> {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        let end = addr.0.saturating_add(u64::try_from(buf.len()).unwrap_or(u64::MAX));
        if let Some((_, fault)) = self.faults.range(addr..Addr(end)).next() {
            fault.hits.set(fault.hits.get().saturating_add(1));
            return Err(fault.error);
        }
        self.inner.read(addr, buf)
    }
}
