//! The report for programs: JSON, schema `stallspy/1`.
//!
//! Keys are snake_case with the unit in the name; `null` is "not known". Within a major version
//! fields are only added. `docs/stallspy-1.schema.json` describes every key, and the tests hold
//! this file to it. Written as it goes: no second copy of the report is built.

use std::io;

use serde::{Serialize, Serializer};

use super::{Exporter, View};
use crate::model::{Losses, Machine, Recording, Report};
use crate::units::{Nanos, Timestamp};

mod finding;
mod layout;
mod place;
mod pool;
mod process;
mod resident;
mod server;
mod socket;
mod stall;

/// The schema's name and major version.
const SCHEMA: &str = "stallspy/1";

/// Writes the JSON report.
#[derive(Debug)]
pub(super) struct Json;

impl Exporter for Json {
    fn write(&self, report: &Report, _: &View, out: &mut dyn io::Write) -> io::Result<()> {
        write(&ReportOut::new(report), out)
    }
}

/// One key of the top level and one item of its lists a line.
fn write(value: &impl Serialize, out: &mut dyn io::Write) -> io::Result<()> {
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut *out, layout::ItemPerLine::default());
    value.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// What each of our documents begins with.
#[derive(Serialize)]
struct Head<'a> {
    schema: &'static str,
    version: &'a str,
    clock: &'static str,
    attached_ns: Timestamp,
    detached_ns: Timestamp,
    threshold_ns: Nanos,
}

impl<'a> Head<'a> {
    fn new(recording: &'a Recording) -> Head<'a> {
        Head {
            schema: SCHEMA,
            version: &recording.version,
            clock: "monotonic",
            attached_ns: recording.attached,
            detached_ns: recording.detached,
            threshold_ns: recording.settings.threshold,
        }
    }
}

#[derive(Serialize)]
struct ReportOut<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    rate_hz: f64,
    summary: Summary<'a>,
    machine: MachineOut,
    servers: Vec<server::ServerOut<'a>>,
    processes: Vec<process::ProcessOut<'a>>,
    culprits: Vec<stall::CulpritTotalOut<'a>>,
    findings: Vec<finding::FindingOut<'a>>,
    stalls: Stalls<'a>,
    losses: &'a Losses,
}

/// The whole machine over the recording.
#[derive(Serialize)]
struct MachineOut {
    cpus: Option<u32>,
    busy_ns: Nanos,
    idle_ns: Nanos,
    stolen_ns: Nanos,
    memory_available_bytes: Option<u64>,
}

impl MachineOut {
    fn new(machine: &Machine) -> MachineOut {
        MachineOut {
            cpus: (machine.cpus > 0).then_some(machine.cpus),
            busy_ns: machine.busy,
            idle_ns: machine.idle,
            stolen_ns: machine.stolen,
            memory_available_bytes: machine.memory_available_bytes,
        }
    }
}

/// Writes what a report concludes, without what it observed: some of the same keys.
pub(super) fn advice_only(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let advice = AdviceOut {
        head: Head::new(&report.recording),
        summary: Summary::new(report),
        servers: report.loads.iter().map(server::new).collect(),
        findings: findings(report),
    };
    write(&advice, out)
}

#[derive(Serialize)]
struct AdviceOut<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    summary: Summary<'a>,
    servers: Vec<server::ServerOut<'a>>,
    findings: Vec<finding::FindingOut<'a>>,
}

/// What was found, and then what could not be told.
fn findings(report: &Report) -> Vec<finding::FindingOut<'_>> {
    let known = report.findings.iter().map(|found| finding::found(&report.recording, found));
    let unknown = report.undecided.iter().map(|(id, need)| finding::undecided(id, need));
    known.chain(unknown).collect()
}

#[derive(Serialize)]
struct Summary<'a> {
    verdict: &'a str,
    stalls: usize,
    allowed_stalls: usize,
    stalled_ns: Nanos,
    longest_stall_ns: Nanos,
    lost_events: u64,
    reads: u64,
    torn_reads: u64,
    own_cpu_ns: Nanos,
}

impl<'a> ReportOut<'a> {
    fn new(report: &'a Report) -> ReportOut<'a> {
        let recording = &report.recording;
        let culprits = report.culprits.iter();
        ReportOut {
            head: Head::new(recording),
            rate_hz: recording.settings.rate_hz,
            summary: Summary::new(report),
            machine: MachineOut::new(&recording.machine),
            servers: report.loads.iter().map(server::new).collect(),
            processes: recording.processes.iter().map(|one| process::new(report, one)).collect(),
            culprits: culprits.map(|total| stall::culprit_total(recording, total)).collect(),
            findings: findings(report),
            stalls: Stalls(report),
            losses: &recording.losses,
        }
    }
}

impl<'a> Summary<'a> {
    fn new(report: &'a Report) -> Summary<'a> {
        let losses = &report.recording.losses;
        let lengths = || report.stalls.iter().map(crate::model::Stall::duration);
        Summary {
            verdict: &report.verdict,
            stalls: report.stalls.len(),
            allowed_stalls: report.stalls.iter().filter(|stall| stall.allowed).count(),
            stalled_ns: lengths().sum(),
            longest_stall_ns: lengths().max().unwrap_or_default(),
            lost_events: losses.dropped,
            reads: losses.reads,
            torn_reads: losses.torn_reads,
            own_cpu_ns: report.recording.own_cpu,
        }
    }
}

/// The list of stalls, each made when it is written.
struct Stalls<'a>(&'a Report);

impl Serialize for Stalls<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let recording = &self.0.recording;
        serializer.collect_seq(self.0.stalls.iter().map(|one| stall::new(recording, one)))
    }
}
