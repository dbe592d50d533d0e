//! The request that a stack serves, from the object that a framework keeps it in.
//!
//! For those that call applications by neither ASGI nor WSGI (tornado, aiohttp, Sanic, `http.server`), and for
//! Quart, which runs each handler in a task of its own that was given no `scope`. Only frames of
//! the framework itself are asked: what an application or a client library calls `request` may be
//! one that it sends. Reads objects, decides nothing.

use super::asgi;
use super::landmarks::Reader;
use crate::python::Interpreter;
use crate::python::code_objects::CodeObject;
use crate::python::frames::local;
use crate::python::objects::Objects;
use crate::target::ReadError;
use crate::units::Addr;

/// Longest target of a request that is read, in bytes: what servers take is 8 KiB of it at most.
const MAX_TARGET: usize = 8192;
/// Place of the path in what `urllib.parse.urlsplit` gives
/// (<https://docs.python.org/3/library/urllib.parse.html#urllib.parse.urlsplit>).
const SPLIT_PATH: usize = 2;

/// How a framework's request object tells what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// `scope`, of the object that answers one connection.
    Scope,
    /// The request is the attribute `request`, and has `method` and `path`.
    HandlersRequest,
    /// `_method`, and `_rel_url`, a URL of yarl's.
    RelativeUrl,
    /// `method`, and `raw_url`, the bytes that the client sent.
    RawUrl,
    /// `command`, and `path`, which has the query.
    Command,
}

/// Where request objects are: a part of the file's path, the variable, and what it holds.
/// (<https://github.com/pallets/quart/blob/0.20.0/src/quart/asgi.py#L36>,
/// <https://github.com/tornadoweb/tornado/blob/v6.4.2/tornado/web.py#L1749>,
/// <https://github.com/aio-libs/aiohttp/blob/v3.11.0/aiohttp/web_request.py#L136>,
/// <https://github.com/sanic-org/sanic/blob/v23.12.0/sanic/request/types.py#L60>,
/// <https://github.com/python/cpython/blob/v3.12.1/Lib/http/server.py#L252>)
const CARRIERS: &[(&str, &str, Kept)] = &[
    ("/quart/asgi.py", "self", Kept::Scope),
    ("/tornado/web.py", "self", Kept::HandlersRequest),
    ("/aiohttp/web_", "request", Kept::RelativeUrl),
    ("/sanic/app.py", "request", Kept::RawUrl),
    ("/sanic/http", "request", Kept::RawUrl),
    ("/sanic/response", "request", Kept::RawUrl),
    ("/http/server.py", "self", Kept::Command),
];

/// Sanic compiles the methods that call handlers anew when it starts, without what a server without
/// debugging does not need, and then their code has their name for a file
/// (<https://github.com/sanic-org/sanic/blob/v23.12.0/sanic/touchup/schemes/base.py>).
const COMPILED: (&str, &str) = ("handle_request", "request");

/// tornado's handlers are called by the name of the request's method, in a file of the
/// application's; one that is a coroutine of tornado's own kind has none of its frames below it.
const HANDLERS: &[&str] = &["get", "post", "put", "delete", "patch", "head", "options", "prepare"];
/// The class of tornado's requests.
const TORNADOS_REQUEST: &str = "HTTPServerRequest";

/// By the innermost request in the stack; the path without its query, which may hold secrets.
pub(super) const READER: Reader = Reader {
    is_carrier: |code| carrier(code).is_some(),
    tell: |python, frame, code| {
        let found = carrier(code).and_then(|(name, kept)| Some((code.local_index(name)?, kept)));
        let Some((index, kept)) = found else { return Ok(None) };
        describe(python, local(python, frame.addr, index)?, kept)
    },
};

/// The variable of a frame that may hold a request, and how.
fn carrier(code: &CodeObject) -> Option<(&'static str, Kept)> {
    let known = CARRIERS.iter().find(|(file, variable, _)| {
        code.filename.contains(file) && code.local_index(variable).is_some()
    });
    let is_handler = || {
        let name = code.name.rsplit('.').next().unwrap_or_default();
        HANDLERS.contains(&name) && code.local_index("self") == Some(0)
    };
    let (function, variable) = COMPILED;
    let is_compiled = code.filename == function && code.name == function;
    match known {
        Some((_, variable, kept)) => Some((*variable, *kept)),
        None if is_compiled && code.local_index(variable).is_some() => {
            Some((variable, Kept::RawUrl))
        }
        None => is_handler().then_some(("self", Kept::HandlersRequest)),
    }
}

fn describe(
    python: &Interpreter<'_>,
    object: Addr,
    kept: Kept,
) -> Result<Option<String>, ReadError> {
    let objects = python.objects();
    let objects = &objects;
    let (method, path) = match kept {
        Kept::Scope => {
            let scope = objects.member(object, "scope")?;
            return scope.map_or(Ok(None), |scope| asgi::describe(python, scope));
        }
        Kept::HandlersRequest => {
            let Some(request) = objects.member(object, "request")? else { return Ok(None) };
            if objects.type_name(request)? != TORNADOS_REQUEST {
                return Ok(None);
            }
            (text(objects, request, "method")?, text(objects, request, "path")?)
        }
        Kept::RelativeUrl => {
            let Some(url) = objects.member(object, "_rel_url")? else { return Ok(None) };
            (text(objects, object, "_method")?, yarls_path(objects, url)?)
        }
        Kept::RawUrl => {
            let Some(raw) = objects.member(object, "raw_url")? else { return Ok(None) };
            let target = objects.bytes(raw, MAX_TARGET)?;
            let path = without_query(&target);
            (text(objects, object, "method")?, Some(String::from_utf8_lossy(path).into_owned()))
        }
        Kept::Command => {
            let path = text(objects, object, "path")?;
            let path = path
                .map(|path| String::from_utf8_lossy(without_query(path.as_bytes())).into_owned());
            (text(objects, object, "command")?, path)
        }
    };
    Ok(match (method, path) {
        (Some(method), Some(path)) => Some(format!("{method} {path}")),
        _ => None,
    })
}

/// A URL's path: a slot of its own, or before yarl 1.18 within that of the whole split URL
/// (<https://github.com/aio-libs/yarl/blob/v1.17.0/yarl/_url.py#L175>).
fn yarls_path(objects: &Objects<'_>, url: Addr) -> Result<Option<String>, ReadError> {
    if let Some(path) = text(objects, url, "_path")? {
        return Ok(Some(path));
    }
    let Some(split) = objects.member(url, "_val")? else { return Ok(None) };
    let parts = objects.tuple_items(split, SPLIT_PATH + 1)?;
    parts.get(SPLIT_PATH).map(|path| objects.str(*path)).transpose()
}

fn text(objects: &Objects<'_>, object: Addr, name: &str) -> Result<Option<String>, ReadError> {
    objects.member(object, name)?.map(|value| objects.str(value)).transpose()
}

/// What is before the query.
fn without_query(target: &[u8]) -> &[u8] {
    target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_never_shown() {
        assert_eq!(without_query(b"/a/b?token=1"), b"/a/b");
        assert_eq!(without_query(b"/a#x?y"), b"/a");
        assert_eq!(without_query(b"/"), b"/");
    }
}
