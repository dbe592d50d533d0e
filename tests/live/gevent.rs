//! gevent's hub: blocked in every way a greenlet can block it, among them a real database's answer;
//! full of short greenlets, and not blocked at all.

use crate::database::database;
use crate::interpreters::{Python, ends_of, interpreters, some_interpreters};
use crate::judge::Trial;
use crate::profiler::{Profiler, STALLSPY, record, record_untraced};
use crate::server::Server;
use crate::truth::Stall;
use crate::turn::each;
use crate::{in_ci, say};

/// What the server outlives the recording by, should this machine be slow; it is ended anyway.
const MARGIN: u32 = 60;
const KINDS: &str = "sleep,cpu,pbkdf2,zlib,json,sqlite,recv,subprocess,pipe,lock";

/// Those of `all` that have gevent. Without one nothing is tested, and that is said.
pub fn with_gevent(all: Vec<Python>) -> Vec<Python> {
    let all: Vec<Python> = all.into_iter().filter(|python| python.has("gevent")).collect();
    assert!(!(in_ci() && all.is_empty()), "STALLSPY_INTERPRETERS lists none with gevent");
    if all.is_empty() {
        say("gevent: did not run, STALLSPY_INTERPRETERS lists no interpreter with gevent");
    }
    all
}

/// Starts the server that is blocked in every way this machine allows.
fn blocked(python: &Python, seconds: u32) -> Server {
    let database = database().filter(|_| python.has("psycopg2-binary"));
    assert!(!in_ci() || database.is_some(), "no PostgreSQL, or no psycopg2");
    let (kinds, port) = match database {
        Some(port) => (format!("{KINDS},pg"), port.to_string()),
        None => (KINDS.to_owned(), "0".to_owned()),
    };
    let args = ["--lengths", "5-200", "--kinds", &kinds, "--database", &port];
    Server::start(python, "gevent_stalls.py", seconds + MARGIN, &args)
}

#[test]
fn every_interpreter_shows_what_blocks_its_hub() {
    each(&with_gevent(interpreters()), |python| {
        let server = blocked(python, 8);
        let (report, ended) = record(server.pid(), 8, &[]);
        assert_eq!(report["processes"][0]["loops"][0]["kind"], "gevent");
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(15);
        trial.invents_none();
        trial.blames_rightly();
        trial.bounds_lengths();
        assert!(trial.stalls().iter().all(|stall| stall.json["evidence"] != "sampled"));
    });
}

/// Through cffi, which gevent does not bring along.
#[test]
fn on_libuv_it_is_the_same() {
    let pythons: Vec<Python> = with_gevent(interpreters());
    let pythons: Vec<Python> = pythons.into_iter().filter(|python| python.has("cffi")).collect();
    assert!(!(in_ci() && pythons.is_empty()), "STALLSPY_INTERPRETERS lists none with cffi");
    if pythons.is_empty() {
        say(
            "gevent on libuv: did not run, STALLSPY_INTERPRETERS lists no interpreter with gevent and cffi",
        );
    }
    // How libuv is reached is gevent's doing, not the interpreter's: the ends of the range will do.
    each(&ends_of(pythons), |python| {
        for is_traced in [true, false] {
            let args = ["--lengths", "5-200", "--kinds", KINDS];
            let on_libuv = &mut |command: &mut std::process::Command| {
                command.env("GEVENT_LOOP", "libuv-cffi");
            };
            let server = Server::start_by(python, "gevent_stalls.py", 5 + MARGIN, &args, on_libuv);
            let record = if is_traced { record } else { record_untraced };
            let (report, ended) = record(server.pid(), 5, &[]);
            assert_eq!(report["processes"][0]["loops"][0]["kind"], "gevent");
            let trial = Trial::new(&report, &ended, server.end());
            trial.finds_all(10);
            trial.invents_none();
            trial.blames_rightly();
        }
    });
}

#[test]
fn the_loops_own_clock_is_enough() {
    each(&with_gevent(some_interpreters()), |python| {
        let server = blocked(python, 7);
        let mut command = std::process::Command::new(STALLSPY);
        let pid = server.pid().to_string();
        command.args(["record", "-q", "-f", "json", "-d", "7", "-p", &pid]);
        let ended = Profiler::start_by({
            command.env("STALLSPY_NO_PERF", "1");
            command
        })
        .finish();
        let report = ended.report();
        let trial = Trial::new(&report, &ended, server.end());
        trial.finds_all(15);
        trial.invents_none();
        trial.blames_rightly();
        assert!(trial.stalls().iter().all(|stall| stall.json["evidence"] == "counted"));
    });
}

#[test]
fn a_healthy_hub_has_no_stalls() {
    each(&with_gevent(interpreters()), |python| {
        let server = Server::start(python, "gevent_healthy.py", 3 + MARGIN, &[]);
        let (report, ended) = record(server.pid(), 3, &[]);
        let trial = Trial::new(&report, &ended, server.end());
        trial.invents_none();
        // It was looked at, and not just nothing seen.
        let seen = &report["processes"][0]["loops"][0];
        assert!(seen["looks"].as_u64() > Some(50), "{seen}");
        assert!(seen["utilization"].as_f64().is_some_and(|busy| busy < 0.98), "{seen}");
    });
}

#[test]
fn of_many_short_greenlets_none_is_blamed() {
    each(&with_gevent(interpreters()), |python| {
        let server = Server::start(python, "gevent_many.py", 3 + MARGIN, &[]);
        let (report, _) = record(server.pid(), 3, &["--threshold", "20ms"]);
        let stalls = Stall::all(&report);
        let (many, others): (Vec<&Stall>, Vec<&Stall>) =
            stalls.iter().partition(|stall| stall.kind == "many_callbacks");
        assert!(many.len() >= 5, "{} of {}", many.len(), stalls.len());
        // One that is kept off the CPU is a long one, if the machine is starved.
        let starved = |stall: &&&Stall| stall.number("run_delay_ns") > 10_000_000;
        let blamed: Vec<String> =
            others.iter().filter(|stall| !starved(stall)).map(|stall| stall.brief()).collect();
        assert!(blamed.len() <= 2, "{blamed:#?}"); // at the recording's ends
        let share = |name: &str| -> f64 {
            let all = many.iter().flat_map(|stall| stall.json["contributors"].as_array().unwrap());
            let own = all.filter(|one| one["name"] == name);
            own.map(|one| one["share"].as_f64().unwrap()).sum::<f64>() / many.len() as f64
        };
        let (refresh, tick) = (share("refresh"), share("tick"));
        // Three quarters and one.
        assert!(refresh > 0.5 && refresh + tick > 0.8, "{refresh} {tick}");
    });
}
