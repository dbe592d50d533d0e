//! tornado's own programs: one process, or forked ones (`HTTPServer.start(4)`).
//! <https://github.com/tornadoweb/tornado/blob/v6.4.0/tornado/process.py>

use super::{Facts, Probe, Recognised};
use crate::model::{Role, WorkerClass};

const PROCESS: &str = "/tornado/process.py";

/// The probe for tornado.
#[derive(Debug, Clone, Copy)]
pub struct Tornado;

impl Probe for Tornado {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        let starts = facts.frame("/tornado/platform/asyncio.py", "start").is_some();
        let mut is_certain =
            starts || facts.frame("/asyncio/base_events.py", "run_forever").is_some();
        let role = if facts.frame(PROCESS, "fork_processes").is_some() {
            // In here it forks, and the child returns.
            is_certain = facts.frame(PROCESS, "start_child").is_none();
            Role::Master
        } else if starts
            || facts.has_file("/tornado/httpserver.py")
            // All that is seen while a handler has the loop.
            || facts.has_file("/tornado/web.py")
            || facts.has_file("/tornado/http1connection.py")
        {
            // The children of `fork_processes` return from it, and look like any other.
            let is_child = !facts.parent.is_empty() && facts.parent == facts.command;
            if is_child { Role::Worker } else { Role::Single }
        } else {
            return None;
        };
        let version = facts.version("tornado");
        let found = Recognised::new("tornado", version, role, WorkerClass::Tornado);
        // Until its loop runs it may fork.
        Some(if is_certain { found } else { found.unsettled() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    #[test]
    fn one_process_or_forked_ones() {
        let ask = |parent: &str, stack: &[&str]| {
            let found = with("python x.py", parent, stack, |facts| Tornado.recognise(facts))?;
            Some((found.topology.role, found.is_settled))
        };
        let serving = ["tornado/platform/asyncio.py:start"];
        assert_eq!(ask("bash", &serving), Some((Role::Single, true)));
        assert_eq!(ask("python x.py", &serving), Some((Role::Worker, true)));
        let master = ["tornado/process.py:fork_processes", "tornado/httpserver.py:start"];
        assert_eq!(ask("bash", &master), Some((Role::Master, true)));
        let forking = [&["tornado/process.py:start_child"], &master[..]].concat();
        assert_eq!(ask("bash", &forking), Some((Role::Master, false)), "or just forked");
        let making = ["tornado/httpserver.py:initialize"];
        assert_eq!(ask("bash", &making), Some((Role::Single, false)), "it may fork");
        let running =
            ["tornado/httpserver.py:start_request", "../asyncio/base_events.py:run_forever"];
        assert_eq!(ask("bash", &running), Some((Role::Single, true)));
        assert_eq!(ask("bash", &["tornado/httpserver.py:<module>"]), None);
        assert_eq!(ask("bash", &["tornado/web.py:_execute"]), Some((Role::Single, false)));
        assert_eq!(ask("bash", &["tornado/gen.py:run"]), None);
    }
}
