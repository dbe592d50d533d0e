//! What imported modules have: `sys.modules[name].__dict__`.

use super::Interpreter;
use super::interpreters::interpreters;
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// Where a module object keeps its dict, `md_dict` (Objects/moduleobject.c; the same 3.8 to 3.15).
const MODULE_DICT: u64 = 16;

/// What the module `module` has under `name`; `None` if it was not imported or has no such thing.
/// Of several interpreters the first that has it. Costs a few dozen reads.
///
/// # Errors
/// When the interpreters' tables cannot be read.
pub fn in_module(
    python: &Interpreter<'_>,
    module: &str,
    name: &str,
) -> Result<Option<Addr>, ReadError> {
    let objects = python.objects();
    for interpreter in interpreters(python)? {
        let modules = interpreter.at(python.layout.offsets.interpreter.modules);
        let modules = python.memory.read_pointer(modules)?;
        let Some(module) = objects.dict_get(modules, module)? else { continue };
        let dict = python.memory.read_pointer(module.at(MODULE_DICT))?;
        if let Some(found) = objects.dict_get(dict, name)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
