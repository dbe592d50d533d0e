//! The rule `wrong-worker-class`: gunicorn's workers are of a class that does not fit what its requests do.
//!
//! Takes hubs of greenlets that are kept by what cannot be made cooperative, sync workers whose requests mostly
//! wait, and threads that compute in turns. How many workers and threads do more is for
//! [`ThreadSize`] to say; where a green driver or a missing patch is the cure, the rule of
//! the line says so, and this one nothing.

use super::loop_hung::is_hung;
use super::sync_starved::SyncStarved;
use super::too_few_workers::IDLE;
use crate::diagnosis::blocked::{Blame, Blocked, ratio};
use crate::diagnosis::thread_size::ThreadSize;
use crate::diagnosis::{
    Case, HIGH_SHARE, MEDIUM_LENGTH, Rule, background, lacks, remedy, size, wording,
};
use crate::model::{
    Cause, Costs, Finding, Load, Measured, Recommendation, Severity, Stall, Verdict, WorkerClass,
};
use crate::sizing::hub::OnHub;
use crate::units::{Nanos, to_f64};

/// The part of the time that has to be of a kind for the class to be wrong for it: with less, what the class is made
/// for is most of what is done.
const MOSTLY: f64 = 0.5;
/// A request that keeps its hub for less than this, in seconds, is none that others notice: what the kernel does for its
/// sockets is C code without the lock as well, and takes some 0.2 ms.
const NOTICED: f64 = 0.002;
/// So many threads held on average, and no figures: then a size was wanted and cannot be given.
const HELD: f64 = 1.0;

const NEED: &str = "20 requests in 10 s, counted, and what they took";

/// See `docs/findings/wrong-worker-class.md`.
#[derive(Debug)]
pub struct WrongWorkerClass;

impl Rule for WrongWorkerClass {
    fn id(&self) -> &'static str {
        "wrong-worker-class"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/wrong-worker-class.md")
    }

    fn explains(&self, finding: &Finding) -> Option<f64> {
        finding.figure("of_the_time")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        if let Some(need) = lacks(case.recording) {
            return Verdict::NotEnoughData { need };
        }
        let mut undecided = None;
        for load in case.loads.iter().filter(|load| load.server == "gunicorn") {
            let told = match load.class {
                WorkerClass::Gevent | WorkerClass::Eventlet => of_hubs(case, load),
                WorkerClass::Sync => of_sync(case, load),
                WorkerClass::Gthread => of_threads(case, load),
                _ => Told::Nothing,
            };
            match told {
                Told::Found(found) => return Verdict::Found(found.finding(self.id())),
                Told::Need => undecided = Some(NEED),
                Told::Nothing => {}
            }
        }
        undecided.map_or(Verdict::Clear, |need| Verdict::NotEnoughData { need })
    }
}

/// Whether greenlets are wrong for what a server's requests do, and threads do more.
pub(super) fn is_found_of_hubs(case: &Case<'_>, load: &Load) -> bool {
    matches!(of_hubs(case, load), Told::Found(_))
}

/// What is to be said of one server.
enum Told {
    Found(Box<Wrong>),
    Need,
    Nothing,
}

struct Wrong {
    severity: Severity,
    summary: String,
    evidence: Vec<Measured>,
    advice: Recommendation,
}

impl Wrong {
    fn finding(self, id: &str) -> Finding {
        Finding {
            id: id.to_owned(),
            severity: self.severity,
            summary: self.summary,
            evidence: self.evidence,
            // They are those of the rules of their lines.
            stalls: Vec::new(),
            recommendations: vec![self.advice],
        }
    }
}

/// What a request keeps its hub with, in seconds.
#[derive(Debug, Clone, Copy)]
struct Keeps {
    /// All of it.
    all: f64,
    /// C code that computes without the interpreter lock.
    native: f64,
    /// Calls that wait, and that nothing makes cooperative.
    out_of_reach: f64,
    /// Calls that wait, and that a patch or another driver does.
    curable: f64,
    /// What computes with the lock, where one call takes long.
    computing: f64,
}

impl Keeps {
    fn of(case: &Case<'_>, load: &Load, costs: &Costs) -> Option<Keeps> {
        let on_hub = OnHub::of(load, costs)?;
        let own = |stall: &Stall| load.workers.contains(&stall.pid) && !is_hung(stall);
        let waits = Blocked::of(case.recording, case.stalls, |stall| {
            stall.cause == Cause::BlockingCall && own(stall)
        });
        let total = |picked: &dyn Fn(&Blame) -> bool| {
            let lines = waits.iter().flat_map(|blocked| &blocked.culprits);
            lines.filter(|one| picked(one)).map(|one| one.total).sum::<Nanos>()
        };
        let beyond = total(&|one| remedy::is_out_of_reach(case.recording, one));
        let out_of_reach = on_hub.asleep * beyond.share_of(total(&|_| true));
        let long = case.stalls.iter().filter(|stall| own(stall) && is_long(stall));
        let long: Nanos = long.map(|stall| case.recording.observed(stall)).sum();
        let busy = on_hub.busy * to_f64(costs.requests);
        let long = (long.as_secs_f64() / busy.max(f64::MIN_POSITIVE)).min(1.0);
        Some(Keeps {
            all: costs.cpu + on_hub.asleep,
            // Threads of gevent's pool may compute as well, which is as it should be.
            native: costs.free().min(on_hub.busy),
            out_of_reach,
            curable: on_hub.asleep - out_of_reach,
            computing: costs.gil() * long,
        })
    }

    fn of_these(&self) -> f64 {
        self.native + self.out_of_reach + self.computing
    }

    fn share(&self, part: f64) -> f64 {
        if self.all > 0.0 { (part / self.all).min(1.0) } else { 0.0 }
    }

    /// Whether the calls that wait are the larger part: what they wait for needs no CPU.
    fn mostly_waits(&self) -> bool {
        self.out_of_reach >= self.native + self.computing
    }

    /// Whether it is what greenlets are wrong for.
    fn is_wrong(&self) -> bool {
        let these = self.of_these();
        these >= NOTICED && self.share(these) >= MOSTLY && self.curable <= these
    }
}

/// Whether a line that computes takes so long that users notice, by the CPU time of one call of it: shorter ones that
/// come one after the other are as well off on more hubs.
fn is_long(stall: &Stall) -> bool {
    let split = stall.split;
    let known = split.on_cpu + split.off_cpu + split.run_delay;
    let lines = stall.particulars.lines.iter();
    let calls = lines.map(|line| line.time.scaled(1, u64::from(line.calls.max(1))));
    let longest = calls.map(|call| call.scaled(split.on_cpu.0, known.0.max(1))).max();
    stall.cause == Cause::Cpu && longest.is_some_and(|length| length >= MEDIUM_LENGTH)
}

/// Greenlets, of which only one runs, and whatever it calls is waited for by all.
fn of_hubs(case: &Case<'_>, load: &Load) -> Told {
    let (_, busy) = load.utilization.unwrap_or_default();
    // Who comes to a hub that mostly polls seldom meets one that is kept.
    if busy < MOSTLY {
        return Told::Nothing;
    }
    let Some(keeps) = size::enough(load).and_then(|costs| Keeps::of(case, load, costs)) else {
        return Told::Need;
    };
    if !keeps.is_wrong() {
        return Told::Nothing;
    }
    // What computes gains nothing by threads where no CPU is left for them.
    if !keeps.mostly_waits() && load.cores.idle.is_none_or(|idle| idle < IDLE) {
        return Told::Nothing;
    }
    let Some(size) = ThreadSize::instead_of_hubs(load) else { return Told::Need };
    let Some(advice) = size.change().filter(|_| size.could_hold_all()) else {
        return Told::Nothing;
    };
    let parts = [
        ("C code without the interpreter lock", keeps.native),
        ("calls that no patch reaches", keeps.out_of_reach),
        ("long computations", keeps.computing),
    ];
    let named: Vec<&str> = { parts.iter() }
        .filter(|(_, time)| keeps.share(*time) >= WORTH_NAMING)
        .map(|(what, _)| *what)
        .collect();
    let share = keeps.share(keeps.of_these());
    let of_the_time = behind_lines(case, load, busy * share);
    Told::Found(Box::new(Wrong {
        severity: if of_the_time >= HIGH_SHARE { Severity::High } else { Severity::Medium },
        summary: format!(
            "{} workers are busy {} of the time, {} of it with {}, during which no other greenlet runs",
            load.class.name(),
            wording::percent(busy),
            wording::percent(share),
            named.join(" and "),
        ),
        evidence: vec![
            ratio("of_the_time", of_the_time),
            ratio("hub_busy", busy),
            ratio("of_it_c_code", keeps.share(keeps.native)),
            ratio("of_it_calls_out_of_reach", keeps.share(keeps.out_of_reach)),
            ratio("of_it_long_computations", keeps.share(keeps.computing)),
            Measured::new("keeps_the_hub", keeps.all, "s"),
        ],
        advice,
    }))
}

/// A share of the time, no more than the largest of the findings explains whose lines these are, where they explain
/// most of it: what to change first is a line.
fn behind_lines(case: &Case<'_>, load: &Load, share: f64) -> f64 {
    let of = |cause: Cause| {
        let own = |stall: &Stall| {
            stall.cause == cause && load.workers.contains(&stall.pid) && !is_hung(stall)
        };
        Blocked::of(case.recording, case.stalls, own).map_or(0.0, |blocked| blocked.share)
    };
    let lines = [Cause::CCall, Cause::BlockingCall, Cause::Cpu].map(of);
    let told = lines.into_iter().fold(0.0, f64::max);
    if told >= MOSTLY { share.min(told) } else { share }
}

/// A smaller part of what keeps the hubs is not named.
const WORTH_NAMING: f64 = 0.1;

/// Workers that serve one request at a time, and wait most of it.
fn of_sync(case: &Case<'_>, load: &Load) -> Told {
    let is_starved = matches!(SyncStarved.check(case), Verdict::Found(_));
    if !is_starved || background::instead_of_size(case, load).is_some() {
        return Told::Nothing;
    }
    let (Some(size), Some(waits)) = (case.size_of(load), waiting(load)) else { return Told::Need };
    let Some(advice) = size.change().filter(|_| waits >= MOSTLY && size.shape().threads > 1) else {
        return Told::Nothing;
    };
    Told::Found(Box::new(Wrong {
        severity: Severity::Medium,
        summary: format!(
            "sync workers serve one request at a time, and these wait {} of the time they take: threads \
             (gthread) would serve others meanwhile",
            wording::percent(waits)
        ),
        evidence: vec![ratio("requests_wait", waits)],
        advice,
    }))
}

/// Threads of which only one computes at a time in each worker.
fn of_threads(case: &Case<'_>, load: &Load) -> Told {
    let threads = load.slots.unwrap_or(1);
    if threads <= 1 || background::instead_of_size(case, load).is_some() {
        return Told::Nothing;
    }
    let (Some(size), Some(computes)) =
        (case.size_of(load), load.costs.as_ref().and_then(with_lock))
    else {
        let is_loaded = load.busy.is_some_and(|held| held >= HELD);
        return if is_loaded { Told::Need } else { Told::Nothing };
    };
    let shape = size.shape();
    let is_more_processes =
        f64::from(shape.workers) > load.worker_count() && shape.threads <= threads;
    let Some(advice) = size.change().filter(|_| computes >= MOSTLY && is_more_processes) else {
        return Told::Nothing;
    };
    Told::Found(Box::new(Wrong {
        severity: Severity::Medium,
        summary: format!(
            "requests compute with the interpreter lock {} of the time they need, so that {threads} threads of \
             a worker take turns: only more processes do more",
            wording::percent(computes)
        ),
        evidence: vec![
            ratio("computes_with_gil", computes),
            Measured::new("threads_limit", f64::from(threads), "count"),
        ],
        advice,
    }))
}

/// The part of what a request needs that it waits for others.
fn waiting(load: &Load) -> Option<f64> {
    let costs = load.costs.as_ref()?;
    share_of_needed(costs, costs.blocked()?)
}

/// The part of what a request needs that it computes with the interpreter lock.
fn with_lock(costs: &Costs) -> Option<f64> {
    share_of_needed(costs, costs.gil())
}

fn share_of_needed(costs: &Costs, part: f64) -> Option<f64> {
    costs.needed().filter(|needed| *needed > 0.0).map(|needed| part / needed)
}
