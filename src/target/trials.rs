//! What the kernel lets us do, found out by trying it.
//!
//! Every trial leaves all as it was: calls that cannot succeed, files opened and closed. Says
//! whether something works, never why not.

#![allow(unsafe_code)] // system calls made to fail; each says why it is sound

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::edges::{Edges, StackSampler, Tracepoints};
use super::{EdgesError, PollCall};
use crate::units::{Nanos, Tid};

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// It works.
    Works,
    /// No right to.
    Denied,
    /// This kernel has no such thing.
    Missing,
    /// The user does not want it (`STALLSPY_NO_PERF`).
    Unwanted,
    /// What it was tried on has ended.
    Gone,
    /// Anything else the kernel said.
    Failed(String),
}

impl From<EdgesError> for Trial {
    fn from(error: EdgesError) -> Trial {
        match error {
            EdgesError::Unwanted => Trial::Unwanted,
            EdgesError::Denied => Trial::Denied,
            EdgesError::Missing => Trial::Missing,
            EdgesError::Gone => Trial::Gone,
            other @ (EdgesError::NoIds(_) | EdgesError::Failed(_)) => {
                Trial::Failed(other.to_string())
            }
        }
    }
}

impl From<io::Error> for Trial {
    fn from(error: io::Error) -> Trial {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EACCES | Errno::EPERM) => Trial::Denied,
            Some(Errno::ENOENT) => Trial::Missing,
            Some(Errno::ESRCH) => Trial::Gone,
            _ => Trial::Failed(error.to_string()),
        }
    }
}

/// Whether a system call gets as far as the kernel's own code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It does.
    Open,
    /// A seccomp filter answers in its place.
    Filtered,
    /// This kernel, or what plays the kernel, does not have it.
    Missing,
}

/// What an answer to a call that no kernel can carry out tells.
fn gate(answer: Errno, is_filtered: bool) -> Gate {
    match answer {
        // A filter may answer that there is no such call, too.
        Errno::EPERM | Errno::EACCES | Errno::ENOSYS if is_filtered => Gate::Filtered,
        Errno::ENOSYS => Gate::Missing,
        _ => Gate::Open,
    }
}

/// Whether `process_vm_readv` reaches the kernel; `is_filtered` if a seccomp filter judges our calls.
#[must_use]
pub fn memory_gate(is_filtered: bool) -> Gate {
    /// No flag is defined, so any is refused first of all (mm/process_vm_access.c).
    const BAD_FLAGS: libc::c_ulong = 1;
    let none = std::ptr::null();
    // SAFETY: no buffers are given, and the flags are refused before anything is looked at.
    let done = unsafe { libc::process_vm_readv(libc::getpid(), none, 0, none, 0, BAD_FLAGS) };
    gate(Errno::result(done).err().unwrap_or(Errno::UnknownErrno), is_filtered)
}

/// The same for `perf_event_open`.
#[must_use]
pub fn perf_gate(is_filtered: bool) -> Gate {
    /// Flags that do not exist are refused before rights are looked at (kernel/events/core.c).
    const BAD_FLAGS: libc::c_ulong = 1 << 31;
    let none: *const u8 = std::ptr::null();
    // SAFETY: there is no structure to read, and the flags are refused before it is looked for.
    let done = unsafe { libc::syscall(libc::SYS_perf_event_open, none, 0, -1, -1, BAD_FLAGS) };
    gate(Errno::result(done).err().unwrap_or(Errno::UnknownErrno), is_filtered)
}

/// Whether a file can be opened and read.
#[must_use]
pub fn read_file(path: &Path) -> Trial {
    let mut byte = [0];
    let read = File::open(path).and_then(|mut file| io::Read::read(&mut file, &mut byte));
    read.map_or_else(Trial::from, |_| Trial::Works)
}

/// Whether a directory can be listed and the links in it followed by name.
#[must_use]
pub fn list_directory(path: &Path) -> Trial {
    let first = fs::read_dir(path).and_then(|mut entries| entries.next().transpose());
    let followed =
        first.and_then(|entry| entry.map(|entry| fs::read_link(entry.path())).transpose());
    followed.map_or_else(Trial::from, |_| Trial::Works)
}

/// Whether the edges of a thread can be recorded; `Tid(0)` is our own. Tries a poll that hardly any
/// thread uses, so that nothing is recorded meanwhile.
#[must_use]
pub fn edges(tid: Tid, points: &Result<Tracepoints, EdgesError>) -> Trial {
    let poll = PollCall { names: vec!["epoll_pwait"], epfd: None };
    let opened = points.as_ref().map_err(|error| *error);
    opened
        .and_then(|points| Edges::open(tid, &poll, points))
        .map_or_else(Trial::from, |_| Trial::Works)
}

/// Whether a thread's C stack could be sampled while it runs; `Tid(0)` is our own. Not switched on.
#[must_use]
pub fn running_stacks(tid: Tid) -> Trial {
    /// Any: nothing is sampled.
    const PERIOD: Nanos = Nanos::from_millis(10);
    StackSampler::open(tid, PERIOD).map_or_else(Trial::from, |_| Trial::Works)
}

/// How many files we may have open: now, and after asking for more. `u64::MAX` is no limit.
#[must_use]
pub fn open_files() -> Option<(u64, u64)> {
    getrlimit(Resource::RLIMIT_NOFILE).ok()
}

/// Whether capabilities on a file have no effect where it lies (a mount with `nosuid`).
#[must_use]
pub fn is_nosuid(path: &Path) -> bool {
    statvfs(path).is_ok_and(|facts| facts.flags().contains(FsFlags::ST_NOSUID))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_tells() {
        assert_eq!(gate(Errno::EINVAL, true), Gate::Open);
        assert_eq!(gate(Errno::EPERM, true), Gate::Filtered);
        assert_eq!(gate(Errno::ENOSYS, true), Gate::Filtered);
        assert_eq!(gate(Errno::ENOSYS, false), Gate::Missing);
        // No filter: the kernel itself has looked.
        assert_eq!(gate(Errno::EPERM, false), Gate::Open);
    }

    #[test]
    fn gates_are_open_where_nothing_is_filtered() {
        // Else nothing in this crate works.
        assert_eq!(memory_gate(false), Gate::Open);
        assert_ne!(perf_gate(false), Gate::Filtered);
    }

    #[test]
    fn files_and_directories() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(list_directory(dir.path()), Trial::Works);
        assert_eq!(list_directory(&dir.path().join("none")), Trial::Missing);
        assert_eq!(list_directory(Path::new("/proc/self/fd")), Trial::Works);
        assert_eq!(read_file(&dir.path().join("none")), Trial::Missing);
        assert_eq!(read_file(Path::new("/proc/self/syscall")), Trial::Works);
    }
}
