//! The hallway: joins the stages for one run. The only place that knows them all.
//!
//! Left half: [`record`] watches processes and gives a [`Recording`]. Right half: [`conclude`]
//! turns a recording, fresh or read from a file, into a [`Report`]. Both commands that print a
//! report run the same right half.

use std::sync::atomic::AtomicBool;

use regex::Regex;

use crate::attribution::application;
use crate::attribution::functions::functions;
use crate::conclusion;
use crate::diagnosis::rules::loop_hung::HUNG_AFTER;
use crate::diagnosis::wording;
use crate::doctor::{self, Diagnosis};
use crate::error::Error;
use crate::gate::Pattern;
use crate::layout::LayoutError;
use crate::model::{NativeStacks, Recording, Report, Settings, Snapshot, Stall};
use crate::printable::shortened;
use crate::python::locate::LocateError;
use crate::sampler::named::{NameError, named};
use crate::sampler::process_watch::AttachError;
use crate::sampler::snapshot::snapshot;
use crate::sampler::{self, Sampler, pace};
use crate::target::{FreezeError, ProcError, ProcFs, ReadError};
use crate::units::{Nanos, Pid};

// What callers of a session meet of the stages behind it.
pub use crate::target::launch::Launched;

/// How often a launched command is tried until it is a Python process.
const LAUNCH_STEP: Nanos = Nanos::from_millis(20);
/// A launched command that is still no Python process after this may have Python children.
const LAUNCH_WRAPPER: Nanos = Nanos::from_millis(500);
/// A launched command with no Python in it after this will not have any.
const LAUNCH_LIMIT: Nanos = Nanos::from_secs(30);

/// The shortest stall reported unless the user says otherwise: below it people do not notice, above
/// it every request of a busy server does.
pub const DEFAULT_THRESHOLD: Nanos = Nanos::from_millis(10);
/// Background samples a second unless the user says otherwise; py-spy's own default.
pub const DEFAULT_RATE_HZ: f64 = 100.0;
/// Below this the looks themselves (some 10 µs each, woken late by as much) blur what they see.
pub const SHORTEST_THRESHOLD: Nanos = Nanos::from_micros(500);

/// How a recording stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Time since the start.
    pub elapsed: Nanos,
    /// Processes watched now.
    pub processes: usize,
    /// Loops watched now.
    pub loops: usize,
    /// Threads watched now that serve requests without a loop.
    pub request_threads: usize,
    /// Iterations looked into so far, by kept looks.
    pub looks: usize,
    /// A loop that hangs right now.
    pub hang: Option<Hang>,
}

/// A loop that has not come back for so long that the server counts as down, or a request that has
/// held its thread as long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hang {
    /// Its process.
    pub pid: Pid,
    /// It is a request.
    pub occupies: bool,
    /// For how long it has not come back.
    pub age: Nanos,
    /// The line it is at, `cache.py:31 load`: of the application where there is one.
    pub place: String,
}

impl Progress {
    fn of(state: sampler::Progress<'_>) -> Progress {
        let hang = state.ongoing.filter(|ongoing| ongoing.age > HUNG_AFTER).map(|ongoing| {
            let site = application::site(ongoing.tables, ongoing.stdlib, ongoing.stack);
            let place = site.map(|site| wording::place_in(ongoing.tables, site.culprit));
            Hang {
                pid: ongoing.pid,
                occupies: ongoing.occupies,
                age: ongoing.age,
                place: place.unwrap_or_else(|| "an unknown line".to_owned()),
            }
        });
        let sampler::Progress { elapsed, processes, loops, request_threads, looks, .. } = state;
        Progress { elapsed, processes, loops, request_threads, looks, hang }
    }
}

/// What to watch.
#[derive(Debug)]
pub enum Target {
    /// A process that runs.
    Running(Pid),
    /// A command we started.
    Launched(Launched),
}

/// Most candidates listed where a name fits several servers.
const MOST_CANDIDATES: usize = 8;
/// Most characters of each one's command line.
const CANDIDATE: usize = 72;

/// The one server whose command line `pattern` matches anywhere; a master and its workers count as
/// one, and never ourselves.
///
/// # Errors
/// [`Error::NoSuchName`], [`Error::SeveralNames`].
pub fn find(pattern: &Regex) -> Result<Pid, Error> {
    let text = pattern.as_str().to_owned();
    match named(&ProcFs::host(), &|command| pattern.is_match(command)) {
        Ok(pid) => Ok(pid),
        Err(NameError::None) => Err(Error::NoSuchName { pattern: text }),
        Err(NameError::Several(found)) => {
            let candidate = |(pid, command): &(Pid, String)| {
                format!("\n  {pid}  {}", shortened(command, CANDIDATE))
            };
            let mut candidates: String =
                found.iter().take(MOST_CANDIDATES).map(candidate).collect();
            if found.len() > MOST_CANDIDATES {
                candidates.push_str("\n  …");
            }
            Err(Error::SeveralNames { pattern: text, count: found.len(), candidates })
        }
    }
}

/// How a server is watched when nothing else is asked for.
#[must_use]
pub fn usual_settings() -> Settings {
    Settings {
        threshold: DEFAULT_THRESHOLD,
        rate_hz: DEFAULT_RATE_HZ,
        rate_is_most: true,
        blocking: false,
        native: NativeStacks::default(),
    }
}

/// How to watch it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Threshold and rate.
    pub settings: Settings,
    /// How long; until the target ends or a signal comes if `None`.
    pub duration: Option<Nanos>,
    /// Children that are Python, too.
    pub subprocesses: bool,
    /// The subcommand, for sentences that say what to type.
    pub command: &'static str,
}

/// Watches a target until its time is up, it ends, or `stop` is set.
///
/// # Errors
/// See [`Error`]. A target that ends in the midst is no error: what was seen is returned.
pub fn record(
    target: &mut Target,
    plan: &Plan,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Recording, Error> {
    let procfs = ProcFs::host();
    let mut sampler = Sampler::new(procfs.clone(), plan.settings.clone(), plan.subprocesses);
    let what = match target {
        Target::Running(pid) => {
            let pid = *pid;
            sampler.attach(pid).map_err(|error| explain(&procfs, pid, plan.command, error))?;
            format!("pid {pid}")
        }
        Target::Launched(child) => {
            attach_launched(&procfs, &mut sampler, child, plan, stop)?;
            format!("`{}`", child.command_line())
        }
    };
    let until = plan.duration.map(|duration| pace::now() + duration);
    sampler.run(until, stop, &mut |state| {
        progress(Progress::of(state));
        match target {
            // The sampler notices the end of a process by itself, but not that it waits to be
            // collected by us, its parent.
            Target::Launched(child) => !child.has_ended(),
            Target::Running(_) => true,
        }
    });
    let recording = sampler.finish();
    let saw_loop = recording.loops.iter().any(|info| info.tally.looks() > 0);
    if !saw_loop
        && recording.samples.is_empty()
        && recording.processes.iter().all(|p| p.ended.is_some())
    {
        return Err(Error::EndedEarly { what });
    }
    Ok(recording)
}

/// What picks the stalls that one of the patterns accepts.
fn accepted(allow: &[Pattern]) -> impl Fn(&Recording, &Stall) -> bool {
    |recording, stall| allow.iter().any(|pattern| pattern.accepts(stall, &recording.tables))
}

/// Everything that follows from a recording.
#[must_use]
pub fn conclude(recording: Recording, allow: &[Pattern]) -> Report {
    conclusion::conclude(recording, &accepted(allow))
}

/// The same, held against an earlier recording of the same server at another size.
///
/// # Errors
/// [`Error::NotBefore`] where that is this recording, or none of the same server.
pub fn conclude_after(
    recording: Recording,
    before: Recording,
    allow: &[Pattern],
) -> Result<Report, Error> {
    let not = |why| Err(Error::NotBefore { why });
    if (before.attached, before.detached) == (recording.attached, recording.detached) {
        return not("it is the recording itself");
    }
    let (own, earlier) = (functions(&recording), functions(&before));
    if !own.is_empty() && !earlier.is_empty() && own.is_disjoint(&earlier) {
        return not("no function of its application is met in the other one");
    }
    let before = conclusion::loads_of(before);
    let report = conclusion::conclude_after(recording, &before, &accepted(allow));
    let is_met = before.iter().any(|one| report.loads.iter().any(|load| load.server == one.server));
    if is_met { Ok(report) } else { not("no server of the other one is in it") }
}

/// Looks once at a process.
///
/// # Errors
/// See [`Error`].
pub fn look_once(pid: Pid, locals: bool, native: bool) -> Result<Snapshot, Error> {
    let procfs = ProcFs::host();
    snapshot(&procfs, pid, locals, native).map_err(|error| explain(&procfs, pid, "dump", error))
}

/// Finds out what this machine, user and container allow, for the process `pid` if one is given.
/// Looks at it once, as [`look_once`] does.
///
/// # Errors
/// [`Error::NoSuchProcess`], or what `/proc` says about ourselves. A process that cannot be read is
/// no error here.
pub fn examine(pid: Option<Pid>) -> Result<Diagnosis, Error> {
    let procfs = ProcFs::host();
    let look = |pid| {
        let looked = snapshot(&procfs, pid, false, true);
        looked.map_err(|error| explain(&procfs, pid, "record", error))
    };
    match doctor::observe::observe(&procfs, pid, look) {
        Ok(facts) => Ok(doctor::judge(facts)),
        Err(ProcError::NoSuchProcess(pid)) => Err(Error::NoSuchProcess { pid }),
        Err(error) => Err(Error::Proc(error)),
    }
}

/// A command just started is no interpreter yet, and may never be one itself: `sh -c`, `env`, a
/// process manager.
fn attach_launched(
    procfs: &ProcFs,
    sampler: &mut Sampler,
    child: &mut Launched,
    plan: &Plan,
    stop: &AtomicBool,
) -> Result<(), Error> {
    let began = pace::now();
    let root = child.pid();
    loop {
        let waited = pace::now().since(began);
        let mut candidates = vec![root];
        if waited >= LAUNCH_WRAPPER {
            candidates.extend(crate::target::children::descendants(procfs, root));
        }
        let mut failure = None;
        for pid in candidates {
            match sampler.attach(pid) {
                Ok(()) => return Ok(()),
                Err(error) if is_final(&error) => {
                    return Err(explain(procfs, pid, plan.command, error));
                }
                Err(error) => failure = failure.or(Some((pid, error))),
            }
        }
        let ended = child.has_ended();
        let stopped = stop.load(std::sync::atomic::Ordering::Relaxed);
        if ended || stopped {
            return Err(Error::EndedEarly { what: format!("`{}`", child.command_line()) });
        }
        if waited >= LAUNCH_LIMIT
            && let Some((pid, error)) = failure
        {
            return Err(explain(procfs, pid, plan.command, error));
        }
        pace::sleep_until(pace::now() + LAUNCH_STEP);
    }
}

/// Whether waiting will not help.
fn is_final(error: &AttachError) -> bool {
    matches!(error, AttachError::Locate(LocateError::Layout(_)) | AttachError::Freeze(_))
}

/// The sentence for a process that cannot be watched, with the facts of this one.
fn explain(procfs: &ProcFs, pid: Pid, command: &'static str, error: AttachError) -> Error {
    let what = || match procfs.stat(pid) {
        Ok(stat) => stat.comm,
        Err(_) => "unknown".to_owned(),
    };
    match error {
        AttachError::Proc(ProcError::NoSuchProcess(_))
        | AttachError::Locate(LocateError::Read(ReadError::Gone)) => Error::NoSuchProcess { pid },
        AttachError::Proc(ProcError::Denied { .. })
        | AttachError::Locate(LocateError::Read(ReadError::Denied)) => denied(procfs, pid, command),
        AttachError::Proc(other) => Error::Proc(other),
        AttachError::Locate(LocateError::NotPython) => Error::NotPython { pid, what: what() },
        AttachError::Locate(LocateError::Starting | LocateError::Read(_)) => {
            Error::Starting { pid, what: what() }
        }
        AttachError::Locate(LocateError::Layout(error @ LayoutError::FreeThreaded { .. })) => {
            Error::Unsupported { pid, why: error.to_string() }
        }
        AttachError::Freeze(FreezeError::Traced(tracer)) => {
            let name = procfs.stat(tracer).map_or("unknown".to_owned(), |stat| stat.comm);
            Error::Traced { pid, tracer, name }
        }
        AttachError::Freeze(FreezeError::Proc(ProcError::NoSuchProcess(_))) => {
            Error::NoSuchProcess { pid }
        }
        AttachError::Freeze(FreezeError::Proc(other)) => Error::Proc(other),
        AttachError::Freeze(_) => Error::NoPause { pid },
        AttachError::Locate(other) => Error::Unsupported { pid, why: other.to_string() },
    }
}

fn denied(procfs: &ProcFs, pid: Pid, command: &'static str) -> Error {
    let owner = procfs.uid(pid).ok();
    let ours = nix::unistd::geteuid().as_raw();
    match owner {
        Some(uid) if uid != ours => {
            let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
            let owner = match user {
                Ok(Some(user)) => user.name,
                _ => uid.to_string(),
            };
            Error::ForeignProcess { pid, owner, command }
        }
        _ => Error::Denied { pid, setting: yama(procfs), command },
    }
}

/// The Yama setting that keeps a user from reading their own processes
/// (Documentation/admin-guide/LSM/Yama.rst), as part of a sentence.
fn yama(procfs: &ProcFs) -> String {
    match procfs.setting("kernel/yama/ptrace_scope") {
        Some(scope) if scope != "0" => {
            format!(" because kernel.yama.ptrace_scope is {scope}")
        }
        _ => String::new(),
    }
}
