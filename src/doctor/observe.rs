//! Finds the facts out: reads `/proc`, tries what can be tried. Leaves everything as it was.

use nix::sys::utsname::uname;
use nix::unistd::{Uid, User, geteuid};

use super::facts::{Attach, Facts, Machine, Numbers, Target, Us};
use crate::error::Error;
use crate::model::{Snapshot, SnapshotThread};
use crate::sampler::pace;
use crate::target::container::container;
use crate::target::edges::IdSource;
use crate::target::{
    Capabilities, EdgesError, ProcError, ProcFs, Standing, Tracepoints, Trial, trials,
};
use crate::units::{Pid, Tid};

/// `CAP_PERFMON`, include/uapi/linux/capability.h.
const PERFMON_NUMBER: u32 = 38;

/// A busy process is looked at this often until a loop and a C stack were seen.
const LOOKS: usize = 5;

/// Finds everything out about this machine, us, and the process `pid` if one is given: what
/// `attach` gives is what came of looking at it.
///
/// # Errors
/// Any [`ProcError`] about ourselves, or [`ProcError::NoSuchProcess`].
pub fn observe(
    procfs: &ProcFs,
    pid: Option<Pid>,
    attach: impl Fn(Pid) -> Result<Snapshot, Error>,
) -> Result<Facts, ProcError> {
    let found = Tracepoints::find();
    let numbers = numbers(&found);
    let points = found.map(|(points, _)| points);
    let own = procfs.standing(ourselves())?;
    let target = match pid {
        Some(pid) => Some(target(procfs, pid, &own, &points, attach)?),
        None => None,
    };
    // Last, as it makes us go before others if it can.
    let us = us(procfs, &own, &points);
    Ok(Facts { machine: machine(procfs, numbers), us, target })
}

fn ourselves() -> Pid {
    Pid(std::process::id().cast_signed())
}

fn numbers(found: &Result<(Tracepoints, IdSource), EdgesError>) -> Numbers {
    match found {
        Ok((_, IdSource::Tracefs)) => Numbers::Tracefs,
        Ok((_, IdSource::Cache)) => Numbers::Cache,
        Ok((_, IdSource::Trying)) => Numbers::Trying,
        Err(_) => Numbers::Unknown,
    }
}

fn machine(procfs: &ProcFs, tracepoints: Numbers) -> Machine {
    let number = |name| procfs.setting(name).and_then(|text| text.parse().ok());
    let release = uname().ok().and_then(|names| names.release().to_str().map(str::to_owned));
    let last: Option<u32> =
        procfs.setting("kernel/cap_last_cap").and_then(|text| text.parse().ok());
    Machine {
        kernel: release.unwrap_or_else(|| "unknown".to_owned()),
        architecture: std::env::consts::ARCH,
        perf_event_paranoid: number("kernel/perf_event_paranoid"),
        ptrace_scope: procfs.setting("kernel/yama/ptrace_scope").and_then(|text| text.parse().ok()),
        has_perfmon: last.is_none_or(|last| last >= PERFMON_NUMBER),
        tracepoints,
    }
}

fn us(procfs: &ProcFs, own: &Standing, points: &Result<Tracepoints, EdgesError>) -> Us {
    /// The calling thread, to the kernel.
    const OURS: Tid = Tid(0);
    let pid = ourselves();
    let uid = geteuid().as_raw();
    let executable = std::env::current_exe().unwrap_or_else(|_| "stallspy".into());
    let files = trials::open_files();
    Us {
        uid,
        user: name(uid),
        nosuid: trials::is_nosuid(&executable),
        executable: executable.display().to_string(),
        capabilities: own.effective,
        bounding: own.bounding,
        no_new_privs: own.no_new_privs,
        seccomp: own.is_filtered,
        first_user_namespace: procfs.is_in_first_user_namespace(pid).unwrap_or(true),
        container: container(procfs, pid),
        open_files: files.map(|(soft, _)| soft),
        open_files_hard: files.map(|(_, hard)| hard),
        memory_call: trials::memory_gate(own.is_filtered),
        perf_call: trials::perf_gate(own.is_filtered),
        edges: trials::edges(OURS, points),
        running_stacks: trials::running_stacks(OURS),
        priority: pace::wake_precisely(),
    }
}

fn target(
    procfs: &ProcFs,
    pid: Pid,
    own: &Standing,
    points: &Result<Tracepoints, EdgesError>,
    attach: impl Fn(Pid) -> Result<Snapshot, Error>,
) -> Result<Target, ProcError> {
    let stat = procfs.stat(pid)?;
    let standing = procfs.standing(pid)?;
    let [_, uid, _] = standing.uids;
    let command = procfs.cmdline(pid).unwrap_or_default().join(" ");
    // The first thread has the process's number.
    let main = Tid(pid.0);
    let same = |kind| {
        let theirs = procfs.namespace(pid, kind).ok()?;
        Some(theirs == procfs.namespace(ourselves(), kind).ok()?)
    };
    let task = |file: &str| procfs.path(pid, format!("task/{main}/{file}"));
    Ok(Target {
        pid,
        command: if command.is_empty() { format!("[{}]", stat.comm) } else { command },
        uid,
        user: name(uid),
        same_user: standing.uids.iter().all(|theirs| *theirs == geteuid().as_raw()),
        more_capabilities: more_capabilities(&standing, own),
        open_to_its_user: procfs.is_open_to_its_user(pid).unwrap_or(None),
        has_memory: standing.has_memory,
        same_user_namespace: same("user"),
        same_pid_namespace: same("pid"),
        root: procfs.root(pid).ok().map(|root| root.display().to_string()),
        cgroup: procfs.cgroup(pid).ok(),
        attach: attached(|| attach(pid)),
        maps: trials::read_file(&procfs.path(pid, "maps")),
        files: trials::list_directory(&procfs.path(pid, "fd")),
        system_call: trials::read_file(&task("syscall")),
        edges: trials::edges(main, points),
        running_stacks: running_stacks(main, points),
    })
}

/// The kernel compares what both may use, not what is in force.
fn more_capabilities(theirs: &Standing, ours: &Standing) -> Capabilities {
    theirs.permitted.without(ours.permitted | ours.effective)
}

/// Of a target they are wanted only where perf events are.
fn running_stacks(tid: Tid, points: &Result<Tracepoints, EdgesError>) -> Trial {
    match points {
        Err(EdgesError::Unwanted) => Trial::Unwanted,
        _ => trials::running_stacks(tid),
    }
}

/// Looks until something was seen that moves: a loop, a C stack.
fn attached(look: impl Fn() -> Result<Snapshot, Error>) -> Attach {
    let mut last = outcome(look());
    for _ in 1..LOOKS {
        match &last {
            Attach::Read { loops, with_c_stack, .. } if loops.is_empty() || *with_c_stack == 0 => {
                last = outcome(look());
            }
            _ => break,
        }
    }
    last
}

fn outcome(looked: Result<Snapshot, Error>) -> Attach {
    match looked {
        Ok(snapshot) => {
            let asleep = snapshot.threads.iter().filter(|thread| thread.syscall.is_some());
            let native = |thread: &&SnapshotThread| thread.frames.iter().any(|one| one.native);
            let loops = snapshot.threads.iter().filter_map(|thread| thread.event_loop.as_ref());
            let mut loops: Vec<String> = loops.map(|one| one.kind.to_owned()).collect();
            loops.sort_unstable();
            loops.dedup();
            Attach::Read {
                loops,
                with_c_stack: asleep.clone().filter(native).count(),
                asleep: asleep.count(),
                python: snapshot.python,
            }
        }
        Err(error) => {
            let denied = matches!(error, Error::ForeignProcess { .. } | Error::Denied { .. });
            let (exit_code, error) = (error.exit_code(), error.to_string());
            if denied {
                Attach::Denied { error, exit_code }
            } else {
                Attach::Failed { error, exit_code }
            }
        }
    }
}

/// A user's name, or number where it has none here.
fn name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}
