//! The control groups a process is in, and what they limit: its own and those above it.
//!
//! Takes a pid, gives directories of groups, the closest first (cgroup v2:
//! Documentation/admin-guide/cgroup-v2.rst; v1: Documentation/admin-guide/cgroup-v1/). The groups are
//! looked for where our own mounts show them, then where the target's do. All of it is optional: what
//! cannot be read is no limit. Never writes, and never waits for a file that is none.

mod memory;
mod oom;
mod quota;
#[cfg(test)]
mod tree;

pub use memory::MemoryLimit;
pub use oom::OomFile;
pub use quota::{QuotaFile, ThrottleCounts};

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use super::procfs::ProcFs;
use crate::units::Pid;

/// Most groups above each other that are asked. Kubernetes nests five; the kernel's own limit can be
/// set by the user and is none by default.
const MAX_LEVELS: usize = 16;
/// Largest `mountinfo` taken: a host of many containers has thousands of mounts of 200 bytes.
const MOUNTS: u64 = 4 << 20;
/// Largest file of a group taken, and largest `/proc/PID/cgroup`. `cpu.stat` has ten short lines.
const SMALL: usize = 4096;

/// Which of the two interfaces a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl ProcFs {
    /// The directories of the groups in which `controller` limits a process, the closest first, and
    /// their interface; none where none can be seen.
    fn groups(&self, pid: Pid, controller: &[u8]) -> Option<(Version, Vec<PathBuf>)> {
        let (version, group) = self.group(pid, controller)?;
        let own = (self.top("self/mountinfo"), PathBuf::new());
        let targets = (self.path(pid, "mountinfo"), self.path(pid, "root"));
        for (mounts, root) in [own, targets] {
            let Some(mounts) = whole(&mounts, MOUNTS) else { continue };
            for (mount, inside) in places(&mounts, version, controller, &group) {
                let mount = under(&root, &mount);
                if mount.join(&inside).is_dir() {
                    let levels = inside.ancestors().take(MAX_LEVELS);
                    return Some((version, levels.map(|level| mount.join(level)).collect()));
                }
            }
        }
        None
    }

    /// The process's group in the hierarchy of `controller`, as `/proc/PID/cgroup` names it
    /// (cgroups(7)).
    fn group(&self, pid: Pid, controller: &[u8]) -> Option<(Version, PathBuf)> {
        let text = whole(&self.path(pid, "cgroup"), SMALL as u64)?;
        let mut unified = None;
        for line in text.split(|byte| *byte == b'\n') {
            let mut parts = line.splitn(3, |byte| *byte == b':');
            let (Some(_), Some(controllers), Some(path)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let path = PathBuf::from(OsStr::from_bytes(path));
            if controllers.split(|byte| *byte == b',').any(|name| name == controller) {
                return Some((Version::V1, path));
            }
            if controllers.is_empty() {
                unified = Some((Version::V2, path));
            }
        }
        unified
    }
}

/// Where mounts show a group: mount points, and the group's path below them (proc_pid_mountinfo(5)).
fn places(
    mounts: &[u8],
    version: Version,
    controller: &[u8],
    group: &Path,
) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for line in mounts.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let (Some(root), Some(point)) = (fields.get(3), fields.get(4)) else { continue };
        let Some(dash) = fields.iter().position(|field| *field == b"-") else { continue };
        let mut after = fields.iter().skip(dash.saturating_add(1));
        let (kind, options) = (after.next(), after.nth(1));
        let is_it = match version {
            Version::V2 => kind.is_some_and(|kind| *kind == b"cgroup2"),
            Version::V1 => {
                kind.is_some_and(|kind| *kind == b"cgroup")
                    && options.is_some_and(|options| {
                        options.split(|byte| *byte == b',').any(|option| option == controller)
                    })
            }
        };
        let root = PathBuf::from(OsStr::from_bytes(root));
        if let Ok(inside) = group.strip_prefix(&root)
            && is_it
            && inside.components().all(|part| matches!(part, Component::Normal(_)))
        {
            found.push((PathBuf::from(OsStr::from_bytes(point)), inside.to_owned()));
        }
    }
    found
}

/// `path`, which begins at `/`, as seen from below `root`; itself without one.
fn under(root: &Path, path: &Path) -> PathBuf {
    if root.as_os_str().is_empty() {
        return path.to_owned();
    }
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// A whole file of at most `cap` bytes.
fn whole(path: &Path, cap: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(cap.saturating_add(1)).read_to_end(&mut bytes).ok()?;
    u64::try_from(bytes.len()).is_ok_and(|length| length <= cap).then_some(bytes)
}

/// Opened so that a pipe put in its place by the target keeps nobody waiting.
fn open(path: &Path) -> Option<File> {
    OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).ok()
}
