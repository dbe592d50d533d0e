//! One server over a recording: what it had to do, what it did it with, and what a request cost.
//!
//! The symbols in the comments are those of queueing theory: P cores, M memory, λ rate, L in flight, C
//! and N CPU with and without the interpreter lock, B blocked, G waiting for the lock, U utilization, Q
//! the accept queue.

use super::{
    Beside, BlockedOn, Contrast, Crowd, LockKind, LoopLoad, PeerLimit, PoolKind, Resident,
    ServerConfig, SettingValue, WorkerClass,
};
use crate::units::{Nanos, Pid, to_f64, whole};

/// One server over the recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Its master, if it has one that was watched.
    pub master: Option<Pid>,
    /// Its workers that were still there at the end; all that were seen, if none was.
    pub workers: Vec<Pid>,
    /// Workers that ended while they were watched.
    pub ended: usize,
    /// Its name, `gunicorn`.
    pub server: String,
    /// How its workers run requests.
    pub class: WorkerClass,
    /// Whether it is meant for development.
    pub development: bool,
    /// Its configuration in force.
    pub config: ServerConfig,
    /// How long it was watched.
    pub window: Nanos,
    /// P: the CPUs it may use.
    pub cores: Cores,
    /// M: the memory it may use.
    pub memory: Memory,
    /// CPU time its workers used.
    pub cpu: Nanos,
    /// Requests served.
    pub served: Option<u64>,
    /// L: requests in flight on average, those that wait for a thread included where that is known.
    pub in_flight: Option<f64>,
    /// Greenlets that serve a connection each, of all workers together, on average; one that is kept open between
    /// two requests has one, too. `None` where there are none, or nobody could look.
    pub greenlets: Option<f64>,
    /// Requests each worker can serve at the same time; `None` where a loop serves them.
    pub slots: Option<u32>,
    /// How many of all workers' threads were held by requests on average.
    pub busy: Option<f64>,
    /// The share of time in which a worker had no free thread, over all workers.
    pub full: Option<f64>,
    /// Its looks as a whole, of the worker that saw it starved most often; `None` where a loop serves.
    pub crowd: Option<Crowd>,
    /// Q: connections that waited to be accepted, and requests that waited for a thread, on average.
    pub queued: Option<f64>,
    /// U: the share of time each worker's loop was out of its poll, the least and the most.
    pub utilization: Option<(f64, f64)>,
    /// What one request took.
    pub costs: Option<Costs>,
    /// Its event loops; none where each request has a thread.
    pub loops: Vec<LoopLoad>,
    /// B by peer: what the threads that serve were blocked on in the application's calls, by background
    /// samples; the largest first.
    pub blocked_on: Vec<BlockedOn>,
    /// The pool of the application's own, the lock or the peer whose turn requests wait for most.
    pub shared: Option<SharedPool>,
    /// The pool of threads beside its loops that is used most; `None` where each request has a thread, or nothing is
    /// in one.
    pub pool: Option<ThreadPool>,
    /// Whom its workers are connected to, the peer with the most connections first.
    pub connected: Vec<Connected>,
    /// What an earlier recording of it at another size tells; `None` without one.
    pub contrast: Option<Contrast>,
    /// What lives in a worker beside requests, of the one that has most of it.
    pub residents: Vec<Resident>,
    /// What computes in its workers beside the requests; none of it is in [`Self::costs`].
    pub beside: Option<Beside>,
}

impl Load {
    /// λ: requests a second.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let seconds = self.window.as_secs_f64();
        (seconds > 0.0).then_some(())?;
        self.served.map(|served| to_f64(served) / seconds)
    }

    /// How many workers it has; one at the least, to divide by.
    #[must_use]
    pub fn worker_count(&self) -> f64 {
        to_f64(self.workers.len().max(1) as u64)
    }

    /// Cores' worth of CPU time that its workers used.
    #[must_use]
    pub fn cores_used(&self) -> f64 {
        self.cpu.share_of(self.window)
    }

    /// Requests that were there at the same time: being served, or waiting to be. Under a closed load,
    /// where each client waits for its answer, that is the number of clients; under an open one it is
    /// what had piled up. A lower bound of what there is to serve at once.
    #[must_use]
    pub fn demand(&self) -> Option<f64> {
        let served = self.busy.or(self.in_flight)?;
        Some(served + self.queued.unwrap_or(0.0))
    }

    /// The same if what computes beside the requests did so in another process, on the same CPUs.
    #[must_use]
    pub fn without_background(&self) -> Load {
        let used = self.beside.map_or(0.0, |beside| beside.cpu.share_of(self.window));
        let others = Some(self.cores.others.unwrap_or(0.0) + used);
        Load { beside: None, cores: Cores { others, ..self.cores }, ..self.clone() }
    }

    /// What a peer lets through that limits it, where another recording shows that.
    #[must_use]
    pub fn peer_limit(&self) -> Option<&PeerLimit> {
        self.contrast.as_ref()?.limit()
    }

    /// How many connections each of gunicorn's hubs takes; `None` where that is not known, or there is no hub.
    #[must_use]
    pub fn hub_connections(&self) -> Option<u32> {
        matches!(self.class, WorkerClass::Gevent | WorkerClass::Eventlet).then_some(())?;
        self.number("worker_connections").filter(|limit| *limit > 0)
    }

    /// A number in the configuration in force.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        match self.config.get(name)?.value {
            SettingValue::Number(value) => u32::try_from(value).ok(),
            _ => None,
        }
    }
}

/// What requests wait for a turn at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedKind {
    /// A pool that the application made for itself.
    Pool(PoolKind),
    /// A lock.
    Lock(LockKind),
    /// A peer that works on so many at once, as two recordings show.
    Peer,
}

impl SharedKind {
    /// That of a pool.
    #[must_use]
    pub fn pool(self) -> Option<PoolKind> {
        match self {
            SharedKind::Pool(kind) => Some(kind),
            SharedKind::Lock(_) | SharedKind::Peer => None,
        }
    }

    /// Whether each worker has one of its own; else there is one for all of them.
    #[must_use]
    pub fn is_in_each_worker(self) -> bool {
        !matches!(self, SharedKind::Lock(LockKind::Sqlite) | SharedKind::Peer)
    }
}

/// A pool that the application made for itself, a lock or a peer that its requests wait for.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedPool {
    /// What it is.
    pub kind: SharedKind,
    /// A pool's class; the line at which requests wait for a lock; a peer's address.
    pub name: String,
    /// How many there may be in use in one worker, if that is known.
    pub limit: Option<u32>,
    /// How many of them serve at once: the limit, or 1 of one whose limit is not known. Then [`Self::kept`] is
    /// what one of them takes to let all through.
    pub servers: f64,
    /// Seconds that a request keeps one, on average.
    pub kept: f64,
    /// Seconds that a request waits for one, on average.
    pub waited: f64,
    /// The share of time in which all were in use and someone waited.
    pub share: f64,
}

/// A pool of threads that loops hand calls to, of all workers together.
#[derive(Debug, Clone, PartialEq)]
pub struct ThreadPool {
    /// What it is.
    pub kind: PoolKind,
    /// Its name, as in [`PoolInfo`](super::PoolInfo).
    pub name: String,
    /// How many calls may be in it at once in one worker.
    pub limit: Option<u32>,
    /// How many are in it on average.
    pub busy: f64,
    /// How many wait for it on average.
    pub waiting: f64,
    /// Seconds a second that its threads wait for the interpreter lock, added up; what other threads beside the loops wait
    /// for it is in there.
    pub gil_wait: f64,
}

/// Connections of a server's to one peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Connected {
    /// Its address.
    pub peer: String,
    /// How many there are at a time, on average, of all workers.
    pub open: f64,
}

/// The CPUs of one server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cores {
    /// CPUs the kernel lets its workers run on.
    pub affinity: u32,
    /// The tightest CPU quota above them.
    pub quota: Option<f64>,
    /// The least of these: what it may use.
    pub budget: f64,
    /// CPUs' worth that everything else on the machine used; `None` if that was not counted.
    pub others: Option<f64>,
    /// Of these: processes that talk to it (clients, proxies, databases), where it shares the whole machine with
    /// them. They use more as it serves more.
    pub neighbours: f64,
    /// CPUs' worth that had nothing to run.
    pub idle: Option<f64>,
}

/// A server never gets less than this share of the CPUs it may use: others have to share them, too
/// (sched(7), CFS: groups and threads of the same weight get the same).
const FAIR_SHARE: f64 = 0.5;

impl Cores {
    /// What can be counted on: its budget, less what others used of it. Of a quota they use nothing, as long as there are
    /// CPUs for it.
    #[must_use]
    pub fn usable(&self) -> f64 {
        let left = f64::from(self.affinity).max(self.budget) - self.others.unwrap_or(0.0);
        left.min(self.budget).max(self.budget * FAIR_SHARE)
    }

    /// The next whole number of CPUs that a quota keeps it from, no more than it may run on.
    #[must_use]
    pub fn beyond_quota(&self) -> Option<f64> {
        let quota = self.quota?;
        let next = (quota.floor() + 1.0).min(f64::from(self.affinity));
        (next > quota).then_some(next)
    }

    /// What it and the processes that talk to it can count on together.
    #[must_use]
    pub fn together(&self) -> f64 {
        let strangers = self.others.map(|others| (others - self.neighbours).max(0.0));
        Cores { others: strangers, ..*self }.usable()
    }

    /// Whole ones that it may use, at least one.
    #[must_use]
    pub fn whole(&self) -> u32 {
        whole(self.budget.ceil().max(1.0))
    }

    /// gunicorn's rule of thumb for workers, 2 × cores + 1 (<https://docs.gunicorn.org/en/stable/design.html>).
    #[must_use]
    pub fn rule_of_thumb(&self) -> u32 {
        self.whole().saturating_mul(2).saturating_add(1)
    }
}

/// The memory of one server, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// How many workers there are.
    pub workers: u64,
    /// What they have of their own alone, all together.
    pub own: u64,
    /// What one more worker takes: what a worker has of its own alone, the largest of them.
    pub per_worker: Option<u64>,
    /// What it takes at its worst moment: the most that a worker ever had so.
    pub peak: Option<u64>,
    /// What is left: to the tightest limit of its control groups, or of the machine.
    pub left: Option<u64>,
    /// Whether that is a control group's limit.
    pub is_limited: bool,
}

impl Memory {
    /// How many more workers fit in, if all of them are at their worst moment at once: they are started together.
    #[must_use]
    pub fn more_workers(&self) -> Option<u64> {
        let (left, need) = (self.left?, self.peak.max(self.per_worker)?.max(1));
        let all = left.saturating_add(self.own) / need;
        Some(all.saturating_sub(self.workers))
    }
}

/// The time of one request, on average, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// Requests it is the mean of.
    pub requests: u64,
    /// C + N: CPU time.
    pub cpu: f64,
    /// The share of the CPU time that held the interpreter lock; all of it, if that was not seen.
    pub gil_share: f64,
    /// Looks that saw the lock held: what `gil_share` was counted of.
    pub gil_looks: u64,
    /// R: how long a request took from its begin in a worker to its end; `None` where nothing tells.
    pub total: Option<f64>,
    /// G: waiting for the interpreter lock, in threads that serve requests.
    pub gil_wait: f64,
    /// Ready and waiting for a CPU.
    pub run_delay: f64,
    /// CPU time of processes that talk to the server, where they share its CPUs: see [`Cores::neighbours`].
    pub neighbours: f64,
}

impl Costs {
    /// C: CPU time holding the interpreter lock.
    #[must_use]
    pub fn gil(&self) -> f64 {
        self.cpu * self.gil_share
    }

    /// Most of the CPU time that may hold the interpreter lock, by how few looks saw it held: two
    /// standard errors more (a count of `n` varies by √n), and all of it where none did.
    #[must_use]
    pub fn most_gil(&self) -> f64 {
        let relative = 2.0 / to_f64(self.gil_looks).sqrt();
        if relative.is_finite() { (self.gil() * (1.0 + relative)).min(self.cpu) } else { self.cpu }
    }

    /// N: CPU time without it.
    #[must_use]
    pub fn free(&self) -> f64 {
        self.cpu - self.gil()
    }

    /// B: blocked in calls; what is left when everything else is taken off.
    #[must_use]
    pub fn blocked(&self) -> Option<f64> {
        Some((self.total? - self.cpu - self.gil_wait - self.run_delay).max(0.0))
    }

    /// R without the waits that a better size takes away: what a request needs.
    #[must_use]
    pub fn needed(&self) -> Option<f64> {
        Some(self.cpu + self.blocked()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_looks_at_the_lock_leave_more_of_it_possible() {
        let costs = |gil_share, gil_looks| Costs {
            requests: 100,
            cpu: 0.01,
            gil_share,
            gil_looks,
            total: None,
            gil_wait: 0.0,
            run_delay: 0.0,
            neighbours: 0.0,
        };
        assert!((costs(0.5, 400).most_gil() - 0.0055).abs() < 1e-9);
        assert!((costs(0.5, 4).most_gil() - 0.01).abs() < 1e-9);
        assert!((costs(0.0, 0).most_gil() - 0.01).abs() < 1e-9, "nothing was seen of it");
        assert!((costs(1.0, 0).most_gil() - 0.01).abs() < 1e-9, "nobody looked");
    }
}
