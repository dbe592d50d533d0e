//! uvicorn: recognised by its own source file in a stack, or by its command line.

use super::{Facts, Probe};
use crate::model::{Role, WorkerClass, WorkerTopology};

/// The file whose frames run in every uvicorn process that serves requests
/// (<https://github.com/encode/uvicorn/blob/0.30.0/uvicorn/server.py>).
const SERVER_FILE: &str = "/uvicorn/server.py";
/// Most entries of `site-packages` searched for the version.
const MAX_ENTRIES: usize = 10_000;

/// The probe for uvicorn.
#[derive(Debug, Clone, Copy)]
pub struct Uvicorn;

impl Probe for Uvicorn {
    fn recognise(&self, facts: &Facts<'_>) -> Option<WorkerTopology> {
        let file = facts.files.iter().find(|file| file.ends_with(SERVER_FILE));
        if file.is_none() && !is_command(facts.command) {
            return None;
        }
        let packages = file.and_then(|file| file.strip_suffix(SERVER_FILE));
        let server_version = packages.and_then(|packages| version(facts, packages));
        // A child of multiprocessing's spawn is a worker of `--workers`; following a master to all
        // of its workers is a matter for a fuller probe.
        let spawned = facts.command.iter().any(|word| word.contains("multiprocessing.spawn"));
        let role = if spawned { Role::Worker } else { Role::Single };
        Some(WorkerTopology {
            server: "uvicorn".to_owned(),
            server_version,
            role,
            class: WorkerClass::Uvicorn,
        })
    }
}

/// `uvicorn app:app` or `python -m uvicorn app:app`.
fn is_command(command: &[String]) -> bool {
    let name = |word: &String| word.rsplit('/').next() == Some("uvicorn");
    command.iter().take(2).any(name)
        || command
            .windows(2)
            .take(4)
            .any(|pair| matches!(pair, [m, u] if m == "-m" && u == "uvicorn"))
}

/// The version that the installed package's metadata directory carries in its name.
fn version(facts: &Facts<'_>, packages: &str) -> Option<String> {
    let names = facts.procfs.names_in(facts.pid, packages, MAX_ENTRIES).ok()?;
    names.iter().find_map(|name| {
        let version = name.strip_prefix("uvicorn-")?.strip_suffix(".dist-info")?;
        Some(version.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::ProcFs;
    use crate::units::Pid;

    fn recognise(command: &[&str], files: &[&str]) -> Option<WorkerTopology> {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        let procfs = ProcFs::at("fixtures/proc");
        Uvicorn.recognise(&Facts { command: &command, files: &files, procfs: &procfs, pid: Pid(1) })
    }

    #[test]
    fn a_program_that_calls_uvicorn_run_is_uvicorn() {
        let file = "/srv/venv/lib/python3.12/site-packages/uvicorn/server.py";
        assert_eq!(recognise(&["python", "app.py"], &[file]).unwrap().server, "uvicorn");
    }

    #[test]
    fn its_command_line_is_enough_while_it_starts() {
        assert!(
            recognise(&["/srv/venv/bin/python", "/srv/venv/bin/uvicorn", "app:app"], &[]).is_some()
        );
        assert!(recognise(&["python3", "-m", "uvicorn", "app:app"], &[]).is_some());
    }

    #[test]
    fn a_program_that_only_mentions_it_is_not() {
        assert!(recognise(&["python3", "tail.py", "--log", "uvicorn.log"], &[]).is_none());
        assert!(recognise(&["grep", "-r", "x", "uvicorn"], &[]).is_none());
    }
}
