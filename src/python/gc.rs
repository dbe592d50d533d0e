//! Whether the garbage collector runs right now.
//!
//! `gc.collecting` is set for the length of a collection, by whichever thread runs it, under the
//! interpreter lock (`collect_main` and its like, Modules/gcmodule.c; Python/gc.c from 3.13 on).

use super::Interpreter;
use crate::target::RemoteMemoryExt;
use crate::units::Addr;

/// Whether a collection is known to go on in `interpreter`.
#[must_use]
pub fn is_collecting(python: &Interpreter<'_>, interpreter: Addr) -> bool {
    let offsets = &python.layout.offsets;
    let flag = match (offsets.interpreter.gc_collecting, offsets.runtime.gc_collecting) {
        (Some(offset), _) => interpreter.at(offset),
        (None, Some(offset)) => python.runtime.at(offset),
        (None, None) => return false,
    };
    // Any other value is no flag.
    python.memory.read_u32(flag) == Ok(1)
}
