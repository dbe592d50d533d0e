//! Whether what a file says can be: ids that exist, sizes that are sane.
//!
//! A recording's ids are trusted everywhere else, so this is the one place that doubts them.

use crate::model::loop_state::AGE_BUCKETS;
use crate::model::occupancy::MOST_COUNTED;
use crate::model::{
    CpuState, Frame, FrameId, Gap, GilHolder, Level, LoopId, LoopInfo, LoopState, LoopTally,
    NameId, Peer, PoolInfo, ProcessInfo, Recording, Sample, Spin, Stack, StackId, Tables,
    ThreadLook, Throttle, Wait, WaitId,
};
use crate::units::{Bounds, Timestamp};

/// Most frames of one stack. CPython's own recursion limit is 1,000 by default; ours when walking
/// is lower still.
const MAX_DEPTH: usize = 1 << 14;
/// Most processes of one recording.
const MAX_PROCESSES: usize = 1 << 16;
/// Most loops and threads that serve requests of one recording. Each one read is compared with all before it, so this
/// also bounds time.
const MAX_LOOPS: usize = 1 << 14;
/// Most looks, and most samples: a day of a hundred a second, and then some.
const MAX_LOOKS: usize = 1 << 24;
/// No count of looks is larger than this; sums of many of them then cannot overflow.
const MAX_COUNT: u64 = 1 << 48;

/// What is wrong, in words that follow "line 12: ".
type Checked = Result<(), String>;

/// Checks that one more thing fits into a list.
fn room(len: usize, most: usize, what: &str) -> Checked {
    if len < most { Ok(()) } else { Err(format!("more than {most} {what}")) }
}

fn exists(id: u32, len: usize, what: &str) -> Checked {
    if (id as usize) < len {
        Ok(())
    } else {
        Err(format!("refers to {what} {id}, but the file has named only {len} so far"))
    }
}

fn name(tables: &Tables, id: NameId) -> Checked {
    exists(id.0, tables.names.len(), "name")
}

fn maybe_name(tables: &Tables, id: Option<NameId>) -> Checked {
    id.map_or(Ok(()), |id| name(tables, id))
}

fn frame_id(tables: &Tables, id: FrameId) -> Checked {
    exists(id.0, tables.frames.len(), "frame")
}

fn stack_id(tables: &Tables, id: StackId) -> Checked {
    exists(id.0, tables.stacks.len(), "stack")
}

fn wait_id(tables: &Tables, id: Option<WaitId>) -> Checked {
    id.map_or(Ok(()), |id| exists(id.0, tables.waits.len(), "wait"))
}

fn cpu(tables: &Tables, state: CpuState) -> Checked {
    match state {
        CpuState::Blocked { wait } => wait_id(tables, wait),
        CpuState::Running | CpuState::Unknown => Ok(()),
    }
}

pub(super) fn frame(tables: &Tables, frame: &Frame) -> Checked {
    name(tables, frame.function)?;
    maybe_name(tables, frame.file)?;
    maybe_name(tables, frame.module)
}

pub(super) fn stack(tables: &Tables, stack: &Stack) -> Checked {
    room(stack.frames.len(), MAX_DEPTH, "frames in one stack")?;
    stack.frames.iter().try_for_each(|id| frame_id(tables, *id))
}

pub(super) fn wait(tables: &Tables, wait: &Wait) -> Checked {
    name(tables, wait.syscall)?;
    match wait.peer {
        Some(Peer::Remote(id) | Peer::Local(id) | Peer::Path(id)) => name(tables, id),
        Some(Peer::Child(_) | Peer::Gil) | None => Ok(()),
    }
}

pub(super) fn process(so_far: &Recording, process: &ProcessInfo) -> Checked {
    room(so_far.processes.len(), MAX_PROCESSES, "processes")?;
    room(process.threads.len(), MAX_PROCESSES, "threads in one process")?;
    room(process.pools.len(), MAX_PROCESSES, "pools in one process")?;
    let counts = [process.gil.looks, process.gil.held];
    let counts = counts.into_iter().chain(process.threads.iter().map(|thread| thread.gil_held));
    let busy = &process.occupancy.busy;
    if busy.len() > MOST_COUNTED {
        return Err(format!("{} counts of busy threads, {MOST_COUNTED} at most", busy.len()));
    }
    { counts.chain(busy.iter().copied()) }.try_for_each(count)?;
    if let Some(crowd) = &process.occupancy.crowd {
        [crowd.full, crowd.starved].into_iter().try_for_each(count)?;
        [crowd.threads, crowd.held, crowd.waiting].into_iter().try_for_each(level)?;
    }
    process.pools.iter().try_for_each(|one| pool(&so_far.tables, one))?;
    let residents = process.residents.as_ref().map_or(0, Vec::len);
    room(residents, MAX_PROCESSES, "residents in one process")?;
    room(process.listeners.len(), MAX_PROCESSES, "listening sockets of one process")?;
    room(process.connections.len(), MAX_PROCESSES, "peers of one process")?;
    for listener in &process.listeners {
        count(listener.waiting)?;
        level(listener.queue)?;
    }
    process.connections.iter().try_for_each(|peer| {
        count(peer.met)?;
        count(peer.fresh)?;
        level(peer.open)
    })
}

fn pool(tables: &Tables, pool: &PoolInfo) -> Checked {
    pool.waits_at.map_or(Ok(()), |id| stack_id(tables, id))?;
    [pool.full, pool.full_and_waiting].into_iter().try_for_each(count)?;
    [pool.busy, pool.waiting].into_iter().try_for_each(level)
}

/// A level's sum is that of its looks, none of them larger than its maximum.
fn level(level: Level) -> Checked {
    count(level.looks)?;
    count(level.sum)
}

fn count(count: u64) -> Checked {
    if count <= MAX_COUNT { Ok(()) } else { Err(format!("a count of {count} looks cannot be")) }
}

pub(super) fn loop_info(so_far: &Recording, info: &LoopInfo) -> Checked {
    room(so_far.loops.len(), MAX_LOOPS, "loops")?;
    if so_far.get_loop(info.id).is_some() {
        return Err(format!("a second loop with the id {}", info.id.0));
    }
    info.traced.map_or(Ok(()), ordered)?;
    info.spin.as_ref().map_or(Ok(()), |seen| spin(&so_far.tables, seen))?;
    tally(&info.tally)
}

fn spin(tables: &Tables, spin: &Spin) -> Checked {
    room(spin.glimpses.len(), MAX_PROCESSES, "glimpses of one loop")?;
    room(spin.ready.len(), MAX_PROCESSES, "descriptors of one loop")?;
    count(spin.rounds)?;
    spin.glimpses.iter().try_for_each(|glimpse| stack_id(tables, glimpse.stack))
}

fn tally(tally: &LoopTally) -> Checked {
    if tally.ages.len() > AGE_BUCKETS {
        return Err(format!("{} age buckets, {AGE_BUCKETS} at most", tally.ages.len()));
    }
    let counts = [tally.polling, tally.running, tally.unknown, tally.iterations_seen];
    counts.iter().chain(&tally.ages).try_for_each(|looks| count(*looks))
}

fn known_loop(so_far: &Recording, id: LoopId) -> Checked {
    match so_far.get_loop(id) {
        Some(_) => Ok(()),
        None => Err(format!("refers to loop {}, which the file has not named", id.0)),
    }
}

pub(super) fn state(so_far: &Recording, state: &LoopState) -> Checked {
    room(so_far.loop_states.len(), MAX_LOOKS, "looks at loops")?;
    known_loop(so_far, state.loop_id)?;
    state.began.map_or(Ok(()), ordered)?;
    state.look.as_ref().map_or(Ok(()), |look| thread_look(&so_far.tables, look))
}

fn thread_look(tables: &Tables, look: &ThreadLook) -> Checked {
    stack_id(tables, look.stack)?;
    look.native.map_or(Ok(()), |id| stack_id(tables, id))?;
    cpu(tables, look.cpu)?;
    look.holder.map_or(Ok(()), |holder| gil_holder(tables, holder))?;
    if look.generation.is_some_and(|generation| generation > 2) {
        return Err("a generation of objects above 2".to_owned());
    }
    if let Some(holder) = look.lock_holder {
        stack_id(tables, holder.stack)?;
        maybe_name(tables, holder.name)?;
    }
    maybe_name(tables, look.task)?;
    maybe_name(tables, look.coroutine)?;
    maybe_name(tables, look.endpoint)
}

fn gil_holder(tables: &Tables, holder: GilHolder) -> Checked {
    stack_id(tables, holder.stack)?;
    holder.native.map_or(Ok(()), |id| stack_id(tables, id))?;
    cpu(tables, holder.cpu)
}

pub(super) fn gap(so_far: &Recording, gap: &Gap) -> Checked {
    room(so_far.gaps.len(), MAX_LOOKS, "gaps")?;
    known_loop(so_far, gap.loop_id)?;
    ordered(Bounds { lo: gap.left, hi: gap.entered })
}

pub(super) fn throttle(so_far: &Recording, throttle: &Throttle) -> Checked {
    room(so_far.throttles.len(), MAX_LOOKS, "times a quota was spent")?;
    ordered(Bounds { lo: throttle.from, hi: throttle.until })
}

fn ordered(Bounds { lo, hi }: Bounds<Timestamp>) -> Checked {
    if lo <= hi {
        return Ok(());
    }
    Err(format!("an interval that ends ({}) before it begins ({})", hi.0, lo.0))
}

pub(super) fn sample(so_far: &Recording, sample: &Sample) -> Checked {
    room(so_far.samples.len(), MAX_LOOKS, "samples")?;
    stack_id(&so_far.tables, sample.stack)?;
    cpu(&so_far.tables, sample.cpu)
}
