//! The command line: flags in, text and exit codes out. The only part that prints.

#![allow(clippy::disallowed_methods)] // the part that writes files, where the user says

mod advise;
mod before;
mod completions;
mod demo;
mod doctor;
mod dump;
mod dump_greenlets;
mod dump_tasks;
mod man;
mod outputs;
mod progress;
mod record;
mod report;
mod view;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::{Error, exit};

/// Find what blocks a Python server's event loop: attach to a running process, without changing,
/// stopping or restarting it.
#[derive(Debug, Parser)]
#[command(
    version,
    infer_subcommands = true,
    after_help = "Exit codes: 0 done, 1 error, 2 bad usage, 3 a --fail-on gate failed, 4 no such \
                  process or not Python, 5 not permitted, 6 the target ended before anything was \
                  seen.\n\nCommands may be abbreviated while that is unambiguous: `stallspy rec -p \
                  PID`.\nStart with: stallspy record -p PID"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch a process, or launch one, and report every stall of its event loops
    Record(record::Args),
    /// Render a recording again, in any format
    Report(report::Args),
    /// Watch a server for a while, or read a recording, and say only what to change
    Advise(advise::Args),
    /// Look once: every thread's Python stack, what its event loop is doing, and where tasks and greenlets
    /// wait
    Dump(dump::Args),
    /// What this kernel, user and container allow, and what to type to be allowed more
    Doctor(doctor::Args),
    /// Try stallspy on a small server of its own; needs only python3
    Demo(demo::Args),
    /// Print a shell's completion script
    Completions(completions::Args),
    /// Print a manual page
    Man(man::Args),
}

/// The whole command line, as clap knows it.
fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let matches = match command().color(color_choice()).try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::DONE });
        }
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let given = matches.subcommand().map(|(_, matches)| matches);
    let outcome = match cli.command {
        Command::Record(args) => record::run(&args, given),
        Command::Report(args) => report::run(&args, given),
        Command::Advise(args) => advise::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Says something on standard error.
fn complain(sentence: &str) {
    let _ = writeln!(std::io::stderr(), "stallspy: {sentence}");
}

/// Whether clap's own texts are coloured, by the conventions of no-color.org.
fn color_choice() -> ColorChoice {
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        ColorChoice::Never
    } else {
        ColorChoice::Auto
    }
}

/// When to colour the text report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Whether to colour what goes to standard output.
    fn on_stdout(self) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if set("NO_COLOR") => false,
            Color::Auto if set("CLICOLOR_FORCE") => true,
            Color::Auto => std::io::stdout().is_terminal(),
        }
    }
}

/// Writes text that is ready to standard output.
///
/// # Errors
/// An error of the system, but for a reader that went away.
fn write_out(text: &[u8]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    written_to_stdout(out.write_all(text).and_then(|()| out.flush()))
}

/// What came of writing to standard output. A reader that stops reading (`| head`) is no error, and
/// keeps nothing else from being done: Rust ignores the signal that would end us.
///
/// # Errors
/// Any other error of the system.
fn written_to_stdout(outcome: std::io::Result<()>) -> Result<(), Error> {
    match outcome {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::File(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
