//! How facts that are not ours to change look in JSON. Names in it are a contract.

use serde::ser::{SerializeMap, Serializer};

use super::facts::USEFUL;
use crate::target::{Capabilities, Container, Engine, Gate, Trial};

/// `["CAP_SYS_PTRACE", …]`.
pub(super) fn names<S: Serializer>(set: &Capabilities, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(set.names().map(|name| format!("CAP_{name}")))
}

/// The same, of those that stallspy has a use for.
pub(super) fn useful_names<S: Serializer>(set: &Capabilities, to: S) -> Result<S::Ok, S::Error> {
    names(&set.among(USEFUL), to)
}

/// How a trial ended, in a word.
pub(super) fn trial<S: Serializer>(trial: &Trial, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match trial {
        Trial::Works => "works",
        Trial::Denied => "denied",
        Trial::Missing => "missing",
        Trial::Unwanted => "unwanted",
        Trial::Gone => "gone",
        Trial::Failed(_) => "failed",
    })
}

/// Whether a call gets through.
pub(super) fn gate<S: Serializer>(gate: &Gate, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match gate {
        Gate::Open => "open",
        Gate::Filtered => "filtered",
        Gate::Missing => "missing",
    })
}

/// `{"engine": "docker", "name": "0123456789ab"}`.
pub(super) fn container<S: Serializer>(
    container: &Option<Container>,
    to: S,
) -> Result<S::Ok, S::Error> {
    let Some(container) = container else { return to.serialize_none() };
    let mut map = to.serialize_map(Some(2))?;
    map.serialize_entry("engine", engine(container.engine))?;
    map.serialize_entry("name", &container.name)?;
    map.end()
}

/// An engine's name.
pub(super) fn engine(engine: Engine) -> &'static str {
    match engine {
        Engine::Docker => "docker",
        Engine::Podman => "podman",
        Engine::Kubernetes => "kubernetes",
        Engine::Other => "other",
    }
}
