//! `stallspy demo`: starts a small server with blocking handlers, loads it, watches it.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::AtomicBool;

use super::outputs::{Output, write_all};
use super::progress::ProgressLine;
use super::{Color, complain};
use crate::error::{Error, exit};
use crate::export::Format;
use crate::session::{self, Plan, Target};
use crate::units::{Nanos, Pid};

/// The server: standard library only, Python 3.8 or later.
const SERVER: &str = include_str!("../../fixtures/servers/demo_server.py");
/// Seconds the server outlives the recording by, in case this machine is slow; it ends by itself.
const MARGIN_SECS: u64 = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The Python to run the server with
    #[arg(long, default_value = "python3", value_name = "EXE")]
    python: PathBuf,
    /// How many seconds to record
    #[arg(short, long, value_name = "SECS", default_value = "8", value_parser = clap::value_parser!(u64).range(1..=600))]
    duration: u64,
    /// Where to write the report, in every format
    #[arg(short, long, value_name = "DIR", default_value = "stallspy-demo")]
    output: PathBuf,
    /// Colour the text report
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: Color,
}

pub(super) fn run(args: &Args) -> Result<u8, Error> {
    let cannot = |what: &str, error: &std::io::Error| {
        Error::File(format!(
            "cannot {what} {}: {error}; choose another directory with -o DIR",
            args.output.display()
        ))
    };
    std::fs::create_dir_all(&args.output).map_err(|error| cannot("make", &error))?;
    let file = args.output.join("demo_server.py");
    std::fs::write(&file, SERVER).map_err(|error| cannot("write to", &error))?;
    let outputs: Vec<Output> = [
        ("report.txt", Format::Text),
        ("report.json", Format::Json),
        ("flamegraph.svg", Format::Flamegraph),
        ("demo.speedscope.json", Format::Speedscope),
        ("demo.stallspy", Format::Recording),
    ]
    .into_iter()
    .map(|(name, format)| Output::file(format, args.output.join(name)))
    .chain([Output::stdout(Format::Text)])
    .collect();
    complain(&format!(
        "starting a demo server with {} and loading it for {} s …",
        args.python.display(),
        args.duration
    ));
    let server = Server::start(args, &file)?;
    let duration = Nanos::from_secs(args.duration);
    let plan = Plan {
        settings: session::usual_settings(),
        duration: Some(duration),
        subprocesses: false,
        command: "demo",
    };
    let mut line = ProgressLine::new(true, Some(duration));
    let stop = AtomicBool::new(false);
    let mut target = Target::Running(server.pid);
    let recording = session::record(&mut target, &plan, &stop, &mut |state| line.draw(&state))?;
    line.clear();
    drop(server);
    let report = session::conclude(recording, &[]);
    let view = super::view::plain(args.color);
    write_all(&outputs, &report, &view)?;
    let _ = writeln!(
        std::io::stderr(),
        "\nThis was a demo. The report is in {0}/ in every format: open {0}/flamegraph.svg in a browser.\n\
         Now try your own server: stallspy record -p PID",
        args.output.display()
    );
    Ok(exit::DONE)
}

/// The running server; ended when dropped, whatever happens.
struct Server {
    child: Child,
    pid: Pid,
    /// Kept open: the server may write to it.
    _out: BufReader<ChildStdout>,
}

impl Server {
    fn start(args: &Args, file: &PathBuf) -> Result<Server, Error> {
        let launch = |why: String| Error::Launch {
            command: args.python.display().to_string(),
            why: format!("{why}; the demo needs Python 3.8 or later, name one with --python"),
        };
        let mut child = Command::new(&args.python)
            .arg(file)
            .arg("--seconds")
            .arg((args.duration + MARGIN_SECS).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| launch(error.to_string()))?;
        let out = child.stdout.take();
        let mut server = Server {
            pid: Pid(child.id().cast_signed()),
            child,
            _out: BufReader::new(out.ok_or_else(|| launch("it has no output".to_owned()))?),
        };
        let mut line = String::new();
        let read = server._out.read_line(&mut line);
        if read.is_err() || !line.starts_with("ready ") {
            return Err(launch("it ended before it was ready".to_owned()));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, kill};
        let _ = kill(nix::unistd::Pid::from_raw(self.pid.0), Signal::SIGTERM);
        // It ends its own children on SIGTERM; a hung one is killed.
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
