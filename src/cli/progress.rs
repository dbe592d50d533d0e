//! The progress line: only on a terminal, only on standard error, gone when the report comes.
//!
//! A loop that hangs is told while it does: in that line, or elsewhere in lines of their own, few.

use std::io::{IsTerminal, Write};

use super::complain;
use crate::printable::shortened;
use crate::session::{Hang, Progress};
use crate::units::Nanos;

/// Most characters of the line a loop hangs at.
const PLACE: usize = 100;

/// Draws how a recording stands.
#[derive(Debug)]
pub(super) struct ProgressLine {
    wanted: bool,
    /// There is a terminal.
    shown: bool,
    /// The age at which the present hang is told of again, where there is none: each time it has
    /// doubled.
    told: Option<Nanos>,
    drawn: bool,
    duration: Option<Nanos>,
}

impl ProgressLine {
    pub(super) fn new(wanted: bool, duration: Option<Nanos>) -> ProgressLine {
        let shown = wanted && std::io::stderr().is_terminal();
        ProgressLine { wanted, shown, told: None, drawn: false, duration }
    }

    /// Draws the line anew.
    pub(super) fn draw(&mut self, state: &Progress) {
        if !self.shown {
            self.tell(state.hang.as_ref());
            return;
        }
        self.drawn = true;
        let of = match self.duration {
            Some(duration) => format!(" of {:.0} s", duration.as_secs_f64()),
            None => " (Ctrl-C ends and reports)".to_owned(),
        };
        let _ = write!(
            std::io::stderr(),
            "\r\x1b[Kstallspy: {:.0} s{of} · {} · {} · {}{}",
            state.elapsed.as_secs_f64(),
            count(state.processes, "process", "processes"),
            watched(state),
            count(state.looks, "close look", "close looks"),
            state.hang.as_ref().map_or(String::new(), |hang| format!(" · {}", blocked(hang))),
        );
        let _ = std::io::stderr().flush();
    }

    fn tell(&mut self, hang: Option<&Hang>) {
        let Some(hang) = hang.filter(|_| self.wanted) else {
            self.told = None;
            return;
        };
        if self.told.is_none_or(|again| hang.age >= again) {
            self.told = Some(hang.age.scaled(2, 1));
            let what = if hang.occupies { "a thread" } else { "the event loop" };
            complain(&format!("pid {}: {what} is {}", hang.pid, blocked(hang)));
        }
    }

    /// Clears the line.
    pub(super) fn clear(&self) {
        if self.drawn {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// What is looked at: threads that serve requests are named where there are some.
fn watched(state: &Progress) -> String {
    let loops = count(state.loops, "event loop", "event loops");
    let threads = count(state.request_threads, "request thread", "request threads");
    match (state.loops, state.request_threads) {
        (_, 0) => loops,
        (0, _) => threads,
        _ => format!("{loops} · {threads}"),
    }
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn blocked(hang: &Hang) -> String {
    let held = if hang.occupies { "held by a request" } else { "blocked" };
    format!("{held} since {:.0} s at {}", hang.age.as_secs_f64(), shortened(&hang.place, PLACE))
}
