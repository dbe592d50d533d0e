//! What computes in a process beside the requests that it serves on threads, and holds its interpreter lock: whether
//! they feel it, and what to do.
//!
//! Takes what held the lock beside requests, gives the finding. That more threads or workers are no cure is told here;
//! the sizes themselves are [`thread_size`](super::thread_size)'s.

use super::blocked::{Blocked, ratio};
use super::{Case, HIGH_SHARE, often, wording};
use crate::model::{
    Background, Cause, Effect, Finding, Load, Measured, Recommendation, Recording, Remedy,
    Severity, Stall, WorkerClass,
};
use crate::units::Nanos;

/// The share of the time for which it held the lock.
const HELD: &str = "background_held_share";
/// The share of the requests' time in which they waited for the lock.
const WAITED: &str = "lock_waited_share";
/// Without it this much more gets done, or requests take so much less: it is what keeps them waiting, whatever else
/// would seem to. A third of the time is more than any size is off by (`scripts/bench --only sizing`).
const MAIN_CAUSE: f64 = 1.0 / 3.0;

/// The finding of the process whose requests feel it most; `None` where they do not.
pub(super) fn found(id: &str, case: &Case<'_>) -> Option<Finding> {
    let weight = |one: &&Background| one.waited.unwrap_or(0.0);
    let worst =
        case.background.iter().filter(is_felt).max_by(|a, b| weight(a).total_cmp(&weight(b)))?;
    let load = case.load_of(worst.pid);
    let stalls: Vec<usize> = { case.stalls.iter().enumerate() }
        .filter_map(|(index, stall)| (!stall.allowed && is_of(case, stall)).then_some(index))
        .collect();
    let waited = worst.waited.unwrap_or(0.0);
    Some(Finding {
        id: id.to_owned(),
        severity: severity(waited),
        summary: summary(case.recording, worst, waited),
        evidence: evidence(case, worst, waited),
        stalls,
        recommendations: vec![recommendation(case, worst, load)],
    })
}

/// How much it matters to requests that so much of their time is a wait.
fn severity(waited: f64) -> Severity {
    match waited {
        _ if waited >= MAIN_CAUSE => Severity::High,
        _ if waited >= HIGH_SHARE => Severity::Medium,
        _ => Severity::Low,
    }
}

/// The share of the time that the finding explains: all of it where hardly anything else keeps requests waiting.
pub(super) fn explains(finding: &Finding) -> Option<f64> {
    let held = finding.figure(HELD)?;
    let gain = { finding.recommendations.iter() }.filter_map(Recommendation::gain);
    let is_main = gain.fold(0.0, f64::max) >= MAIN_CAUSE;
    Some(if is_main { 1.0 } else { held })
}

/// Whether a request waited for the lock, and such a thread held it.
pub(super) fn is_of(case: &Case<'_>, stall: &Stall) -> bool {
    let holder = stall.culprit.as_ref().map(|culprit| culprit.tid);
    let is_own = |one: &Background| {
        one.pid == stall.pid && one.threads.iter().any(|tid| holder == Some(*tid))
    };
    stall.occupies && stall.cause == Cause::GilWait && case.background.iter().any(is_own)
}

/// Whether requests of its process feel it.
fn is_felt(one: &&Background) -> bool {
    one.held >= HIGH_SHARE && one.waited.is_some_and(|share| share >= often::SELDOM)
}

/// A size is to be found anew once the lock is free, and then gets more done: it comes first only where it takes away
/// more than twice as much as to be rid of what holds the lock.
const SIZE_FIRST: f64 = 2.0;

/// What is to go before the size of a server is changed: what holds the lock in its workers most of the time, if that
/// is felt.
pub(super) fn instead_of_size<'a>(case: &Case<'a>, load: &Load) -> Option<&'a Background> {
    let own = case.background.iter().filter(|one| load.workers.contains(&one.pid));
    let most = own.filter(is_felt).max_by(|a, b| a.held.total_cmp(&b.held))?;
    let size = case.size_of(load)?;
    let gain = size.without_background().iter().map(Effect::gain).fold(0.0, f64::max);
    let other = size.change().and_then(|change| change.gain()).unwrap_or(0.0);
    (gain > 0.0 && gain * SIZE_FIRST >= other).then_some(most)
}

/// The line, and what it is called for: `burn` alone may be anybody's.
pub(super) fn place(recording: &Recording, one: &Background) -> String {
    let line = wording::place(recording, one.frame);
    let runs = one.runs.map(|frame| format!(" (called by {})", wording::place(recording, frame)));
    format!("{line}{}", runs.unwrap_or_default())
}

/// The thread, by the name that Python has for it if that is known.
fn thread(recording: &Recording, one: &Background) -> String {
    let threads = recording.get_process(one.pid).map(|process| process.threads.as_slice());
    let first = one.threads.first();
    let named = threads.unwrap_or_default().iter().find(|info| Some(&info.tid) == first);
    let name = named.map(|info| info.title()).filter(|name| !name.is_empty());
    let more = match one.threads.len() {
        0 | 1 => String::new(),
        several => format!(" and {} more", several - 1),
    };
    match (name, first) {
        (Some(name), Some(tid)) => format!("thread {tid} ({name}){more}"),
        (None, Some(tid)) => format!("thread {tid}{more}"),
        (_, None) => "a thread".to_owned(),
    }
}

fn summary(recording: &Recording, one: &Background, waited: f64) -> String {
    format!(
        "requests wait for the interpreter lock {} of their time: beside them {} {} it {} of the time, at {}",
        wording::percent(waited),
        thread(recording, one),
        if one.threads.len() > 1 { "hold" } else { "holds" },
        wording::percent(one.held),
        place(recording, one)
    )
}

fn evidence(case: &Case<'_>, one: &Background, waited: f64) -> Vec<Measured> {
    let mut all = vec![ratio(HELD, one.held), ratio(WAITED, waited)];
    let costs = case.load_of(one.pid).and_then(|load| load.costs);
    all.extend(costs.map(|costs| Measured::new("lock_wait_per_request", costs.gil_wait, "s")));
    let waits = Blocked::sum(case.recording, case.stalls, |stall| is_of(case, stall));
    all.extend(waits.into_iter().flat_map(|waits| waits.measured().into_iter().skip(1)));
    all
}

fn recommendation(case: &Case<'_>, one: &Background, load: Option<&Load>) -> Recommendation {
    let own = match one.package.as_deref() {
        // <https://apscheduler.readthedocs.io/en/3.x/userguide.html#choosing-the-right-scheduler-job-store-s-executor-s-and-trigger-s>
        Some("apscheduler") => {
            "a script that runs it with `BlockingScheduler` (or APScheduler's own `ProcessPoolExecutor` for that job)"
        }
        _ => "`ProcessPoolExecutor`, a task queue (Celery, RQ), or a script beside the server",
    };
    let in_c = match is_in_c(case) {
        true => "; or a C library that lets go of the lock while it computes",
        false => "",
    };
    let mut inputs = vec![ratio(HELD, one.held)];
    inputs.extend(one.waited.map(|waited| ratio(WAITED, waited)));
    Recommendation {
        remedy: Remedy::Code { frame: one.runs.unwrap_or(one.frame) },
        command: format!("give that work a process of its own: {own}{in_c}"),
        reason: reason(load),
        inputs,
        predicted: load.map(|load| predicted(case, one, load)).unwrap_or_default(),
    }
}

/// Whether what holds the lock is C code most of the time for which requests were seen to wait.
fn is_in_c(case: &Case<'_>) -> bool {
    let own = || case.stalls.iter().filter(|stall| is_of(case, stall));
    let is_c = |stall: &&Stall| stall.culprit.as_ref().is_some_and(|one| one.native.is_some());
    let in_c: Nanos = own().filter(is_c).map(Stall::duration).sum();
    in_c > Nanos::ZERO && in_c >= own().map(Stall::duration).sum::<Nanos>().scaled(1, 2)
}

/// What else would be tried.
fn reason(load: Option<&Load>) -> String {
    let threads = match load.map(|load| load.class) {
        Some(WorkerClass::Sync) => "threads beside the one that serves",
        _ => "more threads",
    };
    format!(
        "one thread of a process runs Python at a time, and each request waits up to 5 ms for its turn again and \
         again: {threads} would wait for the same lock, and more workers would each do that work once more"
    )
}

/// What requests do without it: how many get done where they queue, else how long each takes.
fn predicted(case: &Case<'_>, one: &Background, load: &Load) -> Vec<Effect> {
    let size = case.size_of(load);
    let all = size.map(|size| size.without_background()).unwrap_or_default();
    if !all.is_empty() {
        return all;
    }
    let times = load.costs.and_then(|costs| Some((costs.total?, costs.gil_wait)));
    let held = case.recording.get_process(one.pid).and_then(|it| it.gil.share(it.gil.held));
    let Some(((total, waited), held)) = times.zip(held.filter(|held| *held > 0.0)) else {
        return Vec::new();
    };
    // Of what they wait for the lock, the part for which it is not requests that hold it.
    let after = (total - waited * (one.held / held).min(1.0)).max(0.0);
    vec![super::size::effect("response_time", total, after, "s")]
}
