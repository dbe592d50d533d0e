//! Sizes in words: what to type for the numbers that [`crate::sizing`] finds.
//!
//! Takes a server's load, gives a recommendation with its arithmetic; `None` where there is too little
//! to go by, or where the size is right. Never suggests what is in force.

use crate::model::{
    Costs, Effect, Load, Measured, Recommendation, Remedy, SettingKind, SettingSource,
};
use crate::sizing::capacity::{Needs, Shape, capacity};
use crate::sizing::shape::{Found, MOST_THREADS, Task, find};
use crate::units::{Bounds, Nanos, to_f64, whole};

/// Fewer requests than this show no mean: its error is a quarter of what they vary by.
pub const LEAST_REQUESTS: u64 = 20;
/// A window shorter than this shows no load: one slow moment would be all of it.
pub const LEAST_WINDOW: Nanos = Nanos::from_secs(3);
/// A size that gets less than this much more done is no reason to change anything.
const WORTH_IT: f64 = 1.05;
/// Least relative error taken: what recurs from second to second varies by that much anyhow.
const LEAST_ERROR: f64 = 0.05;

/// How many workers and threads a server without a loop should have.
#[must_use]
pub fn for_threads(load: &Load) -> Option<Recommendation> {
    let (costs, demand) = (enough(load)?, load.demand()?);
    let threads_now = load.slots?;
    let workers_now = u32::try_from(load.workers.len()).ok()?.max(1);
    // The lock of one process is the limit that no more threads lift. Where few looks saw it, the upper
    // end of its share is taken: one worker too many costs memory, one too few a fifth of the
    // throughput (`scripts/bench --only sizing`, 1 ms of CPU and 80 ms of waiting: 1 × 59 against 2 × 30).
    let gil = costs.most_gil();
    let needs = Needs { gil, free: costs.cpu - gil, blocked: costs.blocked()? };
    let cores = load.cores.usable();
    let fit = load.memory.more_workers().map_or(u32::MAX, |more| {
        workers_now.saturating_add(u32::try_from(more).unwrap_or(u32::MAX))
    });
    // gunicorn's rule of thumb; a server that has more may keep them.
    let most_workers = load.cores.whole().saturating_mul(2).saturating_add(1).max(1);
    let task = |most_threads| Task { needs, demand, cores, fit, most_workers, most_threads };
    let error = error(costs);
    // Workers of one thread as long as they do: code that was never run by several threads at once
    // may not be made for it.
    let single = find(&task(1), error);
    let many = find(&task(MOST_THREADS), error);
    let found =
        if threads_now > 1 || many.capacity > single.capacity * WORTH_IT { many } else { single };
    let before = load.rate()?;
    // By the same arithmetic, or what it is off by would pass for a gain.
    let shape_now = Shape { workers: workers_now, threads: threads_now };
    let as_it_is = before.max(capacity(needs, shape_now, cores, demand));
    if found.capacity < as_it_is * WORTH_IT {
        return None;
    }
    let size = Size { load, costs, demand, found, now: (workers_now, threads_now), before };
    Some(size.recommendation())
}

fn enough(load: &Load) -> Option<&Costs> {
    let costs = load.costs.as_ref()?;
    (costs.requests >= LEAST_REQUESTS && load.window >= LEAST_WINDOW).then_some(costs)
}

/// The relative error of a mean of so many requests, as if they varied by as much as they last
/// (Poisson).
fn error(costs: &Costs) -> f64 {
    (1.0 / to_f64(costs.requests).sqrt()).max(LEAST_ERROR)
}

struct Size<'a> {
    load: &'a Load,
    costs: &'a Costs,
    demand: f64,
    found: Found,
    now: (u32, u32),
    before: f64,
}

impl Size<'_> {
    fn recommendation(&self) -> Recommendation {
        let (workers, threads) = (self.found.shape.workers, self.found.shape.threads);
        let (kind, setting, current, recommended, suggested) = if threads > 1 || self.now.1 > 1 {
            (SettingKind::Threads, "threads", self.now.1, threads, self.found.threads)
        } else {
            (SettingKind::Workers, "workers", self.now.0, workers, self.found.workers)
        };
        let remedy = Remedy::Setting {
            kind,
            setting: setting.to_owned(),
            current: Some(current),
            recommended,
            suggested: Bounds {
                lo: suggested.lo.min(recommended),
                hi: suggested.hi.max(recommended),
            },
            limited_by: self.found.limit.words().to_owned(),
        };
        Recommendation {
            remedy,
            command: self.command(),
            reason: self.reason(),
            inputs: self.inputs(),
            predicted: vec![
                effect("throughput", self.before, self.found.capacity, "1/s"),
                effect(
                    "response_time",
                    self.demand / self.before.max(f64::MIN_POSITIVE),
                    self.demand / self.found.capacity.max(f64::MIN_POSITIVE),
                    "s",
                ),
            ],
        }
    }

    /// What to type; a number that stays is not repeated.
    fn command(&self) -> String {
        let (workers, threads) = (self.found.shape.workers, self.found.shape.threads);
        let mut parts = Vec::new();
        if workers != self.now.0 {
            parts.push(self.workers_option(workers));
        }
        if threads != self.now.1 {
            // gunicorn turns its sync workers into gthread ones by itself for more than one thread.
            parts.push(format!("`--threads {threads}`"));
        }
        parts.join(" and ")
    }

    fn workers_option(&self, workers: u32) -> String {
        let platform = "PYTHON_GUNICORN_CUSTOM_WORKER_NUM";
        if self.load.config.contains_key(platform) {
            return format!("`{platform}={workers}`");
        }
        match self.load.config.get("workers").map(|setting| setting.source) {
            Some(SettingSource::Environment) => format!("`WEB_CONCURRENCY={workers}`"),
            _ => format!("`--workers {workers}`"),
        }
    }

    fn reason(&self) -> String {
        let waits = self.costs.blocked().unwrap_or(0.0);
        let kind = if waits > self.costs.cpu {
            "requests mostly wait, and each keeps a thread meanwhile"
        } else {
            "requests mostly compute"
        };
        let safe = if self.now.1 == 1 && self.found.shape.threads > 1 {
            "; the application has to be safe for threads"
        } else {
            ""
        };
        let slots = self.found.shape.slots();
        let there = whole(self.demand.round());
        format!("{kind}: {there} are there at once, for {slots} threads in all{safe}")
    }

    fn inputs(&self) -> Vec<Measured> {
        let one = |name: &str, value: f64, unit: &str| Measured {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
        };
        vec![
            one("arrival_rate", self.before, "1/s"),
            one("requests_at_once", self.demand, "count"),
            one("cpu_with_gil", self.costs.most_gil(), "s"),
            one("cpu_without_gil", self.costs.cpu - self.costs.most_gil(), "s"),
            one("blocked", self.costs.blocked().unwrap_or(0.0), "s"),
            one("usable_cpus", self.load.cores.usable(), "count"),
        ]
    }
}

fn effect(name: &str, before: f64, after: f64, unit: &str) -> Effect {
    Effect { name: name.to_owned(), before, after, unit: unit.to_owned() }
}
