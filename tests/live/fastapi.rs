//! uvicorn and FastAPI under load: the right line of the right handler for the right request, at
//! whatever depth; and nothing where handlers await or run in the thread pool.

use crate::interpreters::{Python, ends_of};
use crate::judge::Trial;
use crate::profiler::record;
use crate::server::Server;
use crate::turn::each;
use crate::uvloop::with;

/// Each blocking endpoint as often as the others, among requests that block nothing.
const MIX: &str = "12:/ok,4:/thread?ms=20,1:/sleep?ms={12-90},1:/cpu?ms={12-90},\
    1:/recv?ms={12-90},1:/json?ms={12-90},1:/sqlite?ms={12-90},1:/nested?ms={12-90}";
const HEALTHY_MIX: &str = "3:/ok,3:/items,1:/thread?ms=20,1:/upstream?ms=20";

/// Interpreters that have FastAPI. Without one nothing is tested, and that is said.
pub fn with_fastapi() -> Vec<Python> {
    with(&["fastapi"])
}

#[test]
fn every_blocking_handler_is_named() {
    each(&with_fastapi(), |python| {
        let server = Server::start(python, "fastapi_stalls.py", 90, &[]);
        // The first requests import what is not yet imported: a stall, but not of the truth's.
        let warm = ["--url-mix", MIX, "--connections", "2", "--seconds", "1.5"];
        server.load(&warm).finish();
        let load = ["--url-mix", MIX, "--connections", "4", "--pause", "0.03", "--seconds", "8"];
        let load = server.load(&load);
        let (report, ended) = record(server.pid(), 7, &[]);
        let (requests, errors) = load.finish();
        assert!(requests > 20 && errors == 0, "{requests} requests, {errors} errors");
        assert_eq!(report["processes"][0]["server"], "uvicorn");
        // The load comes from a process of the same machine.
        let neighbours = report["servers"][0]["neighbours_cpus"].as_f64();
        assert!(neighbours > Some(0.0), "{neighbours:?}");
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(15);
        trial.invents_none();
        // Among them the peer of each recv, and the endpoint of every stall.
        trial.blames_rightly();
    });
}

#[test]
fn nor_does_uvloop_hide_them() {
    let all = with(&["fastapi", "uvloop"]);
    each(&ends_of(all), |python| {
        let server = Server::start(python, "fastapi_stalls.py", 90, &["--loop", "uvloop"]);
        let warm = ["--url-mix", MIX, "--connections", "2", "--seconds", "1.5"];
        server.load(&warm).finish();
        let load = ["--url-mix", MIX, "--connections", "4", "--pause", "0.03", "--seconds", "8"];
        let load = server.load(&load);
        let (report, ended) = record(server.pid(), 7, &[]);
        let (requests, errors) = load.finish();
        assert!(requests > 20 && errors == 0, "{requests} requests, {errors} errors");
        assert_eq!(report["processes"][0]["server"], "uvicorn");
        assert_eq!(report["processes"][0]["loops"][0]["kind"], "uvloop");
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(15);
        trial.invents_none();
        trial.blames_rightly();
    });
}

#[test]
fn a_healthy_app_has_no_stalls() {
    let all = with_fastapi();
    // Its frames are the same in every version of it that works at all.
    each(&ends_of(all), |python| {
        let server = Server::start(python, "fastapi_healthy.py", 90, &[]);
        server.load(&["--url-mix", HEALTHY_MIX, "--connections", "2", "--seconds", "1.5"]).finish();
        let load = ["--url-mix", HEALTHY_MIX, "--connections", "4", "--pause", "0.02"];
        let load = server.load(&load);
        let (report, ended) = record(server.pid(), 4, &[]);
        let (requests, errors) = load.finish();
        assert!(requests > 20 && errors == 0, "{requests} requests, {errors} errors");
        Trial::new(&report, &ended, server.end()).invents_none();
    });
}
