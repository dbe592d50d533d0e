//! Who else is to be watched: the workers of masters, or all children.
//!
//! Takes the processes that are watched, gives pids to attach to. A worker is known by its command
//! line, which is its master's where it was forked, and `multiprocessing`'s where it was spawned;
//! other children of a master (`multiprocessing`'s resource tracker, commands it runs) are left
//! alone. Attaches to nothing itself, and keeps nothing of processes that are gone.

use std::collections::HashMap;

use super::pace::{boot_clock, now};
use crate::server::facts::{is_helper, is_worker_of};
use crate::target::{Descendants, ProcFs};
use crate::units::{Nanos, Pid, Timestamp};

/// How often new children are searched for. While nothing was forked it costs one read of a small
/// file.
const SEARCH: Nanos = Nanos::from_millis(50);
/// A child so young may be about to run another program: between `fork` and `exec` it looks like its
/// parent. Half a search, so that it is attached to at the next.
const TOO_YOUNG: Nanos = Nanos::from_millis(20);
/// A child that cannot be attached to is tried for so long: a program may start others before it
/// becomes Python.
const PATIENCE: Nanos = Nanos::from_secs(5);
/// After its first tries, so often.
const RETRY: Nanos = Nanos::from_millis(200);

/// A watched process, as its children see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinsman {
    /// Its pid.
    pub pid: Pid,
    /// Whether it is a server's master.
    pub is_master: bool,
    /// Whether it is a development server's reloader, whose child has a command line of its own.
    pub development: bool,
}

/// A child that is not watched.
#[derive(Debug, Clone, Copy)]
struct Stranger {
    since: Timestamp,
    next: Timestamp,
}

/// Whom to attach to.
#[derive(Debug, PartialEq, Eq)]
pub struct Candidates {
    /// These.
    pub ready: Vec<Pid>,
    /// When to ask again.
    pub again: Nanos,
}

/// Keeps track of children.
#[derive(Debug, Default)]
pub struct Kin {
    descendants: Descendants,
    strangers: HashMap<Pid, Stranger>,
}

impl Kin {
    /// Children that should be watched and are not: workers of masters, or `all`.
    pub fn candidates(&mut self, procfs: &ProcFs, family: &[Kinsman], all: bool) -> Candidates {
        let is_root = |one: &&Kinsman| all || one.is_master;
        let roots: Vec<Pid> = family.iter().filter(is_root).map(|one| one.pid).collect();
        let mut found = Candidates { ready: Vec::new(), again: SEARCH };
        if roots.is_empty() {
            return found;
        }
        let below = if all {
            self.descendants.of(procfs, &roots)
        } else {
            self.descendants.children_of(procfs, &roots)
        };
        self.strangers.retain(|pid, _| below.contains(pid));
        let at = now();
        for child in below {
            if family.iter().any(|one| one.pid == child) {
                continue;
            }
            if let Some(stranger) = self.strangers.get(&child)
                && (at < stranger.next || at.since(stranger.since) > PATIENCE)
            {
                continue;
            }
            let Ok(stat) = procfs.stat(child) else { continue };
            if stat.has_ended() {
                continue;
            }
            let age = boot_clock().map_or(PATIENCE, |boot| boot.saturating_sub(stat.started));
            if !all {
                if age < TOO_YOUNG {
                    found.again = TOO_YOUNG;
                    continue;
                }
                let master = family.iter().find(|one| one.is_master && one.pid == stat.ppid);
                if !master.is_some_and(|master| is_worker(procfs, master, child)) {
                    self.failed(child);
                    continue;
                }
            }
            found.ready.push(child);
        }
        found
    }

    /// The child could not be attached to, or is no worker: it may become one.
    pub fn failed(&mut self, child: Pid) {
        let at = now();
        let stranger = self.strangers.entry(child).or_insert(Stranger { since: at, next: at });
        stranger.next = if at.since(stranger.since) < RETRY { at + SEARCH } else { at + RETRY };
    }
}

fn is_worker(procfs: &ProcFs, master: &Kinsman, child: Pid) -> bool {
    let Ok(command) = procfs.cmdline(child) else { return false };
    if master.development {
        // The reloader's child runs the same script, by a command line made anew.
        return !is_helper(&command);
    }
    procfs.cmdline(master.pid).is_ok_and(|parent| is_worker_of(&command, &parent))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a tree of its own
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn process(proc: &Path, pid: i32, ppid: i32, command: &str, children: &str) {
        let task = proc.join(format!("{pid}/task/{pid}"));
        fs::create_dir_all(&task).unwrap();
        let stat = format!("{pid} (x) S {ppid} 1 1 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 1 0 0");
        fs::write(proc.join(format!("{pid}/stat")), stat).unwrap();
        fs::write(proc.join(format!("{pid}/cmdline")), command.replace(' ', "\0")).unwrap();
        fs::write(task.join("children"), children).unwrap();
    }

    fn kinsman(pid: i32, is_master: bool) -> Kinsman {
        Kinsman { pid: Pid(pid), is_master, development: false }
    }

    const TRACKER: &str =
        "python -c from\u{a0}multiprocessing.resource_tracker\u{a0}import\u{a0}main;main(4)";

    #[test]
    fn a_masters_workers_and_no_one_else() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, procfs) = (dir.path(), ProcFs::at(dir.path()));
        process(proc, 10, 1, "python gunicorn app", "11 12 13");
        process(proc, 11, 10, "python gunicorn app", "14");
        process(proc, 12, 10, TRACKER, "");
        process(proc, 13, 10, "sh -c true", "");
        process(proc, 14, 11, "python gunicorn app", "");
        let mut kin = Kin::default();
        let found = kin.candidates(&procfs, &[kinsman(10, true)], false);
        assert_eq!(found.ready, [Pid(11)]);
        // A worker has none; asked for all, its children count, too.
        let family = [kinsman(10, false), kinsman(11, false)];
        assert_eq!(kin.candidates(&procfs, &family, false).ready, []);
        let mut kin = Kin::default();
        assert_eq!(kin.candidates(&procfs, &family, true).ready, [Pid(12), Pid(13), Pid(14)]);
    }

    #[test]
    fn one_that_failed_is_left_alone_for_a_while_and_forgotten_when_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, procfs) = (dir.path(), ProcFs::at(dir.path()));
        process(proc, 10, 1, "python gunicorn app", "11");
        process(proc, 11, 10, "python gunicorn app", "");
        let mut kin = Kin::default();
        let family = [kinsman(10, true)];
        assert_eq!(kin.candidates(&procfs, &family, false).ready, [Pid(11)]);
        kin.failed(Pid(11));
        assert_eq!(kin.candidates(&procfs, &family, false).ready, []);
        assert_eq!(kin.strangers.len(), 1);
        fs::remove_dir_all(proc.join("11")).unwrap();
        process(proc, 10, 1, "python gunicorn app", "");
        let _ = kin.candidates(&procfs, &family, false);
        assert!(kin.strangers.is_empty());
    }
}
