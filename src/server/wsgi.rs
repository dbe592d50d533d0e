//! The request a stack serves, from the WSGI `environ` that every application is called with.
//!
//! The specification gives the dict its place (first positional argument) and its keys, not its
//! name; servers and frameworks call it `environ` or `env`. Where the server has not made one yet,
//! gunicorn's request object tells the same. Reads objects, decides nothing.
//! (<https://peps.python.org/pep-3333/#environ-variables>,
//! <https://github.com/benoitc/gunicorn/blob/23.0.0/gunicorn/http/message.py#L169>)

use super::dict_behind;
use super::landmarks::Reader;
use crate::python::Interpreter;
use crate::python::code_objects::CodeObject;
use crate::python::frames::local;
use crate::python::objects::Objects;
use crate::target::ReadError;
use crate::units::Addr;

/// What the dict is called: gunicorn, werkzeug, wsgiref, Django, Flask, Bottle, Pyramid, waitress;
/// Falcon and uWSGI's examples.
const NAMES: &[&str] = &["environ", "env"];
/// Parameter of gunicorn's `handle_request` that holds its request object.
const GUNICORN_REQUEST: &str = "req";
/// The files that such a parameter is looked for in.
const GUNICORN: &str = "/gunicorn/workers/";
/// Most entries of an environ that are read. It has some 30; wsgiref adds the process's own
/// environment, which on a large host has a few hundred.
const MAX_ENTRIES: usize = 512;

/// By the innermost environ in the stack; the path without its query, which may hold secrets.
pub(super) const READER: Reader = Reader {
    is_carrier: |code| environ(code).is_some() || request(code).is_some(),
    tell: |python, frame, code| {
        let value = |index| local(python, frame.addr, index);
        let by_environ = environ(code).map(|at| value(at).and_then(|dict| describe(python, dict)));
        if let Some(Ok(Some(told))) = by_environ {
            return Ok(Some(told));
        }
        request(code).map_or(Ok(None), |at| of_request(python, value(at)?))
    },
};

fn environ(code: &CodeObject) -> Option<usize> {
    NAMES.iter().find_map(|name| code.local_index(name))
}

fn request(code: &CodeObject) -> Option<usize> {
    code.local_index(GUNICORN_REQUEST).filter(|_| code.filename.contains(GUNICORN))
}

/// By the dict itself. One that lacks the keys (gunicorn's is empty at first) gives `None`.
fn describe(python: &Interpreter<'_>, environ: Addr) -> Result<Option<String>, ReadError> {
    let objects = python.objects();
    let Some(environ) = dict_behind(&objects, environ)? else { return Ok(None) };
    let names = ["REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO"];
    let [method, root, path] = objects.dict_texts(environ, names, MAX_ENTRIES)?;
    let (Some(method), Some(path)) = (method, path) else { return Ok(None) };
    let path = unicode(&format!("{}{path}", root.unwrap_or_default()));
    Ok(Some(format!("{method} {}", if path.is_empty() { "/" } else { &path })))
}

/// By gunicorn's request object.
fn of_request(python: &Interpreter<'_>, request: Addr) -> Result<Option<String>, ReadError> {
    let objects: Objects<'_> = python.objects();
    let text = |name| match objects.attribute(request, name)? {
        Some(value) => objects.str(value).map(Some),
        None => Ok(None),
    };
    Ok(match (text("method")?, text("path")?) {
        (Some(method), Some(path)) => Some(format!("{method} {path}")),
        _ => None,
    })
}

/// The path as a person wrote it: the specification has its bytes as one character each.
fn unicode(path: &str) -> String {
    let bytes: Option<Vec<u8>> = path.chars().map(|one| u8::try_from(one).ok()).collect();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_as_it_was_written() {
        assert_eq!(unicode("/caf\u{c3}\u{a9}"), "/café");
        assert_eq!(unicode("/plain"), "/plain");
        // Not the specification's encoding: shown as it is.
        assert_eq!(unicode("/\u{e9}"), "/\u{e9}");
        assert_eq!(unicode("/\u{20ac}"), "/\u{20ac}");
    }
}
