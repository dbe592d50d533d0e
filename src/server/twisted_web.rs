//! The request that a stack serves, from `twisted.web`'s request object.
//!
//! Its methods that call the application have it as `self`; `method` and `path` are bytes. Reads
//! objects, decides nothing.
//! (<https://github.com/twisted/twisted/blob/twisted-24.3.0/src/twisted/web/server.py#L231>)

use super::landmarks::Reader;
use crate::python::Interpreter;
use crate::python::frames::local;
use crate::target::ReadError;
use crate::units::Addr;

/// The file of the request's class.
const FILE: &str = "twisted/web/server.py";
/// Its methods that call the application.
const METHODS: &[&str] = &["render", "process"];
/// Longest path shown, in bytes.
const MAX_PATH: usize = 2048;

/// By the innermost request in the stack; the path without its query, which may hold secrets.
pub(super) const READER: Reader = Reader {
    is_carrier: |code| {
        let name = code.name.rsplit('.').next().unwrap_or_default();
        METHODS.contains(&name) && code.filename.ends_with(FILE)
    },
    tell: |python, frame, _| describe(python, local(python, frame.addr, 0)?),
};

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
