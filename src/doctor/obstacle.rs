//! What is in the way of one thing: the first of the kernel's checks that fails, in its own order.
//!
//! Knows `__ptrace_may_access` (kernel/ptrace.c), `cap_ptrace_access_check` (security/commoncap.c),
//! `yama_ptrace_access_check` (security/yama/yama_lsm.c) and `perf_event_open`
//! (kernel/events/core.c). Pure.

use super::facts::{Facts, Target, Us};
use crate::target::{Capabilities, Gate, Trial};

/// At this the kernel forbids it to everybody, and cannot be told otherwise before it is booted anew
/// (`YAMA_SCOPE_NO_ATTACH`).
const YAMA_NEVER: u32 = 3;
/// What is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The target is of another user, and we lack this capability.
    OtherUser(Capabilities),
    /// It takes files that only their owner may read.
    FilesOfOwner,
    /// Its own user may not read it.
    NotDumpable,
    /// It has these capabilities and we have not.
    MoreCapabilities(Capabilities),
    /// Yama, at this scope.
    Yama(u32),
    /// `kernel.perf_event_paranoid`.
    Paranoid(i32),
    /// A seccomp filter forbids this call.
    Filtered(&'static str),
    /// This kernel has no such thing.
    NotThere(&'static str),
    /// It is in another user namespace, where our rights do not count.
    Namespace,
    /// The user does not want it.
    Unwanted,
    /// It has ended meanwhile.
    Gone,
    /// Something that does not say what it is: a security module, a limit.
    Unclear(String),
}

/// Why the memory of `target`, or without one of a process of our own user, cannot be read.
pub(super) fn of_memory(facts: &Facts, target: Option<&Target>) -> Obstacle {
    let us = &facts.us;
    match us.memory_call {
        Gate::Filtered => return Obstacle::Filtered("process_vm_readv"),
        Gate::Missing => return Obstacle::NotThere("process_vm_readv"),
        Gate::Open => {}
    }
    let scope = facts.machine.ptrace_scope.unwrap_or(0);
    let yama = (scope > 0).then_some(Obstacle::Yama(scope));
    if scope >= YAMA_NEVER {
        return Obstacle::Yama(scope);
    }
    if target.is_some_and(|target| takes_files(us, target)) {
        return Obstacle::FilesOfOwner;
    }
    let of_target = target
        .and_then(|target| of_access(us, target, us.may_read_others(), Capabilities::SYS_PTRACE));
    of_target.or(yama).unwrap_or_else(unclear)
}

/// Why `trial` of perf events, on `target` or on ourselves, did not work.
pub(super) fn of_perf(facts: &Facts, target: Option<&Target>, trial: &Trial) -> Obstacle {
    let us = &facts.us;
    match trial {
        Trial::Unwanted => Obstacle::Unwanted,
        Trial::Gone => Obstacle::Gone,
        Trial::Failed(said) => Obstacle::Unclear(said.clone()),
        _ if us.perf_call == Gate::Filtered => Obstacle::Filtered("perf_event_open"),
        Trial::Missing => Obstacle::NotThere("perf events of this kind"),
        _ => match facts.machine.perf_event_paranoid {
            Some(level)
                if facts.machine.is_paranoid() && !us.capabilities.has(Capabilities::SYS_ADMIN) =>
            {
                Obstacle::Paranoid(level)
            }
            _ => target
                .and_then(|target| {
                    of_access(us, target, us.may_perf(), facts.machine.perf_capability())
                })
                .unwrap_or_else(unclear),
        },
    }
}

/// Whether `target` is open to perf events once the kernel's setting is.
pub(super) fn is_own(facts: &Facts, target: &Target) -> bool {
    of_access(&facts.us, target, false, Capabilities::NONE).is_none()
}

/// Why `trial` of a file in `/proc/PID` that only whoever may read the process can read failed.
pub(super) fn of_file(facts: &Facts, target: &Target, trial: &Trial) -> Obstacle {
    match trial {
        Trial::Missing => Obstacle::NotThere("this file in /proc"),
        Trial::Gone => Obstacle::Gone,
        Trial::Failed(said) => Obstacle::Unclear(said.clone()),
        _ if takes_files(&facts.us, target) => Obstacle::FilesOfOwner,
        _ => of_memory(facts, Some(target)),
    }
}

/// Whether we may look at `target`, and not at files that only its user may read: those in `/proc`,
/// and a program below a home.
fn takes_files(us: &Us, target: &Target) -> bool {
    us.may_read_others() && !us.may_read_files() && us.uid != target.uid
}

/// What the kernel holds against our looking at `target`: whether we `may` look at others, and which
/// capability that takes.
fn of_access(us: &Us, target: &Target, may: bool, takes: Capabilities) -> Option<Obstacle> {
    // What we hold in one user namespace counts there and in those below it.
    let is_theirs = target.same_user_namespace == Some(true);
    if may {
        return Some(if us.first_user_namespace || is_theirs {
            unclear()
        } else {
            Obstacle::Namespace
        });
    }
    if !target.same_user {
        return Some(Obstacle::OtherUser(takes));
    }
    if target.open_to_its_user == Some(false) {
        return Some(Obstacle::NotDumpable);
    }
    let may_be_ours = us.first_user_namespace && target.same_user_namespace.is_none();
    if !is_theirs && !may_be_ours {
        return Some(Obstacle::Namespace);
    }
    let more = target.more_capabilities;
    (!more.is_empty()).then_some(Obstacle::MoreCapabilities(more))
}

fn unclear() -> Obstacle {
    Obstacle::Unclear(
        "the kernel's common rules would allow it: a security module (AppArmor, SELinux) or a \
         sandbox may be in the way"
            .to_owned(),
    )
}

impl Obstacle {
    /// What is in the way, in a sentence without its full stop.
    pub(super) fn sentence(&self, facts: &Facts) -> String {
        let target = facts.target.as_ref();
        let owner = target.map_or("", |target| target.user.as_str());
        let user = &facts.us.user;
        match self {
            Obstacle::OtherUser(takes) => {
                let takes: String = takes.names().collect();
                format!("it belongs to user {owner}; we are user {user} and lack CAP_{takes}")
            }
            Obstacle::FilesOfOwner => {
                format!(
                    "it takes files that only user {owner} may read, and we lack \
                         CAP_DAC_READ_SEARCH"
                )
            }
            Obstacle::NotDumpable => format!(
                "user {owner} may not read it either: it gained rights when it was started, or \
                 changed its user (prctl PR_SET_DUMPABLE)"
            ),
            Obstacle::MoreCapabilities(more) => {
                let names: Vec<String> = more.names().map(|name| format!("CAP_{name}")).collect();
                format!("it has capabilities that we have not: {}", names.join(", "))
            }
            Obstacle::Yama(1) => "kernel.yama.ptrace_scope is 1: a user may read only processes \
                                  they launch through the reader"
                .to_owned(),
            Obstacle::Yama(scope) if *scope < YAMA_NEVER => {
                format!("kernel.yama.ptrace_scope is {scope}: only CAP_SYS_PTRACE may read others")
            }
            Obstacle::Yama(scope) => format!(
                "kernel.yama.ptrace_scope is {scope}: nobody may read others, and that can only be \
                 changed by a reboot"
            ),
            Obstacle::Paranoid(level) => format!(
                "kernel.perf_event_paranoid is {level}: kernels of Debian and Ubuntu then keep perf \
                 events from all but CAP_SYS_ADMIN"
            ),
            Obstacle::Filtered(call) => {
                format!("a seccomp filter forbids us the system call {call}")
            }
            Obstacle::NotThere(what) => format!("this kernel does not have {what}"),
            Obstacle::Namespace => {
                "it is in a user namespace that is not ours, where our rights do not count"
                    .to_owned()
            }
            Obstacle::Unwanted => "the environment variable STALLSPY_NO_PERF is set".to_owned(),
            Obstacle::Gone => "it has ended meanwhile".to_owned(),
            Obstacle::Unclear(said) => said.clone(),
        }
    }
}
