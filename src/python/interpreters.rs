//! The interpreters of a process, from `_PyRuntime.interpreters.head`.

use super::Interpreter;
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// Most interpreters followed. Real programs have one; a cycle must end somewhere.
const MAX_INTERPRETERS: usize = 64;

/// Addresses of the process's `PyInterpreterState`s.
///
/// # Errors
/// When the first of them cannot be read. A broken link further on ends the list.
pub fn interpreters(python: &Interpreter<'_>) -> Result<Vec<Addr>, ReadError> {
    let offsets = python.layout.offsets;
    let mut next =
        python.memory.read_pointer(python.runtime.at(offsets.runtime.interpreters_head))?;
    let mut found = Vec::new();
    while next.is_plausible() && found.len() < MAX_INTERPRETERS && !found.contains(&next) {
        let link = python.memory.read_pointer(next.at(offsets.interpreter.next));
        if link.is_err() && found.is_empty() {
            link?;
        }
        found.push(next);
        match link {
            Ok(link) => next = link,
            Err(_) => break,
        }
    }
    Ok(found)
}
