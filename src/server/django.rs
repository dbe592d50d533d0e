//! Django's development server: `manage.py runserver`, under its reloader or not.
//! <https://github.com/django/django/blob/5.0/django/utils/autoreload.py>

use super::{Facts, Probe, Recognised, under_reloader};
use crate::model::{Role, WorkerClass};

const COMMAND: &str = "/django/core/management/commands/runserver.py";
const SERVING: &str = "/django/core/servers/basehttp.py";
const RELOADER: &str = "/django/utils/autoreload.py";

/// The probe for Django's development server.
#[derive(Debug, Clone, Copy)]
pub struct Django;

impl Probe for Django {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        if !facts.has_file(COMMAND) {
            return None;
        }
        let role = under_reloader(facts, RELOADER, "start_django").unwrap_or(Role::Single);
        let version = facts.version("django");
        let found = Recognised::new("django", version, role, WorkerClass::ThreadPerRequest);
        let found = found.for_development();
        // Until it serves, a reloader may begin.
        let is_certain = role != Role::Single || facts.frame(SERVING, "run").is_some();
        Some(if is_certain { found } else { found.unsettled() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    #[test]
    fn the_reloader_its_child_and_neither() {
        let ask = |stack: &[&str]| {
            let found =
                with("python manage.py runserver", "", stack, |facts| Django.recognise(facts))?;
            assert!(found.topology.development);
            Some((found.topology.role, found.is_settled))
        };
        let root = "django/core/management/commands/runserver.py:run";
        assert_eq!(
            ask(&["django/utils/autoreload.py:restart_with_reloader", root]),
            Some((Role::Master, true))
        );
        assert_eq!(
            ask(&["django/utils/autoreload.py:start_django", root]),
            Some((Role::Worker, true))
        );
        let serving =
            ["socketserver.py:serve_forever", "django/core/servers/basehttp.py:run", root];
        assert_eq!(ask(&serving), Some((Role::Single, true)));
        assert_eq!(ask(&[root]), Some((Role::Single, false)), "a reloader may begin");
        assert_eq!(ask(&["django/core/management/commands/migrate.py:handle"]), None);
    }
}
