//! Pools of connections and semaphores of the application's own, in words: what they are called, what to type for
//! another size, and what that can hit.
//!
//! Decides no size: that is [`size`](super::size)'s.

use super::services::{Known, service_of};
use crate::model::{Load, LockKind, PoolInfo, PoolKind, ProcessInfo, SharedKind, SharedPool};
use crate::units::whole;

/// A database's connections are to be used up to this part: a fifth is left for whoever else connects (see
/// `rules/connection_limit.rs`).
const USED: f64 = 0.8;

/// What people call one: `SQLAlchemy QueuePool`.
#[must_use]
pub fn name(kind: PoolKind, class: &str) -> String {
    match kind {
        PoolKind::Semaphore => format!("a {}.{class}", kind.title()),
        PoolKind::AsyncioSemaphore | PoolKind::AsyncioLock => {
            format!("an {}.{class}", kind.title())
        }
        _ => format!("{} {class}", kind.title()),
    }
}

/// What people call what a server's requests wait for a turn at.
#[must_use]
pub fn shared_name(shared: &SharedPool) -> String {
    match shared.kind {
        SharedKind::Pool(kind) => name(kind, &shared.name),
        SharedKind::Lock(LockKind::Thread) => format!("a lock at {}", shared.name),
        SharedKind::Lock(LockKind::Sqlite) => "a SQLite database's lock".to_owned(),
        SharedKind::Peer => shared.name.clone(),
    }
}

/// The setting that sizes one.
#[must_use]
pub fn setting(kind: PoolKind) -> &'static str {
    match kind {
        PoolKind::SqlalchemyPool => "pool_size + max_overflow",
        PoolKind::RedisPool => "max_connections",
        PoolKind::Urllib3Pool => "maxsize",
        PoolKind::Semaphore | PoolKind::AsyncioSemaphore => "value",
        _ => "max_size",
    }
}

/// What to type for one of `size`. SQLAlchemy closes connections of the overflow after each use, so none is left
/// to it.
#[must_use]
pub fn command(kind: PoolKind, class: &str, size: u32) -> String {
    match kind {
        PoolKind::SqlalchemyPool => {
            let create = match class.starts_with("Async") {
                true => "create_async_engine",
                false => "create_engine",
            };
            format!("`{create}(…, pool_size={size}, max_overflow=0)`")
        }
        PoolKind::AsyncpgPool => format!("`asyncpg.create_pool(…, max_size={size})`"),
        PoolKind::RedisPool => format!("`{class}(…, max_connections={size})`"),
        PoolKind::Urllib3Pool => format!(
            "`PoolManager(…, maxsize={size}, block=True)`, of requests `HTTPAdapter(pool_maxsize={size}, \
             pool_block=True)`"
        ),
        PoolKind::Semaphore | PoolKind::AsyncioSemaphore => {
            format!("`{}.{class}({size})`", kind.title())
        }
        _ => format!("`{class}(…, max_size={size})`"),
    }
}

/// Whether a number of connections is all that it bounds: a semaphore may be there to protect what it guards.
#[must_use]
pub fn can_grow(pool: &SharedPool) -> bool {
    pool.kind.pool().is_some_and(PoolKind::is_of_clients) && pool.limit.is_some()
}

/// What a database leaves to each worker.
#[derive(Debug, Clone)]
pub struct Room {
    /// Connections of each worker.
    pub most: u32,
    /// Connections that the database takes, by default.
    pub usable: u32,
    known: Known,
}

impl Room {
    /// Of the service that a server's requests wait for most and whose limit is known.
    #[must_use]
    pub fn of(load: &Load, workers: u32) -> Option<Room> {
        let services = load.blocked_on.iter().map(|one| service_of(&one.peer, &one.libraries));
        let (known, limit) =
            { services }.find_map(|one| one.service.limit.map(|limit| (one, limit)))?;
        let each = f64::from(limit.usable()) * USED / f64::from(workers.max(1));
        Some(Room { most: whole(each), usable: limit.usable(), known })
    }

    /// Its limit in words, `PostgreSQL takes 97 by default`.
    #[must_use]
    pub fn words(&self) -> String {
        format!("{} takes {} by default", self.known.service.name, self.usable)
    }
}

/// What a database leaves to each worker of which a semaphore guards the connections: there are about as many as it
/// lets through. Who was never met talking to it, as of a hub that is idle, may be the driver that the process has imported.
#[must_use]
pub fn guarded(process: &ProcessInfo, semaphore: &PoolInfo, workers: u32) -> Option<u32> {
    let guards = semaphore.limit.filter(|_| semaphore.kind.is_semaphore())?;
    let databases = process.connections.iter().filter_map(|one| {
        let met = if one.libraries.is_empty() { &process.drivers } else { &one.libraries };
        let limit = service_of(one.peer.as_deref()?, met).service.limit?;
        let is_it = f64::from(one.open.max) >= f64::from(guards) * USED;
        is_it.then(|| whole(f64::from(limit.usable()) * USED / f64::from(workers.max(1))))
    });
    databases.min()
}

/// What a pool of `size` in each of so many workers can hit.
#[must_use]
pub fn in_all(load: Option<&Load>, workers: u32, size: u32) -> String {
    let all = workers.saturating_mul(size);
    let whose = match workers {
        1 => format!("that is {all} connections at most"),
        _ => format!("each of {workers} workers has its own, {all} connections at most in all"),
    };
    match load.and_then(|load| Room::of(load, workers)) {
        Some(room) => {
            format!("{whose}; {} {} (inferred, not read)", room.known.how(), room.words())
        }
        None => format!("{whose}, which what they connect to has to take"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pool_is_typed_as_its_library_takes_it() {
        let typed = |kind, class| command(kind, class, 12);
        assert_eq!(
            typed(PoolKind::SqlalchemyPool, "QueuePool"),
            "`create_engine(…, pool_size=12, max_overflow=0)`"
        );
        assert_eq!(
            typed(PoolKind::SqlalchemyPool, "AsyncAdaptedQueuePool"),
            "`create_async_engine(…, pool_size=12, max_overflow=0)`"
        );
        assert_eq!(
            typed(PoolKind::PsycopgPool, "AsyncConnectionPool"),
            "`AsyncConnectionPool(…, max_size=12)`"
        );
        assert_eq!(
            typed(PoolKind::Semaphore, "BoundedSemaphore"),
            "`threading.BoundedSemaphore(12)`"
        );
        assert_eq!(typed(PoolKind::AsyncioSemaphore, "Semaphore"), "`asyncio.Semaphore(12)`");
    }
}
