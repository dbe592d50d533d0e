//! Finds the interpreter in a process: `_PyRuntime`, the version, the layout; and proves it once.
//!
//! A wrong layout must become an error here, not a wrong report later: from 3.13 on the target's
//! own debug offsets are checked slot by slot; before that, `sys.hexversion` read through the
//! candidate layout must name the version the layout is for.

use super::Interpreter;
use super::interpreters::interpreters;
use crate::layout::{self, DEBUG_COOKIE, DEBUG_OFFSETS_LEN, Layout, LayoutError};
use crate::target::modules::{Module, Modules};
use crate::target::{Fields, ReadError, RemoteMemory, RemoteMemoryExt};
use crate::units::Addr;

/// Most bytes of one module's writable data searched when no symbol names `_PyRuntime`. CPython's
/// own `.data` and `.bss` are under 2 MiB (3.15: 1.1 MiB).
const MAX_SCANNED: u64 = 8 << 20;
/// Most candidates of a scan that are looked at closely: each costs two reads of about 2 µs.
const MAX_CANDIDATES: usize = 1 << 18;
/// Most likenesses of a runtime in one scan that are put to the proof: each may cost thousands of
/// reads, and real data has one or two. A process that is full of them wants to keep us busy.
const MAX_PROOFS: usize = 32;
/// Entries of `sys.__dict__` read to find `hexversion`: it has about 100.
const MAX_SYS_ENTRIES: usize = 1024;

/// An interpreter found in a process.
#[derive(Debug, Clone)]
pub struct Located {
    /// Where `_PyRuntime` lies.
    pub runtime: Addr,
    /// Its size in bytes.
    pub runtime_size: u64,
    /// How to read everything in it.
    pub layout: Layout,
    /// Its version, `3.12.1`.
    pub version: String,
    /// See [`Interpreter::clock_offset`].
    pub clock_offset: i64,
}

impl Located {
    /// The interpreter, to be read through `memory`.
    #[must_use]
    pub fn view<'a>(&'a self, memory: &'a dyn RemoteMemory) -> Interpreter<'a> {
        Interpreter {
            memory,
            layout: &self.layout,
            runtime: self.runtime,
            clock_offset: self.clock_offset,
            types: None,
        }
    }

    /// Whether `addr` lies inside `_PyRuntime`: that is where the global interpreter lock of the
    /// main interpreter lives in every version we read.
    #[must_use]
    pub fn runtime_contains(&self, addr: Addr) -> bool {
        addr >= self.runtime && addr < self.runtime.at(self.runtime_size)
    }
}

/// Why no interpreter could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocateError {
    /// Nothing in the process is CPython.
    #[error("not a Python process")]
    NotPython,
    /// It is CPython, but it has not finished starting.
    #[error("the interpreter has not started yet")]
    Starting,
    /// It is CPython of a version or build we do not know.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// It is CPython older than any layout we have, or one that none of them fits.
    #[error("it is not one of the CPython versions stallspy knows")]
    NoLayoutFits,
    /// Memory could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Finds and proves the interpreter of a process.
///
/// # Errors
/// See [`LocateError`].
pub fn locate(memory: &dyn RemoteMemory, modules: &Modules) -> Result<Located, LocateError> {
    let mut failure = LocateError::NotPython;
    for module in modules.iter() {
        let Some(runtime) = runtime_of(module) else { continue };
        match prove(memory, runtime, module.symbol("Py_Version")) {
            Ok(located) => return Ok(located),
            Err(error) => failure = error,
        }
    }
    if failure != LocateError::NotPython {
        return Err(failure);
    }
    for module in modules.iter().filter(|module| may_hold_python(module)) {
        for (start, size) in module.writable_segments() {
            if let Some(located) = scan(memory, start, size)? {
                return Ok(located);
            }
        }
    }
    Err(failure)
}

/// Proves the interpreter whose `_PyRuntime` is known to lie at `runtime`: all that can be done
/// where there is memory but no `/proc` to find it with.
///
/// # Errors
/// See [`LocateError`].
pub fn locate_at(memory: &dyn RemoteMemory, runtime: Addr) -> Result<Located, LocateError> {
    prove(memory, runtime, None)
}

fn runtime_of(module: &Module) -> Option<Addr> {
    module.symbol("_PyRuntime").or_else(|| module.section(".PyRuntime").map(|(addr, _size)| addr))
}

/// Scanning is only for modules that say by their name that they are Python.
fn may_hold_python(module: &Module) -> bool {
    let name = module.path.rsplit('/').next().unwrap_or_default();
    name.contains("python") || name.contains("uwsgi")
}

fn prove(
    memory: &dyn RemoteMemory,
    runtime: Addr,
    py_version: Option<Addr>,
) -> Result<Located, LocateError> {
    let words = memory.read_vec(runtime, DEBUG_OFFSETS_LEN)?;
    if words.starts_with(DEBUG_COOKIE) {
        return described(memory, runtime, &words);
    }
    if words.iter().all(|byte| *byte == 0) {
        return Err(LocateError::Starting);
    }
    tabled(memory, runtime, py_version)
}

/// 3.13 on: the target describes itself.
fn described(
    memory: &dyn RemoteMemory,
    runtime: Addr,
    words: &[u8],
) -> Result<Located, LocateError> {
    let (layout, version) = layout::from_debug_offsets(words)?;
    let located = Located {
        runtime,
        runtime_size: layout.offsets.runtime.size,
        layout,
        version,
        clock_offset: 0,
    };
    match hexversion(&located.view(memory)) {
        Ok(hex) if layout.is_for(hex) => Ok(located),
        Ok(_) => Err(LocateError::NoLayoutFits),
        Err(_) => Err(LocateError::Starting),
    }
}

/// Before 3.13: the layout that reads its own version through itself is the right one.
fn tabled(
    memory: &dyn RemoteMemory,
    runtime: Addr,
    py_version: Option<Addr>,
) -> Result<Located, LocateError> {
    // `Py_Version` exists from 3.11 on and tells which version to speak of when nothing fits yet.
    let named = py_version.and_then(|addr| memory.read_u32(addr).ok());
    for layout in layout::tables() {
        let located = Located {
            runtime,
            runtime_size: layout.offsets.runtime.size,
            layout: **layout,
            version: String::new(),
            clock_offset: 0,
        };
        if let Ok(hex) = hexversion(&located.view(memory))
            && layout.is_for(hex)
        {
            return Ok(Located { version: layout::version_name(hex), ..located });
        }
    }
    let known = |hex: u32| layout::tables().iter().any(|table| table.is_for(hex));
    match named {
        Some(hex) if known(hex) => Err(LocateError::Starting),
        // A runtime whose list of interpreters is still empty is one that is starting.
        None if head_is_null(memory, runtime) => Err(LocateError::Starting),
        _ => Err(LocateError::NoLayoutFits),
    }
}

fn head_is_null(memory: &dyn RemoteMemory, runtime: Addr) -> bool {
    layout::tables()
        .iter()
        .all(|table| memory.read_u64(runtime.at(table.offsets.runtime.interpreters_head)) == Ok(0))
}

/// `sys.hexversion`, through the layout in question.
fn hexversion(python: &Interpreter<'_>) -> Result<u32, ReadError> {
    let first = interpreters(python)?.first().copied();
    let interpreter = first.ok_or(ReadError::Invalid("interpreter"))?;
    let sysdict =
        python.memory.read_pointer(interpreter.at(python.layout.offsets.interpreter.sysdict))?;
    let objects = python.objects();
    for (key, value) in objects.dict_items(sysdict, MAX_SYS_ENTRIES)? {
        if objects.str(key).is_ok_and(|name| name == "hexversion") {
            let hex = objects.int(value)?;
            return u32::try_from(hex).map_err(|_| ReadError::Invalid("version"));
        }
    }
    Err(ReadError::Invalid("sys.hexversion"))
}

/// The last resort: looks for a runtime in `size` bytes of writable data at `start`. Reads the
/// whole of it, or its first 8 MiB, at once; data that cannot be read holds no runtime.
///
/// # Errors
/// [`LocateError::Layout`] where there is an interpreter of a build that cannot be read, and
/// [`LocateError::Read`] when the process is gone or closed to us.
pub fn scan(
    memory: &dyn RemoteMemory,
    start: Addr,
    size: u64,
) -> Result<Option<Located>, LocateError> {
    let len = usize::try_from(size.min(MAX_SCANNED)).unwrap_or(0);
    let data = match memory.read_vec(start, len) {
        Ok(data) => data,
        Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error.into()),
        Err(_) => return Ok(None),
    };
    if let Some(located) = scan_described(memory, start, &data)? {
        return Ok(Some(located));
    }
    Ok(scan_tabled(memory, start, &data))
}

fn scan_described(
    memory: &dyn RemoteMemory,
    start: Addr,
    data: &[u8],
) -> Result<Option<Located>, LocateError> {
    let words = data.chunks_exact(8).enumerate();
    for (index, _) in words.filter(|(_, word)| word == DEBUG_COOKIE).take(MAX_PROOFS) {
        let runtime = start.at((index as u64).saturating_mul(8));
        let Ok(words) = memory.read_vec(runtime, DEBUG_OFFSETS_LEN) else { continue };
        match described(memory, runtime, &words) {
            Ok(located) => return Ok(Some(located)),
            // A build we refuse is still the answer; anything else is a chance likeness.
            Err(error @ LocateError::Layout(LayoutError::FreeThreaded { .. })) => {
                return Err(error);
            }
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Before 3.13 nothing marks the runtime, but its list of interpreters leads to a thread state that
/// points back to its interpreter. Only what passes that is proven the dear way.
fn scan_tabled(memory: &dyn RemoteMemory, start: Addr, data: &[u8]) -> Option<Located> {
    let (mut candidates, mut proofs) = (0_usize, 0_usize);
    for (index, _) in data.chunks_exact(8).enumerate() {
        let at = (index as u64).saturating_mul(8);
        for layout in layout::tables() {
            let head = at.checked_add(layout.offsets.runtime.interpreters_head)?;
            let Ok(interpreter) = Fields(data).pointer(head) else { continue };
            if !interpreter.is_plausible() || interpreter.0 % 8 != 0 {
                continue;
            }
            candidates = candidates.saturating_add(1);
            if candidates > MAX_CANDIDATES || proofs > MAX_PROOFS {
                return None;
            }
            let threads = interpreter.at(layout.offsets.interpreter.threads_head);
            let back = memory
                .read_pointer(threads)
                .and_then(|thread| memory.read_pointer(thread.at(layout.offsets.thread.interp)));
            if back != Ok(interpreter) {
                continue;
            }
            proofs = proofs.saturating_add(1);
            if let Ok(located) = tabled(memory, start.at(at), None) {
                return Some(located);
            }
        }
    }
    None
}
