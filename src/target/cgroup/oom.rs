//! How many processes of a control group the kernel has killed for memory (cgroup v2: `oom_kill` of `memory.events`,
//! which counts the groups below as well; v1: the same word in `memory.oom_control`, from Linux 4.13 on;
//! Documentation/admin-guide/cgroup-v2.rst, `mem_cgroup_oom_control_read` in mm/memcontrol-v1.c).
//!
//! Counted are those killed because a limit was reached, and those killed because the machine had no memory left; in
//! either case before the signal is sent (`__oom_kill_process`, mm/oom_kill.c).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::{SMALL, open, words};
use crate::target::procfs::{ProcFs, decimal};
use crate::units::Pid;

/// The files that count them, of either interface.
const COUNTS: [&str; 2] = ["memory.events", "memory.oom_control"];

/// The count of one group, kept open: it is asked for when the process is gone.
#[derive(Debug)]
pub struct OomFile {
    file: File,
    path: PathBuf,
}

impl OomFile {
    /// How many were killed since the group was made; `None` once it is gone.
    #[must_use]
    pub fn read(&self) -> Option<u64> {
        let mut buf = [0; SMALL];
        let length = self.file.read_at(&mut buf, 0).ok()?;
        kills(buf.get(..length)?)
    }

    /// Whether this is the same group as another.
    #[must_use]
    pub fn is_same(&self, other: &OomFile) -> bool {
        self.path == other.path
    }
}

impl ProcFs {
    /// The count of the closest group above a process that has one; `None` where none can be seen, as in the root of
    /// all groups.
    #[must_use]
    pub fn oom_kills(&self, pid: Pid) -> Option<OomFile> {
        let (_, groups) = self.groups(pid, b"memory")?;
        let files = groups.iter().flat_map(|group| COUNTS.map(|name| group.join(name)));
        let mut counts = files.filter_map(|path| Some(OomFile { file: open(&path)?, path }));
        counts.find(|count| count.read().is_some())
    }
}

fn kills(text: &[u8]) -> Option<u64> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let mut words = words(line);
        (words.next()? == b"oom_kill").then(|| decimal(words.next()?)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::*;

    fn count(cgroup: &str, mount: &str, files: &[(&str, &str)]) -> Option<u64> {
        Tree::mounted(cgroup, mount, files).procfs().oom_kills(Pid(7))?.read()
    }

    #[test]
    fn the_closest_group_that_counts_is_asked() {
        let events = "low 0\nhigh 0\nmax 51\noom 4\noom_kill 3\noom_group_kill 0\n";
        // Without a memory controller of its own a group has no such file.
        let files = [("pod/app/cpu.stat", ""), ("pod/memory.events", events)];
        assert_eq!(count("0::/pod/app\n", "cgroup2 cgroup2 rw", &files), Some(3));
    }

    #[test]
    fn the_older_interface_has_it_from_linux_4_13_on() {
        let at = |text: &str| {
            let files = [("box/memory.oom_control", text)];
            count("3:memory:/box\n2:cpu:/other\n", "cgroup cgroup rw,memory", &files)
        };
        assert_eq!(at("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), Some(2));
        assert_eq!(at("oom_kill_disable 0\nunder_oom 0\n"), None);
        assert_eq!(at("oom_kill -1\n"), None);
        assert_eq!(at(""), None);
    }
}
