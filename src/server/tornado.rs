//! tornado's own programs: one process, or forked ones (`HTTPServer.start(4)`).
//! <https://github.com/tornadoweb/tornado/blob/v6.4.0/tornado/process.py>

use super::{Facts, Probe, Recognised};
use crate::model::{Role, WorkerClass};

/// The probe for tornado.
#[derive(Debug, Clone, Copy)]
pub struct Tornado;

impl Probe for Tornado {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        let role = if facts.frame("/tornado/process.py", "fork_processes").is_some() {
            Role::Master
        } else if facts.frame("/tornado/platform/asyncio.py", "start").is_some()
            || facts.has_file("/tornado/httpserver.py")
            || facts.has_file("/tornado/http1connection.py")
        {
            // The children of `fork_processes` return from it, and look like any other.
            let is_child = !facts.parent.is_empty() && facts.parent == facts.command;
            if is_child { Role::Worker } else { Role::Single }
        } else {
            return None;
        };
        let version = facts.version("tornado");
        Some(Recognised::new("tornado", version, role, WorkerClass::Tornado))
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    #[test]
    fn one_process_or_forked_ones() {
        let ask = |parent: &str, stack: &[&str]| {
            with("python x.py", parent, stack, |facts| Tornado.recognise(facts))
                .map(|one| one.topology.role)
        };
        let serving = ["tornado/platform/asyncio.py:start"];
        assert_eq!(ask("bash", &serving), Some(Role::Single));
        assert_eq!(ask("python x.py", &serving), Some(Role::Worker));
        assert_eq!(ask("bash", &["tornado/process.py:fork_processes"]), Some(Role::Master));
        assert_eq!(ask("bash", &["tornado/gen.py:run"]), None);
    }
}
