//! `stallspy advise`: what to change, without the tables. Watches a server for a while, or reads a
//! recording.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::ArgGroup;
use regex::Regex;

use super::progress::ProgressLine;
use super::record::{parse_pid, parse_seconds};
use super::{Color, complain};
use crate::error::{Error, exit};
use crate::export::{write_advice, write_advice_json};
use crate::model::Recording;
use crate::recording;
use crate::session::{self, Plan, Target};
use crate::units::{Nanos, Pid};

#[derive(Debug, clap::Args)]
#[command(
    group = ArgGroup::new("source").required(true).args(["pid", "name", "file"]),
    after_help = "Examples:\n  \
        stallspy advise -p 4242            watch for 30 s, then say what to change\n  \
        stallspy advise today.stallspy     the same of a recording\n\n\
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
    let report = session::conclude(recorded(args)?, &[]);
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
        let loaded = recording::read_file(file).map_err(|error| Error::File(error.to_string()))?;
        loaded.notes.iter().for_each(|note| complain(note));
        return Ok(loaded.recording);
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
