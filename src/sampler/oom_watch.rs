//! Whether a process that is gone was killed by the kernel for memory: its control group counts those that were.
//!
//! One count for all processes of a group, read now and then and when one of them is gone. A kill that was counted
//! belongs to the first that is found gone after it; one that nobody watched is forgotten after a while.

use std::collections::HashMap;

use crate::target::{OomFile, ProcFs};
use crate::units::{Nanos, Pid, Timestamp};

/// Distance of readings. One is a read of a file of a hundred bytes.
const EVERY: Nanos = Nanos::from_secs(1);
/// How long after its kill was counted a process may be found gone: it ends when it gets a CPU, and before that the
/// kernel may be busy taking its memory apart.
const GONE_WITHIN: Nanos = Nanos::from_secs(5);

/// The counts of all groups in which processes are watched.
#[derive(Debug, Default)]
pub(super) struct OomWatch {
    groups: Vec<Group>,
    of: HashMap<Pid, usize>,
    next: Timestamp,
}

#[derive(Debug)]
struct Group {
    file: OomFile,
    count: u64,
    /// When kills were noticed that belong to nobody yet.
    kills: Vec<Timestamp>,
}

impl Group {
    fn read(&mut self, at: Timestamp) {
        self.kills.retain(|noticed| at.since(*noticed) <= GONE_WITHIN);
        let now = self.file.read().unwrap_or(self.count);
        let more = usize::try_from(now.saturating_sub(self.count)).unwrap_or(usize::MAX);
        // As many as could be watched at all.
        self.kills.extend(std::iter::repeat_n(at, more.min(super::MAX_PROCESSES)));
        self.count = now;
    }
}

impl OomWatch {
    /// Begins to watch a process's group.
    pub(super) fn join(&mut self, procfs: &ProcFs, pid: Pid) {
        let Some(file) = procfs.oom_kills(pid) else { return };
        let known = self.groups.iter().position(|group| group.file.is_same(&file));
        let index = known.unwrap_or(self.groups.len());
        if known.is_none() {
            let Some(count) = file.read() else { return };
            self.groups.push(Group { file, count, kills: Vec::new() });
        }
        self.of.insert(pid, index);
    }

    /// Reads the counts if it is time.
    pub(super) fn see(&mut self, at: Timestamp) {
        if at >= self.next {
            self.next = at + EVERY;
            self.groups.iter_mut().for_each(|group| group.read(at));
        }
    }

    /// Whether a process that was found gone was killed for memory; `None` where nobody counts.
    pub(super) fn claim(&mut self, pid: Pid, at: Timestamp) -> Option<bool> {
        let group = self.groups.get_mut(self.of.remove(&pid)?)?;
        group.read(at);
        Some(group.kills.pop().is_some())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // the control group is a made-up one
mod tests {
    use std::fs;

    use super::*;

    fn seconds(n: u64) -> Timestamp {
        Timestamp(n * 1_000_000_000)
    }

    #[test]
    fn a_kill_belongs_to_one_that_is_gone_soon_after() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let kills = |count: u32| put("cg/app/memory.events", &format!("oom 9\noom_kill {count}\n"));
        for pid in 1..6 {
            put(&format!("proc/{pid}/cgroup"), "0::/app\n");
        }
        put("proc/6/cgroup", "0::/elsewhere\n");
        let mount = dir.path().join("cg");
        put("proc/self/mountinfo", &format!("1 1 0:1 / {} rw - cgroup2 x rw\n", mount.display()));
        kills(7);
        let procfs = ProcFs::at(dir.path().join("proc"));
        let mut watch = OomWatch::default();
        (1..7).for_each(|pid| watch.join(&procfs, Pid(pid)));
        watch.see(seconds(1));
        // What was before is nobody's.
        assert_eq!(watch.claim(Pid(1), seconds(2)), Some(false));
        // A reading between the kill and its process's end does not lose it; it is one process's, and not two.
        kills(8);
        watch.see(seconds(3));
        assert_eq!(watch.claim(Pid(2), seconds(4)), Some(true));
        assert_eq!(watch.claim(Pid(3), seconds(4)), Some(false));
        // Somebody else was killed, long ago.
        kills(9);
        watch.see(seconds(5));
        assert_eq!(watch.claim(Pid(4), seconds(20)), Some(false));
        kills(10);
        assert_eq!(watch.claim(Pid(5), seconds(21)), Some(true), "not read since");
        assert_eq!(watch.claim(Pid(6), seconds(21)), None, "nobody counts there");
        assert_eq!(watch.claim(Pid(5), seconds(21)), None, "it is gone already");
    }
}
