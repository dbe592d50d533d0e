//! The threads of an interpreter: its `PyThreadState`s and the kernel threads behind them.

use std::collections::{HashMap, HashSet};

use super::Interpreter;
use super::interpreters::interpreters;
use crate::target::{Fields, ReadError, RemoteMemory, RemoteMemoryExt, Span};
use crate::units::{Addr, Tid};

/// Most threads followed in one process. A cycle in a torn list must end somewhere.
pub const MAX_THREADS: usize = 4096;

/// Bytes of `struct pthread` searched for the kernel's thread id. glibc keeps `tid` at 0x2d0 on
/// x86_64 and at 0xd0 on aarch64 (nptl/descr.h); musl before 0x40. All lie within this.
const PTHREAD_SEARCHED: usize = 1024;
/// Where glibc on x86_64 keeps `tid` in `struct pthread` (nptl/descr.h, `struct pthread`).
const PTHREAD_TID_GLIBC_X86_64: u64 = 0x2d0;

/// One thread as the interpreter knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thread {
    /// Its `PyThreadState`.
    pub state: Addr,
    /// The `PyInterpreterState` it belongs to.
    pub interpreter: Addr,
    /// The `pthread_t` behind it: `threading.get_ident()`.
    pub ident: u64,
    /// The kernel's id, as the target's own pid namespace counts; before 3.11 CPython does not
    /// keep it.
    pub native: Option<i32>,
}

/// All threads of all interpreters.
///
/// # Errors
/// When not even the list of interpreters can be read. A torn list is cut where it tears.
pub fn threads(python: &Interpreter<'_>) -> Result<Vec<Thread>, ReadError> {
    let offsets = &python.layout.offsets.thread;
    // One read per thread state: all fields lie in its first few hundred bytes.
    let fields_end = [Some(offsets.next), Some(offsets.thread_id), offsets.native_thread_id]
        .into_iter()
        .flatten()
        .max()
        .unwrap_or(0)
        .saturating_add(8);
    let len = usize::try_from(fields_end.min(4096)).unwrap_or(4096);
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for interpreter in interpreters(python)? {
        let head = interpreter.at(python.layout.offsets.interpreter.threads_head);
        let Ok(mut next) = python.memory.read_pointer(head) else { continue };
        while next.is_plausible() && found.len() < MAX_THREADS && seen.insert(next) {
            let Ok(bytes) = python.memory.read_vec(next, len) else { break };
            let fields = Fields(&bytes);
            let Ok(thread) = decode(python, next, interpreter, fields) else { break };
            found.push(thread);
            let Ok(link) = fields.pointer(offsets.next) else { break };
            next = link;
        }
    }
    Ok(found)
}

fn decode(
    python: &Interpreter<'_>,
    state: Addr,
    interpreter: Addr,
    fields: Fields<'_>,
) -> Result<Thread, ReadError> {
    let offsets = &python.layout.offsets.thread;
    if fields.pointer(offsets.interp)? != interpreter {
        return Err(ReadError::Invalid("thread state"));
    }
    let native = match offsets.native_thread_id {
        Some(offset) => i32::try_from(fields.u64(offset)?).ok().filter(|tid| *tid > 0),
        None => None,
    };
    Ok(Thread { state, interpreter, ident: fields.u64(offsets.thread_id)?, native })
}

/// Whether the thread list is still the one `known`: its links are read in one batch.
#[must_use]
pub fn unchanged(python: &Interpreter<'_>, known: &[Thread]) -> bool {
    let Some(first) = known.first() else { return false };
    let next = python.layout.offsets.thread.next;
    let mut words = vec![[0u8; 8]; known.len().saturating_add(1)];
    let head = first.interpreter.at(python.layout.offsets.interpreter.threads_head);
    let addresses = std::iter::once(head).chain(known.iter().map(|thread| thread.state.at(next)));
    let mut spans: Vec<Span<'_>> =
        addresses.zip(words.iter_mut()).map(|(addr, word)| (addr, &mut word[..])).collect();
    let wanted = spans.len();
    if python.memory.read_batch(&mut spans) != Ok(wanted) {
        return false;
    }
    let mut links = words.iter().map(|word| Addr(u64::from_le_bytes(*word)));
    let mut same = true;
    // Each link must lead to the next known thread; a change of interpreter ends a chain with null.
    for thread in known {
        let link = links.next().unwrap_or_default();
        same &= link == thread.state || (link.is_null() && thread.interpreter != first.interpreter);
    }
    same && links.next().is_some_and(Addr::is_null)
}

/// Finds the kernel's thread ids, as stallspy counts them.
#[derive(Debug, Default)]
pub struct ThreadIds {
    /// From an id in the target's pid namespace to ours.
    pub by_native: HashMap<i32, Tid>,
}

impl ThreadIds {
    /// The kernel thread behind `thread`; `None` when it is gone or cannot be told.
    #[must_use]
    pub fn of(&self, memory: &dyn RemoteMemory, thread: &Thread) -> Option<Tid> {
        if let Some(native) = thread.native {
            return self.by_native.get(&native).copied();
        }
        self.by_pthread(memory, Addr(thread.ident))
    }

    /// Before 3.11 the interpreter keeps only the `pthread_t`; libc keeps the kernel's id inside.
    fn by_pthread(&self, memory: &dyn RemoteMemory, pthread: Addr) -> Option<Tid> {
        let bytes = memory.read_vec(pthread, PTHREAD_SEARCHED).ok()?;
        let fields = Fields(&bytes);
        let known = |offset: u64| {
            let word = fields.u32(offset).ok()?;
            self.by_native.get(&i32::try_from(word).ok()?).copied()
        };
        known(PTHREAD_TID_GLIBC_X86_64)
            .or_else(|| (0..PTHREAD_SEARCHED as u64).step_by(4).find_map(known))
    }
}
