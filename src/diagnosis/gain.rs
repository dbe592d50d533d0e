//! What each change to a line that blocks a loop is worth: its predicted effects, what becomes the next
//! limit, and so the order in which to make the changes.
//!
//! Takes a blamed line and the loop it blocked most, asks [`crate::sizing::whatif`]. Adds nothing where there
//! is too little to go by. Never words a change itself.

use std::collections::BTreeSet;

use super::blocked::{Blame, Blocked};
use super::{Case, pool_size, remedy, size};
use crate::model::{
    CallTime, Cause, Effect, FrameId, Load, LoopLoad, Measured, PoolInfo, PoolKind, ProcessInfo,
    Recommendation, Recording,
};
use crate::sizing::whatif::{Change, SATURATED, WhatIf, without};

/// What anyio's limiter of threads has unless it was changed (`run_sync_in_worker_thread`'s
/// `current_default_thread_limiter`, `CapacityLimiter(40)`, src/anyio/_backends/_asyncio.py).
const ANYIO_TOKENS: u32 = 40;

/// Of [`size::LEAST_WINDOW`], how much of it a loop has to have been watched: it is found a moment after
/// the recording begins.
const WATCHED: (u64, u64) = (9, 10);

/// A change that gets less than this part more done is none: it is what two recordings differ by.
const WORTH_SAYING: f64 = 0.05;

/// What to do about the lines that blocked, the one that gains most first. `advise` words the change.
#[must_use]
pub fn ranked(
    case: &Case<'_>,
    blocked: &Blocked,
    cause: Cause,
    advise: impl Fn(&Recording, &Blame) -> Recommendation,
) -> Vec<Recommendation> {
    // Also beside lines that other causes have.
    let all = Blocked::of(case.recording, case.stalls, |stall| stall.culprit.is_some());
    let most = all.and_then(|all| Some(all.culprits.first()?.total)).unwrap_or_default();
    let lines = remedy::by_lines(case.recording, blocked, advise).into_iter();
    let lines = lines.filter(|(blame, _)| !remedy::is_little(blame, most));
    let mut changes: Vec<Vec<Recommendation>> =
        lines.map(|(blame, advice)| with_effects(case, blame, cause, advice)).collect();
    let gain = |change: &[Recommendation]| {
        change.iter().filter_map(Recommendation::gain).fold(0.0, f64::max)
    };
    // The sort is stable: of those that gain the same, or nothing that is known, the costliest is first.
    changes.sort_by(|a, b| gain(b).total_cmp(&gain(a)));
    changes.into_iter().flatten().collect()
}

/// The change with what it is expected to do, and what has to be changed with it.
fn with_effects(
    case: &Case<'_>,
    blame: &Blame,
    cause: Cause,
    mut advice: Recommendation,
) -> Vec<Recommendation> {
    let Some((load, what)) = strongest(case, blame, cause) else { return vec![advice] };
    if load.watched < size::LEAST_WINDOW.scaled(WATCHED.0, WATCHED.1) {
        return vec![advice];
    }
    let server = case.load_of(load.pid);
    advice.predicted = effects(&what, server);
    advice.inputs.push(Measured::new("loop_busy", what.busy.before, "ratio"));
    if what.busy.before >= SATURATED {
        advice.reason.push_str(
            "; the loop has hardly any idle time, so what arrives is known from below only: what it \
             can carry is predicted, and no delay",
        );
    }
    if computes(cause) && is_full_of_cpus(&what, server) {
        advice.command = "make it cheaper, or give the server more CPUs".to_owned();
        advice.reason.push_str("; elsewhere it would take as much of the CPUs, which are used up");
        advice.predicted.retain(|effect| effect.gain() >= WORTH_SAYING);
        return vec![advice];
    }
    let moves = remedy::takes_a_thread(case.recording, blame, cause);
    let pool = moves.then(|| next_limit(case, load, server, &what)).flatten();
    match pool {
        Some(Next::Room(note)) => advice.reason.push_str(&note),
        Some(Next::Limit(pool)) => return vec![advice, *pool],
        None => {}
    }
    vec![advice]
}

/// What computes takes its CPU time wherever it runs.
fn computes(cause: Cause) -> bool {
    matches!(cause, Cause::Cpu | Cause::CCall)
}

/// Whether the loop has no time left, and the CPUs are not enough for it to carry noticeably more.
fn is_full_of_cpus(what: &WhatIf, server: Option<&Load>) -> bool {
    let busy = server.map_or(0.0, busy_together);
    let most = server.and_then(|server| most_by_cpu(server, busy));
    what.busy.before >= SATURATED && most.is_some_and(|most| most < 1.0 + WORTH_SAYING)
}

/// The loop on which the line took most of the time, and what it would do without it.
fn strongest<'a>(case: &Case<'a>, blame: &Blame, cause: Cause) -> Option<(&'a LoopLoad, WhatIf)> {
    let tables = &case.recording.tables;
    let others = blamed_otherwise(case, cause);
    // Lines of one function are changed together, but for those that something else is to be done about.
    let is_moved = |call: &CallTime| {
        call.frame.is_some_and(|frame| {
            let is_together = tables.is_same_function(frame, blame.frame);
            frame == blame.frame || is_together && !others.contains(&frame)
        })
    };
    let all = case.loops.iter().filter_map(|load| Some((load, without(load, is_moved)?)));
    all.max_by(|(_, a), (_, b)| (a.rate * a.length).total_cmp(&(b.rate * b.length)))
}

/// Lines that are blamed for another cause, and for this one never.
fn blamed_otherwise(case: &Case<'_>, cause: Cause) -> BTreeSet<FrameId> {
    let (mut own, mut others) = (BTreeSet::new(), BTreeSet::new());
    for stall in case.stalls.iter().filter(|stall| !stall.allowed) {
        for (part, _) in case.recording.parts(stall) {
            let lines = if part.cause == cause { &mut own } else { &mut others };
            lines.extend(part.culprit.as_ref().map(|culprit| culprit.frame));
        }
    }
    &others - &own
}

fn effects(what: &WhatIf, server: Option<&Load>) -> Vec<Effect> {
    let effect = |name: &str, change: Change, unit: &str| {
        size::effect(name, change.before, change.after, unit)
    };
    let mut all: Vec<Effect> = [
        ("loop_lag_p50", what.lag_p50),
        ("loop_lag_p99", what.lag_p99),
        ("loop_wait_mean", what.mean_wait),
    ]
    .into_iter()
    .filter_map(|(name, change)| Some(effect(name, change?, "s")))
    .collect();
    // Requests a second that one loop does while it is busy: 1 / (busy time of one).
    let busy = server.map_or(0.0, busy_together);
    let enough = server.filter(|server| server.served >= Some(size::LEAST_REQUESTS));
    let carries = enough.and_then(Load::rate).filter(|_| busy > 0.0).map(|rate| rate / busy);
    let (before, unit) = carries.map_or((1.0, "ratio"), |carries| (carries, "1/s"));
    let mut capacity = Change { before, after: before * what.capacity };
    // What was moved off the loop still takes its CPU time, which the server has no more of than before.
    if let Some(most) = server.and_then(|server| most_by_cpu(server, busy)) {
        capacity.after = capacity.after.min(before * most.max(1.0));
    }
    all.push(effect("capacity", capacity, unit));
    all
}

/// How many of a server's loops are busy, on average.
fn busy_together(server: &Load) -> f64 {
    let loops = server.loops.iter();
    loops.filter_map(|one| Some(one.utilization? * one.watched.share_of(server.window))).sum()
}

/// How many times what one of its loops can carry the CPUs are enough for, if its loops are `busy` together: a loop
/// that is busy all the time takes its part of what they take now.
fn most_by_cpu(server: &Load, busy: f64) -> Option<f64> {
    let used = server.cores_used();
    let together = used + server.cores.neighbours;
    (used > 0.0 && busy > 0.0)
        .then(|| server.cores.together() / server.worker_count() / (together / busy))
}

/// What the pool of threads that takes the calls over has to say.
enum Next {
    /// There is room in it.
    Room(String),
    /// It becomes the next limit.
    Limit(Box<Recommendation>),
}

fn next_limit(
    case: &Case<'_>,
    load: &LoopLoad,
    server: Option<&Load>,
    what: &WhatIf,
) -> Option<Next> {
    let process = case.recording.get_process(load.pid)?;
    let pool = pool_of(case, process);
    let limit = pool.limit?;
    // Little: what is in the pool is what comes a second times how long it stays. Of a saturated loop that is
    // known from below; then all requests that are there may be in the pool.
    let mut at_once = what.rate * what.length;
    let is_bound = what.busy.before >= SATURATED;
    if is_bound {
        // Those before it too: they come in once it is free.
        let of_each = |server: &Load| Some(server.demand()? / server.worker_count());
        let there = server.and_then(of_each).unwrap_or(0.0);
        at_once = at_once.max(there);
    }
    let there = pool.busy.mean().unwrap_or(0.0) + pool.waiting.mean().unwrap_or(0.0);
    let calls = what.rate * load.watched.as_secs_f64();
    let moved = pool_size::MovedCalls {
        rate: what.rate,
        length: what.length,
        calls,
        at_once: at_once + there,
        is_bound,
    };
    let needed = moved.tokens();
    Some(match pool_size::for_moved_calls(&pool, &moved) {
        Some(recommendation) => Next::Limit(Box::new(recommendation)),
        None => Next::Room(format!(
            "; {} takes the calls over: {}{needed} of its {limit} are needed",
            pool_size::pool_name(&pool),
            if is_bound { "at least " } else { "" },
        )),
    })
}

/// The pool that a call moved off the loop goes to: anyio's where the framework runs handlers in it, else
/// the loop's own. As it was seen, else as it is unless it was changed.
fn pool_of(case: &Case<'_>, process: &ProcessInfo) -> PoolInfo {
    let seen = |kind: PoolKind, name: &str| {
        process.pools.iter().find(|pool| pool.kind == kind && pool.name.starts_with(name)).cloned()
    };
    let tables = &case.recording.tables;
    let runs_handlers = || remedy::has_code_below(tables, "/starlette/");
    let anyios = || seen(PoolKind::AnyioLimiter, "");
    let with = |kind, name: &str, limit| PoolInfo {
        limit: Some(limit),
        ..PoolInfo::new(kind, name.to_owned())
    };
    anyios()
        .or_else(|| {
            let anyio = || with(PoolKind::AnyioLimiter, "default_thread_limiter", ANYIO_TOKENS);
            runs_handlers().then(anyio)
        })
        .or_else(|| process.pools.iter().find(|pool| pool.is_loops_default()).cloned())
        .unwrap_or_else(|| {
            // `ThreadPoolExecutor.__init__`, Lib/concurrent/futures/thread.py.
            let machine = case.recording.machine.cpus.max(process.cpus);
            with(PoolKind::ThreadPoolExecutor, "asyncio", machine.saturating_add(4).min(32))
        })
}
