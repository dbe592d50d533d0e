//! Where servers that give each request a thread of its own call the application.
//!
//! Knows functions by their file and name, and the variables in them that tell one request from the
//! next. Takes stacks, gives the frame of the request in them, and whether a stack without one is
//! that of a thread that waits for requests. Never reads a request.

use super::landmarks::Landmarks;
use crate::python::Interpreter;
use crate::python::code_objects::{CodeCache, CodeObject};
use crate::python::frames::{RawFrame, RawStack, local};
use crate::units::{Addr, Timestamp};

/// A function that runs as long as its thread is held by one request.
#[derive(Debug)]
struct Place {
    file: &'static str,
    function: &'static str,
    /// The variable whose object is this request's and no other's.
    key: &'static str,
    /// Another, which tells what it does with its client: nothing yet, or the request it has read.
    read: Option<&'static str>,
    /// The variable that holds its client's address, or an object that does as `client`.
    client: Option<&'static str>,
    /// The variable that holds `datetime.now()` of the request's beginning.
    start: Option<&'static str>,
    /// Whether it also waits for the request: it holds its thread only while it calls a method named after the request's.
    awaits: bool,
}

const fn place(file: &'static str, function: &'static str, key: &'static str) -> Place {
    Place { file, function, key, read: None, client: None, start: None, awaits: false }
}

const fn client(file: &'static str, key: &'static str, client: &'static str) -> Place {
    let (read, client) = (Some("req"), Some(client));
    Place { file, function: "handle", key, read, client, start: None, awaits: false }
}

const fn stamped(file: &'static str, function: &'static str) -> Place {
    let start = Some("request_start");
    Place { file, function, key: "req", read: None, client: None, start, awaits: false }
}

const fn awaiting(file: &'static str, function: &'static str, key: &'static str) -> Place {
    Place { awaits: true, ..place(file, function, key) }
}

/// The servers' own, the innermost of a stack being the one that counts: gunicorn's `handle` also
/// reads the request from its client, which holds the thread just as well.
/// (<https://github.com/benoitc/gunicorn/blob/23.0.0/gunicorn/workers/sync.py#L131>,
/// <https://github.com/benoitc/gunicorn/blob/23.0.0/gunicorn/workers/gthread.py#L282>,
/// <https://github.com/pallets/werkzeug/blob/3.0.6/src/werkzeug/serving.py#L254>,
/// <https://github.com/python/cpython/blob/v3.12.1/Lib/wsgiref/handlers.py#L131>, which Django's
/// development server uses, <https://github.com/Pylons/waitress/blob/v3.0.0/src/waitress/task.py#L398>,
/// <https://github.com/cherrypy/cheroot/blob/v10.0.0/cheroot/wsgi.py#L136>,
/// <https://github.com/python/cpython/blob/v3.12.1/Lib/http/server.py#L408>)
const PLACES: &[Place] = &[
    stamped("/gunicorn/workers/sync.py", "handle_request"),
    stamped("/gunicorn/workers/gthread.py", "handle_request"),
    stamped("/gunicorn/workers/gthread.py", "handle_http2_request"),
    client("/gunicorn/workers/sync.py", "client", "addr"),
    client("/gunicorn/workers/gthread.py", "conn", "conn"),
    place("/werkzeug/serving.py", "execute", "environ"),
    place("/wsgiref/handlers.py", "run", "self"),
    place("/waitress/task.py", "execute", "self"),
    place("/cheroot/wsgi.py", "respond", "self"),
    awaiting("/http/server.py", "handle_one_request", "method"),
];

/// What the methods of a handler of `http.server` begin with that answer requests, `do_GET`.
const METHOD: &str = "do_";

/// What an application is called with, where the server is none of those or has no frames at all
/// (uWSGI, `mod_wsgi`): the outermost function that takes both
/// (<https://peps.python.org/pep-3333/#the-application-framework-side>).
const ENVIRON: &[&str] = &["environ", "env"];
const START_RESPONSE: &str = "start_response";

/// Functions in which a thread waits for requests and does nothing else.
const WAITING: &[(&str, &str)] =
    &[("/gunicorn/workers/sync.py", "run"), WAITRESS, CHEROOT, CONNECTION];
/// What each thread of waitress's and cheroot's own pools runs.
const WAITRESS: (&str, &str) = ("/waitress/task.py", "handler_thread");
const CHEROOT: (&str, &str) = ("/cheroot/workers/threadpool.py", "run");
/// What a thread begins with that `socketserver` makes for a connection.
const CONNECTION: (&str, &str) = ("/socketserver.py", "process_request_thread");
/// Where `socketserver` waits for connections, and the class of servers that make a thread for each
/// (<https://github.com/python/cpython/blob/v3.12.1/Lib/socketserver.py#L660>).
const ACCEPTING: (&str, &str) = ("/socketserver.py", "serve_forever");
const THREADING: &str = "ThreadingMixIn";
/// The pool that gunicorn's gthread takes its threads from is the standard library's. Others use it,
/// too, so it says something only in a process that runs gthread.
const POOL: (&str, &str) = ("concurrent/futures/thread.py", "_worker");
/// The file of gunicorn's gthread worker.
const GTHREAD: &str = "/gunicorn/workers/gthread.py";

/// What `socketserver` calls the address of the client it serves, a tuple of host and port
/// (<https://github.com/python/cpython/blob/v3.12.1/Lib/socketserver.py#L344>).
const CLIENT: &str = "client_address";

/// Parts of paths whose frames show that greenlets serve the requests, many on one thread: what
/// holds one of them up does not hold the thread.
const GREENLETS: &[&str] = &["/gevent/", "/eventlet/", "/gunicorn/workers/base_async.py"];

/// The method that is one iteration of asyncio's loop.
const LOOP: (&str, &str) = ("asyncio/base_events.py", "_run_once");

/// What werkzeug calls after the application to take in what its client still sends: the request is
/// over (`execute`, see above).
const AFTERWARDS: &str = "/selectors.py";

/// The frame of the request in a stack.
#[derive(Debug, Clone)]
pub struct Found {
    /// The frame.
    pub frame: RawFrame,
    /// The slot of the variable that tells this request from the next.
    pub key: usize,
    /// The slot of another that does.
    pub read: Option<usize>,
    /// The slot of the variable that holds when it began.
    pub start: Option<usize>,
    /// The frame and slot of the variable that holds its client's address, or an object that does.
    pub client: Option<(Addr, usize)>,
}

/// The request that this stack's thread is held by. `any_application`: also where no server is
/// known, by what the application is called with.
#[must_use]
pub fn request(
    python: &Interpreter<'_>,
    codes: &mut CodeCache,
    stack: &RawStack,
    any_application: bool,
    now: Timestamp,
) -> Option<Found> {
    let mut innermost = None;
    let mut outermost = None;
    let mut client = None;
    let (mut is_over, mut is_method) = (false, false);
    for frame in &stack.frames {
        let Ok(code) = codes.get(python, frame.code, now) else { continue };
        let Some(Landmarks { mark, .. }) = Landmarks::of(&code) else { continue };
        if mark.is_loop {
            // Called by a loop's callback: it holds the loop.
            (innermost, outermost) = (None, None);
        }
        if mark.has_greenlets {
            return None;
        }
        if innermost.is_none()
            && let Some(place) = mark.place
        {
            let waits = place.awaits && !is_method;
            innermost = server_frame(frame, &code, place, is_over).filter(|_| !waits);
        }
        if any_application && let Some(key) = mark.environ {
            outermost =
                Some(Some(Found { frame: *frame, key, read: None, start: None, client: None }));
        }
        if client.is_none() {
            client = mark.client.map(|index| (frame.addr, index));
        }
        (is_over, is_method) = (mark.is_afterwards, mark.is_method);
    }
    let found = innermost.or(outermost).flatten()?;
    Some(Found { client: found.client.or(client), ..found })
}

/// What a function is to who looks for the request in a stack.
#[derive(Debug)]
pub(super) struct Mark {
    is_loop: bool,
    has_greenlets: bool,
    is_afterwards: bool,
    is_method: bool,
    place: Option<&'static Place>,
    /// The slots of an application's environ, and of a client's address.
    environ: Option<usize>,
    client: Option<usize>,
}

impl Mark {
    pub(super) fn of(code: &CodeObject) -> Mark {
        let file = code.filename.as_str();
        let is = |place: &&Place| code.name == place.function && file.ends_with(place.file);
        Mark {
            is_loop: code.name == LOOP.1 && file.ends_with(LOOP.0),
            has_greenlets: GREENLETS.iter().any(|part| file.contains(part)),
            is_afterwards: file.ends_with(AFTERWARDS),
            is_method: code.name.starts_with(METHOD),
            place: PLACES.iter().find(is),
            environ: application_frame(code),
            client: code.local_index(CLIENT),
        }
    }
}

/// A server's own frame; `Some(None)` where the request `is_over`.
fn server_frame(
    frame: &RawFrame,
    code: &CodeObject,
    place: &Place,
    is_over: bool,
) -> Option<Option<Found>> {
    if is_over {
        return Some(None);
    }
    let key = code.local_index(place.key)?;
    let slot = |name: Option<&str>| name.and_then(|name| code.local_index(name));
    let client = slot(place.client).map(|index| (frame.addr, index));
    let (read, start) = (slot(place.read), slot(place.start));
    Some(Some(Found { frame: *frame, key, read, start, client }))
}

/// The slot of an application's environ.
fn application_frame(code: &CodeObject) -> Option<usize> {
    code.local_index(START_RESPONSE)?;
    ENVIRON.iter().find_map(|name| code.local_index(name))
}

/// Which threads may be request threads.
#[derive(Debug, Clone, Copy)]
pub struct Kinds {
    /// In the process gunicorn's gthread was seen: the threads of its pool.
    pub in_gthread: bool,
    /// Any that an application is called on.
    pub any_application: bool,
}

/// Whether the thread of this stack serves requests, or waits for one.
#[must_use]
pub fn is_worker(
    python: &Interpreter<'_>,
    codes: &mut CodeCache,
    stack: &RawStack,
    kinds: Kinds,
    now: Timestamp,
) -> bool {
    if request(python, codes, stack, kinds.any_application, now).is_some() {
        return true;
    }
    let pool = kinds.in_gthread.then_some(&POOL);
    stack.frames.iter().any(|frame| {
        let Ok(code) = codes.get(python, frame.code, now) else { return false };
        let is = |(file, function): &(&str, &str)| {
            code.name == *function && code.filename.ends_with(file)
        };
        WAITING.iter().chain(pool).any(is)
    })
}

/// What the stack of any of its threads tells of how a process serves requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Learnt {
    /// It runs gunicorn's gthread.
    pub in_gthread: bool,
    /// Each connection gets a thread of its own, which ends with it.
    pub has_thread_per_connection: bool,
    /// How many threads may serve requests at the same time.
    pub limit: Option<u32>,
}

/// Reads what a stack tells; not how many threads may serve requests, where that `size` is known.
#[must_use]
pub fn learn(
    python: &Interpreter<'_>,
    codes: &mut CodeCache,
    stack: &RawStack,
    size: Option<u32>,
    now: Timestamp,
) -> Learnt {
    let mut learnt = Learnt::default();
    for frame in &stack.frames {
        let Ok(code) = codes.get(python, frame.code, now) else { continue };
        let file = code.filename.as_str();
        if file.ends_with(GTHREAD) {
            learnt.in_gthread = true;
            let own = || code.local_index("self").and_then(|at| local(python, frame.addr, at).ok());
            learnt.limit = learnt.limit.or(size).or_else(|| pool_size(python, own()?));
        }
        let is = |(name, function): (&str, &str)| file.ends_with(name) && code.name == function;
        learnt.has_thread_per_connection |= is(CONNECTION)
            || (is(ACCEPTING) && {
                let own = code.local_index("self");
                let server = own.and_then(|at| local(python, frame.addr, at).ok());
                server.is_some_and(|server| makes_threads(python, server))
            });
        if file.ends_with("/gunicorn/workers/sync.py") {
            learnt.limit = Some(1);
        }
        if is(WAITRESS) || is(CHEROOT) {
            let own = || code.local_index("self").and_then(|at| local(python, frame.addr, at).ok());
            let threads = || own().and_then(|own| own_threads(python, own, is(WAITRESS)));
            learnt.limit = learnt.limit.or(size).or_else(threads);
        }
    }
    learnt
}

/// Whether a server of `socketserver` makes a thread for each connection: that is known before the first
/// of them comes.
fn makes_threads(python: &Interpreter<'_>, server: Addr) -> bool {
    let classes = python.objects().class_names(server).unwrap_or_default();
    classes.iter().any(|name| name == THREADING)
}

/// How many threads waitress or cheroot has: it makes them when it begins, and no more by itself
/// (<https://github.com/Pylons/waitress/blob/v3.0.0/src/waitress/task.py#L90>,
/// <https://github.com/cherrypy/cheroot/blob/v10.0.0/cheroot/workers/threadpool.py#L180>).
fn own_threads(python: &Interpreter<'_>, own: Addr, is_waitress: bool) -> Option<u32> {
    let objects = python.objects();
    let attribute = |object, name| objects.attribute(object, name).ok().flatten();
    let count = if is_waitress {
        objects.set_len(attribute(own, "threads")?).ok()?
    } else {
        let pool = attribute(attribute(own, "server")?, "requests")?;
        objects.list_len(attribute(pool, "_threads")?).ok()?
    };
    u32::try_from(count).ok().filter(|count| *count > 0)
}

/// The size of the pool that a gthread worker takes its threads from
/// (<https://github.com/benoitc/gunicorn/blob/23.0.0/gunicorn/workers/gthread.py#L91>,
/// <https://github.com/python/cpython/blob/v3.12.1/Lib/concurrent/futures/thread.py#L147>).
fn pool_size(python: &Interpreter<'_>, worker: Addr) -> Option<u32> {
    let objects = python.objects();
    let pool = objects.attribute(worker, "tpool").ok()??;
    let size = objects.attribute(pool, "_max_workers").ok()??;
    u32::try_from(objects.int(size).ok()?).ok()
}
