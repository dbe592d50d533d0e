//! uvicorn: one process, a supervisor with spawned workers (`--workers`), or a reloader with one.
//!
//! Recognised by frames: `Server.run` is under everything that a serving process does,
//! `Multiprocess.run` under a supervisor's.
//! <https://github.com/encode/uvicorn/blob/0.30.0/uvicorn/server.py>; the same names from 0.13 to 0.54.

use super::facts::{is_spawned, program};
use super::{Facts, Probe, Recognised};
use crate::model::{Role, WorkerClass};

const SERVER: &str = "/uvicorn/server.py";
const MULTIPROCESS: &str = "/uvicorn/supervisors/multiprocess.py";
const RELOAD: &str = "/uvicorn/supervisors/basereload.py";
/// Where a spawned child begins; without the underscore before 0.15.
const SUBPROCESS: [&str; 2] = ["/uvicorn/_subprocess.py", "/uvicorn/subprocess.py"];

/// The probe for uvicorn.
#[derive(Debug, Clone, Copy)]
pub struct Uvicorn;

impl Probe for Uvicorn {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        let of =
            |role| Recognised::new("uvicorn", facts.version("uvicorn"), role, WorkerClass::Uvicorn);
        let is_child =
            SUBPROCESS.iter().any(|file| facts.frame(file, "subprocess_started").is_some());
        let serving = facts.frame(SERVER, "run");
        if serving.is_some() || is_child {
            let mut found = of(if is_child { Role::Worker } else { Role::Single });
            found.objects.server = serving.and_then(|place| facts.object(place, "self"));
            let config = found.objects.server.and_then(|one| facts.attribute(one, "config"));
            found.objects.config = config;
            // A child that still imports the application has no server yet.
            found.is_settled = serving.is_some();
            return Some(found);
        }
        for (file, is_reloader) in [(MULTIPROCESS, false), (RELOAD, true)] {
            if let Some(place) = facts.frame(file, "run") {
                let mut found = of(Role::Master);
                found.topology.development = is_reloader;
                found.objects.master = facts.object(place, "self");
                let config = found.objects.master.and_then(|one| facts.attribute(one, "config"));
                found.objects.config = config;
                return Some(found);
            }
        }
        by_command(facts)
    }
}

/// While it starts, or where its frames are out of sight.
fn by_command(facts: &Facts<'_>) -> Option<Recognised> {
    let is_child = is_spawned(facts.command) && program(facts.parent) == Some("uvicorn");
    let role = if is_child {
        Role::Worker
    } else if facts.runs("uvicorn") {
        if has_workers(facts.command) { Role::Master } else { Role::Single }
    } else if facts.has_file(SERVER) {
        Role::Single
    } else {
        return None;
    };
    let version = facts.version("uvicorn");
    Some(Recognised::new("uvicorn", version, role, WorkerClass::Uvicorn).unsettled())
}

/// Whether the options ask for a process apart from the one that serves.
fn has_workers(command: &[String]) -> bool {
    let count = |text: &str| text.parse::<u32>().is_ok_and(|count| count > 1);
    command
        .iter()
        .any(|word| word == "--reload" || word.strip_prefix("--workers=").is_some_and(count))
        || command
            .windows(2)
            .any(|pair| matches!(pair, [option, value] if option == "--workers" && count(value)))
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    fn ask(command: &str, parent: &str, stack: &[&str]) -> Option<(Role, bool)> {
        let found = with(command, parent, stack, |facts| Uvicorn.recognise(facts))?;
        assert_eq!(found.topology.class, WorkerClass::Uvicorn);
        Some((found.topology.role, found.is_settled))
    }

    const SPAWNED: &str = "python -c from_multiprocessing.spawn --multiprocessing-fork";

    #[test]
    fn a_program_that_calls_uvicorn_run_is_uvicorn() {
        assert_eq!(
            ask("python app.py", "", &["uvicorn/server.py:run"]),
            Some((Role::Single, true))
        );
    }

    #[test]
    fn a_supervisor_and_its_children() {
        let waiting = ["../threading.py:wait", "uvicorn/supervisors/multiprocess.py:run"];
        assert_eq!(ask("python app.py", "", &waiting), Some((Role::Master, true)));
        let serving = [
            "uvicorn/server.py:run",
            "uvicorn/supervisors/multiprocess.py:target",
            "uvicorn/_subprocess.py:subprocess_started",
        ];
        assert_eq!(ask(SPAWNED, "python app.py", &serving), Some((Role::Worker, true)));
        let importing = ["../../app.py:<module>", "uvicorn/subprocess.py:subprocess_started"];
        assert_eq!(ask(SPAWNED, "python app.py", &importing), Some((Role::Worker, false)));
        let reloading = [
            "uvicorn/supervisors/statreload.py:should_restart",
            "uvicorn/supervisors/basereload.py:run",
        ];
        let found =
            with("python app.py", "", &reloading, |facts| Uvicorn.recognise(facts)).unwrap();
        assert!(found.topology.development);
        assert_eq!(found.topology.role, Role::Master);
    }

    #[test]
    fn its_command_line_is_enough_while_it_starts() {
        for (command, role) in [
            ("/srv/venv/bin/python /srv/venv/bin/uvicorn app:app", Role::Single),
            ("python3 -m uvicorn app:app", Role::Single),
            ("python3 -m uvicorn app:app --workers 1", Role::Single),
            ("uvicorn app:app --workers 4", Role::Master),
            ("uvicorn app:app --workers=4", Role::Master),
            ("uvicorn --reload app:app", Role::Master),
        ] {
            assert_eq!(ask(command, "bash", &[]), Some((role, false)), "{command}");
        }
    }

    #[test]
    fn a_program_that_only_mentions_it_is_not() {
        assert_eq!(ask("python3 tail.py --log uvicorn.log", "", &[]), None);
        assert_eq!(ask("grep -r x uvicorn", "", &[]), None);
    }
}
