//! Who holds the lock that a thread under observation waits for, and what the holder does.

use super::thread_watch::{Scene, ThreadWatch};
use crate::model::{CpuState, LockHolder};
use crate::python::frames::Walker;
use crate::python::locks::owner_of_awaited;
use crate::python::thread_names::thread_names;
use crate::python::threads::{ThreadIds, threads};
use crate::target::SyscallState;
use crate::units::{Addr, Timestamp};

/// The thread that holds the lock at which `thread` was just found asleep; `None` where the lock does
/// not say, or it sleeps for anything else.
pub fn lock_holder(
    scene: &mut Scene<'_>,
    thread: &ThreadWatch,
    at: Timestamp,
) -> Option<LockHolder> {
    let (state, CpuState::Blocked { wait: Some(wait) }) = thread.found_asleep()? else {
        return None;
    };
    let SyscallState::Blocked { args: [futex, ..], sp, .. } = state else { return None };
    let wait = scene.notes.tables.get_wait(wait)?;
    // The interpreter's own lock is a futex, too.
    if wait.peer.is_some() || !scene.notes.tables.text(wait.syscall).starts_with("futex") {
        return None;
    }
    let ident = owner_of_awaited(&scene.python, Addr(futex), sp)?;
    // The thread may be newer than the last look at the list, and an ident is soon used again.
    let owner = threads(&scene.python).ok()?.into_iter().find(|other| other.ident == ident)?;
    let by_native = scene.procfs.namespace_tids(scene.pid).ok()?;
    let tid = ThreadIds { by_native }.of(scene.memory, &owner)?;
    let names = thread_names(&scene.python).unwrap_or_default();
    let name = names.get(&ident).map(|name| scene.notes.tables.name(name));
    let stack = Walker::default().walk(&scene.python, &owner).ok()?;
    if stack.frames.is_empty() {
        return None; // It ended meanwhile.
    }
    let (codes, directory) = (&mut *scene.codes, scene.directory);
    let stack = scene.notes.stack(&scene.python, codes, directory, &stack, at);
    Some(LockHolder { tid, name, stack })
}
