//! What can go wrong for a user, in one sentence each: what happened, why, and what to type next.
//!
//! Knows the exit codes of `docs/FORMATS.md`. Does no I/O: the facts in a sentence are gathered by
//! whoever met the error.

use crate::target::ProcError;
use crate::units::Pid;

/// Why a run came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No process has this pid.
    #[error(
        "there is no process {pid}: it may have ended; `pgrep -af python` lists those that run"
    )]
    NoSuchProcess {
        /// The pid asked for.
        pid: Pid,
    },
    /// No process has such a command line.
    #[error(
        "no running Python process has a command line that `{pattern}` matches: \
         `pgrep -af python` lists them"
    )]
    NoSuchName {
        /// The expression asked for.
        pattern: String,
    },
    /// Several servers have.
    #[error(
        "`{pattern}` matches {count} servers, and one is watched at a time; \
         say more of its command line, or give its pid: {candidates}"
    )]
    SeveralNames {
        /// The expression asked for.
        pattern: String,
        /// How many.
        count: usize,
        /// The first of them, with their pids.
        candidates: String,
    },
    /// The process runs something else.
    #[error(
        "pid {pid} ({what}) is not a Python process that stallspy knows: \
         `pgrep -af python` lists candidates; for a wrapper such as a shell, give its child's pid or add -s"
    )]
    NotPython {
        /// The pid asked for.
        pid: Pid,
        /// What runs there.
        what: String,
    },
    /// The interpreter had not come up.
    #[error(
        "pid {pid} ({what}) has not finished starting its Python interpreter: try again in a moment"
    )]
    Starting {
        /// The pid asked for.
        pid: Pid,
        /// What runs there.
        what: String,
    },
    /// A Python that cannot be read.
    #[error("pid {pid} cannot be read: {why}; stallspy {} reads the default (GIL) builds of CPython 3.8 to 3.15", env!("CARGO_PKG_VERSION"))]
    Unsupported {
        /// The pid asked for.
        pid: Pid,
        /// What is in the way.
        why: String,
    },
    /// The kernel does not let us read another user's process.
    #[error(
        "pid {pid} belongs to user {owner} and this kernel lets only that user, root or CAP_SYS_PTRACE read it: \
         run `sudo stallspy {command} -p {pid}`, or in a container add the capability SYS_PTRACE (`stallspy doctor {pid}` says what else helps)"
    )]
    ForeignProcess {
        /// The pid asked for.
        pid: Pid,
        /// Whose it is.
        owner: String,
        /// The subcommand to run again.
        command: &'static str,
    },
    /// The kernel does not let us read our own user's process.
    #[error(
        "the kernel denies reading pid {pid}{setting}: run `sudo stallspy {command} -p {pid}`, \
         or in a container add the capability SYS_PTRACE (`stallspy doctor {pid}` says what else helps)"
    )]
    Denied {
        /// The pid asked for.
        pid: Pid,
        /// The setting in the way, where one is known.
        setting: String,
        /// The subcommand to run again.
        command: &'static str,
    },
    /// Another process traces it, and the kernel allows one tracer.
    #[error(
        "pid {pid} is traced by process {tracer} ({name}) already, so --blocking cannot pause it: \
         end that one first, or leave out --blocking"
    )]
    Traced {
        /// The pid asked for.
        pid: Pid,
        /// Who traces it.
        tracer: Pid,
        /// What that is.
        name: String,
    },
    /// Reading is allowed, tracing is not.
    #[error(
        "pid {pid} can be read, but this system does not let it be paused (ptrace is filtered): \
         leave out --blocking, or see docs/CONTAINERS.md"
    )]
    NoPause {
        /// The pid asked for.
        pid: Pid,
    },
    /// Nothing was seen before the target ended.
    #[error("{what} ended before anything was seen: record for longer, or start it under load")]
    EndedEarly {
        /// What was to be watched.
        what: String,
    },
    /// The command to launch could not be started.
    #[error("cannot start `{command}`: {why}")]
    Launch {
        /// The command.
        command: String,
        /// What the system said.
        why: String,
    },
    /// What is to be compared with a recording is no earlier one of the same server.
    #[error(
        "--before takes an earlier recording of the same server at another size, and this is none: {why}"
    )]
    NotBefore {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The user asked for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// A recording could not be read, or a file not written.
    #[error("{0}")]
    File(String),
    /// `/proc` did not tell.
    #[error("{0}: is /proc mounted, and is this Linux?")]
    Proc(#[from] ProcError),
}

impl Error {
    /// The documented exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::NoSuchProcess { .. }
            | Error::NoSuchName { .. }
            | Error::NotPython { .. }
            | Error::Starting { .. }
            | Error::Unsupported { .. } => exit::NO_PYTHON,
            Error::ForeignProcess { .. }
            | Error::Denied { .. }
            | Error::Traced { .. }
            | Error::NoPause { .. } => exit::NOT_PERMITTED,
            Error::EndedEarly { .. } => exit::ENDED_EARLY,
            Error::Usage(_) | Error::SeveralNames { .. } | Error::NotBefore { .. } => exit::USAGE,
            Error::Launch { .. } | Error::File(_) | Error::Proc(_) => exit::ERROR,
        }
    }
}

/// The exit codes, a contract with scripts.
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// An error in stallspy or the system.
    pub const ERROR: u8 = 1;
    /// Bad usage.
    pub const USAGE: u8 = 2;
    /// A gate failed.
    pub const GATE: u8 = 3;
    /// No such process, or not a Python process we know.
    pub const NO_PYTHON: u8 = 4;
    /// Not permitted.
    pub const NOT_PERMITTED: u8 = 5;
    /// The target ended before anything was seen.
    pub const ENDED_EARLY: u8 = 6;
}
