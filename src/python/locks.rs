//! Who holds the lock that a sleeping thread waits for.
//!
//! Only a reentrant lock (`threading.RLock`, and with it a `Condition`) keeps its owner; a plain
//! `Lock` has none. The lock is found from the futex the thread sleeps at, and proved by it:
//!
//! * Where a lock is a semaphore (`PyThread_type_lock`, to 3.13 for `RLock`), the futex is the
//!   semaphore itself, and the lock object points to it. C code that acquires a lock keeps the object
//!   on the C stack; the stack's nearest words are searched for it.
//! * Where it is a `PyMutex` (3.14 on), the thread sleeps at a semaphore in an entry of the parking
//!   lot, and the word before the semaphore is the mutex's address (`struct wait_entry`,
//!   <https://github.com/python/cpython/blob/v3.14.0/Python/parking_lot.c>).
//!
//! Sources of the object's layout: `rlockobject` in
//! <https://github.com/python/cpython/blob/v3.12.0/Modules/_threadmodule.c>, and `_PyRecursiveMutex` in
//! <https://github.com/python/cpython/blob/v3.14.0/Include/internal/pycore_lock.h>. The three places
//! below are the same from 3.8 to 3.15.

use super::Interpreter;
use crate::target::{RemoteMemoryExt, Span};
use crate::units::Addr;

/// `tp_name` of a reentrant lock's type.
const RLOCK: &str = "_thread.RLock";
/// Where a lock object keeps its lock: right behind the object's head.
const LOCK: u64 = 16;
/// Where an `RLock` keeps its owner: `rlock_owner` to 3.13, `lock.thread` from 3.14 on. 0 while free.
const OWNER: u64 = 24;
/// How far before the semaphore a `wait_entry` has the address that is waited for.
const ENTRY_ADDRESS: u64 = 8;
/// Words of the C stack searched. The object was found within 256 bytes of the stack pointer in
/// CPython 3.8 to 3.13 of two builders.
const WORDS: usize = 128;
/// The smallest page of any supported kernel: what follows one may be missing.
const PAGE: u64 = 4096;

/// The `threading.get_ident()` of the thread that holds the reentrant lock at which a thread sleeps;
/// `None` if it sleeps for anything else, or the lock was let go. `futex` is the address it sleeps
/// at, `sp` its stack pointer.
#[must_use]
pub fn owner_of_awaited(python: &Interpreter<'_>, futex: Addr, sp: Addr) -> Option<u64> {
    let lock = parked_at(python, futex).or_else(|| on_stack(python, futex, sp))?;
    let owner = python.memory.read_u64(lock.at(OWNER)).ok()?;
    (owner != 0).then_some(owner)
}

fn parked_at(python: &Interpreter<'_>, futex: Addr) -> Option<Addr> {
    let entry = Addr(futex.0.checked_sub(ENTRY_ADDRESS)?);
    let mutex = python.memory.read_pointer(entry).ok()?;
    let lock = Addr(mutex.0.checked_sub(LOCK)?);
    is_rlock(python, lock).then_some(lock)
}

fn on_stack(python: &Interpreter<'_>, futex: Addr, sp: Addr) -> Option<Addr> {
    let mut objects = Vec::new();
    for word in words(python, sp) {
        if word.is_plausible() && word.0.trailing_zeros() >= 3 && !objects.contains(&word) {
            objects.push(word);
        }
    }
    let places: Vec<Addr> = objects.iter().map(|object| object.at(LOCK)).collect();
    let locks = python.memory.read_each(&places).ok()?;
    let of_futex = objects.into_iter().zip(locks).filter(|(_, lock)| *lock == Some(futex.0));
    let mut of_futex = of_futex.map(|(object, _)| object);
    of_futex.find(|object| is_rlock(python, *object))
}

fn is_rlock(python: &Interpreter<'_>, object: Addr) -> bool {
    python.objects().type_name(object).is_ok_and(|name| name == RLOCK)
}

/// The words from `sp` on, as many as can be read.
fn words(python: &Interpreter<'_>, sp: Addr) -> Vec<Addr> {
    let mut bytes = [0; WORDS * 8];
    let in_page = PAGE.saturating_sub(sp.0 & (PAGE - 1));
    let first = usize::try_from(in_page).map_or(bytes.len(), |length| length.min(bytes.len()));
    let (here, beyond) = bytes.split_at_mut(first);
    let mut spans: Vec<Span<'_>> = vec![(sp, here)];
    if !beyond.is_empty() {
        spans.push((sp.at(in_page), beyond));
    }
    // What could not be read stays zero, which is no object.
    let _ = python.memory.read_batch(&mut spans);
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|word| Addr(u64::from_le_bytes(*word))).collect()
}
