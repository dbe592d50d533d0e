//! Wrappers around a memory: one keeps what is read, one fails where it is told to.
//!
//! [`TeeMemory`] makes the images that tests read; [`FaultyMemory`] makes the bad luck that tests
//! must survive. Neither is used on a running server.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::image::{BLOCK_BYTES, ImageMemory, blocks_of};
use super::memory::{ReadError, RemoteMemory};
use crate::units::Addr;

/// Keeps every block that is touched, whole, as it was at its first touch.
///
/// Later reads of a block are answered from what was kept, so that whatever was read through it
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

    /// The blocks touched.
    #[must_use]
    pub fn into_image(self) -> ImageMemory {
        self.image.into_inner()
    }
}

impl<M: RemoteMemory> RemoteMemory for TeeMemory<M> {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        for number in blocks_of(addr, buf.len()) {
            if self.image.borrow().has(number) {
                continue;
            }
            let mut block = Box::new([0; BLOCK_BYTES]);
            let start = Addr(number.wrapping_mul(BLOCK_BYTES as u64));
            self.inner.read(start, block.as_mut_slice()).map_err(|error| match error {
                // Of the bytes that were asked for, and not of the block's beginning.
                ReadError::Unmapped(_) => ReadError::Unmapped(addr.max(start)),
                other => other,
            })?;
            self.image.borrow_mut().keep(number, block);
        }
        self.image.borrow().read(addr, buf)
    }
}

/// What goes wrong with a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing arrives.
    Fails(ReadError),
    /// The first half arrives, then memory ends: the buffer holds both new and old bytes.
    Short,
    /// All arrives, but from another moment, in which every byte there was this one.
    Torn(u8),
}

/// Spoils reads: those that touch a chosen address, and those that come at a chosen time. Counts
/// how often, since a test that injects a fault must also reach it.
#[derive(Debug)]
pub struct FaultyMemory<M> {
    inner: M,
    places: BTreeMap<Addr, Injected>,
    times: BTreeMap<u64, Injected>,
    reads: Cell<u64>,
}

#[derive(Debug)]
struct Injected {
    fault: Fault,
    hits: Cell<u32>,
}

impl Injected {
    fn new(fault: Fault) -> Injected {
        Injected { fault, hits: Cell::new(0) }
    }
}

impl<M: RemoteMemory> FaultyMemory<M> {
    /// Nothing mapped at each of `addrs`.
    #[must_use]
    pub fn new(inner: M, addrs: impl IntoIterator<Item = Addr>) -> FaultyMemory<M> {
        let (places, times) = (BTreeMap::new(), BTreeMap::new());
        let memory = FaultyMemory { inner, places, times, reads: Cell::new(0) };
        addrs.into_iter().fold(memory, |memory, addr| {
            memory.failing(addr, Fault::Fails(ReadError::Unmapped(addr)))
        })
    }

    /// Spoils every read that touches this address too. [`Fault::Torn`] spoils only the eight
    /// bytes from there on: one field.
    #[must_use]
    pub fn failing(mut self, addr: Addr, fault: Fault) -> FaultyMemory<M> {
        self.places.insert(addr, Injected::new(fault));
        self
    }

    /// Spoils the read that comes after `reads` others, every span of a batch being one. A process
    /// that is gone or closed to us then stays so; everything else passes.
    #[must_use]
    pub fn failing_after(mut self, reads: u64, fault: Fault) -> FaultyMemory<M> {
        self.times.insert(reads, Injected::new(fault));
        self
    }

    /// How many reads were tried so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// How many reads were spoilt at `addr`.
    #[must_use]
    pub fn hits(&self, addr: Addr) -> u32 {
        self.places.get(&addr).map_or(0, |injected| injected.hits.get())
    }

    /// How many faults nothing ran into.
    #[must_use]
    pub fn unreached(&self) -> usize {
        let all = self.places.values().chain(self.times.values());
        all.filter(|injected| injected.hits.get() == 0).count()
    }

    /// What goes wrong with this read, and which of its bytes it spoils.
    fn fault(&self, addr: Addr, length: usize) -> Option<(Fault, usize, usize)> {
        let time = self.reads.get();
        self.reads.set(time.saturating_add(1));
        let over = |injected: &&Injected| {
            matches!(injected.fault, Fault::Fails(ReadError::Gone | ReadError::Denied))
        };
        let ended = self.times.range(..time).map(|(_, injected)| injected).find(over);
        if let Some(injected) = ended.or_else(|| self.times.get(&time)) {
            injected.hits.set(injected.hits.get().saturating_add(1));
            return Some((injected.fault, 0, length));
        }
        let end = addr.0.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        let (place, injected) = self.places.range(addr..Addr(end)).next()?;
        injected.hits.set(injected.hits.get().saturating_add(1));
        let from = usize::try_from(place.0.saturating_sub(addr.0)).unwrap_or(length);
        Some((injected.fault, from, from.saturating_add(8).min(length)))
    }
}

impl<M: RemoteMemory> RemoteMemory for FaultyMemory<M> {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        match self.fault(addr, buf.len()) {
            None => self.inner.read(addr, buf),
            Some((Fault::Fails(error), ..)) => Err(error),
            Some((Fault::Short, ..)) => {
                let (arrives, _) = buf.split_at_mut(buf.len() / 2);
                self.inner.read(addr, arrives)?;
                Err(ReadError::Unmapped(addr))
            }
            Some((Fault::Torn(byte), from, to)) => {
                self.inner.read(addr, buf)?;
                buf.get_mut(from..to).unwrap_or_default().fill(byte);
                Ok(())
            }
        }
    }
}
