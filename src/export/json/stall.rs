//! Stalls and culprits as JSON.

use serde::Serialize;

use super::place::{self, CulpritOut, StackOut, text};
use crate::model::{CulpritTotal, Evidence, LoopId, Recording, Stall, Throttled};
use crate::units::{Nanos, Pid, Tid, Timestamp};

/// One stall.
#[derive(Serialize)]
pub(super) struct StallOut<'a> {
    start_ns: Timestamp,
    duration_ns: Nanos,
    duration_min_ns: Nanos,
    duration_max_ns: Nanos,
    ongoing: bool,
    before_attach: bool,
    evidence: Evidence,
    allowed: bool,
    pid: Pid,
    tid: Tid,
    r#loop: &'static str,
    loop_id: LoopId,
    kind: &'static str,
    on_cpu_ns: Nanos,
    off_cpu_ns: Nanos,
    run_delay_ns: Nanos,
    quota: Option<QuotaOut>,
    major_faults: Option<u64>,
    gc_generation: Option<u8>,
    releases_gil: Option<bool>,
    callbacks: u32,
    waiting_callbacks: Option<u32>,
    batch_callbacks: Option<u32>,
    contributors: Vec<ContributorOut<'a>>,
    others: Vec<OtherOut<'a>>,
    task: Option<&'a str>,
    coroutine: Option<&'a str>,
    endpoint: Option<&'a str>,
    culprit: Option<CulpritOut<'a>>,
    stack: StackOut<'a>,
}

/// What ran in an iteration of many callbacks.
#[derive(Serialize)]
struct ContributorOut<'a> {
    name: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
    share: f64,
}

fn contributors<'a>(recording: &'a Recording, stall: &Stall) -> Vec<ContributorOut<'a>> {
    let tables = &recording.tables;
    let contributors = stall.particulars.contributors.iter().map(|one| {
        let frame = one.frame.and_then(|id| tables.get_frame(id));
        ContributorOut {
            name: tables.text(one.name),
            file: text(recording, frame.and_then(|frame| frame.file)),
            line: frame.and_then(|frame| frame.line),
            share: one.share,
        }
    });
    contributors.collect()
}

/// Another line that took enough of it for a stall of its own.
#[derive(Serialize)]
struct OtherOut<'a> {
    kind: &'static str,
    calls: u32,
    duration_ns: Nanos,
    releases_gil: Option<bool>,
    endpoint: Option<&'a str>,
    culprit: CulpritOut<'a>,
}

fn others<'a>(recording: &'a Recording, stall: &Stall) -> Vec<OtherOut<'a>> {
    let others = stall.particulars.others.iter().map(|other| OtherOut {
        kind: other.cause.id(),
        calls: other.calls,
        duration_ns: other.time,
        releases_gil: other.releases_gil,
        endpoint: text(recording, other.endpoint),
        culprit: place::culprit(recording, &other.culprit),
    });
    others.collect()
}

/// The CPU quota that was spent, and what that took.
#[derive(Serialize)]
struct QuotaOut {
    cpus: f64,
    throttled_ns: Nanos,
    throttled_periods: u64,
}

fn quota(throttled: Throttled) -> QuotaOut {
    QuotaOut {
        cpus: throttled.quota.cpus(),
        throttled_ns: throttled.time,
        throttled_periods: throttled.periods,
    }
}

/// A stall with its culprit and stack.
pub(super) fn new<'a>(recording: &'a Recording, stall: &Stall) -> StallOut<'a> {
    let length = stall.length();
    StallOut {
        start_ns: stall.began.middle(),
        duration_ns: stall.duration(),
        duration_min_ns: length.lo,
        duration_max_ns: length.hi,
        ongoing: stall.ongoing,
        before_attach: stall.before_attach,
        evidence: stall.evidence,
        allowed: stall.allowed,
        pid: stall.pid,
        tid: stall.tid,
        r#loop: recording.get_loop(stall.loop_id).map_or("none", |info| info.kind.name()),
        loop_id: stall.loop_id,
        kind: stall.cause.id(),
        on_cpu_ns: stall.split.on_cpu,
        off_cpu_ns: stall.split.off_cpu,
        run_delay_ns: stall.split.run_delay,
        quota: stall.particulars.throttled.map(quota),
        major_faults: stall.particulars.major_faults,
        gc_generation: stall.particulars.generation,
        releases_gil: stall.particulars.releases_gil,
        callbacks: stall.callbacks,
        waiting_callbacks: stall.waiting_callbacks,
        batch_callbacks: stall.particulars.batch,
        contributors: contributors(recording, stall),
        others: others(recording, stall),
        task: text(recording, stall.task),
        coroutine: text(recording, stall.coroutine),
        endpoint: text(recording, stall.endpoint),
        culprit: stall.culprit.as_ref().map(|culprit| place::culprit(recording, culprit)),
        stack: StackOut { recording, native: stall.native, stack: stall.stack },
    }
}

/// All stalls of one culprit.
#[derive(Serialize)]
pub(super) struct CulpritTotalOut<'a> {
    culprit: Option<CulpritOut<'a>>,
    endpoint: Option<&'a str>,
    kind: &'static str,
    count: usize,
    total_ns: Nanos,
    max_ns: Nanos,
    share: f64,
    allowed: bool,
}

/// One line of the culprits' table.
pub(super) fn culprit_total<'a>(
    recording: &'a Recording,
    total: &CulpritTotal,
) -> CulpritTotalOut<'a> {
    CulpritTotalOut {
        culprit: total.culprit.as_ref().map(|culprit| place::culprit(recording, culprit)),
        endpoint: text(recording, total.endpoint),
        kind: total.cause.id(),
        count: total.count,
        total_ns: total.total,
        max_ns: total.max,
        share: total.share,
        allowed: total.allowed,
    }
}
