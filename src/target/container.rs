//! Whether we run in a container, and whose.
//!
//! Knows the marks that container engines leave. None of them is a promise, so nothing is allowed
//! or refused because of this: it decides which commands can help.

use std::path::Path;

use super::{Capabilities, ProcFs};
use crate::units::Pid;

/// Who runs a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Docker, by `/.dockerenv`.
    Docker,
    /// Podman, by `/run/.containerenv`.
    Podman,
    /// A kubelet, by the variable it gives to every container (`KUBERNETES_SERVICE_HOST`).
    Kubernetes,
    /// Some other: a pid or user namespace of its own, or capabilities that nobody here can get.
    Other,
}

/// The container we run in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Who runs it.
    pub engine: Engine,
    /// What to call it: Docker's and Podman's host name is the container's id unless somebody chose
    /// another, a pod's is its name.
    pub name: Option<String>,
}

/// The container that we, `pid`, run in; `None` if nothing speaks for one.
#[must_use]
pub fn container(procfs: &ProcFs, pid: Pid) -> Option<Container> {
    // A kernel that does not show namespaces has none.
    let is_another = |first| matches!(first, Ok(false));
    let is_apart = is_another(procfs.is_in_first_pid_namespace(pid))
        // A container that shares the host's pids has had this taken away all the same.
        || procfs.standing(pid).is_ok_and(|own| !own.bounding.has(Capabilities::SYS_ADMIN));
    let engine = if is_apart {
        engine(
            std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
            Path::new("/run/.containerenv").exists(),
            Path::new("/.dockerenv").exists(),
        )
    } else if is_another(procfs.is_in_first_user_namespace(pid)) {
        Engine::Other
    } else {
        // The files alone are found on machines made from a container's image.
        return None;
    };
    let host = nix::sys::utsname::uname().ok();
    let host = host.as_ref().and_then(|names| names.nodename().to_str());
    Some(Container { engine, name: host.filter(|host| is_name(engine, host)).map(str::to_owned) })
}

/// Whose marks these are. A kubelet's containers may bear those of the engine below it, too.
fn engine(kubernetes: bool, podman: bool, docker: bool) -> Engine {
    match (kubernetes, podman, docker) {
        (true, ..) => Engine::Kubernetes,
        (_, true, _) => Engine::Podman,
        (.., true) => Engine::Docker,
        _ => Engine::Other,
    }
}

/// Whether a host name is likely the container's.
fn is_name(engine: Engine, host: &str) -> bool {
    /// Docker's and Podman's short ids.
    const ID_DIGITS: usize = 12;
    match engine {
        Engine::Docker | Engine::Podman => {
            host.len() == ID_DIGITS && host.chars().all(|c| c.is_ascii_hexdigit())
        }
        Engine::Kubernetes => {
            host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
        }
        Engine::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_marks_these_are() {
        assert_eq!(engine(false, false, true), Engine::Docker);
        assert_eq!(engine(false, true, true), Engine::Podman);
        assert_eq!(engine(true, false, true), Engine::Kubernetes);
        assert_eq!(engine(false, false, false), Engine::Other);
    }

    #[test]
    fn only_an_id_is_taken_for_one() {
        assert!(is_name(Engine::Docker, "0123456789ab"));
        assert!(!is_name(Engine::Docker, "web"));
        assert!(is_name(Engine::Kubernetes, "web-6d4cf56db6-abcde"));
        assert!(!is_name(Engine::Kubernetes, "web; rm"));
    }
}
