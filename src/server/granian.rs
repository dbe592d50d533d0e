//! granian: a server in Rust that calls Python, in worker processes.
//!
//! Recognised, and its Python sampled; its own loop runs outside Python.
//! <https://github.com/emmett-framework/granian/blob/v2.0.0/granian/server/mp.py>

use super::fork::{Side, side};
use super::{Facts, Place, Probe, Recognised};
use crate::model::{Role, WorkerClass};

/// The probe for granian.
#[derive(Debug, Clone, Copy)]
pub struct Granian;

impl Probe for Granian {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        let of =
            |role| Recognised::new("granian", facts.version("granian"), role, WorkerClass::Granian);
        if facts.stacks.iter().flatten().any(is_workers) {
            return Some(of(Role::Worker));
        }
        match side(facts, |place| place.is("/granian/server/common.py", "serve")) {
            Some(Side::Parent(_)) => Some(of(Role::Master)),
            Some(Side::Either(_)) => Some(of(Role::Master).unsettled()),
            Some(Side::Child) => Some(of(Role::Worker).unsettled()),
            None => facts.runs("granian").then(|| of(Role::Master).unsettled()),
        }
    }
}

/// Whether this is the function that a worker runs, or the one around it, which loads the application
/// (<https://github.com/emmett-framework/granian/blob/v2.0.0/granian/server/mp.py#L48>).
fn is_workers(place: &Place) -> bool {
    let is_spawned = place.function.starts_with("_spawn_") && place.function.ends_with("_worker");
    place.file.contains("/granian/server/") && (is_spawned || place.function == "wrapped")
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    #[test]
    fn a_forked_worker_has_its_masters_frames_below_its_own() {
        let ask = |command: &str, stack: &[&str]| {
            let found = with(command, "", stack, |facts| Granian.recognise(facts))?;
            Some((found.topology.role, found.is_settled))
        };
        let (master, worker) = (Role::Master, Role::Worker);
        let serve = "granian/server/common.py:serve";
        let command = "granian app:app";
        assert_eq!(ask(command, &["../threading.py:wait", serve]), Some((master, true)));
        let launch = ["../multiprocessing/popen_fork.py:_launch", serve];
        assert_eq!(ask(command, &launch), Some((master, false)), "or just forked");
        let child = [&["../multiprocessing/process.py:_bootstrap"], &launch[..]].concat();
        assert_eq!(ask(command, &child), Some((worker, false)));
        let loading = [&["../../app.py:<module>", "granian/server/mp.py:wrapped"], &child[..]];
        assert_eq!(ask(command, &loading.concat()), Some((worker, true)));
        let serving = [&["granian/server/mp.py:_spawn_asgi_worker"], &child[..]].concat();
        assert_eq!(ask(command, &serving), Some((worker, true)));
        assert_eq!(ask(command, &[]), Some((master, false)));
        assert_eq!(ask("python x.py granian", &[]), None);
    }
}
