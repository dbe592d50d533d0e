//! granian: a server in Rust that calls Python, in worker processes.
//!
//! Recognised, and its Python sampled; its own loop runs outside Python.
//! <https://github.com/emmett-framework/granian/blob/v2.0.0/granian/server/mp.py>

use super::{Facts, Probe, Recognised};
use crate::model::{Role, WorkerClass};

/// The probe for granian.
#[derive(Debug, Clone, Copy)]
pub struct Granian;

impl Probe for Granian {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        let of =
            |role| Recognised::new("granian", facts.version("granian"), role, WorkerClass::Granian);
        let mut frames = facts.stacks.iter().flatten();
        let is_worker = frames.any(|place| {
            place.file.contains("/granian/server/")
                && place.function.starts_with("_spawn_")
                && place.function.ends_with("_worker")
        });
        if is_worker {
            return Some(of(Role::Worker));
        }
        if facts.frame("/granian/server/common.py", "serve").is_some() {
            return Some(of(Role::Master));
        }
        facts.runs("granian").then(|| of(Role::Master).unsettled())
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    #[test]
    fn a_forked_worker_has_its_masters_frames_below_its_own() {
        let ask = |command: &str, stack: &[&str]| {
            with(command, "", stack, |facts| Granian.recognise(facts)).map(|one| one.topology.role)
        };
        let master = ["../threading.py:wait", "granian/server/common.py:serve"];
        assert_eq!(ask("granian app:app", &master), Some(Role::Master));
        let worker = [
            "granian/server/mp.py:_spawn_asgi_worker",
            "granian/server/common.py:_spawn_workers",
            "granian/server/common.py:serve",
        ];
        assert_eq!(ask("granian app:app", &worker), Some(Role::Worker));
        assert_eq!(ask("python x.py granian", &[]), None);
    }
}
