//! The request that a stack serves, from `twisted.web`'s request object.
//!
//! Its methods that call the application have it as `self`; `method` and `path` are bytes. Reads
//! objects, decides nothing.
//! (<https://github.com/twisted/twisted/blob/twisted-24.3.0/src/twisted/web/server.py#L231>)

use super::innermost;
use crate::python::Interpreter;
use crate::python::code_objects::CodeCache;
use crate::python::frames::{RawStack, local};
use crate::target::ReadError;
use crate::units::{Addr, Timestamp};

/// The file of the request's class.
const FILE: &str = "twisted/web/server.py";
/// Its methods that call the application.
const METHODS: &[&str] = &["render", "process"];
/// Longest path shown, in bytes.
const MAX_PATH: usize = 2048;

/// `GET /path` of the innermost request in the stack; the path without its query, which may hold
/// secrets.
#[must_use]
pub fn endpoint(
    python: &Interpreter<'_>,
    codes: &mut CodeCache,
    stack: &RawStack,
    now: Timestamp,
) -> Option<String> {
    innermost(python, codes, stack, now, |frame, code| {
        let name = code.name.rsplit('.').next()?;
        if !METHODS.contains(&name) || !code.filename.ends_with(FILE) {
            return None;
        }
        let request = local(python, frame.addr, 0);
        Some(request.and_then(|request| describe(python, request)).ok().flatten())
    })
}

fn describe(python: &Interpreter<'_>, request: Addr) -> Result<Option<String>, ReadError> {
    let objects = python.objects();
    let text = |name| match objects.attribute(request, name)? {
        Some(value) => objects
            .bytes(value, MAX_PATH)
            .map(|text| Some(String::from_utf8_lossy(&text).into_owned())),
        None => Ok(None),
    };
    Ok(match (text("method")?, text("path")?) {
        (Some(method), Some(path)) => Some(format!("{method} {path}")),
        _ => None,
    })
}
