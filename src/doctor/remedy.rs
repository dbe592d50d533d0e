//! Which ways there are to be allowed more. Pure; `advice.rs` puts them into words.
//!
//! Only what helps in the case at hand is advised: `sudo` and file capabilities not where they have
//! no effect, settings of the kernel not from inside a container, and nothing that needs a capability
//! which nobody here can get.

use super::advice::is_installed;
use super::facts::{Facts, PARANOID_OWN};
use super::obstacle::{self, Obstacle};
use crate::target::{Capabilities, Engine};

/// A way to be allowed more, not yet put into words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remedy {
    /// As root.
    Sudo,
    /// As the target's user.
    SudoAs(String),
    /// Capabilities for our file.
    Setcap,
    /// As this user of this container, by number.
    Exec(u32),
    /// From a container beside this one.
    Beside { filtered: bool },
    /// From the host, where a container's processes are to be seen.
    FromHost,
    /// A setting of the kernel.
    Sysctl(&'static str, i32),
    /// Launched by us, the target is ours to read.
    Launch,
    /// Without the variable that forbids it.
    Unset,
}

/// What would help against `obstacle`, the best first, if it takes the capabilities `wanted`.
pub(super) fn remedies(facts: &Facts, obstacle: &Obstacle, wanted: Capabilities) -> Vec<Remedy> {
    let mut ways = match obstacle {
        Obstacle::Unwanted => vec![Remedy::Unset],
        Obstacle::Yama(1) => vec![Remedy::Launch],
        Obstacle::OtherUser(_) => as_owner(facts).into_iter().collect(),
        _ => Vec::new(),
    };
    match obstacle {
        Obstacle::NotThere(_) | Obstacle::Unwanted | Obstacle::Gone | Obstacle::Unclear(_) => {}
        Obstacle::Yama(scope) if *scope > 2 => {}
        Obstacle::Namespace if !facts.us.first_user_namespace => {
            ways.extend(from_outside(facts, false));
        }
        Obstacle::Filtered(_) => ways.extend(from_outside(facts, true)),
        _ => ways.extend(by_capabilities(facts, wanted)),
    }
    match obstacle {
        Obstacle::Yama(1 | 2) => ways.push(Remedy::Sysctl("kernel.yama.ptrace_scope", 0)),
        Obstacle::Paranoid(_)
            if facts.target.as_ref().is_none_or(|target| obstacle::is_own(facts, target)) =>
        {
            // The other way takes nearly all of root's power.
            ways.insert(0, Remedy::Sysctl("kernel.perf_event_paranoid", PARANOID_OWN));
        }
        _ => {}
    }
    // The kernel's settings are the machine's, and only its root's to change.
    ways.retain(|way| !matches!(way, Remedy::Sysctl(..)) || can_become_root(facts));
    ways
}

/// How to get capabilities.
pub(super) fn by_capabilities(facts: &Facts, wanted: Capabilities) -> Vec<Remedy> {
    let us = &facts.us;
    // Root is another user than the target's, mostly.
    let all = wanted | Capabilities::SYS_PTRACE;
    let is_attainable = us.bounding.has(all) && us.first_user_namespace;
    match &us.container {
        Some(container) if us.uid != 0 && is_attainable && has_exec(container.engine) => {
            vec![Remedy::Exec(0)]
        }
        Some(_) => from_outside(facts, false),
        None if us.uid != 0 && is_attainable && !us.no_new_privs => {
            // One capability is as good as all: not for a file that anybody may run.
            let is_much = !wanted.among(Capabilities::SYS_ADMIN).is_empty();
            let setcap = (!us.nosuid && !is_much).then_some(Remedy::Setcap);
            std::iter::once(Remedy::Sudo).chain(setcap).collect()
        }
        None => Vec::new(),
    }
}

/// Why nothing that can be typed here helps, where that is not plain.
pub(super) fn why_none(facts: &Facts, obstacle: &Obstacle) -> Option<&'static str> {
    match obstacle {
        Obstacle::Filtered(_) => Some(
            "whoever started this shell or service has set it, and it stays for all that is started \
             from here",
        ),
        Obstacle::NotThere(_) | Obstacle::Gone | Obstacle::Unclear(_) => None,
        _ if facts.us.no_new_privs => {
            Some("sudo and file capabilities have no effect here (no_new_privs)")
        }
        _ => None,
    }
}

/// How to come from outside the container or namespace we are in.
fn from_outside(facts: &Facts, filtered: bool) -> Vec<Remedy> {
    match &facts.us.container {
        Some(container) if container.engine == Engine::Other => vec![Remedy::FromHost],
        Some(_) => vec![Remedy::Beside { filtered }, Remedy::FromHost],
        None => Vec::new(),
    }
}

/// Becoming the target's user, where that is enough.
fn as_owner(facts: &Facts) -> Option<Remedy> {
    let target = facts.target.as_ref()?;
    let is_enough = target.open_to_its_user != Some(false)
        && target.more_capabilities.is_empty()
        && target.uid != 0
        && facts.machine.ptrace_scope.unwrap_or(0) == 0;
    match &facts.us.container {
        _ if !is_enough => None,
        Some(container) => has_exec(container.engine).then_some(Remedy::Exec(target.uid)),
        // What lies elsewhere may be somewhere that user cannot go.
        None => (can_become_root(facts) && is_installed(&facts.us.executable))
            .then(|| Remedy::SudoAs(target.user.clone())),
    }
}

/// Whether `sudo` may work here and makes root of the machine, as far as can be told.
fn can_become_root(facts: &Facts) -> bool {
    let us = &facts.us;
    us.container.is_none() && us.first_user_namespace && (us.uid == 0 || !us.no_new_privs)
}

pub(super) fn has_exec(engine: Engine) -> bool {
    matches!(engine, Engine::Docker | Engine::Podman)
}
