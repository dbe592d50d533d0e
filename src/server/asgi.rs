//! The request a stack serves, from the ASGI `scope` that every application is called with.
//!
//! (<https://asgi.readthedocs.io/en/latest/specs/www.html#http-connection-scope>)

use super::dict_behind;
use super::landmarks::Reader;
use crate::model::WEBSOCKET;
use crate::python::Interpreter;
use crate::python::frames::local;
use crate::target::ReadError;
use crate::units::Addr;

/// The parameter's name in the specification; servers and frameworks all use it.
const SCOPE: &str = "scope";
/// Most entries of a scope that are read. The specification has 13; frameworks add a few.
const MAX_ENTRIES: usize = 64;

/// By the innermost `scope` in the stack; the path without its query, which may hold secrets.
pub(super) const READER: Reader = Reader {
    is_carrier: |code| code.local_index(SCOPE).is_some(),
    tell: |python, frame, code| {
        let Some(index) = code.local_index(SCOPE) else { return Ok(None) };
        describe(python, local(python, frame.addr, index)?)
    },
};

/// `GET /path` by the `scope` itself; `None` where it is none of a request.
pub(super) fn describe(python: &Interpreter<'_>, scope: Addr) -> Result<Option<String>, ReadError> {
    let objects = python.objects();
    let Some(scope) = dict_behind(&objects, scope)? else { return Ok(None) };
    let [kind, method, path] =
        objects.dict_texts(scope, ["type", "method", "path"], MAX_ENTRIES)?;
    Ok(match (kind.as_deref(), method, path) {
        (Some("http"), Some(method), Some(path)) => Some(format!("{method} {path}")),
        (Some("websocket"), _, Some(path)) => Some(format!("{WEBSOCKET}{path}")),
        _ => None,
    })
}
