//! `stallspy record`: the main job.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{ArgGroup, ArgMatches};
use regex::Regex;

use super::complain;
use super::outputs::{OutputArgs, files, write_all};
use super::progress::ProgressLine;
use super::view::ViewArgs;
use crate::error::{Error, exit};
use crate::gate::{Gate, Pattern};
use crate::model::{Report, Settings};
use crate::session::{self, Launched, Plan, Target};
use crate::units::{Nanos, Pid};
use crate::values;

#[derive(Debug, clap::Args)]
#[command(
    group = ArgGroup::new("target").required(true).args(["pid", "name", "cmd"]),
    after_help = "Examples:\n  \
        stallspy record -p 4242                          until Ctrl-C, then the summary\n  \
        stallspy record -p 4242 -d 30 -o flame.svg       30 s, and a flamegraph\n  \
        stallspy record --name 'gunicorn.*shop'          the server with that command line\n  \
        stallspy record -d 60 --fail-on 'stall>100ms' -- python -m pytest\n\n\
        Never pauses the target, unless --blocking asks for it."
)]
pub(super) struct Args {
    /// The process to watch, decimal or hex; a server's master means all its workers, also later ones
    #[arg(short, long, value_parser = parse_pid, help_heading = "Target")]
    pid: Option<Pid>,
    /// Watch the one server whose command line matches this regular expression
    #[arg(long, value_name = "REGEX", help_heading = "Target")]
    name: Option<Regex>,
    /// Launch this command and watch it
    #[arg(last = true, value_name = "CMD", help_heading = "Target")]
    cmd: Vec<OsString>,
    /// Watch all child processes that are Python, not only a server's workers
    #[arg(short, long, help_heading = "Target")]
    subprocesses: bool,
    /// How many seconds to record [default: until Ctrl-C or the target's end]
    #[arg(short, long, value_name = "SECS", value_parser = parse_seconds)]
    duration: Option<Nanos>,
    /// The shortest stall to report: 500us, 10ms, 1s; a bare number is milliseconds
    #[arg(long, value_name = "DUR", default_value = "10ms", value_parser = parse_threshold)]
    threshold: Nanos,
    /// Background samples a second, for flamegraphs: 100, 1khz [default: 100, or fewer where these
    /// would take more than 0.75 % of a core]
    #[arg(short, long, value_name = "HZ", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Pause a running thread, by ptrace, while its stack is read
    #[arg(long, conflicts_with = "nonblocking")]
    blocking: bool,
    /// Never pause the target (the default)
    #[arg(long)]
    nonblocking: bool,
    /// Exit with 3 when this holds: stall>100ms, stalls>5, loop-utilization>0.9, finding:NAME
    #[arg(long, value_name = "EXPR", help_heading = "Gates")]
    fail_on: Vec<Gate>,
    /// A known stall, listed apart and not gated: an endpoint, file, file:line, function or system
    /// call; * stands for any characters
    #[arg(long, value_name = "PATTERN", help_heading = "Gates")]
    allow: Vec<Pattern>,
    #[command(flatten)]
    outputs: OutputArgs,
    #[command(flatten)]
    view: ViewArgs,
    /// No progress line, no closing remarks
    #[arg(short, long)]
    quiet: bool,
    /// Say more about what is being done
    #[arg(short, long)]
    verbose: bool,
    /// No progress line, nor lines about a loop that hangs
    #[arg(long)]
    no_progress: bool,
}

pub(super) fn parse_pid(text: &str) -> Result<Pid, String> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => i32::from_str_radix(hex, 16),
        None => text.parse::<i32>(),
    };
    match number {
        Ok(pid) if pid > 0 => Ok(Pid(pid)),
        _ => Err("a pid is a whole number above 0; `pgrep -af python` lists candidates".to_owned()),
    }
}

fn parse_threshold(text: &str) -> Result<Nanos, String> {
    let threshold = values::duration(text).map_err(|error| error.to_string())?;
    if threshold < session::SHORTEST_THRESHOLD {
        return Err("stalls shorter than 500us cannot be told from ordinary work".to_owned());
    }
    Ok(threshold)
}

fn parse_rate(text: &str) -> Result<f64, String> {
    values::rate(text).map_err(|error| error.to_string())
}

pub(super) fn parse_seconds(text: &str) -> Result<Nanos, String> {
    if text == "unlimited" {
        // py-spy's word for the default.
        return Ok(Nanos(u64::MAX / 4));
    }
    match text.parse::<f64>() {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded just here
        Ok(seconds) if seconds > 0.0 && seconds < 1e8 => Ok(Nanos((seconds * 1e9) as u64)),
        _ => Err("give a number of seconds above 0".to_owned()),
    }
}

pub(super) fn run(args: &Args, given: Option<&ArgMatches>) -> Result<u8, Error> {
    let view = args.view.view();
    let outputs = args.outputs.outputs(given)?;
    let stop = stop_on_signals()?;
    let plan = Plan {
        settings: Settings {
            threshold: args.threshold,
            rate_hz: args.rate.unwrap_or(session::DEFAULT_RATE_HZ),
            rate_is_most: args.rate.is_none(),
            blocking: args.blocking,
            native: args.view.native_stacks(),
        },
        duration: args.duration,
        subprocesses: args.subprocesses,
        command: "record",
    };
    let pid = args.pid.map_or_else(|| args.name.as_ref().map(session::find), |pid| Some(Ok(pid)));
    let mut target =
        match pid.transpose()? {
            Some(pid) => Target::Running(pid),
            None => Target::Launched(Launched::start(&args.cmd).map_err(|error| {
                Error::Launch {
                    command: args
                        .cmd
                        .first()
                        .map(|word| word.to_string_lossy().into_owned())
                        .unwrap_or_default(),
                    why: error.to_string(),
                }
            })?),
        };
    let mut line = ProgressLine::new(!args.quiet && !args.no_progress, args.duration);
    let recorded = session::record(&mut target, &plan, &stop, &mut |state| line.draw(&state));
    line.clear();
    let recording = match recorded {
        Ok(recording) => recording,
        Err(error) => return nothing_seen(error, end(&mut target, &stop)),
    };
    let report = session::conclude(recording, &args.allow);
    // Before a launched command is ended: that may take long, and a second Ctrl-C in the meantime
    // must not cost the report.
    let written = write_all(&outputs, &report, &view);
    if !args.quiet && written.is_ok() {
        for file in files(&outputs) {
            complain(&format!("wrote {file}"));
        }
    }
    let code = end(&mut target, &stop);
    written?;
    if args.verbose {
        remark(&report);
    }
    let failed = fails(&args.fail_on, &report);
    Ok(if failed { exit::GATE } else { code.unwrap_or(exit::DONE) })
}

/// Why there is no report. A launched command's own failure says more than that it was too short to
/// be seen.
fn nothing_seen(error: Error, code: Option<u8>) -> Result<u8, Error> {
    match (error, code) {
        (error @ Error::EndedEarly { .. }, Some(code)) if code != exit::DONE => {
            complain(&error.to_string());
            Ok(code)
        }
        (error, _) => Err(error),
    }
}

/// Says which gates failed, and whether any did.
fn fails(gates: &[Gate], report: &Report) -> bool {
    let failures: Vec<_> = gates.iter().filter_map(|gate| gate.check(report)).collect();
    for failure in &failures {
        complain(&failure.to_string());
    }
    !failures.is_empty()
}

fn remark(report: &Report) {
    let recording = &report.recording;
    for process in &recording.processes {
        complain(&format!(
            "pid {}: CPython {}, {}, {} threads",
            process.pid,
            process.python,
            process.topology.server,
            process.threads.len()
        ));
    }
    complain(&format!(
        "{} looks kept, {} samples, {} reads",
        recording.loop_states.len(),
        recording.samples.len(),
        recording.losses.reads
    ));
}

/// A flag that SIGINT and SIGTERM set; a second signal kills as usual, in case we hang.
pub(super) fn stop_on_signals() -> Result<Arc<AtomicBool>, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| Error::File(format!("cannot handle signals: {error}")))?;
    }
    Ok(stop)
}

/// Ends a launched command and gives its exit code.
fn end(target: &mut Target, stop: &AtomicBool) -> Option<u8> {
    match target {
        Target::Running(_) => None,
        Target::Launched(child) => Some(child.end(stop)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_is_decimal_or_hex() {
        assert_eq!(parse_pid("4242"), Ok(Pid(4242)));
        assert_eq!(parse_pid("0x10"), Ok(Pid(16)));
        for bad in ["0", "-3", "python", "", "99999999999"] {
            assert!(parse_pid(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_duration_is_seconds() {
        assert_eq!(parse_seconds("1.5"), Ok(Nanos::from_millis(1500)));
        assert!(parse_seconds("-1").is_err());
        assert!(parse_seconds("nan").is_err());
        assert!(parse_seconds("ten").is_err());
    }
}
