//! The interpreter lock (GIL): who holds it.
//!
//! The interpreter's own state tells: `locked`, and `last_holder`, which is set when the lock is
//! taken and stays when it is released (`take_gil`, `drop_gil`: Python/ceval_gil.h to 3.11,
//! Python/ceval_gil.c from 3.12 on). Both lie side by side and are read at once. Between the writes
//! of the two, a few instructions apart, the thread named is the one that held it before: who needs
//! certainty reads twice.

use super::Interpreter;
use crate::layout::shape::GilHome;
use crate::target::{Fields, ReadError, RemoteMemoryExt, Span};
use crate::units::Addr;

/// The size of `struct _gil_runtime_state` in bytes, its mutexes and condition variables included, on
/// x86_64 with glibc (3.8 to 3.15: 208); elsewhere these are no larger.
const SIZE: u64 = 208;
/// The most bytes between the two members, and their own: they are neighbours in every version.
const MAX_SPAN: usize = 64;

/// One interpreter lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gil(Addr);

impl Gil {
    /// The lock of an interpreter; several may share one. `None` if there is none yet.
    #[must_use]
    pub fn of(python: &Interpreter<'_>, interpreter: Addr) -> Option<Gil> {
        let at = match python.layout.offsets.gil.home {
            GilHome::Runtime(offset) => python.runtime.at(offset),
            GilHome::Interpreter(offset) => {
                python.memory.read_pointer(interpreter.at(offset)).ok()?
            }
        };
        // It holds pointers, so it is aligned as they are.
        (at.is_plausible() && at.0.is_multiple_of(8)).then_some(Gil(at))
    }

    /// Whether `addr` lies inside it: what a thread that waits for it sleeps on does.
    #[must_use]
    pub fn contains(self, addr: Addr) -> bool {
        addr >= self.0 && addr < self.0.at(SIZE)
    }

    /// The `PyThreadState` that holds it now; `None` if none does.
    ///
    /// # Errors
    /// When it cannot be read or holds no such thing.
    pub fn holder(self, python: &Interpreter<'_>) -> Result<Option<Addr>, ReadError> {
        let mut found = holders(python, &[self]);
        found.pop().unwrap_or(Err(ReadError::Invalid("interpreter lock")))
    }
}

/// Who holds each of these locks, in one read; see [`Gil::holder`].
#[must_use]
pub fn holders(python: &Interpreter<'_>, gils: &[Gil]) -> Vec<Result<Option<Addr>, ReadError>> {
    let offsets = python.layout.offsets.gil;
    let from = offsets.last_holder.min(offsets.locked);
    let end = offsets.last_holder.saturating_add(8).max(offsets.locked.saturating_add(4));
    let span = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
    if span > MAX_SPAN {
        return gils.iter().map(|_| Err(ReadError::Invalid("interpreter lock"))).collect();
    }
    let mut words = vec![[0; MAX_SPAN]; gils.len()];
    let mut spans: Vec<Span<'_>> = gils
        .iter()
        .zip(&mut words)
        .map(|(gil, word)| (gil.0.at(from), word.get_mut(..span).unwrap_or_default()))
        .collect();
    let read = python.memory.read_batch(&mut spans);
    let decode = |index: usize, word: &[u8]| {
        if index >= read? {
            return Err(ReadError::Invalid("interpreter lock"));
        }
        let fields = Fields(word);
        let holder = fields.pointer(offsets.last_holder.saturating_sub(from))?;
        match fields.u32(offsets.locked.saturating_sub(from))? {
            0 => Ok(None),
            1 if holder.is_plausible() => Ok(Some(holder)),
            // Not made yet, or no lock at all.
            _ => Err(ReadError::Invalid("interpreter lock")),
        }
    };
    words.iter().enumerate().map(|(index, word)| decode(index, word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tables;
    use crate::target::ImageMemory;

    const RUNTIME: Addr = Addr(0x5555_0000_0000);
    const INTERPRETER: Addr = Addr(0x5555_1000_0000);
    const LOCK: Addr = Addr(0x5555_2000_0000);
    const STATE: Addr = Addr(0x5555_3000_0000);

    /// What every layout makes of a lock with these two members.
    fn read(last_holder: Addr, locked: u32) -> Vec<Result<Option<Addr>, ReadError>> {
        let of = |layout: &crate::layout::Layout| {
            let gil = layout.offsets.gil;
            let mut memory = ImageMemory::new();
            let at = match gil.home {
                GilHome::Runtime(offset) => RUNTIME.at(offset),
                GilHome::Interpreter(offset) => {
                    memory.insert(INTERPRETER.at(offset), &LOCK.0.to_le_bytes());
                    LOCK
                }
            };
            memory.insert(at.at(gil.last_holder), &last_holder.0.to_le_bytes());
            memory.insert(at.at(gil.locked), &locked.to_le_bytes());
            let python = Interpreter::new(&memory, layout, RUNTIME);
            let lock = Gil::of(&python, INTERPRETER).unwrap();
            assert!(lock.contains(at) && lock.contains(at.at(SIZE - 1)));
            assert!(!lock.contains(at.at(SIZE)) && !lock.contains(Addr(at.0 - 1)));
            lock.holder(&python)
        };
        tables().iter().map(|layout| of(layout)).collect()
    }

    #[test]
    fn who_has_it_is_told_only_while_it_is_held() {
        assert!(read(STATE, 1).iter().all(|found| *found == Ok(Some(STATE))));
        assert!(read(STATE, 0).iter().all(|found| *found == Ok(None)));
    }

    #[test]
    fn what_is_no_lock_tells_nothing() {
        for (holder, locked) in [(STATE, u32::MAX), (STATE, 2), (Addr(0), 1), (Addr(77), 1)] {
            assert!(read(holder, locked).iter().all(Result::is_err), "{holder}, {locked}");
        }
    }

    #[test]
    fn a_pointer_to_no_lock_is_none() {
        for lock in [Addr(0), Addr(12), Addr(LOCK.0 + 4), Addr(u64::MAX)] {
            let mut memory = ImageMemory::new();
            let layout = tables().last().unwrap();
            let GilHome::Interpreter(offset) = layout.offsets.gil.home else { panic!("3.12") };
            memory.insert(INTERPRETER.at(offset), &lock.0.to_le_bytes());
            let python = Interpreter::new(&memory, layout, RUNTIME);
            assert_eq!(Gil::of(&python, INTERPRETER), None, "{lock}");
        }
    }

    #[test]
    fn several_are_read_at_once_as_far_as_they_are_there() {
        let layout = tables().first().unwrap();
        let mut memory = ImageMemory::new();
        memory.insert(LOCK.at(layout.offsets.gil.locked), &0u32.to_le_bytes());
        let python = Interpreter::new(&memory, layout, RUNTIME);
        let found = holders(&python, &[Gil(LOCK), Gil(STATE)]);
        assert_eq!(found.first(), Some(&Ok(None)));
        assert!(matches!(found.get(1), Some(Err(_))), "{found:?}");
        assert!(holders(&python, &[]).is_empty());
    }
}
