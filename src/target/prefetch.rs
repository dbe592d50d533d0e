//! Reading ahead what was read the last time.
//!
//! What looks at the same objects again and again follows the same pointers, one call for each. Takes
//! a memory, gives one in which everything read the last time is already there, fetched in one call,
//! as long as the same is asked for in the same order. So whoever reads through it reads nothing older
//! than what it read before, as without. Knows nothing of what the bytes mean.

use std::cell::RefCell;

use super::memory::{ReadError, RemoteMemory, Span};
use crate::units::Addr;

/// Most stretches fetched ahead; the others are read when they are asked for.
const MAX_SPANS: usize = 256;
/// Most bytes of them.
const MAX_BYTES: usize = 32 << 10;

/// What was read the last time: addresses and lengths.
#[derive(Debug, Default)]
pub struct Prefetch {
    spans: Vec<(Addr, usize)>,
}

impl Prefetch {
    /// Finds something out by reading through a memory that has fetched ahead.
    pub fn read<T>(
        &mut self,
        memory: &dyn RemoteMemory,
        find_out: impl FnOnce(&dyn RemoteMemory) -> T,
    ) -> T {
        let (bytes, good) = self.fetch(memory);
        self.spans.truncate(good);
        let state = State {
            is_same: true,
            taken: 0,
            offset: 0,
            noting: true,
            noted: Vec::with_capacity(self.spans.len()),
            noted_bytes: 0,
        };
        let ahead = Ahead { memory, spans: &self.spans, bytes: &bytes, state: RefCell::new(state) };
        let found = find_out(&ahead);
        self.spans = ahead.state.into_inner().noted;
        found
    }

    /// The bytes of the spans, and how many of them could be read. An error shows again when it is
    /// asked for.
    fn fetch(&self, memory: &dyn RemoteMemory) -> (Vec<u8>, usize) {
        let total = self.spans.iter().map(|(_, length)| *length).fold(0, usize::saturating_add);
        let mut bytes = vec![0; total];
        let mut rest = bytes.as_mut_slice();
        let mut spans: Vec<Span<'_>> = Vec::with_capacity(self.spans.len());
        for (addr, length) in &self.spans {
            let left = std::mem::take(&mut rest);
            let Some((own, behind)) = left.split_at_mut_checked(*length) else { break };
            spans.push((*addr, own));
            rest = behind;
        }
        let good = if spans.is_empty() { 0 } else { memory.read_batch(&mut spans).unwrap_or(0) };
        (bytes, good)
    }
}

/// A memory of which some has been fetched.
#[derive(Debug)]
struct Ahead<'a> {
    memory: &'a dyn RemoteMemory,
    spans: &'a [(Addr, usize)],
    bytes: &'a [u8],
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    /// All reads so far were those of the last time, in the same order.
    is_same: bool,
    /// How many of the spans were asked for, and the place of the next one's bytes.
    taken: usize,
    offset: usize,
    /// Whether what is read is noted for the next time, and what was.
    noting: bool,
    noted: Vec<(Addr, usize)>,
    noted_bytes: usize,
}

impl Ahead<'_> {
    /// Fills `buf` from what was fetched, if that is next.
    fn take(&self, addr: Addr, buf: &mut [u8]) -> bool {
        let mut state = self.state.borrow_mut();
        let end = state.offset.saturating_add(buf.len());
        let is_next = state.is_same && self.spans.get(state.taken) == Some(&(addr, buf.len()));
        let bytes = self.bytes.get(state.offset..end).filter(|_| is_next);
        match bytes {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                state.taken = state.taken.saturating_add(1);
                state.offset = end;
            }
            // What was fetched is older than what is read from now on.
            None => state.is_same = false,
        }
        bytes.is_some()
    }

    /// Notes what was read, for the next time.
    fn note(&self, addr: Addr, length: usize) {
        let mut state = self.state.borrow_mut();
        state.noted_bytes = state.noted_bytes.saturating_add(length);
        state.noting &= state.noted.len() < MAX_SPANS && state.noted_bytes <= MAX_BYTES;
        if state.noting {
            state.noted.push((addr, length));
        }
    }
}

impl RemoteMemory for Ahead<'_> {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        if !self.take(addr, buf) {
            self.memory.read(addr, buf)?;
        }
        self.note(addr, buf.len());
        Ok(())
    }

    fn read_batch(&self, spans: &mut [Span<'_>]) -> Result<usize, ReadError> {
        let mut taken = 0_usize;
        for (addr, buf) in spans.iter_mut() {
            if !self.take(*addr, buf) {
                break;
            }
            taken = taken.saturating_add(1);
        }
        let rest = spans.get_mut(taken..).unwrap_or_default();
        let read = if rest.is_empty() { 0 } else { self.memory.read_batch(rest)? };
        let filled = taken.saturating_add(read);
        for (addr, buf) in spans.iter().take(filled) {
            self.note(*addr, buf.len());
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::target::RemoteMemoryExt;

    /// Sixteen words that can be changed; counts calls.
    #[derive(Debug, Default)]
    struct Words {
        words: RefCell<[u64; 16]>,
        calls: Cell<u32>,
    }

    impl Words {
        fn set(&self, index: usize, word: u64) {
            self.words.borrow_mut()[index] = word;
        }

        fn fill(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
            let words = self.words.borrow();
            let word = usize::try_from(addr.0 / 8).ok().and_then(|index| words.get(index));
            buf.copy_from_slice(&word.ok_or(ReadError::Unmapped(addr))?.to_le_bytes());
            Ok(())
        }
    }

    impl RemoteMemory for Words {
        fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
            self.calls.set(self.calls.get() + 1);
            self.fill(addr, buf)
        }

        fn read_batch(&self, spans: &mut [Span<'_>]) -> Result<usize, ReadError> {
            self.calls.set(self.calls.get() + 1);
            let failed = spans.iter_mut().position(|(addr, buf)| self.fill(*addr, buf).is_err());
            Ok(failed.unwrap_or(spans.len()))
        }
    }

    /// Follows a list of pointers from the first word to the null at its end, and reads two words at
    /// once there.
    fn follow(memory: &dyn RemoteMemory) -> Result<[u64; 2], ReadError> {
        let mut at = Addr(0);
        loop {
            let next = memory.read_pointer(at)?;
            if next.is_null() {
                return memory.read_words([at.at(8), at.at(16)]);
            }
            at = next;
        }
    }

    /// What is found, and the calls that it took.
    fn look(ahead: &mut Prefetch, memory: &Words) -> (Result<[u64; 2], ReadError>, u32) {
        let before = memory.calls.get();
        (ahead.read(memory, follow), memory.calls.get() - before)
    }

    #[test]
    fn what_stays_where_it_was_takes_one_call() {
        let (memory, mut ahead) = (Words::default(), Prefetch::default());
        memory.set(0, 24);
        memory.set(3, 64);
        assert_eq!(look(&mut ahead, &memory), (Ok([0, 0]), 4));
        memory.set(9, 5);
        assert_eq!(look(&mut ahead, &memory), (Ok([5, 0]), 1));
        memory.set(10, 6);
        assert_eq!(look(&mut ahead, &memory), (Ok([5, 6]), 1));
    }

    #[test]
    fn what_has_moved_is_followed_from_there_on() {
        let (memory, mut ahead) = (Words::default(), Prefetch::default());
        memory.set(0, 24);
        memory.set(3, 64);
        memory.set(6, 7);
        assert_eq!(look(&mut ahead, &memory).0, Ok([0, 0]));
        // The second pointer leads elsewhere now: one call for what is fetched, two for the rest.
        memory.set(3, 40);
        assert_eq!(look(&mut ahead, &memory), (Ok([7, 0]), 3));
        assert_eq!(look(&mut ahead, &memory), (Ok([7, 0]), 1));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_each_time_and_none_when_it_can() {
        let (memory, mut ahead) = (Words::default(), Prefetch::default());
        memory.set(0, 4096);
        for _ in 0..3 {
            let (found, _) = look(&mut ahead, &memory);
            assert_eq!(found, Err(ReadError::Unmapped(Addr(4096))));
        }
        memory.set(0, 0);
        memory.set(1, 9);
        assert_eq!(look(&mut ahead, &memory).0, Ok([9, 0]));
    }

    #[test]
    fn a_long_way_is_not_fetched_whole() {
        let (memory, mut ahead) = (Words::default(), Prefetch::default());
        let long = |memory: &dyn RemoteMemory| {
            for _ in 0..MAX_SPANS * 2 {
                memory.read_u64(Addr(8)).unwrap();
            }
        };
        ahead.read(&memory, long);
        assert_eq!(ahead.spans.len(), MAX_SPANS);
        let before = memory.calls.get();
        ahead.read(&memory, long);
        assert_eq!(memory.calls.get() - before, 1 + u32::try_from(MAX_SPANS).unwrap());
    }
}
