//! Where the application waits for the pools that it made for itself, and what keeps the threads of others.
//!
//! Takes the stacks in which somebody was met waiting, and background samples of threads; puts the application's line
//! of each to its pool.

use std::collections::{BTreeMap, HashMap};

use super::application::{self, Site};
use crate::model::{Frame, FrameId, PoolInfo, PoolKind, PoolWork, Recording, StackId, Tables};
use crate::units::Pid;

/// What the threads of a kind of pools run all their lives, by the end of its file and its name
/// (<https://github.com/agronholm/anyio/blob/4.6.0/src/anyio/_backends/_asyncio.py>, `WorkerThread.run`;
/// <https://github.com/python/cpython/blob/v3.12.1/Lib/concurrent/futures/thread.py>).
pub(super) const RUNNERS: [(PoolKind, &str, &str); 2] = [
    (PoolKind::AnyioLimiter, "anyio/_backends/_asyncio.py", "run"),
    (PoolKind::ThreadPoolExecutor, "concurrent/futures/thread.py", "_worker"),
];
/// What asgiref runs in a thread (<https://github.com/django/asgiref/blob/3.8.1/asgiref/sync.py>).
const ASGIREFS: (&str, &str) = ("asgiref/sync.py", "thread_handler");

/// Finds the line of each pool that was met by who waits for it, and the line that keeps its threads.
pub fn place(recording: &mut Recording) {
    let works: Vec<Vec<Option<PoolWork>>> = recording
        .processes
        .iter()
        .map(|process| works(recording, process.pid, &process.pools))
        .collect();
    let tables = &recording.tables;
    for (process, works) in recording.processes.iter_mut().zip(works) {
        let stdlib = process.stdlib.as_deref();
        for (pool, work) in process.pools.iter_mut().zip(works) {
            let site = pool.waits_at.and_then(|stack| application::site(tables, stdlib, stack));
            pool.waited_in = site.map(|site| site.culprit);
            pool.work = work;
        }
    }
}

/// What each pool of a process was used for. Threads of two pools of one kind are not told apart, so of those
/// nothing is.
fn works(recording: &Recording, pid: Pid, pools: &[PoolInfo]) -> Vec<Option<PoolWork>> {
    let is_used = |pool: &&PoolInfo| pool.busy.max > 0;
    let alone = |pool: &PoolInfo| {
        is_used(&pool)
            && pools.iter().filter(is_used).filter(|one| one.kind == pool.kind).count() == 1
    };
    let of = |pool: &PoolInfo| RUNNERS.iter().find(|(kind, ..)| *kind == pool.kind && alone(pool));
    let mut stacks: HashMap<StackId, u64> = HashMap::new();
    if pools.iter().any(|pool| of(pool).is_some()) {
        for sample in recording.samples.iter().filter(|sample| sample.pid == pid) {
            *stacks.entry(sample.stack).or_default() += u64::from(sample.count);
        }
    }
    pools.iter().map(|pool| work(recording, pid, &stacks, of(pool)?)).collect()
}

/// What the threads that begin with a function were met doing, of `stacks` with how often each was met.
fn work(
    recording: &Recording,
    pid: Pid,
    stacks: &HashMap<StackId, u64>,
    (_, file, function): &(PoolKind, &str, &str),
) -> Option<PoolWork> {
    let tables = &recording.tables;
    let stdlib = recording.get_process(pid)?.stdlib.as_deref();
    let mut lines: BTreeMap<FrameId, u64> = BTreeMap::new();
    let mut thread_sensitive = 0_u64;
    for (&stack, &looks) in stacks {
        let site =
            application::site(tables, stdlib, stack).filter(|site: &Site| site.is_application);
        let Some(site) = site.filter(|_| is_a_threads(tables, stack, (file, function))) else {
            continue;
        };
        *lines.entry(site.culprit).or_default() += looks;
        if runs(tables, stack, ASGIREFS) {
            thread_sensitive = thread_sensitive.saturating_add(looks);
        }
    }
    let of = lines.values().sum();
    let (frame, looks) =
        lines.into_iter().max_by_key(|(frame, looks)| (*looks, std::cmp::Reverse(*frame)))?;
    Some(PoolWork { frame, looks, of, thread_sensitive })
}

/// Whether a thread of a pool was met, by the function that all of them begin with.
fn is_a_threads(tables: &Tables, stack: StackId, (file, function): (&str, &str)) -> bool {
    let frames: Vec<&Frame> = tables.frames_of(stack).map(|(_, frame)| frame).collect();
    frames.windows(2).any(|pair| {
        let [runner, caller] = pair else { return false };
        tables.is_function(runner, (file, function))
            && caller.file.is_some_and(|of| tables.text(of).ends_with("/threading.py"))
    })
}

/// Whether a function is on a stack.
fn runs(tables: &Tables, stack: StackId, (file, function): (&str, &str)) -> bool {
    tables.frames_of(stack).any(|(_, frame)| tables.is_function(frame, (file, function)))
}
