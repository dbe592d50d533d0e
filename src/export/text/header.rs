//! The first line: how long, which server, how many of its processes, and on what.

use std::io;

use super::ink::{Ink, Page};
use super::lengths;
use crate::model::{Patches, ProcessInfo, Report, Role, WorkerClass};
use crate::printable::shortened;

/// Most characters of a command line or a version.
const COMMAND: usize = 40;
/// Most characters of the names of patched modules: all that gevent patches.
const MODULES: usize = 120;

/// `stallspy: 30.0 s · gunicorn 23.0.0, 1 master, 4 workers (gthread), CPython 3.12.1 · 2 cores`
pub(super) fn write(page: &mut Page<'_>, report: &Report) -> io::Result<()> {
    let recording = &report.recording;
    let processes = &recording.processes;
    let mut what: Vec<String> = distinct(processes.iter().map(server));
    if processes.iter().any(|one| one.topology.development) {
        what.push("a development server".to_owned());
    }
    let count = |role| processes.iter().filter(|one| one.topology.role == role).count();
    let kinds = kinds(report);
    let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
    let (masters, workers) = (count(Role::Master), count(Role::Worker));
    let others = processes.len().saturating_sub(masters).saturating_sub(workers);
    match (masters, workers, processes.as_slice()) {
        (_, 0, [one]) => what.push(format!("pid {}{kinds}", one.pid)),
        (0, 0, _) => what.push(format!("{} processes{kinds}", processes.len())),
        _ => {
            what.extend(several(masters, "master"));
            what.extend(
                several(workers, "worker").map(|text| format!("{text}{kinds}{}", ended(processes))),
            );
            what.extend((others > 0).then(|| format!("{others} more")));
        }
    }
    let pythons = distinct(processes.iter().map(|one| one.python.clone()));
    if !pythons.is_empty() {
        what.push(format!("CPython {}", shortened(&pythons.join(" and "), COMMAND)));
    }
    let mut parts = vec![lengths::span(recording.length()), what.join(", ")];
    match processes.iter().map(|one| one.cpus).max() {
        Some(1) => parts.push("1 core".to_owned()),
        Some(cores) => parts.push(format!("{cores} cores")),
        None => {}
    }
    let cores = processes.iter().map(|one| f64::from(one.cpus)).fold(0.0, f64::max);
    let quotas = processes.iter().flat_map(|one| &one.budget.quotas);
    let quotas = quotas.filter(|quota| quota.cpus() < cores);
    if let Some(quota) = quotas.min_by(|a, b| a.cpus().total_cmp(&b.cpus())) {
        parts.push(format!("a CPU quota of {}", quota.name()));
    }
    let text = parts.join(" · ");
    page.line(&[(Ink::Bold, "stallspy: "), (Ink::Plain, &text)])?;
    // A master runs no application: what it left unpatched says nothing of its workers.
    let serving = processes.iter().filter(|one| one.topology.role != Role::Master || workers == 0);
    for patches in distinct(serving.filter_map(|one| one.patches.as_ref()).map(patched)) {
        page.line(&[(Ink::Plain, &patches)])?;
    }
    Ok(())
}

/// `patched by gevent: os, time, socket`
fn patched(patches: &Patches) -> String {
    let modules = match patches.modules.as_slice() {
        [] => "nothing".to_owned(),
        modules => shortened(&modules.join(", "), MODULES),
    };
    format!("patched by {}: {modules}", shortened(&patches.by, COMMAND))
}

/// `4 workers`; nothing of none.
fn several(count: usize, what: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        count => Some(format!("{count} {what}s")),
    }
}

/// How many of the workers ended, if that is told from the end of all.
fn ended(processes: &[ProcessInfo]) -> String {
    let workers = || processes.iter().filter(|one| one.topology.role == Role::Worker);
    let gone = workers().filter(|one| one.ended.is_some()).count();
    if gone == 0 || gone == workers().count() {
        String::new()
    } else {
        format!(", {gone} of them ended")
    }
}

fn server(process: &ProcessInfo) -> String {
    let topology = &process.topology;
    match &topology.server_version {
        _ if !topology.is_server() => shortened(&process.command, COMMAND),
        None => topology.server.clone(),
        Some(version) => format!("{} {}", topology.server, shortened(version, COMMAND)),
    }
}

/// How requests are run: the class of workers where the server has several, and the loops.
fn kinds(report: &Report) -> Vec<String> {
    let recording = &report.recording;
    let served = recording.processes.iter().filter(|one| one.topology.role != Role::Master);
    let classes = served.filter_map(|process| {
        let topology = &process.topology;
        let (class, version) = (topology.class.name(), topology.class_version.as_deref());
        let says_nothing = class == topology.server
            || matches!(topology.class, WorkerClass::Bare | WorkerClass::Unknown);
        let class = class.replace('_', " ");
        (!says_nothing).then(|| match version {
            Some(version) => format!("{class} {}", shortened(version, COMMAND)),
            None => class,
        })
    });
    let mut kinds = distinct(classes);
    for kind in distinct(recording.event_loops().map(|info| info.kind.name().to_owned())) {
        if !kinds.iter().any(|known| known.split(' ').next() == Some(&kind)) {
            kinds.push(kind);
        }
    }
    kinds
}

/// The different ones, in the order they come in.
fn distinct(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for one in all {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen
}
