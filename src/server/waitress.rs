//! waitress: one process, whose main thread reads requests and hands them to a pool of threads.
//!
//! Recognised by its server's `run`, whose `self` has the settings (`adj`)
//! (<https://github.com/Pylons/waitress/blob/v3.0.0/src/waitress/server.py#L32>; the same from 1.3 on).

use super::{Facts, Probe, Recognised};
use crate::model::{Role, WorkerClass};

const SERVER: &str = "/waitress/server.py";
/// The function that each of its threads runs all its life.
const THREAD: (&str, &str) = ("/waitress/task.py", "handler_thread");

/// The probe for waitress.
#[derive(Debug, Clone, Copy)]
pub struct Waitress;

impl Probe for Waitress {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        let of = || {
            let version = facts.version("waitress");
            Recognised::new("waitress", version, Role::Single, WorkerClass::ThreadPool)
        };
        if let Some(run) = facts.frame(SERVER, "run") {
            let mut found = of();
            let server = facts.object(run, "self");
            found.objects.config = server.and_then(|server| facts.attribute(server, "adj"));
            return Some(found);
        }
        facts.frame(THREAD.0, THREAD.1).map(|_| of().unsettled())
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    #[test]
    fn by_the_frame_that_serves_and_by_its_threads() {
        let ask = |command: &str, stack: &[&str]| {
            let found = with(command, "", stack, |facts| Waitress.recognise(facts))?;
            assert_eq!(found.topology.class, WorkerClass::ThreadPool);
            Some((found.topology.role, found.is_settled))
        };
        let main = ["waitress/wasyncore.py:loop", "waitress/server.py:run", "../../serve.py:main"];
        assert_eq!(ask("python serve.py", &main), Some((Role::Single, true)));
        let thread = ["../threading.py:wait", "waitress/task.py:handler_thread"];
        assert_eq!(ask("python serve.py", &thread), Some((Role::Single, false)));
        assert_eq!(ask("waitress-serve app:app", &["../../app.py:<module>"]), None);
        assert_eq!(ask("python x.py", &["waitress/utilities.py:find_double_newline"]), None);
    }
}
