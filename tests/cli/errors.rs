//! Everything that goes wrong has its exit code and a sentence: what happened, why, what to type.

use std::process::{Child, Command};

use crate::profiler::{Ended, stallspy};

/// A process that is not Python; ended when dropped.
struct Sleep(Child);

impl Sleep {
    fn start() -> Sleep {
        Sleep(Command::new("sleep").arg("60").spawn().expect("sleep starts"))
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fails with this code and this sentence, and says nothing else.
fn fails(args: &[&str], code: i32, sentence: &str) {
    let ended = stallspy(args);
    assert_eq!(ended.code(), Some(code), "{args:?}: {}", ended.err);
    assert_eq!(ended.err, format!("stallspy: {sentence}\n"), "{args:?}");
    assert_eq!(ended.out, "", "{args:?}");
}

/// Wrong usage: code 2, and this in what is said.
fn misused(args: &[&str], said: &str) {
    let Ended { ref err, ref out, .. } = stallspy(args);
    assert_eq!(stallspy(args).code(), Some(2), "{args:?}: {err}");
    assert!(err.contains(said), "{args:?}: {err}");
    assert_eq!(out, "", "{args:?}");
}

#[test]
fn a_process_that_is_not_there() {
    // Higher than any pid of Linux (PID_MAX_LIMIT is 2^22).
    let said = "there is no process 2147483647: it may have ended; `pgrep -af python` lists those that run";
    fails(&["record", "-p", "2147483647"], 4, said);
    fails(&["record", "-p", "0x7fffffff"], 4, said);
    fails(&["dump", "-p", "2147483647"], 4, said);
    // One that ended just now, too.
    let mut gone = Command::new("true").spawn().expect("true starts");
    let pid = gone.id().to_string();
    gone.wait().expect("it is ours");
    assert_eq!(stallspy(&["record", "-p", &pid]).code(), Some(4));
}

#[test]
fn a_process_that_is_not_python() {
    let sleep = Sleep::start();
    let pid = sleep.pid();
    let said = format!(
        "pid {pid} (sleep) is not a Python process that stallspy knows: `pgrep -af python` lists \
         candidates; for a wrapper such as a shell, give its child's pid or add -s"
    );
    fails(&["record", "-p", &pid], 4, &said);
    fails(&["dump", "-p", &pid], 4, &said);
}

#[test]
fn a_pid_that_is_none() {
    for bad in ["0", "-3", "python", "99999999999", "0x"] {
        misused(&["record", &format!("--pid={bad}")], "a pid is a whole number above 0");
    }
}

#[test]
fn flags_that_are_none() {
    misused(&["record", "-p", "1", "--no-such-flag"], "unexpected argument '--no-such-flag'");
    misused(&["recrod"], "unrecognized subcommand 'recrod'");
    misused(&["record"], "required arguments were not provided");
    misused(&["record", "-p", "1", "--", "true"], "cannot be used with");
    misused(&["report"], "required arguments were not provided");
    misused(&["dump"], "required arguments were not provided");
}

#[test]
fn values_that_are_none() {
    misused(&["record", "-p", "1", "--threshold", "10s10"], "10s10");
    misused(&["record", "-p", "1", "--threshold", "100us"], "stalls shorter than 500us");
    misused(&["record", "-p", "1", "-d", "0"], "give a number of seconds above 0");
    misused(&["record", "-p", "1", "-d", "soon"], "give a number of seconds above 0");
    misused(&["record", "-p", "1", "-r", "fast"], "fast");
    misused(&["record", "-p", "1", "-f", "pdf"], "possible values: text, json");
    misused(&["record", "-p", "1", "--color", "red"], "possible values: auto, always, never");
}

#[test]
fn gates_that_are_none() {
    for bad in ["stall>>1", "stall<10ms", "stalls", "stalls>many", "busy>3", ""] {
        misused(&["record", "-p", "1", "--fail-on", bad], "invalid value");
        misused(&["report", "a.stallspy", "--fail-on", bad], "invalid value");
    }
}

#[test]
fn what_this_version_cannot_do_yet_is_refused() {
    misused(&["record", "-p", "1", "--blocking", "--nonblocking"], "cannot be used with");
    // py-spy's flags for what is so anyway are accepted: here they get as far as the process.
    let accepted = ["record", "-p", "2147483647", "--nonblocking", "--no-native", "-g"];
    assert_eq!(stallspy(&accepted).code(), Some(4));
}
