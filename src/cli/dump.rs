//! `stallspy dump`: one look.

use std::io::Write;

use clap::ArgGroup;
use regex::Regex;

use super::dump_greenlets::greenlets;
use super::dump_tasks::tasks;
use super::written_to_stdout;
use crate::error::{Error, exit};
use crate::model::{Patches, SettingSource, Snapshot, SnapshotFrame, SnapshotPool};
use crate::printable::printable;
use crate::session;
use crate::units::Pid;

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("target").required(true).args(["pid", "name"]))]
pub(super) struct Args {
    /// The process to look at, decimal or hex
    #[arg(short, long, value_parser = super::record::parse_pid)]
    pid: Option<Pid>,
    /// The one server whose command line matches this regular expression
    #[arg(long, value_name = "REGEX")]
    name: Option<Regex>,
    /// As JSON
    #[arg(short, long)]
    json: bool,
    /// With the local variables of each frame
    #[arg(short, long)]
    locals: bool,
    /// With the C frames of threads that sleep
    #[arg(short, long, overrides_with = "no_native")]
    native: bool,
    /// Without C frames (the default)
    #[arg(long, overrides_with = "native")]
    no_native: bool,
    /// Never pause the target (the default)
    #[arg(long)]
    nonblocking: bool,
}

pub(super) fn run(args: &Args) -> Result<u8, Error> {
    let pid = match (args.pid, &args.name) {
        (Some(pid), _) => pid,
        (None, Some(name)) => session::find(name)?,
        (None, None) => return Err(Error::Usage("give -p PID or --name REGEX".to_owned())),
    };
    let snapshot = session::look_once(pid, args.locals, args.native)?;
    let mut out = std::io::stdout().lock();
    let written = if args.json {
        serde_json::to_writer_pretty(&mut out, &snapshot)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        print(&mut out, &snapshot)
    };
    written_to_stdout(written)?;
    Ok(exit::DONE)
}

/// `anyio limiter default_thread_limiter: 3 of 40 in use, 0 waiting`
fn pool_line(pool: &SnapshotPool) -> String {
    let name =
        if pool.name.is_empty() { String::new() } else { format!(" {}", printable(&pool.name)) };
    let known = |number: Option<u32>| number.map_or("?".to_owned(), |number| number.to_string());
    let of = pool.limit.map_or(String::new(), |limit| format!(" of {limit}"));
    let (busy, waiting) = (known(pool.busy), known(pool.waiting));
    format!("{}{name}: {busy}{of} in use, {waiting} waiting", pool.title)
}

/// `Patched by gevent: socket, time`
fn patches_line(patches: &Patches) -> String {
    if patches.modules.is_empty() {
        return format!("Patched by {}: nothing", patches.by);
    }
    format!("Patched by {}: {}", patches.by, patches.modules.join(", "))
}

/// What its server counts, and how it is configured.
fn server(out: &mut dyn Write, snapshot: &Snapshot) -> std::io::Result<()> {
    if let Some(requests) = snapshot.requests {
        write!(out, "Requests: {requests} served so far")?;
        if let Some(in_flight) = snapshot.in_flight {
            write!(out, ", {in_flight} in flight")?;
        }
        writeln!(out)?;
    }
    if snapshot.config.is_empty() {
        return Ok(());
    }
    let settings = snapshot.config.iter().map(|(name, setting)| {
        let source = match setting.source {
            SettingSource::Memory => "",
            SettingSource::CommandLine => " (command line)",
            SettingSource::Environment => " (environment)",
        };
        format!("{name} {}{source}", printable(&setting.value.to_string()))
    });
    writeln!(out, "Settings: {}", settings.collect::<Vec<_>>().join(", "))
}

fn print(out: &mut dyn Write, snapshot: &Snapshot) -> std::io::Result<()> {
    writeln!(out, "Process {}: {}", snapshot.pid, printable(&snapshot.command))?;
    write!(out, "Python v{}", snapshot.python)?;
    if let Some(server) = &snapshot.topology.server {
        let version = |version: &Option<String>| match version {
            Some(version) => format!(" {}", printable(version)),
            None => String::new(),
        };
        let topology = &snapshot.topology;
        write!(out, " · {server}{} {}", version(&topology.server_version), topology.role.name())?;
        let class = topology.worker_class.name();
        write!(out, " ({class}{})", version(&topology.worker_class_version))?;
        if topology.development_server {
            write!(out, ", a development server")?;
        }
    }
    writeln!(out)?;
    for pool in &snapshot.pools {
        writeln!(out, "{}", pool_line(pool))?;
    }
    server(out, snapshot)?;
    if let Some(line) = snapshot.patches.as_ref().map(patches_line) {
        writeln!(out, "{}", printable(&line))?;
    }
    for thread in &snapshot.threads {
        let doing = match (&thread.syscall, &thread.peer) {
            _ if thread.gil == Some("waiting") => "waits for the GIL".to_owned(),
            (Some(call), Some(peer)) => format!("blocked in {call}(): {}", printable(peer)),
            (Some(call), None) => format!("blocked in {call}()"),
            _ => thread.state.to_owned(),
        };
        let holds = if thread.gil == Some("holding") { ", holds the GIL" } else { "" };
        writeln!(out, "\nThread {} ({doing}{holds}): \"{}\"", thread.tid, printable(&thread.name))?;
        if let Some(event_loop) = &thread.event_loop {
            write!(out, "    {} loop: {}", event_loop.kind, event_loop.phase)?;
            if let Some(age) = event_loop.running_for {
                write!(out, " for {:.1} ms", age.as_millis_f64())?;
            }
            if let Some(waiting) = event_loop.waiting_callbacks {
                write!(out, ", {waiting} callbacks waiting")?;
            }
            for text in [&event_loop.task, &event_loop.coroutine, &event_loop.endpoint]
                .into_iter()
                .flatten()
            {
                write!(out, ", {}", printable(text))?;
            }
            writeln!(out)?;
        }
        for frame in &thread.frames {
            frame_line(out, frame)?;
        }
        if thread.truncated {
            writeln!(out, "    (deeper frames could not be read)")?;
        }
    }
    tasks(out, &snapshot.tasks, snapshot.tasks_truncated)?;
    greenlets(out, &snapshot.greenlets, snapshot.greenlets_note)
}

/// `    recv (/srv/stalls.py:70)`, and its local variables.
pub(super) fn frame_line(out: &mut dyn Write, frame: &SnapshotFrame) -> std::io::Result<()> {
    let line = frame.line.map(|line| format!(":{line}")).unwrap_or_default();
    let place = match (&frame.module, frame.line) {
        (Some(module), None) => module,
        _ => &frame.file,
    };
    writeln!(out, "    {} ({}{line})", printable(&frame.function), printable(place))?;
    for (name, value) in frame.locals.iter().flatten() {
        writeln!(out, "        {} = {}", printable(name), printable(value))?;
    }
    Ok(())
}
