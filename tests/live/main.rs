//! The main job on real servers. Each of them blocks its loop in known ways and writes down what it
//! did; stallspy watches from outside, and must say the same.
//!
//! Runs under every interpreter of `STALLSPY_INTERPRETERS` (`../common/interpreters.rs`), two servers
//! at a time. What is right is decided in `../common/judge.rs`.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

#[path = "../common/database.rs"]
mod database;
#[path = "../common/freezes.rs"]
mod freezes;
#[path = "../common/interpreters.rs"]
mod interpreters;
#[path = "../common/judge.rs"]
mod judge;
#[path = "../common/profiler.rs"]
mod profiler;
#[path = "../common/server.rs"]
mod server;
#[path = "../common/truth.rs"]
mod truth;
#[path = "../common/turn.rs"]
mod turn;

mod asyncio;
mod clockless;
mod collector;
mod control_group;
mod doctor;
mod dump;
mod endings;
mod fastapi;
mod faults;
mod gates;
mod gevent;
mod gil;
mod hang;
mod late;
mod launch;
mod locks;
mod many;
mod masters;
mod memory;
mod parked;
mod pools;
mod quota;
mod requests;
mod residents;
mod restart;
mod rights;
mod silence;
mod sockets;
mod spins;
mod story;
mod threads;
mod tornado;
mod trio;
mod untouched;
mod uvloop;
mod wsgi;

use interpreters::{Python, interpreters};

/// Whether this runs where every interpreter must be there.
fn in_ci() -> bool {
    std::env::var_os("CI").is_some()
}

/// Says something although the test passes: what `println!` says would be kept from the reader.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn in_ci_every_version_is_there() {
    if !in_ci() {
        return;
    }
    let all = interpreters();
    for minor in 8..=15 {
        assert!(all.iter().any(|python| python.minor() == minor), "no CPython 3.{minor}");
        let web = |python: &Python| python.minor() == minor && python.has("fastapi");
        assert!(all.iter().any(web), "no CPython 3.{minor} with fastapi");
    }
}
