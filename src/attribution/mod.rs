//! Why a loop stood still, and who is to blame.
//!
//! Knows only [`crate::model`] and [`crate::units`]. Takes a stall and the loop states that
//! witnessed it, gives the stall back with its cause, culprit and where its time went. Never
//! looks for stalls itself, never reads a clock or a process.
//!
//! A look sees one moment; it stands for the time up to half-way to its neighbours. All shares
//! here are shares of that time.

pub mod application;
pub mod background;
pub mod batch;
pub mod blocked_on;
pub mod calls;
pub mod cause;
pub mod connecting;
pub mod consensus;
pub mod contributors;
pub mod culprit;
pub mod functions;
pub mod holder;
pub mod lines;
pub mod lock_waits;
pub mod native;
pub mod others;
pub mod pools;
pub mod split;
pub mod talks;
pub mod throttled;
pub mod usage;
pub mod weight;

use std::collections::HashMap;

use self::application::Site;
use self::batch::Batch;
use self::cause::Facts;
use self::consensus::Consensus;
use self::contributors::contributors;
use self::culprit::Winner;
use self::holder::Holder;
use self::throttled::Throttles;
use self::weight::{Span, Weighed};
use crate::model::{
    Cause, Culprit, FrameId, Gap, LockOwner, LoopPhase, LoopState, OtherLine, Recording, StackId,
    Stall,
};
use crate::units::{Nanos, Pid};

/// The loop states that witnessed a stall.
#[derive(Debug, Clone, Copy)]
pub struct Witnesses<'a> {
    /// The kernel's record of it.
    pub gap: Option<&'a Gap>,
    /// The last state before it.
    pub before: Option<&'a LoopState>,
    /// The states that show it, in time order.
    pub during: &'a [&'a LoopState],
    /// The first state that shows it over.
    pub after: Option<&'a LoopState>,
}

/// Explains the stalls of one recording. Keeps what it has found out about a stack, which many
/// looks share.
#[derive(Debug)]
pub struct Attribution<'a> {
    recording: &'a Recording,
    throttles: Throttles<'a>,
    sites: HashMap<(Pid, StackId), Option<Site>>,
    consensus: Consensus,
}

impl<'a> Attribution<'a> {
    /// Explains stalls of this recording.
    #[must_use]
    pub fn new(recording: &'a Recording) -> Attribution<'a> {
        Attribution {
            recording,
            throttles: Throttles::of(recording),
            sites: HashMap::new(),
            consensus: Consensus::default(),
        }
    }

    /// The stalls, each with everything its witnesses tell about it, and what those of the others of
    /// its line do.
    #[must_use]
    pub fn explain_all<'w>(
        mut self,
        stalls: impl Iterator<Item = (Stall, Witnesses<'w>)>,
    ) -> Vec<Stall> {
        let mut explained: Vec<Stall> = Vec::new();
        for (stall, witnesses) in stalls {
            if !stall.occupies {
                explained.push(self.explain(stall, &witnesses));
                continue;
            }
            for (part, witnesses) in self.calls_of(stall, witnesses) {
                explained.push(self.explain(part, &witnesses));
            }
        }
        self.consensus.settle(&mut explained);
        // The later calls of one request may have begun after another request did.
        explained.sort_by_key(|stall| (stall.began.lo, stall.loop_id));
        explained
    }

    /// The long calls of a request that holds a thread of its own.
    fn calls_of<'w>(
        &mut self,
        stall: Stall,
        witnesses: Witnesses<'w>,
    ) -> Vec<(Stall, Witnesses<'w>)> {
        let (tables, pid) = (&self.recording.tables, stall.pid);
        let threshold = self.recording.settings.threshold;
        calls::apart(tables, threshold, stall, witnesses, |stack| self.site(pid, stack))
    }

    /// The stall with everything its own witnesses tell about it.
    fn explain(&mut self, stall: Stall, witnesses: &Witnesses<'_>) -> Stall {
        let (stall, times) = self.explain_alone(stall, witnesses);
        self.consensus.see(&stall, times.as_ref());
        stall
    }

    fn explain_alone(
        &mut self,
        mut stall: Stall,
        witnesses: &Witnesses<'_>,
    ) -> (Stall, Option<culprit::CpuTimes>) {
        let tables = &self.recording.tables;
        let threshold = self.recording.settings.threshold;
        let span = Span::of(&stall);
        let looks = weight::weigh(span, witnesses.during);
        let blocked = culprit::CpuTimes::of(tables, &looks);
        stall.split = split::split(span, threshold, witnesses, &blocked);
        if let Some(gap) = witnesses.gap {
            stall.split = split::refine(gap, stall.split, witnesses);
        }
        // Who holds the lock that a request waits for is of the same group, and is kept off the CPUs with it.
        let for_lock = if stall.occupies { blocked.gil } else { Nanos::ZERO };
        let lost = stall.split.run_delay + for_lock;
        let throttled = self.throttles.within(stall.pid, span, lost);

        let major_faults = major_faults(witnesses);
        stall.particulars.major_faults = major_faults;
        stall.particulars.lines =
            lines::lines(tables, span, witnesses.during, |stack| self.site(stall.pid, stack));
        let winner = Winner::among(tables, &looks, threshold, |stack| self.site(stall.pid, stack));
        // On its way out of the poll it is in the loop's own code, whoever wrote that.
        let leaving = |state: &&LoopState| state.phase == LoopPhase::Leaving;
        let is_leaving = !witnesses.during.is_empty() && witnesses.during.iter().all(leaving);
        stall.cause = cause::judge(&Facts {
            duration: span.length(),
            threshold,
            split: stall.split,
            is_exact: witnesses.gap.is_some(),
            throttled: throttled.map_or(Nanos::ZERO, |throttled| throttled.time),
            major_faults: major_faults.unwrap_or_default(),
            looks: blocked,
            winner: winner.as_ref().map(|winner| winner.times),
            is_application: !is_leaving
                && winner.as_ref().is_some_and(|winner| winner.site.is_application),
            is_leaving,
            batch: Batch::of(span, witnesses.during),
        });

        stall.particulars.throttled = throttled.filter(|_| stall.cause == Cause::CpuStarved);
        if stall.cause == Cause::Gc {
            stall.particulars.generation = culprit::generation(&looks);
        }
        if stall.cause == Cause::ManyCallbacks {
            // No callback is to blame, but what they have in common is worth saying.
            let common = culprit::Common::of(&looks);
            (stall.coroutine, stall.endpoint) = (common.coroutine, common.endpoint);
            let process = self.recording.get_process(stall.pid);
            let stdlib = process.and_then(|process| process.stdlib.as_deref());
            let blame = |stack| self.site(stall.pid, stack);
            stall.particulars.contributors = contributors(tables, stdlib, &looks, blame);
            let runs = witnesses.during.iter().filter_map(|state| state.callback);
            stall.particulars.batch = runs.map(|run| run.batch).max();
            return (stall, None);
        }
        let Some(winner) = winner else { return (stall, None) };
        // What ran is kept also where it is not to blame: it shows who was made to wait.
        stall.stack = Some(winner.stack);
        stall.native = winner.native;
        stall.task = winner.task;
        stall.coroutine = winner.coroutine;
        stall.endpoint = winner.endpoint;
        if stall.cause == Cause::CCall {
            stall.particulars.releases_gil = winner.times.releases_gil();
        }
        if stall.cause == Cause::GilWait {
            self.blame_holder(&mut stall, &looks);
        } else if winner.site.is_application && cause::has_culprit(stall.cause) {
            let culprit = self.culprit(&stall, &winner, stall.cause, winner.total);
            if !stall.occupies {
                stall.particulars.others = self.others(&stall, culprit.frame, &looks, winner.total);
            }
            stall.culprit = Some(culprit);
        }
        (stall, Some(winner.times))
    }

    /// The line that won, which was at something of this cause; `total` is the time of all looks.
    fn culprit(&mut self, stall: &Stall, winner: &Winner, cause: Cause, total: Nanos) -> Culprit {
        let tables = &self.recording.tables;
        let native = native::site(tables, &winner.native_shared, cause == Cause::CCall);
        let owner = winner.lock_holder.filter(|_| winner.wait.is_some());
        let lock_owner = owner.map(|holder| LockOwner {
            tid: holder.tid,
            name: holder.name,
            frame: self.site(stall.pid, holder.stack).map(|site| site.culprit),
        });
        Culprit {
            frame: winner.site.culprit,
            tid: stall.tid,
            wait: winner.wait,
            lock_owner,
            library: winner.site.library,
            native: native.leaf,
            native_library: native.library,
            share: winner.weight.share_of(total),
        }
    }

    /// The lines beside the one to blame that took enough of an iteration for a stall of their own.
    fn others(
        &mut self,
        stall: &Stall,
        blamed: FrameId,
        looks: &[Weighed<'_>],
        total: Nanos,
    ) -> Vec<OtherLine> {
        let (tables, threshold) = (&self.recording.tables, self.recording.settings.threshold);
        let long = others::long(stall, blamed, threshold);
        let told = long.into_iter().filter_map(|line| {
            let own: Vec<Weighed<'_>> = looks
                .iter()
                .filter(|seen| {
                    let site = self.site(stall.pid, seen.look.stack);
                    site.is_some_and(|site| site.is_application && site.culprit == line.frame)
                })
                .copied()
                .collect();
            let winner =
                Winner::among(tables, &own, threshold, |stack| self.site(stall.pid, stack))?;
            let cause = others::cause(stall, &line, winner.times, threshold)?;
            Some(OtherLine {
                culprit: self.culprit(stall, &winner, cause, total),
                cause,
                releases_gil: winner.times.releases_gil().filter(|_| cause == Cause::CCall),
                endpoint: winner.endpoint,
                calls: line.calls,
                time: line.time,
            })
        });
        told.collect()
    }

    /// Blames the thread that held the interpreter lock, where one was seen.
    fn blame_holder(&mut self, stall: &mut Stall, looks: &[Weighed<'_>]) {
        let tables = &self.recording.tables;
        let threshold = self.recording.settings.threshold;
        let found = Holder::among(tables, looks, threshold, |stack| self.site(stall.pid, stack));
        let Some(Holder { line, tid }) = found else { return };
        let all: Nanos = looks.iter().map(|seen| seen.weight).sum();
        let computes = line.times.running > line.times.blocked;
        let native = native::site(tables, &line.native_shared, computes);
        stall.stack = Some(line.stack);
        stall.native = line.native;
        stall.culprit = Some(Culprit {
            frame: line.site.culprit,
            tid,
            wait: line.wait,
            lock_owner: None,
            library: line.site.library,
            native: native.leaf,
            native_library: native.library,
            share: line.weight.share_of(all),
        });
    }

    fn site(&mut self, pid: Pid, stack: StackId) -> Option<Site> {
        let recording = self.recording;
        *self.sites.entry((pid, stack)).or_insert_with(|| {
            let stdlib = recording.get_process(pid).and_then(|process| process.stdlib.as_deref());
            application::site(&recording.tables, stdlib, stack)
        })
    }
}

/// Major page faults between the states around a stall; `None` where they were not counted twice.
fn major_faults(witnesses: &Witnesses<'_>) -> Option<u64> {
    let states = witnesses.before.into_iter().chain(witnesses.during.iter().copied());
    let mut counts = states.chain(witnesses.after).filter_map(|state| state.major_faults);
    let first = counts.next()?;
    Some(counts.next_back()?.saturating_sub(first))
}
