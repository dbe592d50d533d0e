//! A loop that waits for a lock: who holds it is named, where the lock knows.

use crate::interpreters::{interpreters, some_interpreters};
use crate::profiler::{record, stallspy};
use crate::server::Server;
use crate::truth::Stall;
use crate::turn::each;

/// The line of a fixture that has this comment.
fn line_of(server: &str, comment: &str) -> u64 {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/servers/");
    let text = std::fs::read_to_string(format!("{folder}{server}")).expect("it is there");
    let at = text.lines().position(|line| line.ends_with(comment)).expect("it has the comment");
    at as u64 + 1
}

#[test]
fn the_holder_of_a_reentrant_lock_is_named() {
    let line = line_of("asyncio_rlock.py", "# holds");
    each(&interpreters(), |python| {
        let server = Server::start(python, "asyncio_rlock.py", 120, &[]);
        let (report, _) = record(server.pid(), 3, &[]);
        let file = server.file("asyncio_rlock.py");
        let stalls = Stall::all(&report);
        // What the recording's ends cut off may not have been looked into; on a starved machine the
        // start of a thread may be a stall, too.
        let waits = |stall: &&Stall| {
            let function = &stall.json["culprit"]["function"];
            stall.number("duration_ns") > 100_000_000 && (function == "read" || function == "check")
        };
        let long: Vec<&Stall> = stalls.iter().filter(waits).collect();
        assert!(long.len() >= 5, "{} waits", long.len());
        for stall in &long {
            let culprit = &stall.json["culprit"];
            assert_eq!(stall.kind, "blocking_call", "{}", stall.json);
            let owner = &culprit["lock_owner"];
            assert_eq!(owner["thread"], "cache-writer", "{culprit}");
            assert_eq!(owner["file"], *file, "{culprit}");
            assert_eq!(owner["line"], line, "{culprit}");
            assert_eq!(owner["function"], "write", "{culprit}");
            assert!(owner["tid"].is_i64() && owner["tid"] != stall.json["tid"], "{culprit}");
        }
        let both = |name: &str| long.iter().any(|stall| stall.json["culprit"]["function"] == name);
        assert!(both("read") && both("check"), "both ways to wait were seen");
    });
}

#[test]
fn no_holder_is_made_up_for_a_plain_lock() {
    each(&some_interpreters(), |python| {
        let args = ["--kinds", "lock,sleep,recv", "--lengths", "50-100"];
        let server = Server::start(python, "asyncio_stalls.py", 120, &args);
        let (report, _) = record(server.pid(), 3, &[]);
        let stalls = Stall::all(&report);
        let lock = |stall: &&Stall| stall.json["culprit"]["function"] == "lock";
        assert!(stalls.iter().filter(lock).count() >= 3, "{} stalls", stalls.len());
        let named = stalls.iter().find(|stall| !stall.json["culprit"]["lock_owner"].is_null());
        assert!(named.is_none(), "{:?}", named.map(|stall| &stall.json));
    });
}

#[test]
fn a_hang_is_told_while_it_lasts() {
    let line = line_of("asyncio_rlock.py", "with LOCK:  # blocks");
    let some = some_interpreters();
    each(some.get(..1).unwrap_or_default(), |python| {
        let server = Server::start(python, "asyncio_rlock.py", 120, &["--hold", "60000"]);
        let pid = server.pid().to_string();
        let told = stallspy(&["record", "-p", &pid, "-d", "4", "--color", "never"]);
        // Once after a second, and again each time its age has doubled.
        let hung = format!("stallspy: pid {pid}: the event loop is blocked since ");
        let place = format!(" s at asyncio_rlock.py:{line} read");
        let said =
            told.err.lines().filter(|said| said.starts_with(&hung) && said.ends_with(&place));
        assert!((1..=4).contains(&said.count()), "{}", told.err);
        assert!(told.out.contains("still blocked when the recording ended"), "{}", told.out);
        assert!(told.out.contains("(cache-writer)"), "{}", told.out);
        let quiet = stallspy(&["record", "-q", "-p", &pid, "-d", "2"]);
        assert!(quiet.err.is_empty(), "{}", quiet.err);
    });
}
