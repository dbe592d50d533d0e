//! Everything stallspy can tell of an interpreter's memory, read through the same code as a running
//! process is: what images are recorded with, and what is expected of them.

#![allow(dead_code)] // each test uses a part

use std::collections::HashMap;

use stallspy::event_loop::{Clock, PROBES, Probe, Reading, Sight, TaskNames, View};
use stallspy::model::{CallbackRun, Truncation};
use stallspy::python::Interpreter;
use stallspy::python::code_objects::CodeCache;
use stallspy::python::frames::{RawFrame, RawStack, Walker, local};
use stallspy::python::locate::{LocateError, Located, locate_at};
use stallspy::python::objects::ReprLimits;
use stallspy::python::running_loop::AsyncioTables;
use stallspy::python::thread_names::thread_names;
use stallspy::python::threads::{Thread, ThreadIds, threads, unchanged};
use stallspy::server::endpoint;
use stallspy::target::modules::Modules;
use stallspy::target::{ProcFs, ReadError, RemoteMemory, ThreadFiles};
use stallspy::units::{Addr, Pid, Tid, Timestamp};

/// Frames of this file show their variables too.
const APPLICATION: &str = "/srv/app/server.py";

/// What is known of a process beside its memory.
#[derive(Debug, Clone)]
pub struct Known {
    /// Where its `_PyRuntime` lies.
    pub runtime: Addr,
    /// When it is looked at.
    pub now: Timestamp,
    /// The kernel's thread ids.
    pub tids: Vec<i32>,
}

/// What memory tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    pub version: String,
    pub threads: Vec<SeenThread>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenThread {
    pub state: Addr,
    pub name: Option<String>,
    /// Its place in [`Known::tids`]: the ids themselves are of no interest.
    pub tid: Option<usize>,
    pub stack: Result<SeenStack, ReadError>,
    pub runs: Result<Option<SeenLoop>, ReadError>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenStack {
    pub frames: Vec<SeenFrame>,
    pub truncated: Option<Truncation>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenFrame {
    /// Function, file, line.
    pub place: Result<(String, String, Option<u32>), ReadError>,
    pub locals: Vec<(String, Option<String>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLoop {
    pub reading: Result<Reading, ReadError>,
    pub callback: Option<CallbackRun>,
    pub waiting: Option<u32>,
    pub task: TaskNames,
    pub endpoint: Option<String>,
}

/// Reads everything.
pub fn survey(memory: &dyn RemoteMemory, known: &Known) -> Result<Survey, LocateError> {
    let located = locate_at(memory, known.runtime)?;
    Ok(Survey { threads: look_around(memory, &located, known)?, version: located.version })
}

/// Reads everything of an interpreter that was located before.
pub fn look_around(
    memory: &dyn RemoteMemory,
    located: &Located,
    known: &Known,
) -> Result<Vec<SeenThread>, ReadError> {
    let python = located.view(memory);
    let names = thread_names(&python).unwrap_or_default();
    let mut codes = CodeCache::default();
    let found = threads(&python)?;
    let _ = unchanged(&python, &found);
    let seen = found.iter().map(|thread| look_at(&python, &mut codes, thread, known, &names));
    Ok(seen.collect())
}

/// Reads everything of one thread.
pub fn look_at(
    python: &Interpreter<'_>,
    codes: &mut CodeCache,
    thread: &Thread,
    known: &Known,
    names: &HashMap<u64, String>,
) -> SeenThread {
    let ids = ThreadIds { by_native: known.tids.iter().map(|tid| (*tid, Tid(*tid))).collect() };
    let tid = ids.of(python.memory, thread);
    let mut walker = Walker::default();
    // The second walk reads where the first found frames, all at once.
    let raw = walker.walk(python, thread).and_then(|_| walker.walk(python, thread));
    let _ = walker.fingerprint(python, thread);
    let runs = match &raw {
        Ok(raw) => event_loop(python, codes, thread, raw, known.now),
        Err(error) => Err(*error),
    };
    SeenThread {
        state: thread.state,
        name: names.get(&thread.ident).cloned(),
        tid: tid.and_then(|tid| known.tids.iter().position(|known| *known == tid.0)),
        stack: raw.map(|raw| stack(python, codes, &raw, known.now)),
        runs,
    }
}

/// Names what was walked.
pub fn stack(
    python: &Interpreter<'_>,
    codes: &mut CodeCache,
    raw: &RawStack,
    now: Timestamp,
) -> SeenStack {
    let frames = raw.frames.iter().map(|raw| frame(python, codes, raw, now)).collect();
    SeenStack { frames, truncated: raw.truncated }
}

fn frame(
    python: &Interpreter<'_>,
    codes: &mut CodeCache,
    raw: &RawFrame,
    now: Timestamp,
) -> SeenFrame {
    let code = match codes.get(python, raw.code, now) {
        Ok(code) => code,
        Err(error) => return SeenFrame { place: Err(error), locals: Vec::new() },
    };
    let mut locals = Vec::new();
    if code.filename == APPLICATION {
        let objects = python.objects();
        for (index, name) in code.locals.iter().enumerate() {
            let value = local(python, raw.addr, index).ok().filter(|value| !value.is_null());
            let text = value.and_then(|value| objects.repr(value, ReprLimits::default()).ok());
            locals.push((name.clone(), text));
        }
    }
    let line = code.line(python, raw);
    SeenFrame { place: Ok((code.name.clone(), code.filename.clone(), line)), locals }
}

fn event_loop(
    python: &Interpreter<'_>,
    codes: &mut CodeCache,
    thread: &Thread,
    stack: &RawStack,
    now: Timestamp,
) -> Result<Option<SeenLoop>, ReadError> {
    let nowhere = Nowhere::default();
    for probe in PROBES {
        let found = nowhere.find(*probe, python, codes, thread, stack, now)?;
        let Some(mut clock) = found else { continue };
        let view = nowhere.view(python, thread, now);
        return Ok(Some(observe(&view, codes, stack, clock.as_mut())));
    }
    Ok(None)
}

/// What is around a process's memory where there is nothing but that.
pub struct Nowhere {
    procfs: ProcFs,
    files: ThreadFiles,
    modules: Modules,
}

impl Default for Nowhere {
    fn default() -> Nowhere {
        let procfs = ProcFs::at("/nonexistent");
        let files = ThreadFiles::new(&procfs, Pid(1), Tid(1));
        Nowhere { procfs, files, modules: Modules::default() }
    }
}

impl Nowhere {
    /// What a clock may look at.
    pub fn view<'a>(
        &'a self,
        python: &Interpreter<'a>,
        thread: &'a Thread,
        now: Timestamp,
    ) -> View<'a> {
        let (procfs, files) = (&self.procfs, &self.files);
        View { python: *python, thread, files, procfs, pid: Pid(1), now }
    }

    /// Asks a probe.
    pub fn find(
        &self,
        probe: &dyn Probe,
        python: &Interpreter<'_>,
        codes: &mut CodeCache,
        thread: &Thread,
        stack: &RawStack,
        now: Timestamp,
    ) -> Result<Option<Box<dyn Clock>>, ReadError> {
        probe.find(&mut Sight {
            python: *python,
            codes,
            stack,
            thread,
            tid: Tid(1),
            pid: Pid(1),
            files: &self.files,
            procfs: &self.procfs,
            modules: &self.modules,
            asyncio: &mut AsyncioTables::default(),
            now,
        })
    }
}

fn observe(
    view: &View<'_>,
    codes: &mut CodeCache,
    stack: &RawStack,
    clock: &mut dyn Clock,
) -> SeenLoop {
    let _ = clock.look(view);
    let reading = clock.look(view);
    let running = match reading {
        Ok(Reading::Running(running)) => Some(running),
        _ => None,
    };
    let names = running.map(|running| clock.task(view, &running));
    SeenLoop {
        reading,
        callback: running.and_then(|running| clock.callback(view, &running)),
        waiting: clock.waiting(view),
        task: names.unwrap_or_default(),
        endpoint: endpoint(&view.python, codes, stack, view.now),
    }
}
