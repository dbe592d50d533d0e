//! A PostgreSQL for servers to wait on: started once for all tests of a binary, on a loopback port.
#![allow(dead_code)] // each test binary uses some of it

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/servers/postgres.py");

/// Its port; `None` where PostgreSQL is not installed.
pub fn database() -> Option<u16> {
    /// It ends when its standard input does, which is when this process has.
    static RUNNING: OnceLock<Option<(Child, u16)>> = OnceLock::new();
    RUNNING.get_or_init(start).as_ref().map(|(_, port)| *port)
}

fn start() -> Option<(Child, u16)> {
    let installed =
        std::fs::read_dir("/usr/lib/postgresql").is_ok_and(|mut all| all.next().is_some());
    if !installed {
        return None;
    }
    let mut command = Command::new("python3");
    command.arg(Path::new(SCRIPT)).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("python3 starts");
    let mut line = String::new();
    let out = child.stdout.take().expect("stdout is a pipe");
    BufReader::new(out).read_line(&mut line).expect("postgres.py speaks");
    let port = line.split_whitespace().nth(1).and_then(|port| port.parse().ok());
    Some((child, port.expect("PostgreSQL starts")))
}
