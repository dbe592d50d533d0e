//! Runs the `stallspy` program and keeps everything it says.
#![allow(dead_code)] // each test binary uses some of it

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use serde_json::Value;

/// The program under test.
pub const STALLSPY: &str = env!("CARGO_BIN_EXE_stallspy");
/// What anything may take before a test gives up; a starved machine is slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running stallspy; killed when dropped.
#[derive(Debug)]
pub struct Profiler {
    child: Child,
    out: File,
    err: File,
}

/// What became of it.
#[derive(Debug)]
pub struct Ended {
    status: ExitStatus,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
    /// How long it was ready to run and got no CPU (`schedstat`): what its late looks may be due to.
    pub starved_ns: u64,
}

/// Runs stallspy to its end.
pub fn stallspy(args: &[&str]) -> Ended {
    Profiler::start(args).finish()
}

/// Records a process and gives the JSON report.
pub fn record(pid: i32, seconds: u32, args: &[&str]) -> (Value, Ended) {
    let (pid, seconds) = (pid.to_string(), seconds.to_string());
    let mut all = vec!["record", "-q", "-f", "json", "-p", &pid, "-d", &seconds];
    all.extend(args);
    let ended = stallspy(&all);
    assert_eq!(ended.code(), Some(0), "{}", ended.err);
    (ended.report(), ended)
}

/// The same without the kernel's record of the loop's edges: all that is left is its own clock.
pub fn record_untraced(pid: i32, seconds: u32, args: &[&str]) -> (Value, Ended) {
    let (pid, seconds) = (pid.to_string(), seconds.to_string());
    let mut command = Command::new(STALLSPY);
    command.env("STALLSPY_NO_PERF", "1");
    command.args(["record", "-q", "-f", "json", "-p", &pid, "-d", &seconds]).args(args);
    let ended = Profiler::start_by(command).finish();
    assert_eq!(ended.code(), Some(0), "{}", ended.err);
    (ended.report(), ended)
}

impl Profiler {
    /// Starts stallspy.
    pub fn start(args: &[&str]) -> Profiler {
        let mut command = Command::new(STALLSPY);
        command.args(args);
        Profiler::start_by(command)
    }

    /// Starts a command that is stallspy, or becomes it.
    pub fn start_by(mut command: Command) -> Profiler {
        let (out, err) = (file(), file());
        command.stdin(Stdio::null());
        command.stdout(out.try_clone().expect("a file can be shared"));
        command.stderr(err.try_clone().expect("a file can be shared"));
        // What a user has set for themselves is not what tests are about.
        for variable in ["NO_COLOR", "CLICOLOR_FORCE", "COLUMNS"] {
            command.env_remove(variable);
        }
        super::freezes::watch();
        // A group of its own: whoever runs the tests in a terminal, it is not in the foreground.
        command.process_group(0);
        Profiler { child: command.spawn().expect("stallspy starts"), out, err }
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("it is ours");
    }

    /// Waits until it handles a signal by itself: from then on one does not kill it.
    pub fn handles(&mut self, signal: Signal) {
        let status = format!("/proc/{}/status", self.pid());
        let caught = |text: String| {
            let mask =
                text.lines().find_map(|line| line.strip_prefix("SigCgt:\t").map(str::to_owned));
            u64::from_str_radix(mask?.trim(), 16).ok()
        };
        let end = Instant::now() + PATIENCE;
        loop {
            let mask = std::fs::read_to_string(&status).ok().and_then(caught).unwrap_or(0);
            if mask & (1 << (signal as i32 - 1)) != 0 {
                return;
            }
            assert!(self.is_running(), "it ended: {}", read(&mut self.err));
            assert!(Instant::now() < end, "it never handles {signal}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Ended {
        let end = Instant::now() + PATIENCE;
        // Its end is seen before it is collected, so that /proc still tells about it.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        let id = || Id::Pid(Pid::from_raw(self.pid()));
        while matches!(waitid(id(), flags), Ok(WaitStatus::StillAlive)) {
            assert!(Instant::now() < end, "stallspy does not end: {}", read(&mut self.err));
            std::thread::sleep(Duration::from_millis(10));
        }
        let told = std::fs::read_to_string(format!("/proc/{}/schedstat", self.pid()));
        let starved_ns = told.ok().and_then(|text| text.split_whitespace().nth(1)?.parse().ok());
        let status = self.child.wait().expect("it is ours");
        let (out, err) = (read(&mut self.out), read(&mut self.err));
        Ended { status, out, err, starved_ns: starved_ns.unwrap_or(0) }
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Its exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// The JSON report on its standard output.
    pub fn report(&self) -> Value {
        let parsed = serde_json::from_str(&self.out);
        parsed.unwrap_or_else(|error| panic!("no report: {error}\n{}\n{}", self.out, self.err))
    }
}

/// Output goes to files: a pipe that nobody reads would stop it.
fn file() -> File {
    tempfile::tempfile().expect("a temporary file can be made")
}

fn read(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).expect("the output is text");
    text
}
