//! The progress line: only on a terminal, only on standard error, gone when the report comes.

use std::io::{IsTerminal, Write};

use crate::session::Progress;
use crate::units::Nanos;

/// Draws how a recording stands.
#[derive(Debug)]
pub(super) struct ProgressLine {
    shown: bool,
    drawn: bool,
    duration: Option<Nanos>,
}

impl ProgressLine {
    pub(super) fn new(wanted: bool, duration: Option<Nanos>) -> ProgressLine {
        ProgressLine { shown: wanted && std::io::stderr().is_terminal(), drawn: false, duration }
    }

    /// Draws the line anew.
    pub(super) fn draw(&mut self, state: Progress) {
        if !self.shown {
            return;
        }
        self.drawn = true;
        let of = match self.duration {
            Some(duration) => format!(" of {:.0} s", duration.as_secs_f64()),
            None => " (Ctrl-C ends and reports)".to_owned(),
        };
        let _ = write!(
            std::io::stderr(),
            "\r\x1b[Kstallspy: {:.0} s{of} · {} · {} · {}",
            state.elapsed.as_secs_f64(),
            count(state.processes, "process", "processes"),
            count(state.loops, "event loop", "event loops"),
            count(state.looks, "close look", "close looks"),
        );
        let _ = std::io::stderr().flush();
    }

    /// Clears the line.
    pub(super) fn clear(&self) {
        if self.drawn {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
