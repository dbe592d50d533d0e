//! Imported modules: `sys.modules`, and what a module's own dict holds.
//!
//! Takes names, gives addresses. Imports nothing, runs nothing.

use super::Interpreter;
use super::interpreters::interpreters;
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// Where a module object keeps its dict, `md_dict` (Objects/moduleobject.c; the same 3.8 to 3.15).
const MODULE_DICT: u64 = 16;

/// The dict of the module `name` in one interpreter; `None` where it was never imported.
///
/// # Errors
/// When the interpreter's tables cannot be read.
pub fn module_dict(
    python: &Interpreter<'_>,
    interpreter: Addr,
    name: &str,
) -> Result<Option<Addr>, ReadError> {
    let place = interpreter.at(python.layout.offsets.interpreter.modules);
    let modules = python.memory.read_pointer(place)?;
    let Some(module) = python.objects().dict_get(modules, name)? else { return Ok(None) };
    python.memory.read_pointer(module.at(MODULE_DICT)).map(Some)
}

/// What the module `module` of the first interpreter has under `name`; `None` where there is no
/// such module, or no such name in it.
///
/// # Errors
/// When the interpreter's tables cannot be read.
pub fn module_value(
    python: &Interpreter<'_>,
    module: &str,
    name: &str,
) -> Result<Option<Addr>, ReadError> {
    let Some(first) = interpreters(python)?.first().copied() else { return Ok(None) };
    match module_dict(python, first, module)? {
        Some(dict) => python.objects().dict_get(dict, name),
        None => Ok(None),
    }
}
