//! Pools: things of which there are only so many, threads mostly, and the line of those that wait.

use serde::{Deserialize, Serialize};

use super::{FrameId, StackId};

/// What a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolKind {
    /// An `anyio.CapacityLimiter`: how many calls may be in worker threads at once. The default one is
    /// what `def` handlers of Starlette and FastAPI go through.
    AnyioLimiter,
    /// A `concurrent.futures.ThreadPoolExecutor`.
    ThreadPoolExecutor,
    /// A `gevent.threadpool.ThreadPool`: native threads for what does not cooperate.
    GeventThreadPool,
    /// Connections that a worker of gunicorn's gthread has accepted, of `worker_connections`.
    GthreadConnections,
    /// A `gevent.pool.Pool` that a server runs requests in, of gunicorn's gevent worker
    /// `worker_connections`.
    GeventPool,
    /// The same of eventlet, a `GreenPool`.
    EventletPool,
    /// The threads that waitress or cheroot hands its requests to.
    ServerThreads,
    /// SQLAlchemy's `QueuePool`, `AsyncAdaptedQueuePool`.
    SqlalchemyPool,
    /// `psycopg_pool.ConnectionPool`, `AsyncConnectionPool`.
    PsycopgPool,
    /// `asyncpg.Pool`.
    AsyncpgPool,
    /// `redis.BlockingConnectionPool`.
    RedisPool,
    /// urllib3's `HTTPConnectionPool` with `block=True`.
    Urllib3Pool,
    /// A `threading.Semaphore` or `BoundedSemaphore` that requests wait for.
    Semaphore,
    /// The same of asyncio.
    AsyncioSemaphore,
    /// An `asyncio.Lock` that requests wait for.
    AsyncioLock,
}

impl PoolKind {
    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PoolKind::AnyioLimiter => "anyio_limiter",
            PoolKind::ThreadPoolExecutor => "thread_pool_executor",
            PoolKind::GeventThreadPool => "gevent_thread_pool",
            PoolKind::GthreadConnections => "gthread_connections",
            PoolKind::GeventPool => "gevent_pool",
            PoolKind::EventletPool => "eventlet_pool",
            PoolKind::ServerThreads => "server_threads",
            PoolKind::SqlalchemyPool => "sqlalchemy_pool",
            PoolKind::PsycopgPool => "psycopg_pool",
            PoolKind::AsyncpgPool => "asyncpg_pool",
            PoolKind::RedisPool => "redis_pool",
            PoolKind::Urllib3Pool => "urllib3_pool",
            PoolKind::Semaphore => "semaphore",
            PoolKind::AsyncioSemaphore => "asyncio_semaphore",
            PoolKind::AsyncioLock => "asyncio_lock",
        }
    }

    /// Its name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            PoolKind::AnyioLimiter => "anyio limiter",
            PoolKind::ThreadPoolExecutor => "thread pool",
            PoolKind::GeventThreadPool => "gevent thread pool",
            PoolKind::GthreadConnections => "gthread connections",
            PoolKind::GeventPool => "gevent pool",
            PoolKind::EventletPool => "eventlet pool",
            PoolKind::ServerThreads => "server's threads",
            PoolKind::SqlalchemyPool => "SQLAlchemy",
            PoolKind::PsycopgPool => "psycopg",
            PoolKind::AsyncpgPool => "asyncpg",
            PoolKind::RedisPool => "redis",
            PoolKind::Urllib3Pool => "urllib3",
            PoolKind::Semaphore => "threading",
            PoolKind::AsyncioSemaphore | PoolKind::AsyncioLock => "asyncio",
        }
    }

    /// Whether it is the application's own, met by who waits for it: none is known before the first has waited.
    #[must_use]
    pub fn is_awaited(self) -> bool {
        self.is_of_clients() || self.is_semaphore() || self.is_lock()
    }

    /// Whether it is of connections to others: a database's, a cache's.
    #[must_use]
    pub fn is_of_clients(self) -> bool {
        matches!(
            self,
            PoolKind::SqlalchemyPool
                | PoolKind::PsycopgPool
                | PoolKind::AsyncpgPool
                | PoolKind::RedisPool
                | PoolKind::Urllib3Pool
        )
    }

    /// Whether it is a semaphore: what it bounds is not known.
    #[must_use]
    pub fn is_semaphore(self) -> bool {
        matches!(self, PoolKind::Semaphore | PoolKind::AsyncioSemaphore)
    }

    /// Whether it lets one through at a time, whatever anybody sets.
    #[must_use]
    pub fn is_lock(self) -> bool {
        self == PoolKind::AsyncioLock
    }

    /// Whether it counts connections that a server serves at once, rather than what its application calls
    /// go through.
    #[must_use]
    pub fn is_of_connections(self) -> bool {
        matches!(self, PoolKind::GthreadConnections | PoolKind::GeventPool | PoolKind::EventletPool)
    }
}

/// One look at a pool. What could not be read is `None`, never 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolReading {
    /// How many there may be in use; `None` also where there is no limit.
    pub limit: Option<u32>,
    /// How many are in use.
    pub busy: Option<u32>,
    /// How many wait for one.
    pub waiting: Option<u32>,
}

impl PoolReading {
    /// Whether all there may be are in use.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.busy.zip(self.limit).is_some_and(|(busy, limit)| busy >= limit)
    }
}

/// A quantity over evenly spaced looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Looks that could tell it.
    pub looks: u64,
    /// The sum of what they told.
    pub sum: u64,
    /// The largest.
    pub max: u32,
}

impl Level {
    /// Counts a look; `None` could not tell.
    pub fn add(&mut self, value: Option<u32>) {
        let Some(value) = value else { return };
        self.looks = self.looks.saturating_add(1);
        self.sum = self.sum.saturating_add(u64::from(value));
        self.max = self.max.max(value);
    }

    /// The mean; `None` without a look.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // sums of counts stay far below 2^53
    pub fn mean(&self) -> Option<f64> {
        (self.looks > 0).then(|| self.sum as f64 / self.looks as f64)
    }

    /// The largest; `None` without a look.
    #[must_use]
    pub fn most(&self) -> Option<u32> {
        (self.looks > 0).then_some(self.max)
    }
}

/// One pool of a process, over the recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolInfo {
    /// What it is.
    pub kind: PoolKind,
    /// Its name: an executor's `thread_name_prefix`, a limiter's variable.
    pub name: String,
    /// How many there may be in use, at the last look; `None` if that is not known or unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// How many were in use.
    pub busy: Level,
    /// How many waited for one.
    pub waiting: Level,
    /// Looks at which all there may be were in use, of those of `busy`.
    pub full: u64,
    /// Of these: and someone waited.
    pub full_and_waiting: u64,
    /// Where somebody was first met waiting for it, if it was found that way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_at: Option<StackId>,
    /// The application's line in there: of a report, no part of a recording.
    #[serde(skip)]
    pub waited_in: Option<FrameId>,
    /// What its threads were at most, likewise.
    #[serde(skip)]
    pub work: Option<PoolWork>,
}

/// What the threads of a pool were met at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolWork {
    /// The application's line that they were met at most.
    pub frame: FrameId,
    /// Looks at its threads that met them there.
    pub looks: u64,
    /// Looks that met them at any line of the application's.
    pub of: u64,
    /// Of these: asgiref's `sync_to_async` had called it in the one thread that it keeps for all.
    pub thread_sensitive: u64,
}

impl PoolWork {
    /// Whether the pool is asgiref's one thread.
    #[must_use]
    pub fn is_thread_sensitive(&self) -> bool {
        self.thread_sensitive.saturating_mul(2) > self.of
    }

    /// Whether its threads were at that line for over half of the time.
    #[must_use]
    pub fn is_most(&self) -> bool {
        self.looks.saturating_mul(2) > self.of
    }
}

impl PoolInfo {
    /// A pool that was not looked at yet.
    #[must_use]
    pub fn new(kind: PoolKind, name: String) -> PoolInfo {
        let level = Level::default();
        let (busy, waiting) = (level, level);
        PoolInfo {
            kind,
            name,
            limit: None,
            busy,
            waiting,
            full: 0,
            full_and_waiting: 0,
            waits_at: None,
            waited_in: None,
            work: None,
        }
    }

    /// Whether it is the executor that a loop makes for `run_in_executor(None, …)` and `asyncio.to_thread`: both
    /// asyncio and uvloop name its threads after themselves (`run_in_executor` of Lib/asyncio/base_events.py and
    /// of uvloop/loop.pyx).
    #[must_use]
    pub fn is_loops_default(&self) -> bool {
        self.kind == PoolKind::ThreadPoolExecutor
            && matches!(self.name.as_str(), "asyncio" | "uvloop")
    }

    /// Counts a look.
    pub fn add(&mut self, reading: &PoolReading) {
        self.limit = reading.limit.or(self.limit);
        self.busy.add(reading.busy);
        self.waiting.add(reading.waiting);
        let waits = reading.waiting.is_some_and(|waiting| waiting > 0);
        // Nobody waits for a semaphore that is not used up, however many that are.
        if reading.is_full() || (self.kind.is_semaphore() && waits) {
            self.full = self.full.saturating_add(1);
            self.full_and_waiting = self.full_and_waiting.saturating_add(u64::from(waits));
        }
    }

    /// How many looks could tell whether it was full: of one that was met by who waits for it, those before that
    /// too, as nobody was met waiting.
    #[must_use]
    pub fn looks(&self) -> u64 {
        if self.kind.is_awaited() { self.waiting.looks } else { self.busy.looks }
    }

    /// The share of looks that `count` of those that could tell whether it was full stand for;
    /// `None` without one, or without a limit to be at.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts of looks stay far below 2^53
    pub fn share(&self, count: u64) -> Option<f64> {
        let looks = self.looks();
        let can_be_full = self.limit.is_some() || self.kind.is_semaphore();
        (looks > 0 && can_be_full).then(|| count.min(looks) as f64 / looks as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(readings: &[(u32, u32)]) -> PoolInfo {
        let mut pool = PoolInfo::new(PoolKind::AnyioLimiter, "default_thread_limiter".to_owned());
        for (busy, waiting) in readings {
            pool.add(&PoolReading { limit: Some(40), busy: Some(*busy), waiting: Some(*waiting) });
        }
        pool
    }

    #[test]
    fn means_and_shares_are_of_looks() {
        let pool = pool(&[(0, 0), (40, 0), (40, 10), (40, 20)]);
        assert_eq!((pool.busy.mean(), pool.busy.most()), (Some(30.0), Some(40)));
        assert_eq!((pool.waiting.mean(), pool.waiting.most()), (Some(7.5), Some(20)));
        assert_eq!(
            (pool.share(pool.full), pool.share(pool.full_and_waiting)),
            (Some(0.75), Some(0.5))
        );
    }

    #[test]
    fn one_that_is_met_by_who_waits_is_not_full_before() {
        let mut pool = PoolInfo::new(PoolKind::Semaphore, "Semaphore".to_owned());
        pool.waiting.looks = 6;
        for waiting in [3, 5, 0, 0] {
            pool.add(&PoolReading { limit: None, busy: None, waiting: Some(waiting) });
        }
        assert_eq!((pool.looks(), pool.full_and_waiting), (10, 2));
        assert_eq!(
            (pool.share(pool.full_and_waiting), pool.waiting.mean()),
            (Some(0.2), Some(0.8))
        );
        assert_eq!((pool.busy.mean(), pool.limit), (None, None));
    }

    #[test]
    fn what_was_not_seen_is_not_zero() {
        let mut pool = pool(&[]);
        assert_eq!((pool.busy.mean(), pool.waiting.most(), pool.share(0)), (None, None, None));
        pool.add(&PoolReading { limit: None, busy: Some(3), waiting: None });
        assert_eq!((pool.busy.mean(), pool.waiting.mean(), pool.share(0)), (Some(3.0), None, None));
    }
}
