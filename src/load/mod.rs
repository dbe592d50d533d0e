//! What a server had to do, what it did it with, and what a request cost: the figures that sizes and
//! findings about whole servers rest on.
//!
//! Takes a recording, gives one [`Load`] per server: a master with its workers, or a process that
//! serves on its own. Unknown is `None`, and never 0. Only adds up; never judges.
//!
//! Little's law (L = λR; Little, *Operations Research* 9, 1961) ties the figures together: the symbols
//! are explained in `model/load.rs`.

mod beside;
mod cores;
mod costs;
pub mod lag;
mod lengths;
pub mod loops;
mod memory;
mod queue;
mod queue_of_lock;
mod shared;
mod thread_pool;

use std::collections::BTreeMap;

use self::beside::Work;
use crate::model::{
    Background, BlockedOn, Connected, Crowd, Load, LockWait, LoopLoad, LoopTally, PoolKind,
    ProcessInfo, Recording, Resident, Role, ServerConfig, Tables, WorkerClass,
};
use crate::units::{Nanos, Pid, to_f64};

/// All servers of a recording, in the order in which they were found. `loops` are all of its loops,
/// `blocked_on` is what the processes were blocked on, `lock_waits` where requests waited for a lock, and
/// `background` what held the interpreter lock beside requests.
#[must_use]
pub fn loads(
    recording: &Recording,
    loops: &[LoopLoad],
    blocked_on: &BTreeMap<Pid, Vec<BlockedOn>>,
    lock_waits: &[LockWait],
    background: &[Background],
) -> Vec<Load> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for process in &recording.processes {
        if process.topology.role == Role::Master {
            groups.push(Group { master: Some(process), workers: Vec::new() });
        }
    }
    for process in &recording.processes {
        if process.topology.role == Role::Master || !process.topology.is_server() {
            continue;
        }
        let of_master =
            |group: &&mut Group<'_>| group.master.is_some_and(|master| master.pid == process.ppid);
        match groups.iter_mut().find(of_master) {
            Some(group) => group.workers.push(process),
            None => groups.push(Group { master: None, workers: vec![process] }),
        }
    }
    let serving = groups.iter().filter(|group| !group.workers.is_empty());
    let load = |group: &Group<'_>| group.load(recording, loops, blocked_on, lock_waits, background);
    serving.map(load).collect()
}

/// Most peers that are listed by the time blocked on them: each client has an address of its own, and those
/// that cost most come first.
const MOST_PEERS: usize = 16;

/// A master and its workers.
struct Group<'a> {
    master: Option<&'a ProcessInfo>,
    workers: Vec<&'a ProcessInfo>,
}

impl Group<'_> {
    fn load(
        &self,
        recording: &Recording,
        loops: &[LoopLoad],
        blocked_on: &BTreeMap<Pid, Vec<BlockedOn>>,
        lock_waits: &[LockWait],
        background: &[Background],
    ) -> Load {
        let window = recording.length();
        let alive: Vec<&ProcessInfo> =
            self.workers.iter().copied().filter(|one| one.ended.is_none()).collect();
        let ended = self.workers.len() - alive.len();
        let now = if alive.is_empty() { &self.workers } else { &alive };
        // Workers are alike; the first says how they are run.
        let like = now.first().copied();
        let served = self.served();
        let pids: Vec<Pid> = self.workers.iter().map(|worker| worker.pid).collect();
        let occupied = costs::occupied(recording, &self.workers);
        let work = Work::of(recording, &self.workers, background);
        let cores = cores::of(recording, &self.workers, self.all().map(|one| one.cpu).sum());
        let costs = costs::of(recording, &self.workers, served, occupied, cores.neighbours, &work);
        Load {
            master: self.master.map(|master| master.pid),
            workers: now.iter().map(|worker| worker.pid).collect(),
            ended,
            server: like.map_or(String::new(), |one| one.topology.server.clone()),
            class: like.map_or(WorkerClass::Unknown, |one| one.topology.class),
            development: self.all().any(|one| one.topology.development),
            config: self.config(),
            window,
            cores,
            memory: memory::of(recording, now),
            cpu: self.workers.iter().map(|one| one.cpu).sum(),
            served,
            in_flight: self.in_flight(recording),
            greenlets: greenlets(now),
            slots: now.iter().filter_map(|one| one.occupancy.limit).max(),
            busy: occupied.map(|occupied| occupied.share_of(window)),
            full: self.full(),
            crowd: crowd(now),
            queued: queue::of(&self.workers),
            utilization: self.utilization(recording),
            costs,
            loops: loops.iter().filter(|one| pids.contains(&one.pid)).cloned().collect(),
            blocked_on: self.blocked_on(blocked_on),
            shared: shared::of(recording, now, lock_waits),
            pool: thread_pool::of(recording, now, &work),
            connected: connected(now),
            contrast: None,
            residents: residents(&recording.tables, now, background),
            beside: work.beside(),
        }
    }

    fn all(&self) -> impl Iterator<Item = &ProcessInfo> {
        self.master.into_iter().chain(self.workers.iter().copied())
    }

    /// That of the worker that knows most of it: an idle one may not show its own.
    fn config(&self) -> ServerConfig {
        self.all()
            .max_by_key(|one| one.config.len())
            .map(|one| one.config.clone())
            .unwrap_or_default()
    }

    /// All workers' requests; `None` if one that worked does not tell.
    fn served(&self) -> Option<u64> {
        let told = self.workers.iter().filter(|one| one.cpu > Nanos::ZERO || has_served(one));
        let mut told = told.map(|one| one.requests.served()).peekable();
        told.peek()?;
        told.sum()
    }

    /// That of all workers together, the largest first.
    fn blocked_on(&self, by_process: &BTreeMap<Pid, Vec<BlockedOn>>) -> Vec<BlockedOn> {
        let mut sums: BTreeMap<&str, Nanos> = BTreeMap::new();
        let own = self.workers.iter().filter_map(|worker| by_process.get(&worker.pid));
        for BlockedOn { peer, time, .. } in own.flatten() {
            *sums.entry(peer).or_default() += *time;
        }
        let mut all: Vec<BlockedOn> = { sums.into_iter() }
            .map(|(peer, time)| {
                let libraries = self.libraries(peer);
                BlockedOn { peer: peer.to_owned(), time, libraries }
            })
            .collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.time));
        all.truncate(MOST_PEERS);
        all
    }

    /// By what its workers talk to a peer.
    fn libraries(&self, peer: &str) -> Vec<String> {
        let all = self.workers.iter().flat_map(|worker| &worker.connections);
        let own = all.filter(|one| one.peer.as_deref() == Some(peer));
        own.flat_map(|one| one.libraries.iter().cloned()).collect()
    }

    fn in_flight(&self, recording: &Recording) -> Option<f64> {
        let window = recording.length();
        let of = |one: &&ProcessInfo| {
            let lived = recording.lived(one).share_of(window);
            one.requests.in_flight_mean().map(|mean| mean * lived)
        };
        self.workers.iter().map(of).sum()
    }

    /// Each worker's share, weighted alike: a request meets a full worker with this probability where
    /// the kernel hands connections to any of them.
    fn full(&self) -> Option<f64> {
        let shares: Vec<f64> =
            self.workers.iter().filter_map(|one| one.occupancy.share_at_limit()).collect();
        let count = to_f64(shares.len() as u64);
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / count)
    }

    fn utilization(&self, recording: &Recording) -> Option<(f64, f64)> {
        let of_worker = |worker: &ProcessInfo| {
            let own = recording.event_loops().filter(|info| info.pid == worker.pid);
            own.filter_map(|info| LoopTally::utilization(&info.tally)).reduce(f64::max)
        };
        let shares: Vec<f64> = self.workers.iter().filter_map(|one| of_worker(one)).collect();
        let least = shares.iter().copied().reduce(f64::min)?;
        let most = shares.iter().copied().reduce(f64::max)?;
        Some((least, most))
    }
}

/// What the worker saw of the server as a whole that saw it starved most often.
fn crowd(workers: &[&ProcessInfo]) -> Option<Crowd> {
    let share = |crowd: &Crowd| crowd.starved_share().unwrap_or(0.0);
    let all = workers.iter().filter_map(|one| one.occupancy.crowd);
    all.max_by(|a, b| share(a).total_cmp(&share(b)))
}

/// How many greenlets serve connections, in all workers; `None` if one of them does not tell.
fn greenlets(workers: &[&ProcessInfo]) -> Option<f64> {
    let of = |one: &&ProcessInfo| {
        let is_hubs = |kind| matches!(kind, PoolKind::GeventPool | PoolKind::EventletPool);
        let pools = one.pools.iter().filter(|pool| is_hubs(pool.kind));
        // There is one for each listening socket.
        pools.filter_map(|pool| pool.busy.mean()).reduce(|all, one| all + one)
    };
    workers.iter().map(of).reduce(|all, one| Some(all? + one?))?
}

/// Whom workers are connected to: that of all of them together, the most connections first.
fn connected(workers: &[&ProcessInfo]) -> Vec<Connected> {
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for one in workers.iter().flat_map(|worker| &worker.connections) {
        if let Some((peer, open)) = one.peer.as_deref().zip(one.open.mean()) {
            *sums.entry(peer).or_default() += open;
        }
    }
    let mut all: Vec<Connected> = { sums.into_iter() }
        .map(|(peer, open)| Connected { peer: peer.to_owned(), open })
        .collect();
    all.sort_by(|a, b| b.open.total_cmp(&a.open));
    all.truncate(MOST_PEERS);
    all
}

/// What lives in the worker that has most of it. What computes in a thread of its own lives there, whether or not it
/// is known as anything else.
fn residents(
    tables: &Tables,
    workers: &[&ProcessInfo],
    background: &[Background],
) -> Vec<Resident> {
    let most = { workers.iter().filter_map(|one| one.residents.as_ref()) }
        .max_by_key(|residents| residents.len());
    let mut all = most.cloned().unwrap_or_default();
    let mut computing = background.iter().filter(|one| workers.iter().any(|w| w.pid == one.pid));
    if !all.iter().any(|one| one.kind.is_repeated()) {
        all.extend(computing.next().and_then(|one| beside::resident(tables, one)));
    }
    all
}

fn has_served(process: &ProcessInfo) -> bool {
    process.requests.served().is_some_and(|served| served > 0)
}
