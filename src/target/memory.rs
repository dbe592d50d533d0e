//! The seam everything above sees memory through.
//!
//! Takes addresses, gives bytes. Never interprets them, never waits, never writes.

use std::fmt;

use crate::units::Addr;

/// Why bytes could not be read. All of them are normal in a running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Nothing is mapped there: a stale or garbage pointer.
    #[error("nothing is mapped at {0}")]
    Unmapped(Addr),
    /// The process has ended.
    #[error("the process has ended")]
    Gone,
    /// The kernel does not let us.
    #[error("the kernel denies reading the process")]
    Denied,
    /// The bytes are there but cannot be what was asked for: torn, or not that object.
    #[error("no {0} there")]
    Invalid(&'static str),
}

/// A read that failed tells nothing, unless it tells that there is nothing to read any more.
///
/// # Errors
/// Only [`ReadError::Gone`] and [`ReadError::Denied`].
pub fn unless_over<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error @ (ReadError::Gone | ReadError::Denied)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// A span to fill: where it lies in the target, and where its bytes go.
pub type Span<'a> = (Addr, &'a mut [u8]);

/// Bytes of another address space.
pub trait RemoteMemory: fmt::Debug {
    /// Fills `buf` from `addr`.
    ///
    /// # Errors
    /// Any [`ReadError`]; `buf` then holds nothing of meaning.
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError>;

    /// Reads several spans as close together in time as the source allows. Stops at the first span
    /// that cannot be read and returns how many were filled whole: a stale guess at the end of a
    /// batch must not cost the good reads before it.
    ///
    /// # Errors
    /// [`ReadError::Gone`] or [`ReadError::Denied`] only; an unreadable span just ends the count.
    fn read_batch(&self, spans: &mut [Span<'_>]) -> Result<usize, ReadError> {
        for (done, (addr, buf)) in spans.iter_mut().enumerate() {
            match self.read(*addr, buf) {
                Ok(()) => {}
                Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
                Err(_) => return Ok(done),
            }
        }
        Ok(spans.len())
    }
}

impl<M: RemoteMemory + ?Sized> RemoteMemory for &M {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        (**self).read(addr, buf)
    }

    fn read_batch(&self, spans: &mut [Span<'_>]) -> Result<usize, ReadError> {
        (**self).read_batch(spans)
    }
}

/// Typed reads for every [`RemoteMemory`]; kept off the trait so that it stays usable as `dyn`.
/// All targets are little-endian and 64-bit: so are all platforms stallspy is built for.
pub trait RemoteMemoryExt: RemoteMemory {
    /// One byte.
    ///
    /// # Errors
    /// See [`RemoteMemory::read`].
    fn read_u8(&self, addr: Addr) -> Result<u8, ReadError> {
        let mut buf = [0; 1];
        self.read(addr, &mut buf)?;
        let [byte] = buf;
        Ok(byte)
    }

    /// A 32-bit word.
    ///
    /// # Errors
    /// See [`RemoteMemory::read`].
    fn read_u32(&self, addr: Addr) -> Result<u32, ReadError> {
        let mut buf = [0; 4];
        self.read(addr, &mut buf)?;
        Ok(u32::from_le_bytes(buf))
    }

    /// A 64-bit word.
    ///
    /// # Errors
    /// See [`RemoteMemory::read`].
    fn read_u64(&self, addr: Addr) -> Result<u64, ReadError> {
        let mut buf = [0; 8];
        self.read(addr, &mut buf)?;
        Ok(u64::from_le_bytes(buf))
    }

    /// A pointer, which may be null.
    ///
    /// # Errors
    /// See [`RemoteMemory::read`].
    fn read_pointer(&self, addr: Addr) -> Result<Addr, ReadError> {
        self.read_u64(addr).map(Addr)
    }

    /// The 64-bit words at `places`, as close together in time as the source allows.
    ///
    /// # Errors
    /// See [`RemoteMemory::read`]; [`ReadError::Unmapped`] if any of them is.
    fn read_words<const N: usize>(&self, places: [Addr; N]) -> Result<[u64; N], ReadError> {
        let mut words = [[0; 8]; N];
        let mut spans: Vec<Span<'_>> = places
            .into_iter()
            .zip(words.iter_mut())
            .map(|(at, word)| (at, &mut word[..]))
            .collect();
        let filled = self.read_batch(&mut spans)?;
        match places.get(filled) {
            None => Ok(words.map(u64::from_le_bytes)),
            Some(unread) => Err(ReadError::Unmapped(*unread)),
        }
    }

    /// The word at each of `places`; `None` where it cannot be read. One call, and one more for each
    /// that cannot.
    ///
    /// # Errors
    /// [`ReadError::Gone`] and [`ReadError::Denied`].
    fn read_each(&self, places: &[Addr]) -> Result<Vec<Option<u64>>, ReadError> {
        let mut words = vec![[0; 8]; places.len()];
        let mut good = vec![false; places.len()];
        let mut from = 0_usize;
        while let (Some(places), Some(words)) = (places.get(from..), words.get_mut(from..))
            && !places.is_empty()
        {
            let spans = places.iter().zip(words).map(|(at, word)| (*at, &mut word[..]));
            let mut spans: Vec<Span<'_>> = spans.collect();
            let filled = self.read_batch(&mut spans)?;
            good.iter_mut().skip(from).take(filled).for_each(|good| *good = true);
            from = from.saturating_add(filled).saturating_add(1);
        }
        let read = words.into_iter().zip(good);
        Ok(read.map(|(word, good)| good.then(|| u64::from_le_bytes(word))).collect())
    }

    /// `len` bytes. The caller bounds `len`.
    ///
    /// # Errors
    /// See [`RemoteMemory::read`].
    fn read_vec(&self, addr: Addr, len: usize) -> Result<Vec<u8>, ReadError> {
        let mut buf = vec![0; len];
        self.read(addr, &mut buf)?;
        Ok(buf)
    }
}

impl<M: RemoteMemory + ?Sized> RemoteMemoryExt for M {}

/// Picks fields out of bytes already read, without ever indexing out of bounds.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, offset: u64) -> Result<[u8; N], ReadError> {
        let start = usize::try_from(offset).map_err(|_| ReadError::Invalid("field"))?;
        let end = start.checked_add(N).ok_or(ReadError::Invalid("field"))?;
        self.0
            .get(start..end)
            .and_then(|slice| slice.try_into().ok())
            .ok_or(ReadError::Invalid("field"))
    }

    /// The byte at `offset`.
    ///
    /// # Errors
    /// [`ReadError::Invalid`] past the end.
    pub fn u8(&self, offset: u64) -> Result<u8, ReadError> {
        self.bytes::<1>(offset).map(|[byte]| byte)
    }

    /// The 32-bit word at `offset`.
    ///
    /// # Errors
    /// [`ReadError::Invalid`] past the end.
    pub fn u32(&self, offset: u64) -> Result<u32, ReadError> {
        self.bytes(offset).map(u32::from_le_bytes)
    }

    /// The 64-bit word at `offset`.
    ///
    /// # Errors
    /// [`ReadError::Invalid`] past the end.
    pub fn u64(&self, offset: u64) -> Result<u64, ReadError> {
        self.bytes(offset).map(u64::from_le_bytes)
    }

    /// The pointer at `offset`.
    ///
    /// # Errors
    /// [`ReadError::Invalid`] past the end.
    pub fn pointer(&self, offset: u64) -> Result<Addr, ReadError> {
        self.u64(offset).map(Addr)
    }
}
