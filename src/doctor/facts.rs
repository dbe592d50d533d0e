//! What was found out about the machine, about us, and about a target: plain data.

use serde::Serialize;

use super::wire;
use crate::target::{Capabilities, Container, Gate, Trial};
use crate::units::Pid;

/// Capabilities that stallspy has, or may have, a use for.
pub const USEFUL: Capabilities = Capabilities(
    Capabilities::DAC_OVERRIDE.0
        | Capabilities::DAC_READ_SEARCH.0
        | Capabilities::SYS_PTRACE.0
        | Capabilities::SYS_ADMIN.0
        | Capabilities::SYS_NICE.0
        | Capabilities::PERFMON.0
        | Capabilities::BPF.0,
);

/// Up to this a user may watch processes of their own by perf events, in user space
/// (`kernel.perf_event_paranoid`, Documentation/admin-guide/sysctl/kernel.rst).
pub const PARANOID_OWN: i32 = 2;

/// Everything a judgement rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The kernel and its settings.
    pub machine: Machine,
    /// Whoever runs stallspy.
    pub us: Us,
    /// The process asked about.
    pub target: Option<Target>,
}

/// The kernel and its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Its release, `6.18.44`.
    pub kernel: String,
    /// `x86_64`, `aarch64`.
    pub architecture: &'static str,
    /// `kernel.perf_event_paranoid`; `None` where the kernel has no perf events or does not say.
    pub perf_event_paranoid: Option<i32>,
    /// `kernel.yama.ptrace_scope`; `None` where Yama is not in force.
    pub ptrace_scope: Option<u32>,
    /// Whether it knows `CAP_PERFMON`; before Linux 5.8 `CAP_SYS_ADMIN` is in its place.
    pub has_perfmon: bool,
    /// Where the tracepoints' numbers are from.
    pub tracepoints: Numbers,
}

/// Where the tracepoints' numbers are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Numbers {
    /// tracefs, which we may read.
    Tracefs,
    /// What an earlier run found out.
    Cache,
    /// They are tried one by one; a recording does so by itself.
    Trying,
    /// They are not known: see the trial of edges.
    Unknown,
}

/// Whoever runs stallspy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Us {
    /// The effective user.
    pub uid: u32,
    /// Its name, or number.
    pub user: String,
    /// The file that runs.
    pub executable: String,
    /// Capabilities in force.
    #[serde(serialize_with = "wire::useful_names")]
    pub capabilities: Capabilities,
    /// The most that root, or a file's capabilities, could give us.
    #[serde(serialize_with = "wire::useful_names")]
    pub bounding: Capabilities,
    /// Whether `sudo` and file capabilities have no effect here.
    pub no_new_privs: bool,
    /// Whether capabilities on our file have no effect where it lies.
    pub nosuid: bool,
    /// Whether a seccomp filter judges our system calls.
    pub seccomp: bool,
    /// Whether we are in the system's first user namespace: in any other, capabilities count only
    /// for what is in it.
    pub first_user_namespace: bool,
    /// The container we seem to be in.
    #[serde(serialize_with = "wire::container")]
    pub container: Option<Container>,
    /// How many files we may have open; `None` is not known.
    pub open_files: Option<u64>,
    /// The same after asking for more: what trying tracepoints takes, some 750.
    pub open_files_hard: Option<u64>,
    /// Whether `process_vm_readv` reaches the kernel.
    #[serde(serialize_with = "wire::gate")]
    pub memory_call: Gate,
    /// Whether `perf_event_open` does.
    #[serde(serialize_with = "wire::gate")]
    pub perf_call: Gate,
    /// Edges of a thread of our own.
    #[serde(serialize_with = "wire::trial")]
    pub edges: Trial,
    /// Stacks of a thread of our own while it runs.
    #[serde(serialize_with = "wire::trial")]
    pub running_stacks: Trial,
    /// Whether we may go before others on a CPU.
    pub priority: bool,
}

/// The process asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its pid, as we know it.
    pub pid: Pid,
    /// Its command line, or its name in brackets.
    pub command: String,
    /// Its effective user.
    pub uid: u32,
    /// That user's name, or number.
    pub user: String,
    /// Whether we have all of its users: effective, real and saved.
    pub same_user: bool,
    /// Capabilities it has and we do not.
    #[serde(serialize_with = "wire::names")]
    pub more_capabilities: Capabilities,
    /// Whether its own user may read it; `None` is not known.
    pub open_to_its_user: Option<bool>,
    /// Whether it has memory: not so a kernel thread, or a process that has ended.
    pub has_memory: bool,
    /// Whether it is in our user namespace; `None` is not known.
    pub same_user_namespace: Option<bool>,
    /// Whether it is in our pid namespace; if not, mostly in another container.
    pub same_pid_namespace: Option<bool>,
    /// Its root directory, as we see it; `None` is not known.
    pub root: Option<String>,
    /// Its cgroup.
    pub cgroup: Option<String>,
    /// What came of attaching to it, as a recording would.
    pub attach: Attach,
    /// Its memory map.
    #[serde(serialize_with = "wire::trial")]
    pub maps: Trial,
    /// Its open files.
    #[serde(serialize_with = "wire::trial")]
    pub files: Trial,
    /// The system call its main thread is in.
    #[serde(serialize_with = "wire::trial")]
    pub system_call: Trial,
    /// Edges of its main thread.
    #[serde(serialize_with = "wire::trial")]
    pub edges: Trial,
    /// Stacks of its main thread while it runs.
    #[serde(serialize_with = "wire::trial")]
    pub running_stacks: Trial,
}

/// What came of attaching.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Attach {
    /// It can be watched.
    Read {
        /// The interpreter's version.
        python: String,
        /// The families of the event loops found in its threads.
        loops: Vec<String>,
        /// Threads that slept.
        asleep: usize,
        /// Those of them whose C stack was read.
        with_c_stack: usize,
    },
    /// The kernel does not let us.
    Denied {
        /// What a recording would say.
        error: String,
        /// What it would end with.
        exit_code: u8,
    },
    /// It may be read, and is nothing we can watch.
    Failed {
        /// What a recording would say.
        error: String,
        /// What it would end with.
        exit_code: u8,
    },
}

impl Machine {
    /// Whether Debian's and Ubuntu's patch may be at work: above this it keeps perf events from all
    /// but `CAP_SYS_ADMIN`. A plain kernel takes higher values for this one.
    #[must_use]
    pub fn is_paranoid(&self) -> bool {
        self.perf_event_paranoid.is_some_and(|level| level > PARANOID_OWN)
    }

    /// The capability for perf events.
    #[must_use]
    pub fn perf_capability(&self) -> Capabilities {
        if self.has_perfmon && !self.is_paranoid() {
            Capabilities::PERFMON
        } else {
            Capabilities::SYS_ADMIN
        }
    }
}

impl Us {
    /// Whether perf events are open to us whatever the settings. The kernel asks its first user
    /// namespace (`perfmon_capable`, include/linux/capability.h).
    #[must_use]
    pub fn may_perf(&self) -> bool {
        let either = Capabilities::PERFMON | Capabilities::SYS_ADMIN;
        self.first_user_namespace && !self.capabilities.among(either).is_empty()
    }

    /// Whether we may read processes of others.
    #[must_use]
    pub fn may_read_others(&self) -> bool {
        self.capabilities.has(Capabilities::SYS_PTRACE)
    }

    /// Whether we may read files of others.
    #[must_use]
    pub fn may_read_files(&self) -> bool {
        let either = Capabilities::DAC_READ_SEARCH | Capabilities::DAC_OVERRIDE;
        !self.capabilities.among(either).is_empty()
    }
}
