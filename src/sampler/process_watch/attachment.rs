//! Attaching to a process: what is found out before the first look, and why it cannot be watched.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::ProcessWatch;
use super::libraries::Libraries;
use super::recognition::Asking;
use crate::model::{
    Budget, GilTally, NativeStacks, Occupancy, ProcessInfo, RequestTally, ServerConfig, Turns,
};
use crate::native::AddressSpace;
use crate::python::code_objects::CodeCache;
use crate::python::locate::{LocateError, locate};
use crate::python::objects::TypeCache;
use crate::python::running_loop::AsyncioTables;
use crate::sampler::births::Complete;
use crate::sampler::budget_watch::BudgetWatch;
use crate::sampler::gil_watch::GilWatch;
use crate::sampler::natives::Natives;
use crate::sampler::notes::WorkingDirectory;
use crate::sampler::pace::{boot_clock, now};
use crate::sampler::pool_watch::PoolWatch;
use crate::sampler::quiet::Quiet;
use crate::sampler::request_threads::RequestThreads;
use crate::sampler::request_watch::RequestWatch;
use crate::sampler::resident_watch::ResidentWatch;
use crate::sampler::socket_watch::SocketWatch;
use crate::sampler::spin_watch::SpinWatch;
use crate::sampler::throttle_watch::ThrottleWatch;
use crate::server::bare;
use crate::server::pools::awaited::Awaited;
use crate::target::modules::Modules;
use crate::target::peers::Peers;
use crate::target::{ElfError, FreezeError, Freezer, LiveMemory, ProcError, ProcFs};
use crate::units::{Nanos, Pid, Timestamp};

/// A fork's birth is known to one clock tick of `/proc` (10 ms); stamps within it are not trusted.
const BIRTH_STEP: Nanos = Nanos::from_millis(10);

/// Why a process cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// `/proc` does not show it.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// No interpreter that can be read.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// Its threads cannot be paused.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
}

impl ProcessWatch {
    /// Attaches to a process: reads, checks, changes nothing.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(procfs: &ProcFs, pid: Pid, is_child: bool) -> Result<ProcessWatch, AttachError> {
        let stat = procfs.stat(pid)?;
        let memory = LiveMemory::new(pid);
        let modules = Modules::load(procfs, pid)?;
        let mut located = locate(&memory, &modules).map_err(|error| closed(error, &modules))?;
        located.clock_offset = procfs.monotonic_offset(pid).unwrap_or(0);
        let space = AddressSpace::new(pid, modules, located.runtime);
        let attached = now();
        let directory = procfs.cwd(pid).map_or(String::new(), |dir| dir.display().to_string());
        let info = ProcessInfo {
            patches: None,
            tasks_waiting: None,
            pid,
            ppid: stat.ppid,
            python: located.version.clone(),
            command: procfs.cmdline(pid).unwrap_or_default().join(" "),
            topology: bare::recognised().topology,
            stdlib: None,
            unread_loop: None,
            drivers: Vec::new(),
            serving_children: Vec::new(),
            attached,
            ended: None,
            killed_for_memory: None,
            cpu: Nanos::ZERO,
            rss_bytes: stat.rss_bytes,
            cpus: procfs.cpus_allowed(pid).unwrap_or(1),
            config: ServerConfig::new(),
            requests: RequestTally::default(),
            gil: GilTally::default(),
            pools: Vec::new(),
            listeners: Vec::new(),
            connections: Vec::new(),
            occupancy: Occupancy::default(),
            budget: Budget::default(),
            turns: Turns::default(),
            residents: None,
            threads: Vec::new(),
        };
        Ok(ProcessWatch {
            pid,
            procfs: procfs.clone(),
            memory,
            located,
            directory: WorkingDirectory(directory),
            codes: CodeCache::default(),
            types: TypeCache::default(),
            asyncio: AsyncioTables::default(),
            peers: Peers::default(),
            awaited: Awaited::default(),
            space,
            gil: GilWatch::default(),
            freezer: None,
            throttle: ThrottleWatch::default(),
            pools: PoolWatch::default(),
            sockets: SocketWatch::default(),
            spins: SpinWatch::default(),
            threads: Vec::new(),
            quiet: Quiet::default(),
            complete: Complete::default(),
            loops: Vec::new(),
            request_threads: RequestThreads::new(attached),
            out_of_sight: Vec::new(),
            known_loops: Vec::new(),
            info,
            files: HashSet::new(),
            server: bare::recognised(),
            asking: Asking::new(attached),
            patches_by: 0,
            requests: RequestWatch::default(),
            residents: ResidentWatch::default(),
            forked: is_child.then(|| born(stat.started)).flatten(),
            cpu_before: stat.cpu,
            budget: BudgetWatch::new(procfs, pid),
            next_sample: attached,
            next_discovery: attached,
            next_refresh: attached,
            stat: None,
            libraries: Libraries::default(),
        })
    }

    /// Reads ahead what C stacks will need.
    pub fn warm(&mut self, natives: &mut Natives) {
        if natives.wanted != NativeStacks::Off {
            self.space.warm(&mut natives.binaries);
        }
    }

    /// From now on threads are paused while their stacks are read.
    ///
    /// # Errors
    /// See [`FreezeError`].
    pub fn pause_threads(&mut self) -> Result<(), AttachError> {
        self.freezer = Some(Freezer::new(&self.procfs, self.pid)?);
        Ok(())
    }
}

/// What is in a program that we may not open cannot be told: that is no "not Python".
fn closed(error: LocateError, modules: &Modules) -> AttachError {
    let shut = modules.unreadable().iter().find(|module| {
        matches!(&module.why, ElfError::Io(why) if why.kind() == ErrorKind::PermissionDenied)
    });
    match (error, shut) {
        (LocateError::NotPython, Some(module)) => {
            ProcError::Denied { file: PathBuf::from(&module.path) }.into()
        }
        (error, _) => error.into(),
    }
}

/// When a forked child began, on `CLOCK_MONOTONIC`: `/proc` tells it on `CLOCK_BOOTTIME`, which is
/// ahead by the time the machine was suspended, so the later of the two readings is taken.
///
/// The clocks are read one after the other: what is between the two readings would be taken for age,
/// and a look at the parent's iteration for one of the child's own.
fn born(started: Nanos) -> Option<Timestamp> {
    let boot = boot_clock()?;
    let at = now();
    let age = boot.saturating_sub(started);
    Some(at.before(age) + BIRTH_STEP)
}
