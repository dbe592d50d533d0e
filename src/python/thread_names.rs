//! Names of threads as Python has them: `threading._active`, a dict from ident to `Thread`.

use std::collections::HashMap;

use super::Interpreter;
use super::interpreters::interpreters;
use super::loaded::module_dict;
use super::threads::MAX_THREADS;
use crate::target::ReadError;

/// Thread names by `threading.get_ident()`. Empty in a program that never imported `threading`.
///
/// # Errors
/// When the interpreter's tables cannot be read.
pub fn thread_names(python: &Interpreter<'_>) -> Result<HashMap<u64, String>, ReadError> {
    let objects = python.objects();
    let mut names = HashMap::new();
    for interpreter in interpreters(python)? {
        let Some(dict) = module_dict(python, interpreter, "threading")? else { continue };
        let Some(active) = objects.dict_get(dict, "_active")? else { continue };
        for (ident, thread) in objects.dict_items(active, MAX_THREADS)? {
            let name = objects.attribute(thread, "_name").ok().flatten();
            let Some(name) = name.and_then(|name| objects.str(name).ok()) else { continue };
            if let Some(ident) = objects.int(ident).ok().and_then(|n| u64::try_from(n).ok()) {
                names.insert(ident, name);
            }
        }
    }
    Ok(names)
}
