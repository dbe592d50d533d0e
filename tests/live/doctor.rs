//! `stallspy doctor` on real processes, as root and as nobody: what it says agrees with what a
//! recording then does.

use std::process::Command;

use serde_json::Value;

use crate::interpreters::some_interpreters;
use crate::profiler::{Ended, stallspy};
use crate::rights::{am_root, anybody, as_nobody, give_up_rights, own_processes_are_open};
use crate::server::Server;
use crate::turn::each;

const SCHEMA: &str = include_str!("../../docs/stallspy-doctor-1.schema.json");

/// The JSON it printed, which is what its schema says.
fn parsed(ended: &Ended) -> Value {
    let found: Value = serde_json::from_str(&ended.out)
        .unwrap_or_else(|error| panic!("{error}: {}{}", ended.out, ended.err));
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    jsonschema::draft202012::meta::validate(&schema).map_err(|error| error.to_string()).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&found)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{}", ended.out);
    assert_eq!(found["exit_code"].as_i64(), ended.code().map(i64::from), "{}", ended.out);
    found
}

fn tier<'a>(found: &'a Value, id: &str) -> &'a Value {
    let tiers = found["tiers"].as_array().expect("tiers");
    tiers.iter().find(|tier| tier["id"] == id).unwrap_or_else(|| panic!("no {id} in {found:#}"))
}

fn state<'a>(found: &'a Value, id: &str) -> &'a str {
    tier(found, id)["state"].as_str().expect("a state")
}

fn commands(found: &Value) -> Vec<&str> {
    let tiers = found["tiers"].as_array().expect("tiers").iter();
    let advice = tiers.flat_map(|tier| tier["try"].as_array().expect("advice"));
    advice.map(|one| one["command"].as_str().expect("a command")).collect()
}

#[test]
fn of_the_machine() {
    let ended = stallspy(&["doctor", "--json"]);
    let found = parsed(&ended);
    assert_eq!(found["target"], Value::Null);
    assert_eq!(found["us"]["uid"], nix::unistd::geteuid().as_raw());
    if am_root() {
        assert_eq!(state(&found, "memory"), "yes", "{found:#}");
    }
    let text = stallspy(&["doctor"]);
    assert_eq!(text.code(), ended.code());
    assert!(text.out.starts_with("kernel              Linux "), "{}", text.out);
    assert!(text.out.contains("memory and Python stacks: "), "{}", text.out);
}

#[test]
fn of_a_server() {
    each(&some_interpreters(), |python| {
        let server = Server::start(python, "asyncio_healthy.py", 60, &[]);
        let pid = server.pid().to_string();
        let ended = stallspy(&["doctor", &pid, "--json"]);
        if !am_root() && !own_processes_are_open() {
            return;
        }
        assert_eq!(ended.code(), Some(0), "{}{}", ended.out, ended.err);
        let found = parsed(&ended);
        let attach = &found["target"]["attach"];
        assert_eq!(attach["outcome"], "read");
        let expected = format!("3.{}.", python.minor());
        assert!(attach["python"].as_str().unwrap().starts_with(&expected), "{attach}");
        assert_eq!(attach["loops"], serde_json::json!(["asyncio"]), "{found:#}");
        for id in ["memory", "system_calls", "c_stacks_asleep"] {
            assert_eq!(state(&found, id), "yes", "{found:#}");
        }
        // A recording has edges just where this says so.
        let args = ["record", "-q", "-d", "1", "-f", "recording", "-p", &pid];
        let recording = stallspy(&args).out;
        assert!(recording.contains("\"loop\""), "{recording}");
        let refused = ["denied", "missing", "off"];
        let refused = refused.iter().any(|why| recording.contains(&format!("\"edges\":\"{why}\"")));
        if state(&found, "edges") == "yes" {
            assert!(!refused, "{recording}");
        } else {
            assert!(!recording.contains("\"edges\":\"traced\""), "{recording}");
        }
    });
}

#[test]
fn it_leaves_the_server_alone() {
    each(&some_interpreters(), |python| {
        let mut server = Server::start(python, "asyncio_healthy.py", 60, &[]);
        let pid = server.pid();
        let args = ["doctor", "--json", &pid.to_string()];
        let mut doctor = crate::profiler::Profiler::start(&args);
        while doctor.is_running() {
            let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
            assert!(text.contains("TracerPid:\t0\n"), "{text}");
            assert!(!text.contains("State:\tt") && !text.contains("State:\tT"), "{text}");
        }
        parsed(&doctor.finish());
        assert!(server.is_running());
    });
}

#[test]
fn nobody_is_told_what_to_type() {
    each(&anybody(), |python| {
        // Their own, which they may read.
        let own = Server::start_by(python, "asyncio_healthy.py", 60, &[], &mut |command| {
            give_up_rights(command);
        });
        let found = parsed(&as_nobody(python, &["doctor", "--json", &own.pid().to_string()]));
        let expected = if own_processes_are_open() { "yes" } else { "no" };
        assert_eq!(state(&found, "memory"), expected, "{found:#}");
        assert_eq!(state(&found, "system_calls"), expected, "{found:#}");

        // Root's, which they may not; the code is what `record` ends with.
        if !am_root() {
            return;
        }
        let server = Server::start(python, "asyncio_healthy.py", 60, &[]);
        let pid = server.pid().to_string();
        let ended = as_nobody(python, &["doctor", "--json", &pid]);
        assert_eq!(ended.code(), Some(5), "{}", ended.err);
        let found = parsed(&ended);
        for id in ["memory", "system_calls", "edges", "c_stacks_asleep", "c_stacks_running"] {
            assert_eq!(state(&found, id), "no", "{id}: {found:#}");
        }
        assert_eq!(found["target"]["attach"]["outcome"], "denied");
        let reason = tier(&found, "memory")["reason"].as_str().unwrap();
        assert!(reason.contains("belongs to user root"), "{reason}");
        let us = &found["us"];
        if us["container"].is_null() && us["no_new_privs"] == false {
            let commands = commands(&found);
            let has = |part: &str| commands.iter().any(|command| command.contains(part));
            assert!(has(&format!("record -p {pid}")) && has("sudo "), "{commands:?}");
            assert!(!has("sudo -u"), "{commands:?}");
        }
        let record = as_nobody(python, &["record", "-p", &pid]);
        assert_eq!(record.code(), ended.code());
    });
}

#[test]
fn without_new_privileges_sudo_is_not_advised() {
    each(&anybody(), |python| {
        let ended = as_nobody_by(python, &["--no-new-privs"], &["doctor", "--json"]);
        let Some(ended) = ended else { return };
        let found = parsed(&ended);
        assert_eq!(found["us"]["no_new_privs"], true);
        assert!(!commands(&found).iter().any(|command| command.starts_with("sudo stallspy")));
        assert!(!commands(&found).iter().any(|command| command.contains("setcap")), "{found:#}");
    });
}

/// As nobody, through setpriv(1); `None` where there is no such program or no right to.
fn as_nobody_by(
    python: &crate::interpreters::Python,
    flags: &[&str],
    args: &[&str],
) -> Option<Ended> {
    let works = Command::new("setpriv").args(flags).arg("true").status();
    if !works.is_ok_and(|status| status.success()) {
        crate::say("doctor: did not run, setpriv does not work here");
        return None;
    }
    Some(crate::rights::as_nobody_through(python, "setpriv", flags, args))
}

#[test]
fn a_process_that_is_not_there_and_one_that_is_not_python() {
    let gone = stallspy(&["doctor", "2147483647", "--json"]);
    assert_eq!((gone.code(), gone.out.as_str()), (Some(4), ""), "{}", gone.err);
    assert!(gone.err.contains("there is no process 2147483647"), "{}", gone.err);

    let mut sleep = Command::new("sleep").arg("60").spawn().expect("sleep starts");
    let pid = sleep.id().to_string();
    let ended = stallspy(&["doctor", "--json", "-p", &pid]);
    let _ = sleep.kill().and_then(|()| sleep.wait());
    let found = parsed(&ended);
    if found["target"]["attach"]["outcome"] == "denied" {
        return; // Yama keeps even this from us.
    }
    assert_eq!(ended.code(), Some(4), "{}", ended.err);
    assert_eq!(state(&found, "memory"), "no");
    let reason = tier(&found, "memory")["reason"].as_str().unwrap();
    assert!(reason.contains("is not a Python process"), "{reason}");
    assert!(commands(&found).is_empty(), "nothing makes it one: {found:#}");
}

#[test]
fn without_perf_events_the_variable_is_named() {
    let mut command = Command::new(crate::profiler::STALLSPY);
    command.args(["doctor", "--json"]).env("STALLSPY_NO_PERF", "1");
    let found = parsed(&crate::profiler::Profiler::start_by(command).finish());
    assert_eq!(state(&found, "edges"), "no");
    assert!(commands(&found).contains(&"unset STALLSPY_NO_PERF"), "{found:#}");
}
