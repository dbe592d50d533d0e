//! Follows a process's children, and theirs.
//!
//! Takes root pids, gives what lives below them. Cheap enough for several looks a second: while the
//! kernel has handed out no new pid, nothing can have been forked, and nothing is read but that.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::procfs::ProcFs;
use crate::units::{Nanos, Pid};

/// Most descendants followed; a server has dozens.
const MOST: usize = 4096;

/// Every live process below `root`, in ascending order; none where the root has ended. Reads as
/// many files as the family has threads: use [`Descendants`] to look again and again.
#[must_use]
pub fn descendants(procfs: &ProcFs, root: Pid) -> Vec<Pid> {
    Descendants::new().of(procfs, &[root])
}

/// The processes below some roots, kept up to date.
///
/// One whose parent ends stays in the family, as daemons do that fork twice.
#[derive(Debug, Default)]
pub struct Descendants {
    /// With the time each began since boot, which tells it from a later one with its pid.
    known: BTreeMap<Pid, Nanos>,
    roots: Vec<Pid>,
    newest_pid: NewestPid,
    seen: Option<u64>,
}

impl Descendants {
    /// Knows none yet.
    #[must_use]
    pub fn new() -> Descendants {
        Descendants::default()
    }

    /// Every process below `roots`, in ascending order. Roots are not listed, unless one is below
    /// another. One that ended since anything was last forked may still be listed.
    pub fn of(&mut self, procfs: &ProcFs, roots: &[Pid]) -> Vec<Pid> {
        // Taken before the look: what is forked during it shows as new at the next.
        let newest = self.newest_pid.read(procfs);
        if newest.is_none() || newest != self.seen || self.roots != roots {
            self.seen = newest;
            self.roots = roots.to_vec();
            self.look(procfs);
        }
        self.known.keys().copied().collect()
    }

    /// The direct children of `roots` alone, in ascending order: for a server of many workers a small
    /// part of what [`Descendants::of`] reads where anything on the machine forks all the time. One
    /// that ended may still be listed, until its parent has collected it.
    pub fn children_of(&mut self, procfs: &ProcFs, roots: &[Pid]) -> Vec<Pid> {
        let newest = self.newest_pid.read(procfs);
        if newest.is_none() || newest != self.seen || self.roots != roots {
            self.seen = newest;
            self.roots = roots.to_vec();
            let children = roots.iter().flat_map(|root| procfs.children(*root).unwrap_or_default());
            self.known = children.take(MOST).map(|child| (child, Nanos::ZERO)).collect();
        }
        self.known.keys().copied().collect()
    }

    fn look(&mut self, procfs: &ProcFs) {
        self.known.retain(|pid, began| {
            procfs.stat(*pid).is_ok_and(|stat| !stat.has_ended() && stat.started == *began)
        });
        // Without the kernel's own lists, one look at everything serves the whole family.
        let listed = self.roots.iter().any(|root| procfs.lists_children(*root).unwrap_or(false));
        let mut by_parent: Option<HashMap<Pid, Vec<Pid>>> =
            if listed { None } else { procfs.children_by_parent().ok() };
        let mut parents: Vec<Pid> = self.roots.iter().chain(self.known.keys()).copied().collect();
        while let Some(parent) = parents.pop() {
            let children = match &mut by_parent {
                Some(by_parent) => by_parent.remove(&parent).unwrap_or_default(),
                None => procfs.children(parent).unwrap_or_default(),
            };
            for child in children {
                if self.known.contains_key(&child) || self.known.len() >= MOST {
                    continue;
                }
                if let Ok(stat) = procfs.stat(child)
                    && !stat.has_ended()
                {
                    self.known.insert(child, stat.started);
                    parents.push(child);
                }
            }
        }
    }
}

/// The pid the kernel handed out last, to a process or a thread: the last word of `/proc/loadavg`
/// (proc_loadavg(5)).
#[derive(Debug, Default)]
pub struct NewestPid(Option<File>);

impl NewestPid {
    /// While two readings are alike, no process and no thread has begun that we could see (`alloc_pid`,
    /// kernel/pid.c: each takes a number after the last, in our namespace as well); `None` where the
    /// kernel does not say.
    pub fn read(&mut self, procfs: &ProcFs) -> Option<u64> {
        if self.0.is_none() {
            self.0 = File::open(procfs.top("loadavg")).ok();
        }
        let mut buf = [0; 128];
        let length = self.0.as_ref()?.read_at(&mut buf, 0).ok()?;
        let text = std::str::from_utf8(buf.get(..length)?).ok()?;
        text.split_ascii_whitespace().nth(4)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn process(proc: &Path, pid: i32, state: char, began: u64, children: &str) {
        let task = proc.join(format!("{pid}/task/{pid}"));
        fs::create_dir_all(&task).unwrap();
        let stat = format!("{pid} (x) {state} 1 1 1 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 {began} 0 0");
        fs::write(proc.join(format!("{pid}/stat")), stat).unwrap();
        fs::write(task.join("children"), children).unwrap();
    }

    #[test]
    fn grandchildren_orphans_and_the_dead() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, procfs) = (dir.path(), ProcFs::at(dir.path()));
        process(proc, 10, 'S', 1, "11 12");
        process(proc, 11, 'S', 2, "13");
        process(proc, 12, 'Z', 3, "");
        process(proc, 13, 'S', 4, "");
        let mut family = Descendants::new();
        assert_eq!(family.of(&procfs, &[Pid(10)]), [Pid(11), Pid(13)]);
        // 11 ends, 13 becomes an orphan with a child of its own.
        fs::remove_dir_all(proc.join("11")).unwrap();
        process(proc, 10, 'S', 1, "");
        process(proc, 13, 'S', 4, "14");
        process(proc, 14, 'S', 5, "");
        assert_eq!(family.of(&procfs, &[Pid(10)]), [Pid(13), Pid(14)]);
        // The pid goes to a stranger.
        process(proc, 13, 'S', 99, "");
        assert_eq!(family.of(&procfs, &[Pid(10)]), [Pid(14)]);
    }

    #[test]
    fn nothing_is_read_until_something_was_forked() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, procfs) = (dir.path(), ProcFs::at(dir.path()));
        fs::write(proc.join("loadavg"), "0.2 0.1 0.1 1/80 11\n").unwrap();
        process(proc, 10, 'S', 1, "11");
        process(proc, 11, 'S', 2, "");
        let mut family = Descendants::new();
        assert_eq!(family.of(&procfs, &[Pid(10)]), [Pid(11)]);
        process(proc, 11, 'S', 2, "12");
        process(proc, 12, 'S', 3, "");
        assert_eq!(family.of(&procfs, &[Pid(10)]), [Pid(11)]);
        fs::write(proc.join("loadavg"), "0.2 0.1 0.1 1/80 12\n").unwrap();
        assert_eq!(family.of(&procfs, &[Pid(10)]), [Pid(11), Pid(12)]);
    }

    #[test]
    fn direct_children_are_read_of_the_roots_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, procfs) = (dir.path(), ProcFs::at(dir.path()));
        process(proc, 10, 'S', 1, "11 12");
        process(proc, 11, 'S', 2, "13");
        process(proc, 12, 'S', 3, "");
        process(proc, 13, 'S', 4, "");
        let mut family = Descendants::new();
        assert_eq!(family.children_of(&procfs, &[Pid(10)]), [Pid(11), Pid(12)]);
        process(proc, 10, 'S', 1, "12");
        assert_eq!(family.children_of(&procfs, &[Pid(10)]), [Pid(12)]);
        assert_eq!(family.children_of(&procfs, &[Pid(10), Pid(11)]), [Pid(12), Pid(13)]);
    }

    #[test]
    fn a_family_that_goes_in_circles_ends() {
        let dir = tempfile::tempdir().unwrap();
        process(dir.path(), 10, 'S', 1, "11 11");
        process(dir.path(), 11, 'S', 2, "10");
        let found = descendants(&ProcFs::at(dir.path()), Pid(10));
        assert_eq!(found, [Pid(10), Pid(11)]);
    }
}
