//! `stallspy report FILE`: a recording, rendered again. Runs exactly what `record` runs at its end.

use std::path::PathBuf;

use clap::ArgMatches;

use super::outputs::{OutputArgs, files, write_all};
use super::view::ViewArgs;
use super::{before, complain};
use crate::error::{Error, exit};
use crate::gate::{Gate, Pattern};
use crate::model::GilState;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A recording, as written by `stallspy record -f recording -o FILE`
    file: PathBuf,
    /// An earlier recording of the same server at another size, for what both tell together (see `advise --help`)
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
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
    let recording = before::read(&args.file)?;
    let before = args.before.as_deref().map(before::read).transpose()?;
    let samples = &recording.samples;
    if args.view.only_gil() && samples.iter().all(|sample| sample.gil == GilState::Unknown) {
        complain("this recording does not say who held the GIL: with -g no sample is left");
    }
    let report = before::conclude(recording, before, &args.allow)?;
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
