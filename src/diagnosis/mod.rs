//! Findings: what the stalls of a recording add up to, and what to do about it.
//!
//! Knows only [`crate::model`] and [`crate::units`]. Takes a recording and its explained stalls,
//! gives one [`Verdict`] per rule. A rule that cannot tell says what it would need; it never
//! guesses. The prose lives in `docs/findings/`, one page per rule, included at build time.

pub mod background;
pub mod blocked;
mod bursts;
pub mod client_pool;
pub mod contrast;
pub mod deadline;
pub mod deadline_remedy;
pub mod gain;
pub mod greenlets;
mod hub_connections;
pub mod keep;
mod often;
mod peer_size;
pub mod peers;
mod pool_growth;
pub mod pool_size;
mod quota;
pub mod remedy;
pub mod residents;
pub mod rules;
pub mod services;
pub mod size;
mod starved;
pub mod thread_remedy;
pub mod thread_size;
mod waits;
pub mod ways;
pub mod wording;

use std::fmt::Debug;

use self::blocked::Blocked;
use self::thread_size::ThreadSize;
use crate::model::{
    Background, Connecting, Finding, Load, LockWait, LoopLoad, Recommendation, Recording, Severity,
    Stall, ThreadUse, Verdict,
};
use crate::units::{Nanos, Pid};

/// A share of the time from which a finding matters most: at a tenth of the time blocked, one
/// request in ten meets a blocked loop.
pub const HIGH_SHARE: f64 = 0.10;
/// A single stall from which a finding matters most: one second is where a user's train of
/// thought breaks (Nielsen, *Usability Engineering*, 1993, ch. 5).
pub const HIGH_LENGTH: Nanos = Nanos::from_secs(1);
/// A share of the time from which users notice: it moves the 99th percentile of the delay.
pub const MEDIUM_SHARE: f64 = 0.01;
/// A single stall from which users notice: 100 ms still feels instantaneous (Nielsen, as above).
pub const MEDIUM_LENGTH: Nanos = Nanos::from_millis(100);

/// What rules go by.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// What was observed.
    pub recording: &'a Recording,
    /// The report's stalls, in the report's order.
    pub stalls: &'a [Stall],
    /// The servers.
    pub loads: &'a [Load],
    /// The sizes of those without a loop, where there is enough to go by.
    pub sizes: &'a [ThreadSize<'a>],
    /// The event loops, also those of no server.
    pub loops: &'a [LoopLoad],
    /// What threads spent their time on.
    pub uses: &'a [ThreadUse],
    /// Lines that connect, the one seen most first.
    pub connecting: &'a [Connecting],
    /// Where requests waited for a lock.
    pub lock_waits: &'a [LockWait],
    /// What computes in processes beside the requests that they serve on threads.
    pub background: &'a [Background],
}

impl<'a> Case<'a> {
    /// The server that a process works for, or did.
    #[must_use]
    pub fn load_of(&self, pid: Pid) -> Option<&'a Load> {
        // One that has ended is no longer listed.
        let of_ended = || {
            let ended = self.recording.get_process(pid).filter(|one| one.ended.is_some())?;
            self.loads.iter().find(|load| load.master == Some(ended.ppid))
        };
        self.loads.iter().find(|load| load.workers.contains(&pid)).or_else(of_ended)
    }

    /// The size of a server without a loop.
    #[must_use]
    pub fn size_of(&self, load: &Load) -> Option<&'a ThreadSize<'a>> {
        self.sizes.iter().find(|size| std::ptr::eq(size.load, load))
    }
}

/// How much stalls matter, by the share of the time that they take and by the longest.
fn severity_of(blocked: &Blocked) -> Severity {
    if blocked.share >= HIGH_SHARE || blocked.max >= HIGH_LENGTH {
        Severity::High
    } else if blocked.share >= MEDIUM_SHARE || blocked.max >= MEDIUM_LENGTH {
        Severity::Medium
    } else {
        Severity::Low
    }
}

/// One thing that can be wrong with a server.
pub trait Rule: Debug + Sync {
    /// Its id, `loop-blocked-by-call`: stable, used by `--fail-on finding:ID`.
    fn id(&self) -> &'static str;

    /// Its Markdown page: the first line is a one-sentence summary.
    fn page(&self) -> &'static str;

    /// How much it matters, given the stalls it speaks of.
    fn severity(&self, blocked: &Blocked) -> Severity {
        severity_of(blocked)
    }

    /// The share of the time that a finding of it explains, 0 to 1, where no stalls show that: of
    /// findings the one that explains most comes first.
    fn explains(&self, _finding: &Finding) -> Option<f64> {
        None
    }

    /// The time that it explains of a stall that is listed with it.
    fn part(&self, recording: &Recording, stall: &Stall) -> Nanos {
        recording.observed(stall)
    }

    /// Whether it is so.
    fn check(&self, case: &Case<'_>) -> Verdict;
}

/// All rules. Of two findings that explain the same share of time and matter the same, the one
/// further up comes first.
pub static RULES: [&dyn Rule; 27] = [
    &rules::oom_killed::OomKilled,
    &rules::worker_timeout_ahead::WorkerTimeoutAhead,
    &rules::loop_hung::LoopHung,
    &rules::peer_saturated::PeerSaturated,
    &rules::sync_starved::SyncStarved,
    &rules::gthread_starved::GthreadStarved,
    &rules::threads_occupied::ThreadsOccupied,
    &rules::loop_blocked_by_call::LoopBlockedByCall,
    &rules::loop_blocked_by_cpu::LoopBlockedByCpu,
    &rules::loop_blocked_by_native::LoopBlockedByNative,
    &rules::wrong_worker_class::WrongWorkerClass,
    &rules::gil_held_elsewhere::GilHeldElsewhere,
    &rules::many_small_callbacks::ManySmallCallbacks,
    &rules::gc_pause::GcPause,
    &rules::page_faults::PageFaults,
    &rules::cpu_starved::CpuStarved,
    &rules::busy_idle::BusyIdle,
    &rules::pool_saturated::PoolSaturated,
    &rules::connection_limit::ConnectionLimit,
    &rules::connection_churn::ConnectionChurn,
    &rules::too_few_workers::TooFewWorkers,
    &rules::too_many_workers::TooManyWorkers,
    &rules::slow_loop_implementation::SlowLoopImplementation,
    &rules::dev_server::DevServer,
    &rules::healthy::Healthy,
    &rules::not_under_load::NotUnderLoad,
    &rules::single_process_state::SingleProcessState,
];

/// The first line of a rule's page, without its `#`.
#[must_use]
pub fn title(rule: &dyn Rule) -> &'static str {
    rule.page().lines().next().unwrap_or_default().trim_start_matches('#').trim()
}

/// What a recording lacks for a rule to say that there were no stalls: that someone could look.
fn lacks(recording: &Recording) -> Option<&'static str> {
    // A thread that serves requests without a loop can tell that there is none that stalled.
    if recording.event_loops().chain(recording.request_threads()).next().is_none() {
        return Some("an event loop in a watched process");
    }
    let looks = recording.loops.iter().any(|info| info.tally.looks() > 0);
    let blind = !looks && recording.loop_states.is_empty();
    blind.then_some("a look at an event loop that succeeded")
}

/// A finding about some stalls.
fn found_in(
    rule: &dyn Rule,
    blocked: Blocked,
    summary: String,
    recommendations: Vec<Recommendation>,
) -> Verdict {
    Verdict::Found(Finding {
        id: rule.id().to_owned(),
        severity: rule.severity(&blocked),
        summary,
        evidence: blocked.measured(),
        stalls: blocked.stalls,
        recommendations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_its_own_page_and_the_index_lists_it() {
        let index = include_str!("../../docs/FINDINGS.md");
        for rule in RULES {
            let title = title(rule);
            assert!(rule.page().starts_with("# ") && title.len() > 20, "{}", rule.id());
            assert!(title.ends_with('.'), "{}: not a sentence: {title}", rule.id());
            for heading in ["## What it means", "## What to do", "## How sure it is"] {
                assert!(rule.page().contains(heading), "{}: no {heading}", rule.id());
            }
            let entry = format!("[`{0}`](findings/{0}.md) | {title}", rule.id());
            assert!(index.contains(&entry), "docs/FINDINGS.md lacks: {entry}");
        }
    }
}
