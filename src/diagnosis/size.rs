//! Sizes in words: what to type for the numbers that [`crate::sizing`] finds. Here are the workers of servers with
//! event loops, and what all sizes share; [`super::thread_size`] has those of servers without, and
//! [`super::pool_size`] those of pools.
//!
//! Takes a server's load, gives a recommendation with its arithmetic; `None` where there is too little
//! to go by, or where the size is right. Never suggests what is in force.

use super::{residents, wording};
use crate::model::{
    Costs, Effect, Load, LoopLoad, Measured, Recommendation, Remedy, SettingKind, SettingSource,
};
use crate::sizing::shape::{Limit, TARGET_USE};
use crate::units::{Bounds, Nanos, to_f64, whole};

/// Fewer requests than this show no mean: its error is a quarter of what they vary by.
pub const LEAST_REQUESTS: u64 = 20;
/// A window shorter than this shows no load: one slow moment would be all of it.
pub const LEAST_WINDOW: Nanos = Nanos::from_secs(10);
/// Ranges reach so many standard errors to either side: the true value lies outside of them one time in
/// twenty (normal approximation of the binomial and the Poisson distribution).
pub(super) const SURE: f64 = 1.96;
/// Least relative error taken: what recurs from second to second varies by that much anyhow.
const LEAST_ERROR: f64 = 0.05;

/// How many workers a server should have whose loops compute all the time.
#[must_use]
pub fn for_loops(load: &Load) -> Option<Recommendation> {
    let workers = workers_of(load);
    let most = load.cores.whole();
    let fit = most_that_fit(load, workers);
    let recommended = most.min(fit);
    if recommended <= workers {
        return None;
    }
    let (used, neighbours) = (load.cores_used(), load.cores.neighbours);
    // Each does as much as it does now, as far as there are CPUs.
    let factor = (f64::from(recommended) / f64::from(workers))
        .min(load.cores.together() / (used + neighbours).max(f64::MIN_POSITIVE));
    let rate = load.rate().filter(|rate| *rate > 0.0);
    let predicted = rate.filter(|_| enough(load).is_some());
    let most_asked = predicted.and_then(|rate| Some(most_asked(load, rate)? / rate));
    let factor = factor.min(most_asked.unwrap_or(f64::INFINITY)).max(1.0);
    Some(Recommendation {
        remedy: Remedy::Setting {
            kind: SettingKind::Workers,
            setting: "workers".to_owned(),
            current: Some(workers),
            recommended,
            suggested: Bounds { lo: workers.saturating_add(1).min(recommended), hi: recommended },
            limited_by: if fit < most { Limit::Memory } else { Limit::Cores }.words().to_owned(),
        },
        command: workers_option(load, recommended),
        reason:
            "each worker's loop computes on one CPU at most, and others are idle; whatever the \
                 application keeps in memory is there once in each worker"
                .to_owned(),
        inputs: { [("cpus_used", used), ("usable_cpus", load.cores.together())].into_iter() }
            .chain((neighbours > 0.0).then_some(("cpus_of_neighbours", neighbours)))
            .map(|(name, value)| Measured::new(name, value, "count"))
            .chain(rate.map(|rate| Measured::new("arrival_rate", rate, "1/s")))
            .collect(),
        predicted: faster(predicted, factor),
    })
}

/// Requests a second that clients who each wait for their answer can ask for, where requests wait in threads beside the
/// loop: as many as are there at once, each for as long as it waits and computes (Little). `None` where that is not known,
/// as where they wait in the loop.
fn most_asked(load: &Load, rate: f64) -> Option<f64> {
    let costs = load.costs.as_ref()?;
    let blocked: Nanos = load.blocked_on.iter().map(|one| one.time).sum();
    let each = blocked.share_of(load.window) / rate;
    (each > 0.0).then(|| load.demand().map(|there| there / (each + costs.cpu)))?
}

/// That the number of workers is right where loops serve; `None` where it is not, or where there is too little to go
/// by.
///
/// They need as many as their loops are busy for, at ρ of the time each, once the calls that block them are off them.
#[must_use]
pub fn loops_to_keep(load: &Load) -> Option<Recommendation> {
    if load.loops.is_empty() {
        return None;
    }
    let workers = workers_of(load);
    let costs = enough(load)?;
    let share = |one: &LoopLoad, time: Nanos| time.share_of(one.watched);
    let blocked = |one: &LoopLoad| {
        let calls = one.calls.iter().filter(|call| call.frame.is_some());
        calls.map(|call| share(one, call.length) * f64::from(call.calls)).sum::<f64>()
    };
    let busy: f64 = load.loops.iter().filter_map(|one| one.utilization).sum();
    let stalled: f64 = load.loops.iter().map(blocked).sum();
    let left = (busy - stalled).max(0.0);
    let most = load.cores.whole();
    let needed = |by: f64| whole((left * by / TARGET_USE).ceil()).max(1);
    if needed(1.0) > workers || workers > most {
        return None;
    }
    let each = left / f64::from(workers);
    let mut reason = match (workers == most, workers) {
        (true, 1) => "it already has a core".to_owned(),
        (true, _) => "each already has a core".to_owned(),
        (false, _) => "more would have as little to do".to_owned(),
    };
    if stalled > 0.0 {
        reason.push_str(&format!(
            "; without the calls that block them the loops are busy {:.0} % of the time, and more workers \
             would buy only as many blocked requests at once",
            each * 100.0
        ));
    } else {
        reason.push_str(&format!(", as the loops are busy {:.0} % of the time", each * 100.0));
    }
    let limit = if workers == most { Limit::Cores } else { Limit::Demand };
    let low = needed((1.0 - error(costs)).max(0.0)).min(workers);
    let inputs = vec![
        Measured::new("loops_busy", busy, "count"),
        Measured::new("loops_busy_without_culprits", left, "count"),
        Measured::new("target_use", TARGET_USE, "ratio"),
    ];
    Some(keeping(load, low, &wording::several(workers as usize, "worker"), reason, limit, inputs))
}

/// That a server's size stays: `size` in words, `low` the fewest workers that would do. What lives in a worker is one
/// more reason.
pub(super) fn keeping(
    load: &Load,
    low: u32,
    size: &str,
    mut reason: String,
    limit: Limit,
    inputs: Vec<Measured>,
) -> Recommendation {
    let workers = workers_of(load);
    if residents::is_single(load) {
        reason.push_str(&format!("; {}", residents::in_each(load)));
    }
    Recommendation {
        remedy: Remedy::Setting {
            kind: SettingKind::Workers,
            setting: "workers".to_owned(),
            current: Some(workers),
            recommended: workers,
            suggested: Bounds { lo: low, hi: workers },
            limited_by: limit.words().to_owned(),
        },
        command: format!("keep {size}"),
        reason,
        inputs,
        predicted: Vec::new(),
    }
}

/// Servers that take `--workers N`.
const TAKE_WORKERS: [&str; 5] = ["gunicorn", "uvicorn", "hypercorn", "granian", "sanic"];

/// How Azure App Service is told that there are to be several workers, and how many
/// (<https://github.com/microsoft/Oryx/blob/main/doc/runtimes/python.md>).
const PLATFORMS_WORKERS: [&str; 2] =
    ["PYTHON_ENABLE_GUNICORN_MULTIWORKERS", "PYTHON_GUNICORN_CUSTOM_WORKER_NUM"];

/// What to type for so many workers.
pub(super) fn workers_option(load: &Load, workers: u32) -> String {
    if is_platforms(load) {
        let [switch, number] = PLATFORMS_WORKERS;
        // The number counts only where the platform was told to use several.
        let missing = if load.config.contains_key(switch) {
            ""
        } else {
            "` and `PYTHON_ENABLE_GUNICORN_MULTIWORKERS=true"
        };
        return format!("`{number}={workers}{missing}`");
    }
    match load.config.get("workers").map(|setting| setting.source) {
        Some(SettingSource::Environment) => return format!("`WEB_CONCURRENCY={workers}`"),
        Some(_) => return format!("`--workers {workers}`"),
        None => {}
    }
    match load.server.as_str() {
        server if TAKE_WORKERS.contains(&server) => format!("`--workers {workers}`"),
        // `fork_processes`, tornado 6.4 `tornado/process.py`.
        "tornado" => {
            format!("`tornado.process.fork_processes({workers})` before anything else is set up")
        }
        // <https://docs.aiohttp.org/en/stable/deployment.html>
        "aiohttp" => {
            format!("`gunicorn -k aiohttp.GunicornWebWorker --workers {workers} MODULE:APP`")
        }
        _ => format!("{workers} processes of it behind one proxy"),
    }
}

/// What to type for so many threads of each worker.
pub(super) fn threads_option(load: &Load, threads: u32) -> String {
    if is_platforms(load) {
        return format!("`PYTHON_GUNICORN_CUSTOM_THREAD_NUM={threads}`");
    }
    // gunicorn turns its sync workers into gthread ones by itself for more than one thread.
    format!("`--threads {threads}`")
}

/// Whether a platform starts the server, and takes its numbers from variables of its own.
fn is_platforms(load: &Load) -> bool {
    PLATFORMS_WORKERS.iter().any(|name| load.config.contains_key(*name))
}

/// How many workers a server has.
pub(super) fn workers_of(load: &Load) -> u32 {
    u32::try_from(load.workers.len()).unwrap_or(u32::MAX).max(1)
}

/// Most workers that fit into memory, of which there are `now`.
pub(super) fn most_that_fit(load: &Load, now: u32) -> u32 {
    load.memory
        .more_workers()
        .map_or(u32::MAX, |more| now.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)))
}

/// That throughput, where it is known, grows by `factor`.
pub(super) fn faster(rate: Option<f64>, factor: f64) -> Vec<Effect> {
    rate.map(|rate| effect("throughput", rate, rate * factor, "1/s")).into_iter().collect()
}

pub(super) fn enough(load: &Load) -> Option<&Costs> {
    let costs = load.costs.as_ref()?;
    (costs.requests >= LEAST_REQUESTS && load.window >= LEAST_WINDOW).then_some(costs)
}

/// How far a size may be off, relative: by the error of the rate and of the costs together, at
/// [`SURE`].
///
/// Requests are counted (Poisson: n of them vary by √n), and so is the mean of what each takes, as if they varied
/// by as much as they last. The share of the CPU time that holds the interpreter lock is one of looks (binomial).
pub(super) fn error(costs: &Costs) -> f64 {
    let rate = 1.0 / to_f64(costs.requests.max(1)).sqrt();
    let looks = to_f64(costs.gil_looks);
    let share = costs.gil_share.clamp(0.0, 1.0);
    let part = costs.cpu / costs.needed().unwrap_or(costs.cpu).max(f64::MIN_POSITIVE);
    let lock = if looks > 0.0 { (share * (1.0 - share) / looks).sqrt() * part } else { 0.0 };
    (SURE * (rate * rate + lock * lock).sqrt()).max(LEAST_ERROR)
}

pub(super) fn effect(name: &str, before: f64, after: f64, unit: &str) -> Effect {
    Effect { name: name.to_owned(), before, after, unit: unit.to_owned(), at_best: false }
}
