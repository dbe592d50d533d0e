//! `/proc` of any process, as plain data.
//!
//! Takes a pid, gives what the kernel's text files say about it (proc(5),
//! Documentation/filesystems/proc.rst). The root is a directory, so that a recorded tree reads like
//! the live one. Never keeps anything, never waits, never writes; every file is read up to a stated
//! size, because the names and the lengths in them belong to the process being looked at.

mod databases;
mod environ;
mod machine;
mod maps;
mod polled;
mod standing;
pub(in crate::target) mod stat;
mod status;
mod tree;
mod usage;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use crate::units::{Pid, Tid};

pub use databases::OpenDatabase;
pub use machine::CpuTotals;
pub use maps::{Mapping, Perms};
pub use polled::Polled;
pub use standing::Standing;
pub use stat::Stat;
pub use usage::ThreadTurns;

/// Largest small file (`stat`, `status`, …) we take; the kernel writes a few KiB at most.
const SMALL: u64 = 64 * 1024;
/// Room for a file at first: most have less, and the kernel gives of the others a page at a time
/// (`seq_read_iter`, fs/seq_file.c).
const ROOM: usize = 4096;
/// Largest `cmdline` we take: far more than a report prints, far less than `ARG_MAX` allows.
const CMDLINE: u64 = 256 * 1024;

/// Why `/proc` did not tell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcError {
    /// It has ended, or never was, or a mount option (`hidepid`) hides it.
    #[error("there is no process {0}")]
    NoSuchProcess(Pid),
    /// The kernel does not let us.
    #[error("the kernel denies reading {}", file.display())]
    Denied {
        /// The file that was refused.
        file: PathBuf,
    },
    /// Not what the kernel writes, or larger than we take.
    #[error("{} is not as expected: {what}", file.display())]
    Malformed {
        /// The file that could not be understood.
        file: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Anything else, also a file that this kernel does not have.
    #[error("cannot read {}: {source}", file.display())]
    Io {
        /// The file that could not be read.
        file: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A `/proc` tree: the host's, or a recorded one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcFs {
    root: PathBuf,
}

impl ProcFs {
    /// The running system's.
    #[must_use]
    pub fn host() -> ProcFs {
        ProcFs::at("/proc")
    }

    /// A tree of the same shape elsewhere.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> ProcFs {
        ProcFs { root: root.into() }
    }

    /// Where a file of a process lies: `/proc/PID/FILE`.
    #[must_use]
    pub fn path(&self, pid: Pid, file: impl AsRef<Path>) -> PathBuf {
        self.root.join(pid.to_string()).join(file)
    }

    /// Where a file of the whole system lies: `/proc/FILE`.
    #[must_use]
    pub fn top(&self, file: impl AsRef<Path>) -> PathBuf {
        self.root.join(file)
    }

    /// Every process, in ascending order.
    ///
    /// # Errors
    /// [`ProcError::Io`] where the root is no `/proc`.
    pub fn pids(&self) -> Result<Vec<Pid>, ProcError> {
        let entries = fs::read_dir(&self.root)
            .map_err(|source| ProcError::Io { file: self.root.clone(), source })?;
        let mut pids: Vec<Pid> = numbers(entries).map(Pid).collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// The threads of a process, in ascending order.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn tids(&self, pid: Pid) -> Result<Vec<Tid>, ProcError> {
        let entries = fs::read_dir(self.path(pid, "task"))
            .map_err(|error| self.explain(pid, "task", error))?;
        let mut tids: Vec<Tid> = numbers(entries).map(Tid).collect();
        tids.sort_unstable();
        Ok(tids)
    }

    /// The command line, one string per argument; empty for a kernel thread or a zombie. Bytes that
    /// are not UTF-8 are replaced. Cut at 256 KiB.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn cmdline(&self, pid: Pid) -> Result<Vec<String>, ProcError> {
        let file = "cmdline";
        let opened =
            File::open(self.path(pid, file)).map_err(|error| self.explain(pid, file, error))?;
        let mut bytes = Vec::new();
        // Unlike the other files this one may be long for good reason, and its beginning is enough.
        opened
            .take(CMDLINE)
            .read_to_end(&mut bytes)
            .map_err(|error| self.explain(pid, file, error))?;
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        Ok(bytes.split(|b| *b == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect())
    }

    /// A thread's name as the kernel has it; at most 15 bytes.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn comm(&self, pid: Pid, tid: Tid) -> Result<String, ProcError> {
        let bytes = self.bytes(pid, &format!("task/{tid}/comm"), SMALL)?;
        let name = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    /// The executable, as the target sees it, without the mark of a deleted file.
    ///
    /// # Errors
    /// Any [`ProcError`]; a kernel thread has none.
    pub fn exe(&self, pid: Pid) -> Result<PathBuf, ProcError> {
        let link = self.link(pid, "exe")?;
        let bytes = link.as_os_str().as_bytes();
        let kept = bytes.strip_suffix(maps::DELETED).unwrap_or(bytes);
        Ok(self.as_target_sees(pid, Path::new(OsStr::from_bytes(kept))))
    }

    /// The working directory, as the target sees it.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn cwd(&self, pid: Pid) -> Result<PathBuf, ProcError> {
        let link = self.link(pid, "cwd")?;
        Ok(self.as_target_sees(pid, &link))
    }

    /// The root directory, as *we* see it: `/` unless the target is in a chroot.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn root(&self, pid: Pid) -> Result<PathBuf, ProcError> {
        self.link(pid, "root")
    }

    /// The names in a directory, which is given as the target sees it; at most `limit` of them, in
    /// no order. Names that are not UTF-8 are left out, and so is all of a path with `..` in it,
    /// which could lead out of the target's root.
    ///
    /// # Errors
    /// Any [`ProcError`]; [`ProcError::Io`] where there is no such directory.
    pub fn names_in(
        &self,
        pid: Pid,
        directory: &str,
        limit: usize,
    ) -> Result<Vec<String>, ProcError> {
        let inside = directory.trim_start_matches('/');
        if Path::new(inside).components().any(|part| part == Component::ParentDir) {
            return Ok(Vec::new());
        }
        let file = format!("root/{inside}");
        let entries =
            fs::read_dir(self.path(pid, &file)).map_err(|error| self.explain(pid, &file, error))?;
        let names = entries.take(limit).flatten().map(|entry| entry.file_name());
        Ok(names.filter_map(|name| name.into_string().ok()).collect())
    }

    /// What a file descriptor leads to: a path, or `socket:[123]`, `pipe:[123]`,
    /// `anon_inode:[eventpoll]`.
    ///
    /// # Errors
    /// Any [`ProcError`]; [`ProcError::Io`] where it is not open.
    pub fn fd_link(&self, pid: Pid, fd: i32) -> Result<PathBuf, ProcError> {
        self.link(pid, &format!("fd/{fd}"))
    }

    /// What the descriptors of a process lead to, at most `limit` of them, in no order.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn fd_links(&self, pid: Pid, limit: usize) -> Result<Vec<PathBuf>, ProcError> {
        let entries =
            fs::read_dir(self.path(pid, "fd")).map_err(|error| self.explain(pid, "fd", error))?;
        let links = entries.take(limit).flatten().map(|entry| fs::read_link(entry.path()));
        Ok(links.flatten().collect())
    }

    /// What names the network namespace of a process.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn net_namespace(&self, pid: Pid) -> Result<PathBuf, ProcError> {
        self.link(pid, "ns/net")
    }

    /// What names our own network namespace; `None` in a recorded tree.
    #[must_use]
    pub fn own_net_namespace(&self) -> Option<PathBuf> {
        fs::read_link(self.top("self/ns/net")).ok()
    }

    /// The descriptors of a process that are epoll sets, in ascending order.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn epolls(&self, pid: Pid) -> Result<Vec<i32>, ProcError> {
        let entries =
            fs::read_dir(self.path(pid, "fd")).map_err(|error| self.explain(pid, "fd", error))?;
        let is_epoll = |fd: &i32| {
            let link = self.fd_link(pid, *fd);
            link.is_ok_and(|link| link.as_os_str() == "anon_inode:[eventpoll]")
        };
        let mut found: Vec<i32> = numbers(entries).filter(is_epoll).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// A kernel setting, `kernel/yama/ptrace_scope`, without its newline; `None` where this kernel
    /// has no such setting or does not show it.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<String> {
        let file = File::open(self.top("sys").join(name)).ok()?;
        let mut text = String::new();
        file.take(SMALL).read_to_string(&mut text).ok()?;
        Some(text.trim_end().to_owned())
    }

    /// A path the kernel gave us, without the target's own root in front of it. Paths in another
    /// mount namespace are already told from that namespace's root.
    pub(in crate::target) fn as_target_sees(&self, pid: Pid, path: &Path) -> PathBuf {
        match self.root(pid).ok().and_then(|root| path.strip_prefix(root).ok().map(Path::new)) {
            Some(inside) => Path::new("/").join(inside),
            None => path.to_owned(),
        }
    }

    fn link(&self, pid: Pid, file: &str) -> Result<PathBuf, ProcError> {
        fs::read_link(self.path(pid, file)).map_err(|error| self.explain(pid, file, error))
    }

    /// A whole file of at most `cap` bytes.
    fn bytes(&self, pid: Pid, file: &str, cap: u64) -> Result<Vec<u8>, ProcError> {
        let path = self.path(pid, file);
        // The kernel says that these files are empty: without room a reader begins with 32 bytes.
        let mut bytes = Vec::with_capacity(ROOM);
        File::open(&path)
            .and_then(|opened| opened.take(cap.saturating_add(1)).read_to_end(&mut bytes))
            .map_err(|error| self.explain(pid, file, error))?;
        if u64::try_from(bytes.len()).is_ok_and(|len| len <= cap) {
            Ok(bytes)
        } else {
            Err(ProcError::Malformed { file: path, what: "larger than any kernel writes it" })
        }
    }

    fn malformed(&self, pid: Pid, file: &str, what: &'static str) -> ProcError {
        ProcError::Malformed { file: self.path(pid, file), what }
    }

    /// The kernel answers ESRCH while a process ends and ENOENT once it has; the latter also for a
    /// file this kernel lacks, so we look whether the process is still there.
    fn explain(&self, pid: Pid, file: &str, source: io::Error) -> ProcError {
        let errno = source.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
        match errno {
            Errno::ESRCH => ProcError::NoSuchProcess(pid),
            Errno::ENOENT if !self.path(pid, "").exists() => ProcError::NoSuchProcess(pid),
            Errno::EACCES | Errno::EPERM => ProcError::Denied { file: self.path(pid, file) },
            _ => ProcError::Io { file: self.path(pid, file), source },
        }
    }
}

/// The numbers among a directory's names.
fn numbers(entries: fs::ReadDir) -> impl Iterator<Item = i32> {
    entries.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_vec();
        decimal(&name).and_then(|number| i32::try_from(number).ok())
    })
}

/// A plain decimal number and nothing else.
pub(in crate::target) fn decimal(bytes: &[u8]) -> Option<u64> {
    if !bytes.first()?.is_ascii_digit() {
        return None; // `parse` would take a sign.
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_process_and_a_missing_file_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("7")).unwrap();
        let procfs = ProcFs::at(dir.path());
        assert!(matches!(procfs.cmdline(Pid(8)), Err(ProcError::NoSuchProcess(Pid(8)))));
        assert!(matches!(procfs.cmdline(Pid(7)), Err(ProcError::Io { .. })));
        assert_eq!(procfs.pids().unwrap(), [Pid(7)]);
    }

    #[test]
    fn a_directory_of_the_targets_and_nothing_above_its_root() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("7/root/lib/uvicorn-0.30.0.dist-info")).unwrap();
        let procfs = ProcFs::at(dir.path());
        assert_eq!(procfs.names_in(Pid(7), "/lib", 9).unwrap(), ["uvicorn-0.30.0.dist-info"]);
        assert!(procfs.names_in(Pid(7), "/lib", 0).unwrap().is_empty());
        assert!(procfs.names_in(Pid(7), "/lib/../..", 9).unwrap().is_empty());
        assert!(matches!(procfs.names_in(Pid(7), "/nowhere", 9), Err(ProcError::Io { .. })));
    }

    #[test]
    fn a_file_that_never_ends_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("7")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("7/stat")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("7/maps")).unwrap();
        let procfs = ProcFs::at(dir.path());
        assert!(matches!(procfs.stat(Pid(7)), Err(ProcError::Malformed { .. })));
        assert!(matches!(procfs.maps(Pid(7)), Err(ProcError::Malformed { .. })));
    }

    #[test]
    fn only_plain_numbers_are_numbers() {
        assert_eq!(decimal(b"42"), Some(42));
        for odd in [&b""[..], b"+4", b"-4", b"4a", b" 4", b"99999999999999999999999", b"\xff"] {
            assert_eq!(decimal(odd), None, "{odd:?}");
        }
    }
}
