//! The one server whose command line is as asked: for `--name`.
//!
//! Takes a test of command lines, gives a pid: the topmost Python process of the one tree that has
//! such processes, so that a master stands for its workers, and a shell or `sudo` around it for
//! nothing. Never finds ourselves, nor what we were started from, whose command lines have the same
//! words in them.

use std::collections::HashMap;

use crate::python::locate::{LocateError, locate};
use crate::target::modules::Modules;
use crate::target::{LiveMemory, ProcFs};
use crate::units::Pid;

/// Most processes followed upwards: a cycle in a changing tree must end somewhere.
const MAX_ANCESTORS: usize = 256;

/// What there is instead of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// No Python process has such a command line.
    None,
    /// Several servers have: their topmost processes, with their command lines.
    Several(Vec<(Pid, String)>),
}

/// The server whose command line, its words joined by spaces, passes `test`.
///
/// # Errors
/// See [`NameError`].
pub fn named(procfs: &ProcFs, test: &dyn Fn(&str) -> bool) -> Result<Pid, NameError> {
    let us = Pid(std::process::id().cast_signed());
    find(procfs, us, test, &|pid| is_python(procfs, pid))
}

fn find(
    procfs: &ProcFs,
    us: Pid,
    test: &dyn Fn(&str) -> bool,
    is_python: &dyn Fn(Pid) -> bool,
) -> Result<Pid, NameError> {
    let ours = ancestors(procfs, us);
    let mut found: HashMap<Pid, String> = HashMap::new();
    for pid in procfs.pids().unwrap_or_default() {
        let command = procfs.cmdline(pid).unwrap_or_default().join(" ");
        let is_other = pid != us && !ours.contains(&pid);
        if is_other && !command.is_empty() && test(&command) && is_python(pid) {
            found.insert(pid, command);
        }
    }
    let is_top = |pid: &Pid| !ancestors(procfs, *pid).iter().any(|one| found.contains_key(one));
    let mut tops: Vec<Pid> = found.keys().copied().filter(is_top).collect();
    tops.sort_unstable();
    match tops.as_slice() {
        [] => Err(NameError::None),
        [one] => Ok(*one),
        several => Err(NameError::Several(
            several.iter().map(|pid| (*pid, found.remove(pid).unwrap_or_default())).collect(),
        )),
    }
}

/// Parents of a process, the nearest first.
fn ancestors(procfs: &ProcFs, pid: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut next = procfs.stat(pid).map(|stat| stat.ppid);
    while let Ok(parent) = next
        && parent.0 > 0
        && found.len() < MAX_ANCESTORS
    {
        found.push(parent);
        next = procfs.stat(parent).map(|stat| stat.ppid);
    }
    found
}

/// One that may not be read counts as Python: that it may not is what the user must hear.
fn is_python(procfs: &ProcFs, pid: Pid) -> bool {
    let Ok(modules) = Modules::load(procfs, pid) else {
        return procfs.stat(pid).is_ok_and(|stat| !stat.has_ended());
    };
    !matches!(locate(&LiveMemory::new(pid), &modules), Err(LocateError::NotPython))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a tree of its own
mod tests {
    use super::*;

    fn tree(processes: &[(i32, i32, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (pid, ppid, command) in processes {
            let own = dir.path().join(pid.to_string());
            std::fs::create_dir(&own).unwrap();
            let stat = format!("{pid} (x) S {ppid} 1 1 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 1 0 0");
            std::fs::write(own.join("stat"), stat).unwrap();
            std::fs::write(own.join("cmdline"), command.replace(' ', "\0")).unwrap();
        }
        dir
    }

    fn ask(processes: &[(i32, i32, &str)]) -> Result<Pid, NameError> {
        let dir = tree(processes);
        let procfs = ProcFs::at(dir.path());
        let is_python = |pid| procfs.cmdline(pid).is_ok_and(|words| words[0] == "python");
        find(&procfs, Pid(99), &|command| command.contains("gunicorn"), &is_python)
    }

    const US: [(i32, i32, &str); 2] =
        [(98, 1, "python run.py record --name gunicorn"), (99, 98, "stallspy --name gunicorn")];

    #[test]
    fn a_master_stands_for_its_workers_and_wrappers_for_nothing() {
        let mut all = US.to_vec();
        all.extend([
            (1, 0, "init"),
            (20, 1, "sh -c gunicorn app"),
            (21, 20, "python gunicorn app"),
            (22, 21, "python gunicorn app"),
            (23, 1, "vi gunicorn.conf.py"),
        ]);
        assert_eq!(ask(&all), Ok(Pid(21)));
    }

    #[test]
    fn none_and_several() {
        assert_eq!(ask(&US), Err(NameError::None));
        let two = [(20, 1, "python gunicorn a"), (30, 1, "python gunicorn b")];
        let several = vec![
            (Pid(20), "python gunicorn a".to_owned()),
            (Pid(30), "python gunicorn b".to_owned()),
        ];
        assert_eq!(ask(&two), Err(NameError::Several(several)));
    }
}
