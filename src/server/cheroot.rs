//! cheroot, the server of `CherryPy`, and that: one process, whose threads each read a request and serve it.
//!
//! Recognised by its server's `serve`, whose `self` has the settings
//! (<https://github.com/cherrypy/cheroot/blob/v10.0.0/cheroot/server.py#L1823>; `start` before 8.1). CherryPy
//! runs it in a thread of its own
//! (<https://github.com/cherrypy/cherrypy/blob/v18.9.0/cherrypy/process/servers.py#L218>).

use super::{Facts, Probe, Recognised};
use crate::model::{Role, WorkerClass};

const SERVER: &str = "/cheroot/server.py";
const SERVES: [&str; 2] = ["serve", "start"];
/// The function that each of its threads runs all its life.
const THREAD: (&str, &str) = ("/cheroot/workers/threadpool.py", "run");
const CHERRYPY: (&str, &str) = ("/cherrypy/process/servers.py", "_start_http_thread");

/// The probe for cheroot and `CherryPy`.
#[derive(Debug, Clone, Copy)]
pub struct Cheroot;

impl Probe for Cheroot {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        let serve = SERVES.iter().find_map(|function| facts.frame(SERVER, function));
        if serve.is_none() && facts.frame(THREAD.0, THREAD.1).is_none() {
            return None;
        }
        let is_cherrypy = facts.frame(CHERRYPY.0, CHERRYPY.1).is_some();
        let name = if is_cherrypy { "cherrypy" } else { "cheroot" };
        let version = facts.version(name);
        let mut found = Recognised::new(name, version, Role::Single, WorkerClass::ThreadPool);
        if is_cherrypy {
            found.topology.class_version = facts.version("cheroot");
        }
        let Some(serve) = serve else { return Some(found.unsettled()) };
        found.objects.config = facts.object(serve, "self");
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    #[test]
    fn by_the_frame_that_serves_and_by_its_threads() {
        let ask = |stack: &[&str]| {
            let found = with("python serve.py", "", stack, |facts| Cheroot.recognise(facts))?;
            assert_eq!(found.topology.class, WorkerClass::ThreadPool);
            assert_eq!(found.topology.role, Role::Single);
            Some((found.topology.server, found.is_settled))
        };
        let name = |name: &str, settled| Some((name.to_owned(), settled));
        let main = ["cheroot/connections.py:_run", "cheroot/server.py:serve"];
        assert_eq!(ask(&main), name("cheroot", true));
        let thread = ["../queue.py:get", "cheroot/workers/threadpool.py:run"];
        assert_eq!(ask(&thread), name("cheroot", false));
        let framework = [&main[..], &["cherrypy/process/servers.py:_start_http_thread"]].concat();
        assert_eq!(ask(&framework), name("cherrypy", true));
        assert_eq!(ask(&["cheroot/cli.py:main"]), None);
    }
}
