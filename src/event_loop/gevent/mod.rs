//! gevent's loop, on libev or libuv: found by the library's own symbol, or in the hub's frame.
//!
//! While a greenlet runs, it alone is on the thread's stack, and the hub, whose frame runs the loop,
//! is put aside. So the main thread's loop, the library's default one, is found by the variable that
//! points to it, whatever runs. Loops of other threads have no such variable: they are found in the
//! hub's frame, when it is met in its poll.
//! (<https://github.com/gevent/gevent/blob/24.2.1/src/gevent/hub.py>, `Hub.run`)

mod libev;
mod libuv;
mod progress;

use self::libev::Loop;
use super::{Clock, Probe, Sight};
use crate::model::LoopKind;
use crate::python::frames::local;
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// The hub's method that runs the loop.
const HUB_METHOD: &str = "run";
/// The file it is in, whatever the installation.
const HUB_FILE: &str = "gevent/hub.py";
/// Its variable that holds the loop.
const HUB_LOOP: &str = "loop";
/// The variable that points to libev's default loop, exported by gevent's extension module.
const DEFAULT_LOOP: &str = "ev_default_loop_ptr";
/// That module's folder and the beginning of its name.
const EXTENSION: &str = "gevent/libev/corecext";

/// The probe for gevent's loops.
#[derive(Debug, Clone, Copy)]
pub struct Gevent;

impl Probe for Gevent {
    fn kind(&self) -> LoopKind {
        LoopKind::Gevent
    }

    fn find(&self, sight: &mut Sight<'_>) -> Result<Option<Box<dyn Clock>>, ReadError> {
        if let Some(found) = of_default(sight)? {
            return Ok(Some(Box::new(found.clock())));
        }
        if let Some(found) = libuv::of_default(sight)? {
            return Ok(Some(Box::new(found.clock())));
        }
        let Some(object) = hub_loop(sight)? else { return Ok(None) };
        if let Some(found) = Loop::of_object(sight, object)? {
            return Ok(Some(Box::new(found.clock())));
        }
        let found = libuv::of_object(sight, object)?;
        Ok(found.map(|found| Box::new(found.clock()) as Box<dyn Clock>))
    }
}

/// libev's default loop, which gevent runs in the main thread only.
fn of_default(sight: &Sight<'_>) -> Result<Option<Loop>, ReadError> {
    if sight.tid.0 != sight.pid.0 {
        return Ok(None);
    }
    let extension = sight.modules.iter().find(|module| is_extension(&module.path));
    let Some(pointer) = extension.and_then(|module| module.symbol(DEFAULT_LOOP)) else {
        return Ok(None);
    };
    match sight.python.memory.read_pointer(pointer)? {
        // No hub has been asked for yet.
        ev if ev.is_null() => Ok(None),
        ev => Loop::at(sight, ev),
    }
}

fn is_extension(path: &str) -> bool {
    path.rsplit_once(EXTENSION).is_some_and(|(_, rest)| !rest.contains('/'))
}

/// The loop object in the hub's frame.
fn hub_loop(sight: &mut Sight<'_>) -> Result<Option<Addr>, ReadError> {
    for frame in &sight.stack.frames {
        let Ok(code) = sight.codes.get(&sight.python, frame.code, sight.now) else { continue };
        if code.name != HUB_METHOD || !code.filename.ends_with(HUB_FILE) {
            continue;
        }
        let Some(slot) = code.local_index(HUB_LOOP) else { continue };
        let object = local(&sight.python, frame.addr, slot)?;
        return Ok(object.is_plausible().then_some(object));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_is_known_by_its_folder() {
        let lib = "/srv/lib/python3.12/site-packages/";
        let name = "gevent/libev/corecext.cpython-312-x86_64-linux-gnu.so";
        assert!(is_extension(&format!("{lib}{name}")));
        for other in ["gevent/libev/_corecffi.abi3.so", "gevent/libev/corecext/x.so", "corecext.so"]
        {
            assert!(!is_extension(&format!("{lib}{other}")), "{other}");
        }
    }
}
