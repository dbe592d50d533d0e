//! Which frames are the application's, and so whom a reader can ask to change something.
//!
//! Knows where Python installations keep the standard library and installed packages, and the
//! names of the servers and frameworks that call applications. Takes a stack, gives the frame to
//! blame and the library below it. Never looks at time: one stack, one answer.
//!
//! The rules, in order:
//!
//! 1. Only the callback counts: frames at or above asyncio's `_run_once` started the loop and
//!    have no part in what blocks it (`uvicorn.run(app)` in `main.py` is not a culprit). Likewise
//!    what is above a server's call of the application where each request has a thread.
//! 2. The culprit is the deepest frame that is neither in the standard library nor in an
//!    installed package.
//! 3. If there is none, the application may be an installed package itself: from the root, the
//!    first package that is not a known server, framework or plumbing; its deepest frame.
//! 4. If there is none either, the framework is at it on its own, and nobody is to blame; what
//!    stands for the stack is its deepest frame outside the standard library, else the deepest of
//!    all.
//!
//! The `library` is the deepest frame of an installed package below the culprit (the client that
//! made the call); without one, the deepest of the standard library below it that says something.

use crate::model::origin::{Origin, origin};
use crate::model::{Frame, FrameId, FrameKind, StackId, Tables};

/// Packages that call applications or instrument them: met on the way from the root to an
/// application that is installed as a package, and never that application themselves.
pub const PLUMBING: &[&str] = &[
    // servers and what they are made of
    "uvicorn",
    "uvicorn_worker",
    "gunicorn",
    "hypercorn",
    "daphne",
    "granian",
    "waitress",
    "cheroot",
    "cherrypy",
    "h11",
    "h2",
    "httptools",
    "websockets",
    "wsproto",
    "watchfiles",
    // frameworks
    "starlette",
    "fastapi",
    "tornado",
    "aiohttp",
    "django",
    "rest_framework",
    "flask",
    "werkzeug",
    "quart",
    "sanic",
    "falcon",
    "litestar",
    "asgiref",
    "a2wsgi",
    "socketio",
    "engineio",
    "blinker",
    "pydantic",
    "pydantic_core",
    // loops
    "anyio",
    "asyncio",
    "nest_asyncio",
    "uvloop",
    "gevent",
    "greenlet",
    "eventlet",
    "trio",
    "sniffio",
    "twisted",
    // instrumentation
    "sentry_sdk",
    "opentelemetry",
    "ddtrace",
    "newrelic",
    "elasticapm",
    "prometheus_client",
    "prometheus_fastapi_instrumentator",
    "starlette_exporter",
    "wrapt",
    // ways to start
    "click",
    "typer",
];

/// Standard-library modules that only pass calls on: as "who made the call" they say nothing.
const MUTE: &[&str] = &["asyncio", "contextlib", "contextvars", "dataclasses", "functools"];

/// Functions that a thread's stack begins with, and a greenlet's never does.
const BEGINNINGS: &[&str] = &["<module>", "_run_module_as_main", "_bootstrap"];

/// What one stack says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// The frame to blame; if it is not the application's, the one that stands for the stack.
    pub culprit: FrameId,
    /// Whether it is the application's.
    pub is_application: bool,
    /// The library below it that did the work.
    pub library: Option<FrameId>,
}

/// The frame that the loop called: a bare callback's own, or the task's step. Of a greenlet, which has
/// nothing of the loop on its stack, the application's outermost: servers start theirs for it.
#[must_use]
pub fn callback(tables: &Tables, stdlib: Option<&str>, stack: StackId) -> Option<FrameId> {
    let all: Vec<(FrameId, &Frame)> = tables.frames_of(stack).collect();
    let Some(runner) = all.iter().position(|(_, frame)| is_loop_runner(tables, frame)) else {
        let (_, root) = all.last()?;
        let is_whole = BEGINNINGS.contains(&tables.text(root.function));
        let mut from_root = all.iter().rev().filter(|_| !is_whole);
        let own =
            from_root.find(|(_, frame)| origin_of(tables, stdlib, frame) == Origin::Application);
        return own.map(|(id, _)| *id);
    };
    // `Handle._run`, in Python, and then what it runs.
    let below = all.get(..runner)?.iter().rev();
    let is_handle = |frame: &Frame| {
        tables.text(frame.function) == "_run"
            && frame.file.is_some_and(|file| tables.text(file).ends_with("asyncio/events.py"))
    };
    below.map(|(id, frame)| (*id, *frame)).find(|(_, frame)| !is_handle(frame)).map(|(id, _)| id)
}

/// Whether asyncio's loop runs something in this stack, rather than itself.
#[must_use]
pub fn in_callback(tables: &Tables, stack: StackId) -> bool {
    tables.frames_of(stack).position(|(_, frame)| is_loop_runner(tables, frame)) > Some(0)
}

/// The frame of `stack` to blame; `None` for an empty or unknown stack.
#[must_use]
pub fn site(tables: &Tables, stdlib: Option<&str>, stack: StackId) -> Option<Site> {
    let all: Vec<(FrameId, &Frame)> = tables.frames_of(stack).collect();
    let is_runner =
        |frame: &Frame| is_loop_runner(tables, frame) || is_request_runner(tables, frame);
    let runner = all.iter().position(|(_, frame)| is_runner(frame));
    let runner = runner.or_else(|| loop_in_c(tables, &all));
    let of_callback = runner.and_then(|at| match all.first() {
        // The server itself is at it; whoever started it is not to blame.
        Some((_, frame)) if at == 0 && is_request_runner(tables, frame) => all.get(..1),
        _ => all.get(..at).filter(|frames| !frames.is_empty()),
    });
    let frames: Vec<(FrameId, Origin<'_>)> = of_callback
        .unwrap_or(&all)
        .iter()
        .map(|(id, frame)| (*id, origin_of(tables, stdlib, frame)))
        .collect();

    let deepest =
        |wanted: &dyn Fn(Origin<'_>) -> bool| frames.iter().position(|(_, origin)| wanted(*origin));
    let installed = || {
        let application = frames.iter().rev().find_map(|(_, origin)| match origin {
            Origin::Package(name) if !PLUMBING.contains(name) => Some(*name),
            _ => None,
        })?;
        deepest(&|origin| origin == Origin::Package(application))
    };
    let application = deepest(&|origin| origin == Origin::Application).or_else(installed);
    let at = application
        .or_else(|| deepest(&|origin| matches!(origin, Origin::Package(_))))
        .or_else(|| deepest(&|origin| origin != Origin::Foreign))
        .or_else(|| deepest(&|_| true))?;
    let at = outside_of_comprehensions(tables, &frames, at);

    let below = frames.get(..at).unwrap_or_default();
    let library = below
        .iter()
        .find(|(_, origin)| matches!(origin, Origin::Package(_)))
        .or_else(|| below.iter().find(|(_, origin)| is_telling(*origin)))
        .map(|(id, _)| *id);
    let is_application = application.is_some();
    frames.get(at).map(|(culprit, _)| Site { culprit: *culprit, is_application, library })
}

/// What code objects of comprehensions and generator expressions are called (CPython 3.12
/// `Python/compile.c`, `compiler_genexp` and its neighbours; since 3.12 only the last has frames of its own).
const COMPREHENSIONS: &[&str] = &["<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"];

/// The frame that a comprehension at `at` is written in, where that is what runs it: a part of a function's own
/// statement, which else were two lines to blame, neither of them for most of the time.
fn outside_of_comprehensions(
    tables: &Tables,
    frames: &[(FrameId, Origin<'_>)],
    mut at: usize,
) -> usize {
    let frame_at = |at: usize| frames.get(at).and_then(|(id, _)| tables.get_frame(*id));
    while let (Some(inner), Some(outer)) = (frame_at(at), frame_at(at + 1)) {
        let is_comprehension = COMPREHENSIONS.contains(&tables.text(inner.function));
        if !is_comprehension || inner.file != outer.file {
            break;
        }
        at += 1;
    }
    at
}

/// Whose code a frame is, by its file. `stdlib` is where the process's standard library lies.
#[must_use]
pub fn origin_of<'a>(tables: &'a Tables, stdlib: Option<&str>, frame: &Frame) -> Origin<'a> {
    match (frame.kind, frame.file) {
        (FrameKind::Python, Some(file)) => {
            let file = tables.text(file);
            launcher(file).unwrap_or_else(|| origin(file, tables.text(frame.function), stdlib))
        }
        // Code without a file was made up at run time, by machinery rather than by a person.
        (FrameKind::Python, None) => Origin::Stdlib(""),
        (FrameKind::Native | FrameKind::Marker, _) => Origin::Foreign,
    }
}

/// Whose a script is that pip made to start a server, as `/srv/venv/bin/uvicorn` or `bin/waitress-serve`; `None` of
/// others, which may be the application.
fn launcher(file: &str) -> Option<Origin<'static>> {
    let (folder, name) = file.rsplit_once('/')?;
    let package = name.split('-').next().filter(|_| folder.ends_with("/bin"))?;
    PLUMBING.iter().find(|known| **known == package).map(|known| Origin::Package(known))
}

fn is_telling(origin: Origin<'_>) -> bool {
    matches!(origin, Origin::Stdlib(module) if !module.is_empty() && !MUTE.contains(&module))
}

fn is_loop_runner(tables: &Tables, frame: &Frame) -> bool {
    let file = frame.file.map(|file| tables.text(file));
    tables.text(frame.function) == "_run_once"
        && file.is_some_and(|file| file.ends_with("asyncio/base_events.py"))
}

/// The place of `asyncio.run` where what it runs is called by a loop in C (uvloop), which has no frame: of asyncio's
/// own, its code comes next.
fn loop_in_c(tables: &Tables, frames: &[(FrameId, &Frame)]) -> Option<usize> {
    let file = |frame: &Frame| frame.file.map_or("", |file| tables.text(file));
    let is_run = |frame: &Frame| {
        tables.text(frame.function) == "run" && file(frame).ends_with("/asyncio/runners.py")
    };
    let place = frames.iter().position(|(_, frame)| is_run(frame))?;
    let (_, called) = frames.get(place.checked_sub(1)?)?;
    (!file(called).contains("/asyncio/")).then_some(place)
}

/// The functions in which servers with a thread or a greenlet for each request call the application.
const REQUEST_RUNNERS: &[(&str, &str)] = &[
    ("/gunicorn/workers/sync.py", "handle_request"),
    ("/gunicorn/workers/sync.py", "handle"),
    ("/gunicorn/workers/gthread.py", "handle_request"),
    ("/gunicorn/workers/gthread.py", "handle_http2_request"),
    ("/gunicorn/workers/gthread.py", "handle"),
    ("/gunicorn/workers/base_async.py", "handle_request"),
    ("/gevent/pywsgi.py", "run_application"),
    ("/eventlet/wsgi.py", "handle_one_response"),
    ("/werkzeug/serving.py", "execute"),
    ("/wsgiref/handlers.py", "run"),
    ("/waitress/task.py", "execute"),
    ("/cheroot/wsgi.py", "respond"),
];

fn is_request_runner(tables: &Tables, frame: &Frame) -> bool {
    let function = tables.text(frame.function);
    let Some(file) = frame.file.map(|file| tables.text(file)) else { return false };
    REQUEST_RUNNERS.iter().any(|(end, name)| function == *name && file.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Stack;

    const STDLIB: Option<&str> = Some("/opt/py/lib/python3.12");

    /// Blames in a stack given root first, as a traceback prints it.
    fn blame(frames: &[(&str, &str)], is_application: bool) -> (String, Option<String>) {
        let mut tables = Tables::default();
        let ids: Vec<FrameId> = frames
            .iter()
            .rev()
            .map(|(file, function)| {
                let (file, function) = (Some(tables.name(file)), tables.name(function));
                let kind = FrameKind::Python;
                tables.frame(Frame { kind, function, file, line: Some(1), module: None })
            })
            .collect();
        let stack = tables.stack(Stack { frames: ids, truncated: None });
        let site = site(&tables, STDLIB, stack).unwrap();
        assert_eq!(site.is_application, is_application);
        let name = |id| tables.text(tables.get_frame(id).unwrap().function).to_owned();
        (name(site.culprit), site.library.map(name))
    }

    const RUN: [(&str, &str); 3] = [
        ("/srv/app/main.py", "<module>"),
        ("/opt/py/lib/python3.12/site-packages/uvicorn/main.py", "run"),
        ("/opt/py/lib/python3.12/asyncio/base_events.py", "_run_once"),
    ];

    fn after_loop(frames: &[(&str, &str)]) -> (String, Option<String>) {
        blame(&[&RUN[..], frames].concat(), true)
    }

    #[test]
    fn the_deepest_application_frame_is_to_blame_and_its_client_named() {
        let found = after_loop(&[
            ("/srv/app/middleware.py", "dispatch"),
            ("/opt/py/lib/python3.12/site-packages/fastapi/routing.py", "app"),
            ("/srv/app/lifecycle.py", "list_sandboxes"),
            ("/opt/py/lib/python3.12/site-packages/kubernetes/rest.py", "request"),
            ("/opt/py/lib/python3.12/site-packages/urllib3/connection.py", "getresponse"),
            ("/opt/py/lib/python3.12/socket.py", "readinto"),
        ]);
        assert_eq!(found, ("list_sandboxes".into(), Some("getresponse".into())));
    }

    #[test]
    fn without_a_package_below_the_standard_library_is_named() {
        let found = after_loop(&[
            ("/srv/app/views.py", "render"),
            ("/opt/py/lib/python3.12/json/encoder.py", "iterencode"),
            ("/opt/py/lib/python3.12/contextlib.py", "inner"),
        ]);
        assert_eq!(found, ("render".into(), Some("iterencode".into())));
        assert_eq!(after_loop(&[("/srv/app/views.py", "sleep")]), ("sleep".into(), None));
    }

    #[test]
    fn a_comprehension_is_part_of_the_function_it_is_written_in() {
        let found = after_loop(&[
            ("/srv/app/views.py", "render"),
            ("/srv/app/views.py", "<listcomp>"),
            ("/srv/app/views.py", "<genexpr>"),
        ]);
        assert_eq!(found.0, "render");
        // One that was handed on is run by somebody else.
        let found = after_loop(&[
            ("/srv/app/views.py", "render"),
            ("/srv/app/stream.py", "send"),
            ("/srv/app/views.py", "<genexpr>"),
        ]);
        assert_eq!(found.0, "<genexpr>");
        let found = after_loop(&[
            ("/srv/app/views.py", "render"),
            ("/srv/app/views.py", "<genexpr>"),
            ("/opt/py/lib/python3.12/json/encoder.py", "encode"),
        ]);
        assert_eq!(found, ("render".into(), Some("encode".into())));
    }

    #[test]
    fn an_installed_application_is_found_behind_its_framework() {
        let found = after_loop(&[
            ("/opt/py/lib/python3.12/site-packages/starlette/routing.py", "handle"),
            ("/opt/py/lib/python3.12/site-packages/shop/views.py", "cart"),
            ("/opt/py/lib/python3.12/site-packages/shop/db.py", "query"),
            ("/opt/py/lib/python3.12/site-packages/psycopg2/x.py", "execute"),
        ]);
        assert_eq!(found, ("query".into(), Some("execute".into())));
    }

    #[test]
    fn a_framework_on_its_own_is_not_the_application_nor_is_the_script_that_started_it() {
        let after_loop = |frames: &[_]| blame(&[&RUN[..], frames].concat(), false);
        let found = after_loop(&[
            ("/opt/py/lib/python3.12/asyncio/events.py", "_run"),
            ("/opt/py/lib/python3.12/site-packages/fastapi/encoders.py", "jsonable_encoder"),
            ("/opt/py/lib/python3.12/enum.py", "__call__"),
        ]);
        assert_eq!(found, ("jsonable_encoder".into(), Some("__call__".into())));
        let found = after_loop(&[("/opt/py/lib/python3.12/asyncio/events.py", "_run")]);
        assert_eq!(found.0, "_run");
    }

    #[test]
    fn nor_is_the_script_where_the_loop_is_in_c() {
        let run = |script, frames: &[(&str, &str)], is_application| {
            let start = [
                (script, "<module>"),
                ("/opt/py/lib/python3.12/site-packages/uvicorn/server.py", "run"),
                ("/opt/py/lib/python3.12/asyncio/runners.py", "run"),
            ];
            blame(&[&start[..], frames].concat(), is_application).0
        };
        let framework = [
            ("/opt/py/lib/python3.12/site-packages/django/core/handlers/asgi.py", "__call__"),
            ("/opt/py/lib/python3.12/site-packages/asgiref/sync.py", "__aexit__"),
            ("/opt/py/lib/python3.12/threading.py", "join"),
        ];
        assert_eq!(run("/srv/main.py", &framework, false), "__aexit__");
        assert_eq!(run("/srv/venv/bin/uvicorn", &framework, false), "__aexit__");
        let view = [&framework[..1], &[("/srv/shop/views.py", "cart")]].concat();
        assert_eq!(run("/srv/main.py", &view, true), "cart");
        // What `asyncio.run` itself is at was asked for by who called it.
        let close = [("/opt/py/lib/python3.12/asyncio/runners.py", "close")];
        assert_eq!(run("/srv/main.py", &close, true), "<module>");
        // Scripts of others, and one that is started some other way.
        assert_eq!(blame(&[("/srv/venv/bin/uvicorn", "<module>")], false).0, "<module>");
        assert_eq!(blame(&[("/srv/bin/serve", "<module>")], true).0, "<module>");
        assert_eq!(blame(&[("/srv/uvicorn/gunicorn", "<module>")], true).0, "<module>");
    }

    #[test]
    fn a_stack_cut_off_at_the_loop_still_has_an_answer() {
        assert_eq!(blame(&RUN, true).0, "<module>");
        assert_eq!(blame(&RUN[2..], false).0, "_run_once");
    }
}
