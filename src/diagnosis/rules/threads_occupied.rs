//! The rule `threads-occupied`: requests hold threads of their own for long.
//!
//! Takes the calls that held them, and how many threads were held at the same time. That a request
//! holds a thread is how such servers work; how much it matters goes by how often no thread was left.

use super::loop_hung::is_hung;
use super::worker_timeout_ahead;
use crate::diagnosis::blocked::{Blame, Blocked, count, ratio};
use crate::diagnosis::{Case, Rule, background, lacks, often, remedy, thread_remedy, wording};
use crate::model::{
    Finding, Measured, ProcessInfo, Recommendation, Recording, Severity, Stall, Verdict,
};
use crate::units::Timestamp;

/// See `docs/findings/threads-occupied.md`.
#[derive(Debug)]
pub struct ThreadsOccupied;

impl Rule for ThreadsOccupied {
    fn id(&self) -> &'static str {
        "threads-occupied"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/threads-occupied.md")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let Case { recording, stalls, .. } = *case;
        if let Some(need) = lacks(recording) {
            return Verdict::NotEnoughData { need };
        }
        let Some(blocked) = Blocked::of_threads(recording, stalls) else { return Verdict::Clear };
        let threads = Threads::of(recording);
        let severity = threads.severity().max(least(stalls));
        // Where a thread is free whenever one is wanted there is nothing to change.
        let is_roomy = severity == Severity::Info && threads.full.is_some();
        let recommendations = match is_roomy {
            true => Vec::new(),
            false => recommendations(case, &blocked),
        };
        Verdict::Found(Finding {
            id: self.id().to_owned(),
            severity,
            summary: match is_roomy {
                true => threads.roomy(&blocked),
                false => threads.summary(recording, &blocked),
            },
            evidence: blocked.measured().into_iter().skip(1).chain(threads.measured()).collect(),
            stalls: blocked.stalls,
            recommendations,
        })
    }
}

/// What to do about the lines, but for those that `worker-timeout-ahead` has more to say of: how long they may take.
fn recommendations(case: &Case<'_>, blocked: &Blocked) -> Vec<Recommendation> {
    let told = worker_timeout_ahead::lines_of_requests(case);
    // Where something beside requests holds the lock, its line is no request's: `gil-held-elsewhere`.
    let own = |stall: &Stall| stall.occupies && !background::is_of(case, stall);
    let own = Blocked::sum(case.recording, case.stalls, own);
    let blocked = if case.background.is_empty() { Some(blocked) } else { own.as_ref() };
    let Some(blocked) = blocked else { return Vec::new() };
    let lines = remedy::by_lines(case.recording, blocked, |_, blame| {
        thread_remedy::for_thread(case, blame)
    });
    let tables = &case.recording.tables;
    let is_told = |blame: &Blame| told.iter().any(|one| tables.is_same_function(*one, blame.frame));
    lines.into_iter().filter(|(blame, _)| !is_told(blame)).map(|(_, advice)| advice).collect()
}

/// How much it matters at the least: a request that does not end will hold its thread for ever.
fn least(stalls: &[Stall]) -> Severity {
    let ended = |stall: &Stall| stall.allowed || !stall.occupies || !is_hung(stall);
    if stalls.iter().all(ended) { Severity::Info } else { Severity::Medium }
}

/// The threads of all processes together.
#[derive(Debug)]
struct Threads {
    /// Held on average.
    mean: f64,
    /// How many there may be at the same time, if that is known of every process.
    limit: Option<u32>,
    /// The share of time the worst process had none left, where that is known.
    full: Option<f64>,
}

/// How many threads there may be of those that were there at the same time: a worker that ended made
/// room for its successor.
fn limit(seen: &[&ProcessInfo]) -> Option<u32> {
    let at_once = |at: Timestamp| {
        let there = seen.iter().filter(|one| one.attached <= at);
        let mut there = there.filter(|one| one.ended.is_none_or(|ended| ended > at));
        there.try_fold(0_u32, |sum, one| sum.checked_add(one.occupancy.limit?))
    };
    // The most are there when one of them has just come.
    let counts: Option<Vec<u32>> = seen.iter().map(|one| at_once(one.attached)).collect();
    counts?.into_iter().max()
}

impl Threads {
    fn of(recording: &Recording) -> Threads {
        let all = recording.processes.iter();
        let seen: Vec<&ProcessInfo> = all.filter(|one| one.occupancy.looks() > 0).collect();
        let length = recording.length();
        // A worker that was there for a tenth of the time held a tenth of what it held then.
        let part = |one: &&ProcessInfo| {
            let life = one.ended.unwrap_or(recording.detached).since(one.attached);
            Some(one.occupancy.mean()? * life.share_of(length).min(1.0))
        };
        let full = seen.iter().filter_map(|one| one.occupancy.share_at_limit());
        Threads {
            mean: seen.iter().filter_map(part).sum(),
            limit: limit(&seen),
            full: full.reduce(f64::max),
        }
    }

    fn severity(&self) -> Severity {
        self.full.map_or(Severity::Info, often::severity)
    }

    /// The same where a thread is free for whoever comes.
    fn roomy(&self, blocked: &Blocked) -> String {
        let free = wording::percent(1.0 - self.full.unwrap_or_default());
        let held = match self.limit {
            Some(limit) => format!("{:.1} of {limit} are", self.mean),
            None => format!("{:.1} are", self.mean),
        };
        let longest = wording::length(blocked.max);
        format!(
            "a thread was free for requests {free} of the time: {held} held on average, longest call {longest}"
        )
    }

    fn summary(&self, recording: &Recording, blocked: &Blocked) -> String {
        let held = match self.limit {
            Some(1) => {
                format!("the only thread is held {} of the time", wording::percent(self.mean))
            }
            Some(limit) => {
                let full = self.full.map_or(String::new(), |full| {
                    format!(", none was free {} of the time", wording::percent(full))
                });
                format!("{:.1} of {limit} threads are held on average{full}", self.mean)
            }
            None => format!("{:.1} threads are held on average", self.mean),
        };
        let longest = wording::length(blocked.max);
        match blocked.culprits.first() {
            Some(blame) => format!(
                "requests occupy their threads: {held}, longest call {longest}, most of it in {}",
                wording::place(recording, blame.frame)
            ),
            None => format!("requests occupy their threads: {held}, longest call {longest}"),
        }
    }

    fn measured(&self) -> Vec<Measured> {
        let mean = Measured::new("threads_busy_mean", self.mean, "count");
        let limit = self
            .limit
            .map(|limit| count("threads_limit", usize::try_from(limit).unwrap_or(usize::MAX)));
        let full = self.full.map(|full| ratio("threads_at_limit", full));
        [Some(mean), limit, full].into_iter().flatten().collect()
    }
}
