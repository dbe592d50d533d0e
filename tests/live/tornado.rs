//! tornado: a program's own IOLoop, and gunicorn's tornado worker, blocked in every way, and not blocked.

use crate::interpreters::{Python, ends_of};
use crate::judge::Trial;
use crate::profiler::record;
use crate::server::Server;
use crate::turn::each;
use crate::uvloop::with;

/// What the server outlives the recording by, should this machine be slow; it is ended anyway.
const MARGIN: u32 = 60;
/// No more than one line that is named in so many is wrong.
const WRONG_ONE_IN: usize = 50;

/// The oldest and the newest that have these packages.
fn ends(packages: &[&str]) -> Vec<Python> {
    ends_of(with(packages))
}

#[test]
fn a_program_of_tornados_shows_its_stalls() {
    each(&ends(&["tornado"]), |python| {
        let args = ["--lengths", "5-100"];
        let server = Server::start(python, "tornado_stalls.py", 7 + MARGIN, &args);
        let (report, ended) = record(server.pid(), 7, &[]);
        let process = &report["processes"][0];
        assert_eq!((&process["server"], &process["role"]), (&"tornado".into(), &"single".into()));
        assert_eq!(process["loops"][0]["kind"], "asyncio");
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(25);
        trial.invents_none();
        trial.blames_rightly();
        trial.names_rightly_but(WRONG_ONE_IN);
        trial.bounds_lengths();
    });
}

#[test]
fn gunicorns_tornado_worker_shows_its_stalls() {
    const MIX: &str = "4:/ok,1:/sleep?ms={12-60},1:/cpu?ms={12-60},1:/pbkdf2?ms={12-60},\
        1:/json?ms={12-60},1:/recv?ms={12-60},1:/nested?ms={12-60}";
    each(&ends(&["tornado", "flask", "gunicorn"]), |python| {
        let server = Server::start(python, "wsgi_stalls.py", 90, &["--server", "tornado"]);
        // The first requests import what is not yet imported.
        server.load(&["--url-mix", MIX, "--connections", "2", "--seconds", "1.5"]).finish();
        let load = ["--url-mix", MIX, "--connections", "2", "--pause", "0.02", "--seconds", "8"];
        let load = server.load(&load);
        let (report, ended) = record(server.pid(), 6, &[]);
        let (requests, errors) = load.finish();
        assert!(requests > 40 && errors == 0, "{requests} requests, {errors} errors");
        let processes = report["processes"].as_array().expect("processes");
        let worker = processes.iter().find(|one| one["role"] == "worker").expect("a worker");
        assert_eq!(worker["worker_class"], "tornado");
        assert_eq!(worker["loops"][0]["kind"], "asyncio");
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(25);
        trial.invents_none();
        trial.blames_rightly();
        trial.names_rightly_but(WRONG_ONE_IN);
    });
}

#[test]
fn a_healthy_one_has_none() {
    each(&ends(&["tornado"]), |python| {
        let server = Server::start(python, "tornado_stalls.py", 3 + MARGIN, &["--healthy"]);
        let load = ["--url-mix", "1:/ok", "--connections", "2", "--pause", "0.01"];
        let load = server.load(&[&load[..], &["--seconds", "5"]].concat());
        let (report, ended) = record(server.pid(), 3, &[]);
        let (requests, errors) = load.finish();
        assert!(requests > 20 && errors == 0, "{requests} requests, {errors} errors");
        Trial::new(&report, &ended, server.end()).invents_none();
        let seen = &report["processes"][0]["loops"][0];
        assert!(seen["looks"].as_u64() > Some(50), "{seen}");
    });
}
