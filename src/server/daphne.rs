//! daphne: an ASGI server on twisted's reactor, in one process.
//! <https://github.com/django/daphne/blob/4.1.2/daphne/server.py>

use super::{Facts, Probe, Recognised};
use crate::model::{Role, WorkerClass};

/// The probe for daphne.
#[derive(Debug, Clone, Copy)]
pub struct Daphne;

impl Probe for Daphne {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        let serving = facts.frame("/daphne/server.py", "run");
        if serving.is_none() && !facts.runs("daphne") {
            return None;
        }
        let version = facts.version("daphne");
        let mut found = Recognised::new("daphne", version, Role::Single, WorkerClass::Twisted);
        found.topology.class_version = facts.version("twisted");
        found.is_settled = serving.is_some();
        // `manage.py runserver` with channels serves by daphne, under Django's reloader.
        if facts.has_file("/daphne/management/commands/runserver.py") {
            let is_child = facts.frame("/django/utils/autoreload.py", "start_django").is_some();
            found.topology.role = if is_child { Role::Worker } else { Role::Single };
            found.topology.development = true;
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    #[test]
    fn by_its_frame_or_its_command() {
        let ask = |command: &str, stack: &[&str]| {
            with(command, "", stack, |facts| Daphne.recognise(facts)).map(|found| found.is_settled)
        };
        assert_eq!(ask("python x.py", &["daphne/server.py:run"]), Some(true));
        assert_eq!(ask("/venv/bin/python /venv/bin/daphne app:app", &[]), Some(false));
        assert_eq!(ask("python x.py daphne", &[]), None);
    }
}
