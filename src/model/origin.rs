//! Whose code a file is: the application's, an installed package's or the standard library's.
//!
//! Knows where Python installations keep the standard library and installed packages. Takes paths, gives
//! [`Origin`]. Opens none of them.

/// Files of code that was typed or generated at run time and is the application's own, as for
/// `python -c`. Other names in angle brackets are the interpreter's or a generator's.
const TYPED_IN: &[&str] = &["<string>", "<stdin>", "<template>"];

/// Methods that Sanic compiles anew when it starts, each under its own name as its file
/// (<https://github.com/sanic-org/sanic/blob/v23.12.0/sanic/touchup/schemes/base.py>).
const COMPILED_BY_SANIC: &[&str] = &[
    "handle_request",
    "handle_exception",
    "_run_response_middleware",
    "_run_request_middleware",
    "http1_request_header",
    "http1_response_header",
    "read",
    "send",
    "connection_task",
];

/// Whose code a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// The application's.
    Application,
    /// An installed package's, by its import name.
    Package(&'a str),
    /// The standard library's or the interpreter's, by the module's name.
    Stdlib(&'a str),
    /// Not Python code.
    Foreign,
}

/// Whose code `function` of the file `path` is. `stdlib` is where the process's standard library lies.
#[must_use]
pub fn origin<'a>(path: &'a str, function: &str, stdlib: Option<&str>) -> Origin<'a> {
    if path.starts_with('<') {
        // dataclasses, namedtuple and enum compile methods from strings; people type functions.
        let generated = function.starts_with("__") && function.ends_with("__");
        return if TYPED_IN.contains(&path) && !generated {
            Origin::Application
        } else {
            Origin::Stdlib("")
        };
    }
    // The name is relative, so it may be shown below the working directory.
    let is_own_file = path.rsplit('/').next() == Some(function);
    if is_own_file && COMPILED_BY_SANIC.contains(&function) {
        return Origin::Package("sanic");
    }
    if let Some(package) = package_of(path) {
        return Origin::Package(package);
    }
    let in_stdlib = stdlib
        .map(|prefix| prefix.trim_end_matches('/'))
        .filter(|prefix| prefix.len() > 1)
        .and_then(|prefix| path.strip_prefix(prefix)?.strip_prefix('/'));
    match in_stdlib.or_else(|| after_versioned_lib(path)) {
        Some(rest) => Origin::Stdlib(first_module(rest)),
        None => Origin::Application,
    }
}

/// The package a file was installed with: what follows the last `site-packages` or
/// `dist-packages` (Debian), or an unpacked wheel or egg.
fn package_of(path: &str) -> Option<&str> {
    let mut rest = None;
    for marker in ["/site-packages/", "/dist-packages/", ".whl/", ".egg/"] {
        let mut from = rest.unwrap_or(path);
        while let Some((_, after)) = from.split_once(marker) {
            rest = Some(after);
            from = after;
        }
    }
    rest.map(first_module)
}

/// What follows `/lib/python3.12/` (also `lib64`, `python3.13t`, `python312.zip`): the standard
/// library of an interpreter, should its prefix be unknown or be a link to elsewhere.
fn after_versioned_lib(path: &str) -> Option<&str> {
    let mut from = path;
    while let Some((before, after)) = from.split_once("/python") {
        let (version, rest) = after.split_once('/')?;
        let digits = version.trim_end_matches('t').trim_end_matches(".zip");
        let is_version = digits.starts_with('3')
            && digits.len() > 1
            && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
        let in_lib = before.ends_with("/lib") || before.ends_with("/lib64");
        if is_version && in_lib {
            return Some(rest);
        }
        from = after;
    }
    None
}

/// The import name of the first step of a path: `json/decoder.py` is `json`, `socket.py` `socket`.
fn first_module(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.split('.').next().unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STDLIB: Option<&str> = Some("/opt/py/lib/python3.12");

    #[test]
    fn what_sanic_compiles_anew_is_sanics() {
        let of = |path| origin(path, "handle_request", None);
        assert_eq!(of("handle_request"), Origin::Package("sanic"));
        assert_eq!(of("/srv/shop/handle_request"), Origin::Package("sanic"));
        assert_eq!(of("/srv/shop/handle_request.py"), Origin::Application);
        assert_eq!(origin("/srv/shop/serve", "serve", None), Origin::Application);
    }

    #[test]
    fn paths_tell_whose_code_it_is() {
        for (path, expected) in [
            ("/srv/app/main.py", Origin::Application),
            ("main.py", Origin::Application),
            ("/srv/python/handlers.py", Origin::Application),
            ("/srv/lib/pythonic/x.py", Origin::Application),
            ("/opt/py/lib/python3.12/json/decoder.py", Origin::Stdlib("json")),
            ("/opt/py/lib/python3.12/socket.py", Origin::Stdlib("socket")),
            ("/usr/lib/python3.9/ssl.py", Origin::Stdlib("ssl")),
            ("/usr/lib64/python3.13t/ssl.py", Origin::Stdlib("ssl")),
            ("/opt/py/lib/python3.12/site-packages/urllib3/a.py", Origin::Package("urllib3")),
            ("/srv/.venv/lib/python3.8/site-packages/six.py", Origin::Package("six")),
            ("/usr/lib/python3/dist-packages/yaml/a.py", Origin::Package("yaml")),
            ("/root/.pex/installed/x-1.0-py3-none-any.whl/x/a.py", Origin::Package("x")),
            ("<frozen importlib._bootstrap>", Origin::Stdlib("")),
            ("<string>", Origin::Application),
            ("<attrs generated init a.B>", Origin::Stdlib("")),
        ] {
            assert_eq!(origin(path, "f", STDLIB), expected, "{path}");
        }
        assert_eq!(origin("<string>", "__init__", STDLIB), Origin::Stdlib(""));
        // A prefix that would swallow everything is no prefix.
        assert_eq!(origin("/srv/app/main.py", "f", Some("/")), Origin::Application);
        assert_eq!(origin("/srv/app/main.py", "f", Some("")), Origin::Application);
        // Nor is one that only shares its letters.
        assert_eq!(origin("/srv/application/x.py", "f", Some("/srv/app")), Origin::Application);
    }
}
