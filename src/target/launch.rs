//! A command stallspy started itself: `stallspy record -- CMD…`.
//!
//! Takes a command line, gives a child with our own input and output. Owns it: it is asked to end
//! when the recording does, and never outlives us unasked. Only this file sends signals, and only
//! to this child.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd;

use super::procfs::ProcFs;
use crate::units::Pid;

/// How often a child that should end is looked at.
const STEP: Duration = Duration::from_millis(20);
/// Steps given to a child that the terminal has told to end, before we tell it too: 5 s.
const BEFORE_TERM: u32 = 250;
/// Steps given to a child that we told to end, before it is killed: 10 s, as container runtimes do.
const BEFORE_KILL: u32 = 500;

/// Why a command could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// There is no command.
    #[error("no command given")]
    Empty,
    /// The system did not start it.
    #[error(transparent)]
    Spawn(#[from] io::Error),
}

/// A child process of ours.
#[derive(Debug)]
pub struct Launched {
    child: Child,
    command: Vec<OsString>,
    status: Option<ExitStatus>,
    told: bool,
}

impl Launched {
    /// Starts a command, looked up in `PATH`, with our input, output and environment.
    ///
    /// # Errors
    /// See [`LaunchError`].
    pub fn start(command: &[OsString]) -> Result<Launched, LaunchError> {
        let (program, args) = command.split_first().ok_or(LaunchError::Empty)?;
        let child = Command::new(program).args(args).spawn()?;
        Ok(Launched { child, command: command.to_vec(), status: None, told: false })
    }

    /// Its pid. It stays the child's own until [`Launched::has_ended`] has collected it.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid(self.child.id().cast_signed())
    }

    /// The command, joined by spaces.
    #[must_use]
    pub fn command_line(&self) -> String {
        let words: Vec<_> = self.command.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    /// Whether it has ended; collects it if so. Does not wait.
    pub fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            // An error means that somebody else collected it, and then it has ended as well.
            self.status = self.child.try_wait().unwrap_or_else(|_| Some(ExitStatus::default()));
        }
        self.status.is_some()
    }

    /// Sends it a signal; one that has ended gets none.
    pub fn signal(&mut self, signal: Signal) {
        if !self.has_ended() {
            // It is our child and not collected, so the pid cannot be another's by now.
            let _ = kill(unistd::Pid::from_raw(self.pid().0), signal);
        }
    }

    /// Waits for its end, asking for it where nobody else has, and gives its exit code: 128 and the
    /// signal's number where a signal ended it, 0 where that was our asking or the user's.
    ///
    /// `stop` says that the user told *us* to end. From a terminal, Ctrl-C then reached the child
    /// too, and a second signal would make many servers drop their connections: so it gets some
    /// time first. In every other case it is asked at once, by SIGTERM. One that does not listen is
    /// killed after 10 s.
    pub fn end(&mut self, stop: &AtomicBool) -> u8 {
        let by_terminal = stop.load(Ordering::Relaxed) && in_foreground();
        let mut patience = if by_terminal { BEFORE_TERM } else { 0 };
        while !self.has_ended() {
            if patience > 0 {
                patience = patience.saturating_sub(1);
            } else if self.told {
                self.signal(Signal::SIGKILL);
            } else {
                self.told = true;
                self.signal(Signal::SIGTERM);
                patience = BEFORE_KILL;
            }
            std::thread::sleep(STEP);
        }
        let status = self.status.unwrap_or_default();
        let was_asked = self.told || stop.load(Ordering::Relaxed);
        exit_code(status, was_asked)
    }
}

impl Drop for Launched {
    /// On a way out that nobody planned: asks, and does not wait.
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
    }
}

/// Whether the terminal sends its Ctrl-C to us, and so to our child as well.
fn in_foreground() -> bool {
    let us = Pid(std::process::id().cast_signed());
    ProcFs::host().stat(us).is_ok_and(|stat| stat.in_foreground)
}

/// A shell's exit code for this status. A signal that was asked for is no failure.
fn exit_code(status: ExitStatus, was_asked: bool) -> u8 {
    if let Some(code) = status.code() {
        return u8::try_from(code).unwrap_or(u8::MAX);
    }
    let asked_for = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL].map(|signal| signal as i32);
    match status.signal() {
        Some(signal) if was_asked && asked_for.contains(&signal) => 0,
        Some(signal) => u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX),
        None => u8::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(command: &[&str]) -> Launched {
        let words: Vec<OsString> = command.iter().map(OsString::from).collect();
        Launched::start(&words).unwrap()
    }

    fn ended(mut child: Launched) -> u8 {
        while !child.has_ended() {
            std::thread::sleep(STEP);
        }
        child.end(&AtomicBool::new(false))
    }

    #[test]
    fn exit_codes_are_a_shells() {
        assert_eq!(ended(start(&["true"])), 0);
        assert_eq!(ended(start(&["sh", "-c", "exit 7"])), 7);
        assert_eq!(ended(start(&["sh", "-c", "kill -SEGV $$"])), 139);
        assert_eq!(ended(start(&["sh", "-c", "kill -TERM $$"])), 143);
    }

    #[test]
    fn a_child_we_end_has_not_failed() {
        let mut child = start(&["sleep", "100"]);
        assert_eq!(child.command_line(), "sleep 100");
        assert!(!child.has_ended());
        assert_eq!(child.end(&AtomicBool::new(false)), 0);
        assert!(child.has_ended());
    }

    #[test]
    fn its_own_failure_on_the_way_out_is_told() {
        let mut child =
            start(&["sh", "-c", "trap 'exit 9' TERM; echo; while :; do sleep 0.01; done"]);
        // Asked before it listens, it would just die: wait until the shell has set its trap.
        let status = format!("/proc/{}/status", child.pid());
        let listens = |text: String| {
            let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:\t"));
            u64::from_str_radix(caught.unwrap(), 16).unwrap() & (1 << 14) != 0
        };
        while !listens(std::fs::read_to_string(&status).unwrap()) {
            std::thread::sleep(STEP);
        }
        assert_eq!(child.end(&AtomicBool::new(true)), 9);
    }

    #[test]
    fn what_cannot_start_says_so() {
        assert!(matches!(Launched::start(&[]), Err(LaunchError::Empty)));
        let error = Launched::start(&["/no/such/program".into()]).unwrap_err();
        assert_eq!(error.to_string(), "No such file or directory (os error 2)");
    }

    #[test]
    fn a_forgotten_child_is_asked_to_end() {
        let child = start(&["sleep", "100"]);
        let (procfs, pid) = (ProcFs::host(), child.pid());
        drop(child);
        while procfs.stat(pid).is_ok_and(|stat| !stat.has_ended()) {
            std::thread::sleep(STEP);
        }
    }
}
