//! The request a stack serves, from the ASGI `scope` that every application is called with.
//!
//! (<https://asgi.readthedocs.io/en/latest/specs/www.html#http-connection-scope>)

use super::{dict_behind, innermost};
use crate::python::Interpreter;
use crate::python::code_objects::CodeCache;
use crate::python::frames::{RawStack, local};
use crate::target::ReadError;
use crate::units::{Addr, Timestamp};

/// The parameter's name in the specification; servers and frameworks all use it.
const SCOPE: &str = "scope";
/// Most entries of a scope that are read. The specification has 13; frameworks add a few.
const MAX_ENTRIES: usize = 64;

/// `GET /path` of the request that the innermost `scope` in the stack describes; the path without
/// its query, which may hold secrets.
#[must_use]
pub fn endpoint(
    python: &Interpreter<'_>,
    codes: &mut CodeCache,
    stack: &RawStack,
    now: Timestamp,
) -> Option<String> {
    innermost(python, codes, stack, now, |frame, code| {
        let scope = local(python, frame.addr, code.local_index(SCOPE)?);
        Some(scope.and_then(|scope| describe(python, scope)).ok().flatten())
    })
}

/// `GET /path` by the `scope` itself; `None` where it is none of a request.
pub(super) fn describe(python: &Interpreter<'_>, scope: Addr) -> Result<Option<String>, ReadError> {
    let objects = python.objects();
    let Some(scope) = dict_behind(&objects, scope)? else { return Ok(None) };
    let [kind, method, path] =
        objects.dict_texts(scope, ["type", "method", "path"], MAX_ENTRIES)?;
    Ok(match (kind.as_deref(), method, path) {
        (Some("http"), Some(method), Some(path)) => Some(format!("{method} {path}")),
        (Some("websocket"), _, Some(path)) => Some(format!("WS {path}")),
        _ => None,
    })
}
