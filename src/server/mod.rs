//! Servers: who runs the application, and which request it serves.
//!
//! Takes what the sampler has seen of a process ([`Facts`]), gives what it is to its server
//! ([`Recognised`]): its role, and where the server's own objects lie. One file per server; adding
//! one is a file and a line in [`PROBES`].

pub mod aiohttp;
pub mod asgi;
pub mod bare;
pub mod cheroot;
pub mod counters;
pub mod daphne;
pub mod django;
pub mod facts;
mod fork;
pub mod granian;
pub mod gunicorn;
pub mod hub;
pub mod hypercorn;
mod landmarks;
pub mod monkey;
pub mod pools;
pub mod request_clock;
pub mod request_objects;
pub mod request_places;
pub mod residents;
pub mod sanic;
pub mod settings;
pub mod tornado;
pub mod twisted_web;
pub mod uvicorn;
pub mod uwsgi;
pub mod waitress;
pub mod werkzeug;
pub mod wsgi;

use std::fmt;
use std::rc::Rc;

pub use facts::{Facts, Place};
use landmarks::{Landmarks, READERS};

use crate::model::{Role, WorkerClass, WorkerTopology};
use crate::python::Interpreter;
use crate::python::code_objects::{CodeCache, CodeObject};
use crate::python::frames::{RawFrame, RawStack};
use crate::python::objects::Objects;
use crate::target::ReadError;
use crate::units::{Addr, Timestamp};

/// All servers stallspy knows, the most telling first: gunicorn runs others' workers, and a
/// framework's own server is asked for after those that can run it.
pub const PROBES: &[&dyn Probe] = &[
    &gunicorn::Gunicorn,
    &uvicorn::Uvicorn,
    &hypercorn::Hypercorn,
    &daphne::Daphne,
    &granian::Granian,
    &sanic::Sanic,
    &uwsgi::Uwsgi,
    &waitress::Waitress,
    &cheroot::Cheroot,
    &django::Django,
    &werkzeug::Werkzeug,
    &aiohttp::Aiohttp,
    &tornado::Tornado,
];

/// A server's own objects, in its process's memory. They live as long as the process; whoever reads
/// them checks what they are, as of any object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerObjects {
    /// gunicorn's `Worker`, of a worker.
    pub worker: Option<Addr>,
    /// uvicorn's `Server`, also inside a worker of gunicorn's.
    pub server: Option<Addr>,
    /// The configuration: gunicorn's, uvicorn's or hypercorn's `Config`, waitress's `Adjustments`, cheroot's
    /// server itself.
    pub config: Option<Addr>,
    /// hypercorn's `WorkerContext`, of a worker.
    pub context: Option<Addr>,
    /// Of a master: gunicorn's `Arbiter`, uvicorn's `Multiprocess` or reloader.
    pub master: Option<Addr>,
}

/// What a probe found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognised {
    /// What the process is.
    pub topology: WorkerTopology,
    /// Where the server's objects lie.
    pub objects: ServerObjects,
    /// Whether asking again would tell no more: else it was judged by the command line, or in the
    /// middle of a fork.
    pub is_settled: bool,
    /// Whether it serves nobody, and only keeps house for the server that started it: a reloader, a
    /// `Manager` of `multiprocessing`'s.
    pub keeps_house: bool,
}

impl Recognised {
    /// A process of `server`.
    fn new(server: &str, version: Option<String>, role: Role, class: WorkerClass) -> Recognised {
        Recognised {
            topology: WorkerTopology {
                server: server.to_owned(),
                server_version: version,
                role,
                class,
                class_version: None,
                development: false,
            },
            objects: ServerObjects::default(),
            is_settled: true,
            keeps_house: false,
        }
    }

    /// The same, judged by something that may mislead.
    fn unsettled(self) -> Recognised {
        Recognised { is_settled: false, ..self }
    }

    /// The same, a process that serves nobody.
    fn that_keeps_house(self) -> Recognised {
        Recognised { keeps_house: true, ..self }
    }

    /// The same, a server for development.
    fn for_development(mut self) -> Recognised {
        self.topology.development = true;
        self
    }
}

/// Knows how one server shows itself.
pub trait Probe: fmt::Debug + Sync {
    /// What the process is to this server; `None` if it is none of its.
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised>;
}

/// What the process of a `multiprocessing.Manager` runs
/// (<https://github.com/python/cpython/blob/v3.12.1/Lib/multiprocessing/managers.py#L580>).
const MANAGER: (&str, &str) = ("/multiprocessing/managers.py", "_run_server");

/// Which server runs the process; a program of its own where no probe knows better.
#[must_use]
pub fn recognise(facts: &Facts<'_>) -> Recognised {
    if facts.frame(MANAGER.0, MANAGER.1).is_some() {
        return bare::recognised().that_keeps_house();
    }
    PROBES.iter().find_map(|probe| probe.recognise(facts)).unwrap_or_else(bare::recognised)
}

/// What a process is to a reloader whose code is in `file`: it starts its own program again, and that
/// runs under `child`.
fn under_reloader(facts: &Facts<'_>, file: &str, child: &str) -> Option<Role> {
    if facts.frame(file, "restart_with_reloader").is_some() {
        Some(Role::Master)
    } else {
        facts.frame(file, child).map(|_| Role::Worker)
    }
}

/// The dict that a variable holds, itself or in a cell; `None` if it holds something else.
fn dict_behind(objects: &Objects<'_>, value: Addr) -> Result<Option<Addr>, ReadError> {
    let kind = objects.type_name(value)?;
    if kind == "cell" {
        let contents = objects.cell_contents(value)?;
        return Ok((objects.type_name(contents)? == "dict").then_some(contents));
    }
    Ok((kind == "dict").then_some(value))
}

/// Most frames of one stack whose variables each reader tries.
const MAX_TRIED: usize = 8;

/// The request that a stack serves, `GET /path`, by whichever protocol; the path without its query,
/// which may hold secrets. Of each protocol the innermost frame counts that tells one.
#[must_use]
pub fn endpoint(
    python: &Interpreter<'_>,
    codes: &mut CodeCache,
    stack: &RawStack,
    now: Timestamp,
) -> Option<String> {
    let mut carriers: [Vec<(RawFrame, Rc<CodeObject>)>; READERS.len()] = Default::default();
    for frame in &stack.frames {
        let Ok(code) = codes.get(python, frame.code, now) else { continue };
        let Some(marks) = Landmarks::of(&code) else { continue };
        for (found, carries) in carriers.iter_mut().zip(marks.carries) {
            if carries && found.len() < MAX_TRIED {
                found.push((*frame, Rc::clone(&code)));
            }
        }
    }
    READERS.iter().zip(&carriers).find_map(|(reader, found)| {
        found.iter().find_map(|(frame, code)| (reader.tell)(python, frame, code).ok().flatten())
    })
}
