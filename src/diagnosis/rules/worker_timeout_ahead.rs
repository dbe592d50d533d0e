//! The rule `worker-timeout-ahead`: a worker gave no sign of life for so long that it was killed, or nearly.
//!
//! Takes what keeps a worker from its sign of life, which goes by its class (`diagnosis/deadline.rs`), and
//! holds it against the timeout in force. A worker that ended in the middle of one that was long enough was
//! killed for it.

use std::collections::BTreeMap;

use crate::diagnosis::blocked::{Blame, Blocked, count, ratio};
use crate::diagnosis::deadline::{Deadline, Known, Sign, Silence};
use crate::diagnosis::deadline_remedy::{self, Part};
use crate::diagnosis::{Case, Rule, lacks, remedy, wording};
use crate::model::{
    Cause, Finding, FrameId, LoopId, Measured, Recommendation, Remedy, SettingKind, Severity,
    Stall, Verdict,
};
use crate::units::{Bounds, Nanos, Pid, Timestamp};

/// The part of what may cost a worker its life from which on it is found. What takes half of it today takes all
/// of it when its peer is twice as slow, or twice as many share a CPU: load does no less than that to a call.
const NEAR: f64 = 0.5;
/// The same from which on users are about to notice: a quarter longer is enough.
const CLOSE: f64 = 0.8;
/// So long after its last call a killed worker is there at most: who does not end at the first signal gets the
/// second one a round of the arbiter's later, which is a second, and then its memory is taken apart.
const ENDS_WITHIN: Nanos = Nanos::from_secs(2);

/// See `docs/findings/worker-timeout-ahead.md`.
#[derive(Debug)]
pub struct WorkerTimeoutAhead;

impl Rule for WorkerTimeoutAhead {
    fn id(&self) -> &'static str {
        "worker-timeout-ahead"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/worker-timeout-ahead.md")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let (deadlines, is_unknown) = deadlines(case);
        if deadlines.is_empty() && !is_unknown {
            return Verdict::Clear;
        }
        if let Some(need) = lacks(case.recording) {
            return Verdict::NotEnoughData { need };
        }
        let holds = holds(case, &deadlines);
        match worst(&holds) {
            Some(worst) => Verdict::Found(self.finding(case, &holds, worst)),
            None if deadlines.is_empty() => {
                Verdict::NotEnoughData { need: "gunicorn's `timeout` and the class of its workers" }
            }
            None => Verdict::Clear,
        }
    }
}

/// The deadlines of all workers that have one; and whether there are some of which it is not known.
fn deadlines(case: &Case<'_>) -> (BTreeMap<Pid, Deadline>, bool) {
    let mut deadlines: BTreeMap<Pid, Deadline> = BTreeMap::new();
    let mut is_unknown = false;
    for process in &case.recording.processes {
        match Deadline::of(case, process) {
            Known::None => {}
            Known::Unknown => is_unknown = true,
            Known::Some(deadline) => {
                deadlines.insert(process.pid, deadline);
            }
        }
    }
    (deadlines, is_unknown)
}

/// The one that was nearest, or was killed for it; `None` where none is found.
fn worst<'a, 'b>(holds: &'b [Hold<'a>]) -> Option<&'b Hold<'a>> {
    let rank = |hold: &&Hold<'_>| (hold.is_killed, hold.near());
    let worst = holds.iter().max_by(|a, b| {
        let (a, b) = (rank(a), rank(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    worst.filter(|worst| worst.near() >= NEAR)
}

/// Those that are found with the worst.
fn near<'a, 'b>(holds: &'b [Hold<'a>], worst: &Hold<'_>) -> Vec<&'b Hold<'a>> {
    let is_near = |hold: &&Hold<'_>| hold.deadline == worst.deadline && hold.near() >= NEAR;
    holds.iter().filter(is_near).collect()
}

/// Lines of requests' threads that are told here, with how long they may take: nobody else needs to.
pub(super) fn lines_of_requests(case: &Case<'_>) -> Vec<FrameId> {
    let (deadlines, _) = deadlines(case);
    let holds = holds(case, &deadlines);
    let Some(worst) = worst(&holds).filter(|one| one.deadline.silence == Silence::Request) else {
        return Vec::new();
    };
    let told = lines(case, &near(&holds, worst), worst);
    told.into_iter().map(|(frame, _)| frame).collect()
}

/// One thing that kept a worker from its sign of life.
#[derive(Debug)]
struct Hold<'a> {
    deadline: &'a Deadline,
    /// What it consists of, with their places in the report: of a request its calls.
    parts: Vec<(usize, &'a Stall)>,
    length: Nanos,
    is_killed: bool,
    /// Its end was not seen.
    is_cut: bool,
}

impl Hold<'_> {
    /// Its part of what may cost the worker its life.
    fn near(&self) -> f64 {
        self.length.share_of(self.deadline.least())
    }

    /// The part that took longest.
    fn longest(&self) -> Option<&Stall> {
        self.parts.iter().map(|(_, stall)| *stall).max_by_key(|stall| stall.duration())
    }
}

/// All that kept workers from their signs of life, in order of their beginning.
fn holds<'a>(case: &Case<'a>, deadlines: &'a BTreeMap<Pid, Deadline>) -> Vec<Hold<'a>> {
    let mut holds: BTreeMap<(Timestamp, LoopId), Hold<'a>> = BTreeMap::new();
    for (index, stall) in case.stalls.iter().enumerate().filter(|(_, stall)| !stall.allowed) {
        let Some(deadline) = deadlines.get(&stall.pid) else { continue };
        let is_end = ended_with(case, stall);
        if !silences(deadline.silence, stall, is_end) {
            continue;
        }
        let whole = stall.particulars.request.filter(|_| deadline.silence == Silence::Request);
        let began = whole.map_or(stall.began, |whole| whole.began);
        let length = whole.map_or(stall.duration(), |whole| whole.length);
        let hold = holds.entry((began.lo, stall.loop_id)).or_insert_with(|| Hold {
            deadline,
            parts: Vec::new(),
            length,
            is_killed: false,
            is_cut: false,
        });
        hold.parts.push((index, stall));
        let process = case.recording.get_process(stall.pid);
        let is_for_memory = process.is_some_and(|one| one.killed_for_memory == Some(true));
        hold.is_killed |= length >= deadline.least() && is_end && !is_for_memory;
        hold.is_cut |= is_end || stall.ongoing;
    }
    holds.into_values().collect()
}

/// Whether such a stall keeps the worker from its sign. `is_end`: its process ended in the middle of it.
fn silences(silence: Silence, stall: &Stall, is_end: bool) -> bool {
    match silence {
        Silence::Request => stall.occupies,
        // The worker's own loop is on its main thread; the application may have others.
        Silence::Iteration => !stall.occupies && stall.tid.0 == stall.pid.0,
        Silence::LockHeld => match stall.cause {
            Cause::CCall => stall.particulars.releases_gil.map_or(is_end, |releases| !releases),
            Cause::Gc => true,
            // On a busy machine C code is not told from Python, which lets others in; the end tells.
            Cause::Cpu | Cause::GilWait => is_end,
            _ => false,
        },
    }
}

/// Whether its process ended in the middle of it.
pub(super) fn ended_with(case: &Case<'_>, stall: &Stall) -> bool {
    let ended = case.recording.get_process(stall.pid).and_then(|process| process.ended);
    !stall.ongoing && ended.is_some_and(|ended| ended.since(stall.ended.lo) <= ENDS_WITHIN)
}

impl WorkerTimeoutAhead {
    fn finding(&self, case: &Case<'_>, holds: &[Hold<'_>], worst: &Hold<'_>) -> Finding {
        let near = near(holds, worst);
        let mut killed: Vec<Pid> = { near.iter().filter(|hold| hold.is_killed) }
            .filter_map(|hold| hold.parts.first().map(|(_, stall)| stall.pid))
            .collect();
        killed.dedup();
        let mut stalls: Vec<usize> =
            near.iter().flat_map(|hold| hold.parts.iter().map(|(index, _)| *index)).collect();
        stalls.sort_unstable();
        Finding {
            id: self.id().to_owned(),
            severity: if worst.near() >= 1.0 {
                Severity::High
            } else if worst.near() >= CLOSE {
                Severity::Medium
            } else {
                Severity::Low
            },
            summary: match killed.len() {
                0 => ahead(case, worst),
                several => of_killed(case, worst, several),
            },
            evidence: { measured(worst).into_iter() }
                .chain([count("holds", near.len()), count("workers_killed", killed.len())])
                .collect(),
            recommendations: recommendations(case, &near, worst),
            stalls,
        }
    }
}

fn measured(hold: &Hold<'_>) -> Vec<Measured> {
    vec![
        Measured::new("longest_hold", hold.length.as_secs_f64(), "s"),
        Measured::new("timeout", hold.deadline.timeout.as_secs_f64(), "s"),
        ratio("of_what_may_kill", hold.near()),
    ]
}

/// `GET /report, views.py:41 render → recvfrom() from 10.0.0.7:5432`.
fn request(case: &Case<'_>, hold: &Hold<'_>) -> String {
    let tables = &case.recording.tables;
    let longest = hold.longest();
    let endpoint = longest.and_then(|stall| stall.endpoint);
    let mut text = endpoint.map_or("a request", |name| tables.text(name)).to_owned();
    if endpoint.is_none() && hold.deadline.silence != Silence::Request {
        "code that serves no request we know".clone_into(&mut text);
    }
    if let Some(culprit) = longest.and_then(|stall| stall.culprit.as_ref()) {
        text.push_str(&format!(", {}", wording::place(case.recording, culprit.frame)));
        if let Some(wait) = culprit.wait.and_then(|wait| tables.get_wait(wait)) {
            text.push_str(&format!(" → {}", wait.in_words(tables)));
        }
    }
    text
}

/// `it kills a worker that gives no sign of life for 30 s (`timeout`, its default)`.
fn how(deadline: &Deadline, subject: &str) -> String {
    let often = match deadline.sign {
        Sign::EachHalf => format!(
            "; this class gives one every {}, so that {} may be enough",
            wording::length(deadline.sign.every(deadline.timeout)),
            wording::length(deadline.least())
        ),
        Sign::Before | Sign::EachSecond => String::new(),
    };
    format!(
        "{subject} kills a worker that gives no sign of life for {:.0} s (`{}`, {}){often}",
        deadline.timeout.as_secs_f64(),
        deadline.supervisor.setting,
        deadline.place
    )
}

fn of_killed(case: &Case<'_>, worst: &Hold<'_>, several: usize) -> String {
    let pid = worst.parts.first().map_or(Pid(0), |(_, stall)| stall.pid);
    let name = worst.deadline.supervisor.name;
    let others = match several {
        1 => String::new(),
        several => format!("{several} workers, "),
    };
    format!(
        "{name} killed {others}worker {pid} after {} in {}: {}",
        wording::length(worst.length),
        request(case, worst),
        how(worst.deadline, "it")
    )
}

fn ahead(case: &Case<'_>, worst: &Hold<'_>) -> String {
    let what = match worst.deadline.silence {
        Silence::Request => "a worker was held",
        Silence::Iteration => "a worker's event loop was blocked",
        Silence::LockHeld => "a worker's interpreter lock was held",
    };
    format!(
        "{what} for {} by {}: {}",
        wording::length(worst.length),
        request(case, worst),
        how(worst.deadline, worst.deadline.supervisor.name)
    )
}

fn recommendations(case: &Case<'_>, near: &[&Hold<'_>], worst: &Hold<'_>) -> Vec<Recommendation> {
    let deadline = worst.deadline;
    let mut all: Vec<Recommendation> = Vec::new();
    all.extend(lines(case, near, worst).into_iter().map(|(_, advice)| advice));
    let longest = near.iter().map(|hold| hold.length).max().unwrap_or(worst.length);
    all.push(raised(worst, longest, !near.iter().any(|hold| hold.is_cut)));
    let waits = worst.longest().is_some_and(|stall| stall.cause == Cause::BlockingCall);
    if deadline.silence == Silence::Request && waits {
        all.push(threads(worst));
    }
    all
}

/// What to do about the lines of what is near.
fn lines(case: &Case<'_>, near: &[&Hold<'_>], worst: &Hold<'_>) -> Vec<(FrameId, Recommendation)> {
    let parts =
        || near.iter().flat_map(|hold| hold.parts.iter().map(move |(_, stall)| (*hold, *stall)));
    let is_part = |stall: &Stall| parts().any(|(_, part)| std::ptr::eq(part, stall));
    let Some(blocked) = Blocked::sum(case.recording, case.stalls, is_part) else {
        return Vec::new();
    };
    let advise = |blame: &Blame| {
        let is_its =
            |stall: &Stall| stall.culprit.as_ref().is_some_and(|one| one.frame == blame.frame);
        let of_line = parts().filter(|(_, stall)| is_its(stall));
        let (hold, stall) = of_line.max_by_key(|(_, stall)| stall.duration())?;
        let part = Part {
            cause: stall.cause,
            length: stall.duration(),
            of: hold.length,
            is_cut: hold.is_cut,
        };
        deadline_remedy::for_line(case, blame, part, worst.deadline, NEAR)
    };
    // Lines of one function are changed together.
    let mut all: Vec<(FrameId, Recommendation)> = Vec::new();
    for blame in &blocked.culprits {
        let Some(one) = advise(blame).filter(|_| all.len() < remedy::MOST_LINES) else { continue };
        let tables = &case.recording.tables;
        if !all.iter().any(|(known, _)| tables.is_same_function(*known, blame.frame)) {
            all.push((blame.frame, one));
        }
    }
    all
}

/// A timeout under which the longest is as near as what is not found.
fn raised(worst: &Hold<'_>, longest: Nanos, is_whole: bool) -> Recommendation {
    let deadline = worst.deadline;
    let supervisor = deadline.supervisor;
    // Half of what may kill is found, and what is found is to be gone.
    let at_least = |share| deadline.timeout_for(longest, share).saturating_add(1);
    let recommended = at_least(NEAR);
    let option = supervisor.options.first().copied().unwrap_or(supervisor.setting);
    let more = if is_whole { "" } else { " or more, as its end was not seen" };
    let from = if deadline.can_change { "" } else { "; uvicorn takes it from 0.37 on" };
    Recommendation {
        remedy: Remedy::Setting {
            kind: SettingKind::Timeout,
            setting: supervisor.setting.to_owned(),
            current: u32::try_from(deadline.timeout.0 / Nanos::from_secs(1).0).ok(),
            recommended,
            suggested: Bounds { lo: at_least(1.0).min(recommended), hi: recommended },
            limited_by: "the longest that was seen".to_owned(),
        },
        command: format!("`{option} {recommended}`{more}{from}"),
        reason: format!(
            "twice the longest fits in; what hangs for good then holds a worker for {recommended} s \
             before it is killed"
        ),
        inputs: measured(worst),
        predicted: Vec::new(),
    }
}

/// Where a thread may wait and its worker is alive.
fn threads(worst: &Hold<'_>) -> Recommendation {
    let has_culprit = worst.longest().is_some_and(|stall| stall.culprit.is_some());
    let (command, reason) = if has_culprit {
        (
            "`-k gthread`: requests wait in threads of their own, and the main thread gives the sign of life",
            "a request is then never killed for how long it waits, so that a timeout of its own matters all \
             the more",
        )
    } else {
        (
            "put a proxy that buffers requests and answers before it (nginx), or `-k gthread`",
            "a client that is slow to send its request or to take the answer holds a sync worker, and is \
             killed with it",
        )
    };
    Recommendation {
        remedy: Remedy::Config,
        command: command.to_owned(),
        reason: reason.to_owned(),
        inputs: measured(worst),
        predicted: Vec::new(),
    }
}
