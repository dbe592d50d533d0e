//! From a recording to its report: the one place where the pure stages meet.
//!
//! Takes a recording and what the user accepts; gives stalls, culprits, loop figures, findings
//! and one sentence. The same for a live recording and for one read from a file. Never observes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::attribution::background::background;
use crate::attribution::blocked_on::blocked_on;
use crate::attribution::connecting::connecting;
use crate::attribution::lock_waits::lock_waits;
use crate::attribution::usage::usage;
use crate::attribution::{Attribution, Witnesses, pools, talks};
use crate::diagnosis::blocked::Blocked;
use crate::diagnosis::rules::loop_hung::is_hung;
use crate::diagnosis::thread_size::ThreadSize;
use crate::diagnosis::{Case, RULES, contrast, keep, wording};
use crate::load::lag::Lag;
use crate::load::loads;
use crate::load::loops::loop_loads;
use crate::model::{
    Background, Cause, Connecting, Culprit, CulpritTotal, Finding, FrameId, Load, LockWait, LoopId,
    LoopInfo, LoopLoad, LoopSummary, ProcessInfo, Recording, Report, Severity, Stall, Tables,
    Verdict, WaitId,
};
use crate::stall;
use crate::units::{Nanos, Timestamp, whole};

/// Everything a recording says. `allow` picks the stalls that the user knows and accepts.
#[must_use]
pub fn conclude(recording: Recording, allow: &dyn Fn(&Recording, &Stall) -> bool) -> Report {
    conclude_after(recording, &[], allow)
}

/// The same, with what its servers did in an earlier recording.
#[must_use]
pub fn conclude_after(
    mut recording: Recording,
    before: &[Load],
    allow: &dyn Fn(&Recording, &Stall) -> bool,
) -> Report {
    let Grounds { stalls, connecting, loops, lock_waits, background, mut loads } =
        Grounds::of(&mut recording, allow);
    contrast::place(&mut loads, before);
    let uses = usage(&recording);
    let sizes: Vec<ThreadSize<'_>> = loads.iter().filter_map(ThreadSize::of).collect();
    let case = Case {
        recording: &recording,
        stalls: &stalls,
        loads: &loads,
        sizes: &sizes,
        loops: &loops,
        uses: &uses,
        connecting: &connecting,
        lock_waits: &lock_waits,
        background: &background,
    };
    let (mut weighed, undecided) = findings(&case);
    keep::attach(&case, weighed.iter_mut().map(|(_, finding)| finding));
    let verdict = verdict(&recording, &stalls, weighed.first());
    let findings = weighed.into_iter().map(|(_, finding)| finding).collect();
    Report {
        culprits: culprits(&recording.tables, &stalls),
        loads,
        loops: recording.event_loops().map(|info| summarize(&recording, info, &stalls)).collect(),
        stalls,
        findings,
        undecided,
        verdict,
        recording,
    }
}

/// What the servers of a recording did, to be held against what they do in a later one.
#[must_use]
pub fn loads_of(mut recording: Recording) -> Vec<Load> {
    Grounds::of(&mut recording, &|_, _| false).loads
}

/// What findings rest on, but for the recording itself.
struct Grounds {
    stalls: Vec<Stall>,
    connecting: Vec<Connecting>,
    loops: Vec<LoopLoad>,
    lock_waits: Vec<LockWait>,
    background: Vec<Background>,
    loads: Vec<Load>,
}

impl Grounds {
    /// Those of a recording, to which it adds what only shows when all is known.
    fn of(recording: &mut Recording, allow: &dyn Fn(&Recording, &Stall) -> bool) -> Grounds {
        let (mut stalls, disagreements) = stalls_and_disagreements(recording);
        recording.losses.edge_disagreements = disagreements;
        pools::place(recording);
        let connecting = connecting(recording);
        talks::place(recording, &stalls, &connecting);
        for stall in &mut stalls {
            stall.allowed = allow(recording, stall);
        }
        let loops = loop_loads(recording, &stalls);
        let lock_waits = lock_waits(recording, &stalls);
        let background = background(recording);
        let blocked_on = blocked_on(recording);
        let loads = loads(recording, &loops, &blocked_on, &lock_waits, &background);
        Grounds { stalls, connecting, loops, lock_waits, background, loads }
    }
}

/// The explained stalls of a recording, in order of beginning; none of them allowed yet.
#[must_use]
pub fn stalls_of(recording: &Recording) -> Vec<Stall> {
    stalls_and_disagreements(recording).0
}

fn stalls_and_disagreements(recording: &Recording) -> (Vec<Stall>, u64) {
    let (episodes, disagreements) = stall::episodes_and_disagreements(recording);
    let stalls = episodes.iter().filter_map(|episode| {
        // A state of a loop that is not in the table can only come from a damaged file.
        let info = recording.get_loop(episode.loop_id)?;
        let (gap, before, after) = (episode.gap, episode.before, episode.after);
        let witnesses = Witnesses { gap, before, during: &episode.during, after };
        Some((episode.to_stall(info), witnesses))
    });
    let mut stalls = Attribution::new(recording).explain_all(stalls);
    for stall in stalls.iter_mut().filter(|stall| stall.ongoing && !stall.occupies) {
        stall.particulars.served = served_in(recording, stall);
    }
    (stalls, disagreements)
}

/// When a request was last counted in a stall of the only loop of its process.
fn served_in(recording: &Recording, stall: &Stall) -> Option<Timestamp> {
    let risen = recording.get_process(stall.pid)?.requests.risen?;
    let is_only = recording.event_loops().filter(|info| info.pid == stall.pid).count() == 1;
    (is_only && risen > stall.began.hi).then_some(risen)
}

/// Stalls by culprit and cause: the costliest first, allowed ones last. What other lines took of a stall is
/// theirs.
fn culprits(tables: &Tables, stalls: &[Stall]) -> Vec<CulpritTotal> {
    // Frames are interned: the same file, line and function have the same id.
    type Key = (bool, bool, Option<FrameId>, Cause);
    let mut groups: BTreeMap<Key, Vec<(Cow<'_, Stall>, Nanos)>> = BTreeMap::new();
    for stall in stalls {
        let others: Vec<Stall> = stall.others().collect();
        let beside: Nanos = others.iter().map(Stall::duration).sum();
        let own = (Cow::Borrowed(stall), stall.duration().saturating_sub(beside));
        let others = others.into_iter().map(|other| {
            let time = other.duration();
            (Cow::Owned(other), time)
        });
        for (part, time) in std::iter::once(own).chain(others) {
            let frame = part.culprit.as_ref().map(|culprit| culprit.frame);
            let key = (part.allowed, part.occupies, frame, part.cause);
            groups.entry(key).or_default().push((part, time));
        }
    }
    let all: Nanos = stalls.iter().map(Stall::duration).sum();
    let mut totals: Vec<CulpritTotal> = groups
        .into_iter()
        .filter_map(|((allowed, occupies, _, cause), group)| {
            let stalls = || group.iter().map(|(stall, _)| &**stall);
            let longest = stalls().reduce(|longest, stall| {
                if stall.duration() > longest.duration() { stall } else { longest }
            })?;
            let total: Nanos = group.iter().map(|(_, time)| *time).sum();
            let shared = stalls().all(|stall| stall.endpoint == longest.endpoint);
            Some(CulpritTotal {
                occupies,
                culprit: longest.culprit.clone().map(|culprit| Culprit {
                    wait: culprit.wait.map(|wait| found_wait(tables, wait, stalls())),
                    ..culprit
                }),
                endpoint: longest.endpoint.filter(|_| shared),
                cause,
                count: group.len(),
                total,
                max: longest.duration(),
                share: total.share_of(all),
                allowed,
            })
        })
        .collect();
    // The sort is stable: equals stay in the order of their frames.
    totals.sort_by(|a, b| {
        a.allowed.cmp(&b.allowed).then(b.total.cmp(&a.total)).then(b.max.cmp(&a.max))
    });
    totals
}

/// The same wait with its other end, if that was found in another of these stalls: a socket may have been too new.
fn found_wait<'a>(tables: &Tables, id: WaitId, stalls: impl Iterator<Item = &'a Stall>) -> WaitId {
    let Some(wait) = tables.get_wait(id).filter(|wait| wait.peer.is_none()) else { return id };
    let mut others = stalls.filter_map(|stall| stall.culprit.as_ref()?.wait);
    let is_found = |other: &WaitId| {
        tables.get_wait(*other).is_some_and(|one| one.syscall == wait.syscall && one.peer.is_some())
    };
    others.find(is_found).unwrap_or(id)
}

/// One loop's figures.
fn summarize(recording: &Recording, info: &LoopInfo, stalls: &[Stall]) -> LoopSummary {
    let lag = Lag::of(recording, info, stalls);
    LoopSummary {
        loop_id: info.id,
        utilization: info.tally.utilization(),
        lag_p50: lag.quantile(0.50),
        lag_p99: lag.quantile(0.99),
        lag_max: lag.max(),
    }
}

/// The rule that speaks when no other does.
const HEALTHY: &str = "healthy";

/// A finding, and the time it explains.
type Weighed = (Nanos, Finding);

/// What the rules found, ordered by the time it explains, then by severity, then as in [`RULES`];
/// and which rules could not tell.
fn findings(case: &Case<'_>) -> (Vec<Weighed>, Vec<(&'static str, &'static str)>) {
    let Case { recording, stalls, .. } = *case;
    let (mut findings, mut undecided) = (Vec::new(), Vec::new());
    for rule in RULES {
        match rule.check(case) {
            Verdict::Clear => {}
            Verdict::Found(finding) => {
                // Parts per million are finer than any count of looks.
                let share = rule.explains(&finding).map_or(0, |share| whole(share.min(1.0) * 1e6));
                let beside = recording.length().scaled(u64::from(share), 1_000_000);
                let part = |stall: &Stall| rule.part(recording, stall);
                let explained = time(recording, stalls, &finding.stalls, part).max(beside);
                findings.push((explained, finding));
            }
            Verdict::NotEnoughData { need } => undecided.push((rule.id(), need)),
        }
    }
    // That loops never stalled is no health where something else is wrong.
    if findings.iter().any(|(_, finding)| finding.severity > Severity::Info) {
        findings.retain(|(_, finding)| finding.id != HEALTHY);
    }
    // What is only worth knowing explains nothing that anybody should change.
    let is_info = |finding: &Finding| finding.severity == Severity::Info;
    findings.sort_by(|(a, first), (b, second)| {
        let by_severity = || second.severity.cmp(&first.severity);
        is_info(first).cmp(&is_info(second)).then_with(|| b.cmp(a)).then_with(by_severity)
    });
    (findings, undecided)
}

/// The time that some stalls, or the `part` of them, took of the recording, on the loop where they took most: several loops at once make no
/// longer recording, nor do several threads of one process.
fn time(
    recording: &Recording,
    stalls: &[Stall],
    picked: &[usize],
    part: impl Fn(&Stall) -> Nanos,
) -> Nanos {
    let mut by_loop: BTreeMap<LoopId, Nanos> = BTreeMap::new();
    for stall in picked.iter().filter_map(|index| stalls.get(*index)) {
        *by_loop.entry(stall.loop_id).or_default() += part(stall);
    }
    by_loop.into_values().max().unwrap_or_default().min(recording.length())
}

/// The one sentence a reader sees first: that of whatever explains most of the time.
fn verdict(recording: &Recording, stalls: &[Stall], first: Option<&Weighed>) -> String {
    if recording.event_loops().chain(recording.request_threads()).next().is_none() {
        // A pool that requests wait for is one without a loop, too; who else is to be watched comes first.
        let serves_elsewhere = |process: &ProcessInfo| {
            process.unread_loop.is_some() || !process.serving_children.is_empty()
        };
        let is_elsewhere = recording.processes.iter().any(serves_elsewhere);
        let beside = first.filter(|(explained, _)| *explained > Nanos::ZERO && !is_elsewhere);
        return match beside {
            Some((_, finding)) => finding.summary.clone(),
            None => without_loops(recording),
        };
    }
    let found = first.map(|(explained, finding)| (*explained, finding.summary.clone()));
    let unruled = UNRULED.iter().filter_map(|(cause, words)| {
        let of_cause = |stall: &Stall| stall.cause == *cause && !is_hung(stall);
        let blocked = Blocked::of(recording, stalls, of_cause)?;
        let extent = wording::extent(&blocked);
        Some((
            time(recording, stalls, &blocked.stalls, |stall| recording.observed(stall)),
            format!("{} {words}: {extent}", wording::loops_are(&blocked)),
        ))
    });
    // Of equals the finding wins, as it comes with advice.
    let most = found.into_iter().chain(unruled).reduce(|a, b| if b.0 > a.0 { b } else { a });
    most.map_or_else(|| nothing_seen(recording), |(_, sentence)| sentence)
}

/// Causes that no rule speaks of, and how the verdict words them.
const UNRULED: &[(Cause, &str)] = &[(Cause::Unknown, "blocked, by what was not seen")];

/// A recording that found no loop still holds samples; say what there is.
fn without_loops(recording: &Recording) -> String {
    let threads = recording.processes.iter().map(|process| process.threads.len()).sum();
    let looks: u64 = recording.samples.iter().map(|sample| u64::from(sample.count)).sum();
    let processes = match recording.processes.len() {
        1 => "1 process".to_owned(),
        several => format!("{several} processes"),
    };
    let taken = format!(
        "{looks} looks were taken at {} of {processes} in {}",
        wording::several(threads, "thread"),
        wording::length(recording.length())
    );
    match recording.processes.iter().find_map(|process| process.unread_loop.as_deref()) {
        Some("uvloop") => format!(
            "no event loop was found that can be read: uvloop is loaded, and its loop is not read \
             yet; start the server with asyncio's (uvicorn: `--loop asyncio`) to see its stalls: \
             {taken}"
        ),
        Some(name) => format!(
            "no event loop was found that can be read: {name} is loaded, and its loop is not read \
             yet: {taken}"
        ),
        None => format!("no event loop was found: {taken}{}", unwatched(recording)),
    }
}

/// Most children that are named.
const MOST_NAMED: usize = 4;

/// Whom to watch instead, where what was watched started processes that serve.
fn unwatched(recording: &Recording) -> String {
    let parents = recording.processes.iter().filter(|one| !one.serving_children.is_empty());
    let said = parents.map(|parent| {
        let pids = &parent.serving_children;
        let mut named: Vec<String> =
            pids.iter().take(MOST_NAMED).map(|pid| pid.to_string()).collect();
        let more = pids.len().saturating_sub(named.len());
        if more > 0 {
            named.push(format!("{more} more"));
        }
        let (who, does, pronoun) = match pids.len() {
            1 => ("process", "runs an event loop or serves requests", "it"),
            _ => ("processes", "run event loops or serve requests", "them"),
        };
        let (parent, named) = (parent.pid, wording::listed(&named));
        format!(
            "; below pid {parent}, {who} {named} {does}: `stallspy record -s -p {parent}` watches \
             {pronoun} too"
        )
    });
    said.collect()
}

/// Loops there were, but neither a stall nor a rule that could conclude from that.
fn nothing_seen(recording: &Recording) -> String {
    let threshold = wording::length(recording.settings.threshold);
    if recording.loops.iter().all(|info| info.tally.looks() == 0) {
        return "an event loop was found, but no look at it succeeded: nothing is known of stalls"
            .to_owned();
    }
    if recording.event_loops().next().is_none() {
        return format!(
            "no request held a thread for {threshold} or more, but none was served while it was \
             watched"
        );
    }
    format!("no stall of {threshold} or more, but no event loop ran while it was watched")
}
