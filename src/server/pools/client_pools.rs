//! How libraries' pools of connections, and semaphores, lie in memory.
//!
//! Takes an object, gives what is in use and what waits. Whose it is, is told by the function that waits.
//! Read in the sources of each, and on the versions that `docs/VERSIONS.md` lists:
//! <https://github.com/sqlalchemy/sqlalchemy/blob/rel_2_0_36/lib/sqlalchemy/pool/impl.py#L46> and
//! `util/queue.py` (the same in 1.4), <https://github.com/psycopg/psycopg/blob/3.2.3/psycopg_pool/psycopg_pool/pool.py>,
//! <https://github.com/MagicStack/asyncpg/blob/v0.30.0/asyncpg/pool.py>,
//! <https://github.com/redis/redis-py/blob/v5.2.0/redis/connection.py>,
//! <https://github.com/urllib3/urllib3/blob/2.2.3/src/urllib3/connectionpool.py>,
//! <https://github.com/python/cpython/blob/v3.12.1/Lib/threading.py#L445>,
//! <https://github.com/python/cpython/blob/v3.12.1/Lib/asyncio/locks.py#L330>.

use super::plausible;
use crate::model::{PoolKind, PoolReading};
use crate::python::code_objects::CodeObject;
use crate::python::objects::Objects;
use crate::target::ReadError;
use crate::units::Addr;

/// Whose pool it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Sqlalchemy,
    Psycopg,
    Asyncpg,
    Redis,
    Urllib3,
    Threading,
    Asyncio,
    AsyncioLock,
}

/// Functions that wait for a pool, which is their `self`: the function, its file's end, and whose it may be.
const PLACES: [(&str, &str, &[Whose]); 9] = [
    ("_do_get", "sqlalchemy/pool/impl.py", &[Whose::Sqlalchemy]),
    ("getconn", "psycopg_pool/pool.py", &[Whose::Psycopg]),
    ("getconn", "psycopg_pool/pool_async.py", &[Whose::Psycopg]),
    // To 3.1.
    ("getconn", "psycopg_pool/async_pool.py", &[Whose::Psycopg]),
    ("_acquire", "asyncpg/pool.py", &[Whose::Asyncpg]),
    ("get_connection", "redis/connection.py", &[Whose::Redis]),
    ("_get_conn", "urllib3/connectionpool.py", &[Whose::Urllib3]),
    ("acquire", "/threading.py", &[Whose::Threading]),
    ("acquire", "asyncio/locks.py", &[Whose::Asyncio, Whose::AsyncioLock]),
];

impl Whose {
    /// Whose pool a function of this code may wait for: their classes tell them apart.
    pub(super) fn of(code: &CodeObject) -> Option<&'static [Whose]> {
        let is_it = |(function, file, _): &&(&str, &str, &[Whose])| {
            code.name == *function && code.filename.ends_with(file)
        };
        PLACES.iter().find(is_it).map(|(.., whose)| *whose)
    }

    /// Whether the object is of its class, or of one derived from it.
    pub(super) fn is_class_of(self, objects: &Objects<'_>, object: Addr) -> bool {
        let wanted: &[&str] = match self {
            Whose::Sqlalchemy => &["QueuePool"],
            Whose::Psycopg => &["ConnectionPool", "AsyncConnectionPool"],
            Whose::Asyncpg => &["Pool"],
            Whose::Redis => &["BlockingConnectionPool"],
            Whose::Urllib3 => &["HTTPConnectionPool"],
            Whose::Threading | Whose::Asyncio => &["Semaphore"],
            Whose::AsyncioLock => &["Lock"],
        };
        let names = objects.class_names(object);
        names.is_ok_and(|names| names.iter().any(|name| wanted.contains(&name.as_str())))
    }

    /// What it is to a reader.
    pub(super) fn kind(self) -> PoolKind {
        match self {
            Whose::Sqlalchemy => PoolKind::SqlalchemyPool,
            Whose::Psycopg => PoolKind::PsycopgPool,
            Whose::Asyncpg => PoolKind::AsyncpgPool,
            Whose::Redis => PoolKind::RedisPool,
            Whose::Urllib3 => PoolKind::Urllib3Pool,
            Whose::Threading => PoolKind::Semaphore,
            Whose::Asyncio => PoolKind::AsyncioSemaphore,
            Whose::AsyncioLock => PoolKind::AsyncioLock,
        }
    }

    /// Whether threads also use one to tell another that there is work: a consumer that waits for that waits
    /// for no resource.
    pub(super) fn may_be_a_signal(self) -> bool {
        self == Whose::Threading
    }

    /// What is in use of it, and what waits.
    pub(super) fn read(
        self,
        objects: &Objects<'_>,
        object: Addr,
    ) -> Result<PoolReading, ReadError> {
        let at = Parts { objects, object };
        let reading = match self {
            Whose::Sqlalchemy => at.sqlalchemy()?,
            Whose::Psycopg => at.psycopg()?,
            Whose::Asyncpg => at.asyncpg()?,
            Whose::Redis => at.queued(at.number("max_connections")?)?,
            Whose::Urllib3 => at.queued(at.part("pool")?.number("maxsize")?)?,
            Whose::Threading => at.semaphore("_initial_value", at.part("_cond")?)?,
            Whose::Asyncio => at.semaphore("_bound_value", at)?,
            Whose::AsyncioLock => reading(Some(1), Some(at.number("_locked")?), at.waiting_tasks()),
        };
        Ok(handed_over(self, reading))
    }
}

/// What was given back while others wait is promised to the first of them, which has not run yet: it is in
/// use. Of psycopg's it is not so: it opens connections while the first ones wait for them.
fn handed_over(whose: Whose, reading: PoolReading) -> PoolReading {
    let is_promised = whose != Whose::Psycopg && reading.waiting.is_some_and(|waiting| waiting > 0);
    let PoolReading { limit, busy, waiting } = reading;
    let busy =
        busy.zip(limit).map(|(busy, limit)| if is_promised { limit } else { busy.min(limit) });
    PoolReading { limit, busy, waiting }
}

const MISSING: ReadError = ReadError::Invalid("attribute of a pool");

/// An object whose attributes are a pool's, or a part of one.
#[derive(Clone, Copy)]
struct Parts<'a> {
    objects: &'a Objects<'a>,
    object: Addr,
}

impl<'a> Parts<'a> {
    fn find(self, name: &str) -> Result<Option<Addr>, ReadError> {
        self.objects.member(self.object, name)
    }

    fn part(self, name: &str) -> Result<Parts<'a>, ReadError> {
        Ok(Parts { object: self.find(name)?.ok_or(MISSING)?, ..self })
    }

    fn number(self, name: &str) -> Result<i64, ReadError> {
        self.objects.int(self.part(name)?.object)
    }

    fn deque_len(self, name: &str) -> Result<i64, ReadError> {
        length(self.objects.deque_len(self.part(name)?.object)?)
    }

    /// The length of a `deque`, or of the `list` that a `LifoQueue` has.
    fn length(self, name: &str) -> Result<i64, ReadError> {
        let object = self.part(name)?.object;
        length(self.objects.list_len(object).or_else(|_| self.objects.deque_len(object))?)
    }

    /// How many threads wait at the `threading.Condition` `name`.
    fn threads_at(self, name: &str) -> Result<i64, ReadError> {
        self.part(name)?.deque_len("_waiters")
    }

    fn sqlalchemy(self) -> Result<PoolReading, ReadError> {
        let queue = self.part("_pool")?;
        let (size, most_more) = (queue.number("maxsize")?, self.number("_max_overflow")?);
        // The asynchronous one has a queue of asyncio's, once it is used.
        let (free, waiting) = match queue.find("_queue")? {
            Some(object) => {
                let queue = Parts { object, ..queue };
                (queue.length("_queue")?, queue.deque_len("_getters")?)
            }
            None => (queue.deque_len("queue")?, queue.threads_at("not_empty")?),
        };
        // `QueuePool.checkedout`: the overflow begins at minus the size.
        let busy = size.saturating_sub(free).saturating_add(self.number("_overflow")?);
        let limit = (size > 0 && most_more >= 0).then(|| size.saturating_add(most_more));
        Ok(reading(limit, Some(busy), waiting))
    }

    fn psycopg(self) -> Result<PoolReading, ReadError> {
        let busy = self.number("_nconns")?.saturating_sub(self.deque_len("_pool")?);
        let waiting = self.deque_len("_waiting")?;
        Ok(reading(Some(self.number("_max_size")?), Some(busy), waiting))
    }

    fn asyncpg(self) -> Result<PoolReading, ReadError> {
        let limit = self.number("_maxsize")?;
        let queue = self.part("_queue")?;
        let busy = limit.saturating_sub(queue.length("_queue")?);
        Ok(reading(Some(limit), Some(busy), queue.deque_len("_getters")?))
    }

    /// A pool of `limit` whose free ones are in a `queue.LifoQueue`.
    fn queued(self, limit: i64) -> Result<PoolReading, ReadError> {
        let queue = self.part("pool")?;
        let busy = limit.saturating_sub(queue.length("queue")?);
        Ok(reading(Some(limit), Some(busy), queue.threads_at("not_empty")?))
    }

    /// asyncio's have no line before the first that waits.
    fn waiting_tasks(self) -> i64 {
        self.deque_len("_waiters").unwrap_or(0)
    }

    /// A semaphore, of which a bounded one knows with how many it began (`initial`), and another does not.
    fn semaphore(self, initial: &str, waiters: Parts<'_>) -> Result<PoolReading, ReadError> {
        let left = self.number("_value")?;
        let limit = match self.find(initial)? {
            Some(limit) => Some(self.objects.int(limit)?),
            None => None,
        };
        let busy = limit.map(|limit| limit.saturating_sub(left));
        Ok(reading(limit, busy, waiters.waiting_tasks()))
    }
}

fn length(len: usize) -> Result<i64, ReadError> {
    i64::try_from(len).map_err(|_| ReadError::Invalid("length"))
}

fn reading(limit: Option<i64>, busy: Option<i64>, waiting: i64) -> PoolReading {
    // Between two of a look's reads a count may be ahead of another.
    let count = |value: i64| plausible(usize::try_from(value.max(0)).unwrap_or(usize::MAX));
    PoolReading {
        limit: limit.and_then(count),
        busy: busy.and_then(count),
        waiting: count(waiting),
    }
}

#[cfg(test)]
mod tests;
