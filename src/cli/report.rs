//! `stallspy report FILE`: a recording, rendered again. Runs exactly what `record` runs at its end.

use std::path::PathBuf;

use clap::ArgMatches;

use super::complain;
use super::outputs::{OutputArgs, files, write_all};
use super::view::ViewArgs;
use crate::error::{Error, exit};
use crate::gate::{Gate, Pattern};
use crate::model::GilState;
use crate::recording;
use crate::session;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A recording, as written by `stallspy record -f recording -o FILE`
    file: PathBuf,
    #[command(flatten)]
    outputs: OutputArgs,
    #[command(flatten)]
    view: ViewArgs,
    /// Exit with 3 when this holds: stall>100ms, stalls>5, loop-utilization>0.9, finding:NAME
    #[arg(long, value_name = "EXPR", help_heading = "Gates")]
    fail_on: Vec<Gate>,
    /// A known stall, listed apart and not gated
    #[arg(long, value_name = "PATTERN", help_heading = "Gates")]
    allow: Vec<Pattern>,
    /// No closing remarks
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(args: &Args, given: Option<&ArgMatches>) -> Result<u8, Error> {
    let view = args.view.view();
    let outputs = args.outputs.outputs(given)?;
    let loaded =
        recording::read_file(&args.file).map_err(|error| Error::File(error.to_string()))?;
    for note in &loaded.notes {
        complain(note);
    }
    let samples = &loaded.recording.samples;
    if args.view.only_gil() && samples.iter().all(|sample| sample.gil == GilState::Unknown) {
        complain("this recording does not say who held the GIL: with -g no sample is left");
    }
    let report = session::conclude(loaded.recording, &args.allow);
    write_all(&outputs, &report, &view)?;
    if !args.quiet {
        for file in files(&outputs) {
            complain(&format!("wrote {file}"));
        }
    }
    let failures: Vec<_> = args.fail_on.iter().filter_map(|gate| gate.check(&report)).collect();
    for failure in &failures {
        complain(&failure.to_string());
    }
    Ok(if failures.is_empty() { exit::DONE } else { exit::GATE })
}
