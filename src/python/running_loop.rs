//! The asyncio loop that a thread runs, as the interpreter itself keeps it: no frames needed.
//!
//! Takes a thread, gives the loop object and the words that say so, which a clock reads along with
//! its own. In which words depends on the version: see [`RunningLoop`](Kept).

use super::Interpreter;
use super::threads::Thread;
use crate::layout::shape::RunningLoop as Kept;
use crate::layout::{ASYNCIO_DEBUG_LEN, ASYNCIO_DEBUG_SECTION, AsyncioDebug};
use crate::target::modules::{Module, Modules};
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// The key in `PyThreadState.dict` (Modules/_asynciomodule.c, v3.8.18 to v3.12.1).
const KEY: &str = "__asyncio_running_event_loop__";
/// `PyRunningLoopHolder.rl_loop` (Modules/_asynciomodule.c, v3.8.18 to v3.11.7).
const HOLDER_LOOP: u64 = 16;
/// How the name of that type ends.
const HOLDER: &str = "RunningLoopHolder";

/// A running loop, and how it is known to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningLoop {
    /// The loop object.
    pub object: Addr,
    words: Vec<(Addr, Addr)>,
}

impl RunningLoop {
    /// The loop that `thread` runs; `None` if it runs none. `debug` is what
    /// [`AsyncioTables::debug`] gave.
    ///
    /// # Errors
    /// When the thread's state cannot be read.
    pub fn of(
        python: &Interpreter<'_>,
        thread: &Thread,
        debug: Option<&AsyncioDebug>,
    ) -> Result<Option<RunningLoop>, ReadError> {
        let offsets = &python.layout.offsets;
        let word = match python.layout.shape.running_loop {
            Kept::ThreadDict => {
                let Some(dict) = offsets.thread.dict else { return Ok(None) };
                return in_dict(python, thread.state.at(dict));
            }
            Kept::AfterThreadState => thread.state.at(offsets.thread.size),
            Kept::DebugSection => {
                let Some(debug) = debug else { return Ok(None) };
                thread.state.at(debug.running_loop)
            }
        };
        let object = python.memory.read_pointer(word)?;
        let running = RunningLoop { object, words: vec![(word, object)] };
        Ok(object.is_plausible().then_some(running))
    }

    /// Words of memory and what they hold as long as the thread runs this loop.
    #[must_use]
    pub fn words(&self) -> &[(Addr, Addr)] {
        &self.words
    }
}

fn in_dict(python: &Interpreter<'_>, place: Addr) -> Result<Option<RunningLoop>, ReadError> {
    let (objects, offsets) = (python.objects(), &python.layout.offsets.object);
    let dict = python.memory.read_pointer(place)?;
    if dict.is_null() {
        return Ok(None);
    }
    let Some(slot) = objects.dict_slot(dict, KEY)? else { return Ok(None) };
    let mut words = vec![(dict.at(offsets.dict_keys), slot.keys), (slot.place, slot.held)];
    let kind = objects.type_name(slot.held)?;
    let object = if kind.ends_with(HOLDER) {
        let inside = slot.held.at(HOLDER_LOOP);
        let object = python.memory.read_pointer(inside)?;
        words.push((inside, object));
        object
    } else {
        slot.held
    };
    let is_none = !object.is_plausible() || objects.type_name(object)? == "NoneType";
    Ok((!is_none).then_some(RunningLoop { object, words }))
}

/// Where a process's asyncio says that it keeps things, looked up once.
#[derive(Debug, Default)]
pub struct AsyncioTables {
    debug: Option<AsyncioDebug>,
    /// How many modules were searched in vain.
    searched: usize,
}

impl AsyncioTables {
    /// The `.AsyncioDebug` section; `None` where there is none, or not yet.
    pub fn debug(&mut self, python: &Interpreter<'_>, modules: &Modules) -> Option<&AsyncioDebug> {
        if python.layout.shape.running_loop != Kept::DebugSection {
            return None;
        }
        let mapped = modules.iter().count();
        if self.debug.is_none() && mapped != self.searched {
            self.searched = mapped;
            let mut found = modules.iter().filter(|module| may_have(module));
            self.debug = found.find_map(|module| {
                let (addr, _) = module.section(ASYNCIO_DEBUG_SECTION)?;
                let bytes = python.memory.read_vec(addr, ASYNCIO_DEBUG_LEN).ok()?;
                AsyncioDebug::parse(&bytes)
            });
        }
        self.debug.as_ref()
    }
}

/// `_asyncio` is a module of its own or part of the interpreter (Debian's 3.15).
fn may_have(module: &Module) -> bool {
    let file = module.path.rsplit('/').next().unwrap_or_default();
    module.is_executable || ["_asyncio", "libpython"].iter().any(|name| file.starts_with(name))
}
