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

/// What the module `module` has under `name`; `None` if it was not imported or has no such thing. Of several
/// interpreters the first that has it. Costs a few dozen reads.
///
/// # Errors
/// When the interpreters' tables cannot be read.
pub fn module_value(
    python: &Interpreter<'_>,
    module: &str,
    name: &str,
) -> Result<Option<Addr>, ReadError> {
    for interpreter in interpreters(python)? {
        let Some(dict) = module_dict(python, interpreter, module)? else { continue };
        if let Some(found) = python.objects().dict_get(dict, name)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
