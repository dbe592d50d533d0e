//! uWSGI: a server in C with Python inside.
//!
//! Recognised by its program's name, or the titles of `--auto-procname`, and by its parent's: an
//! idle worker runs no Python at all. Its Python is sampled; it has no loop.
//! (<https://uwsgi-docs.readthedocs.io/en/latest/Options.html#auto-procname>)

use super::facts::program;
use super::{Facts, Probe, Recognised};
use crate::model::{Role, WorkerClass};

/// The probe for uWSGI.
#[derive(Debug, Clone, Copy)]
pub struct Uwsgi;

impl Probe for Uwsgi {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        if !is_uwsgi(facts.command) {
            return None;
        }
        let title = facts.command.join(" ");
        let has_master =
            ["--master", "-M"].iter().any(|one| facts.command.iter().any(|word| word == one));
        let role = if title.starts_with("uWSGI worker") || is_uwsgi(facts.parent) {
            Role::Worker
        } else if title.starts_with("uWSGI master") || has_master {
            Role::Master
        } else {
            Role::Single
        };
        Some(Recognised::new("uwsgi", None, role, WorkerClass::Uwsgi))
    }
}

fn is_uwsgi(command: &[String]) -> bool {
    program(command) == Some("uwsgi") || command.join(" ").starts_with("uWSGI ")
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    #[test]
    fn the_parent_tells_a_worker_from_its_master() {
        let ask = |command: &str, parent: &str| {
            with(command, parent, &[], |facts| Uwsgi.recognise(facts)).map(|one| one.topology.role)
        };
        let line = "uwsgi --master --http :8000";
        assert_eq!(ask(line, "bash"), Some(Role::Master));
        assert_eq!(ask(line, line), Some(Role::Worker));
        assert_eq!(ask("/usr/bin/uwsgi --http :8000", "systemd"), Some(Role::Single));
        assert_eq!(ask("uWSGI worker 1", "uWSGI master"), Some(Role::Worker));
        assert_eq!(ask("vi uwsgi.ini", "bash"), None);
    }
}
