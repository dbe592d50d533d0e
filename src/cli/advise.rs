//! `stallspy advise`: what to change, without the tables. Watches a server for a while, or reads a
//! recording.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::ArgGroup;
use regex::Regex;

use super::progress::ProgressLine;
use super::record::{parse_pid, parse_seconds};
use super::{Color, before};
use crate::error::{Error, exit};
use crate::export::{write_advice, write_advice_json};
use crate::model::Recording;
use crate::session::{self, Plan, Target};
use crate::units::{Nanos, Pid};

#[derive(Debug, clap::Args)]
#[command(
    group = ArgGroup::new("source").required(true).args(["pid", "name", "file"]),
    after_help = "Examples:\n  \
        stallspy advise -p 4242            watch for 30 s, then say what to change\n  \
        stallspy advise today.stallspy     the same of a recording\n  \
        stallspy advise -p 4242 --before today.stallspy\n\
        \x20                                    once that size is in force: does the database keep up?\n\n\
        Sizes need a server under load: at least 20 requests."
)]
pub(super) struct Args {
    /// A recording, as written by `stallspy record -f recording -o FILE`
    file: Option<PathBuf>,
    /// The process to watch, decimal or hex; a server's master means all its workers
    #[arg(short, long, value_parser = parse_pid)]
    pid: Option<Pid>,
    /// Watch the one server whose command line matches this regular expression
    #[arg(long, value_name = "REGEX")]
    name: Option<Regex>,
    /// An earlier recording of the same server at another size: whether the database or API that requests wait for
    /// answers more when more ask
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// How many seconds to watch
    #[arg(short, long, value_name = "SECS", default_value = "30", value_parser = parse_seconds)]
    duration: Nanos,
    /// Print JSON: the keys `summary`, `servers` and `findings` of the full report
    #[arg(long)]
    json: bool,
    /// Colour the text
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// No progress line
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(args: &Args) -> Result<u8, Error> {
    // Before anything is watched: a file that is no recording is known at once.
    let before = args.before.as_deref().map(before::read).transpose()?;
    let report = before::conclude(recorded(args)?, before, &[])?;
    let view = super::view::plain(args.color);
    let mut text = Vec::new();
    let written = if args.json {
        write_advice_json(&report, &mut text)
    } else {
        write_advice(&report, &view, &mut text)
    };
    written.map_err(|error| Error::File(format!("cannot write the advice: {error}")))?;
    super::write_out(&text)?;
    Ok(exit::DONE)
}

fn recorded(args: &Args) -> Result<Recording, Error> {
    if let Some(file) = &args.file {
        return before::read(file);
    }
    let pid = args.pid.map_or_else(|| args.name.as_ref().map(session::find), |pid| Some(Ok(pid)));
    let Some(pid) = pid.transpose()? else {
        return Err(Error::File("name a process with -p PID, or a recording".to_owned()));
    };
    let plan = Plan {
        settings: session::usual_settings(),
        duration: Some(args.duration),
        subprocesses: false,
        command: "advise",
    };
    let stop = super::record::stop_on_signals()?;
    let stop: &AtomicBool = &stop;
    let mut line = ProgressLine::new(!args.quiet, Some(args.duration));
    let mut target = Target::Running(pid);
    let recorded = session::record(&mut target, &plan, stop, &mut |state| line.draw(&state));
    line.clear();
    recorded
}
