//! What is behind a peer's address: services that are connected to often, by their usual port or by the driver
//! that talks to them.
//!
//! Takes an address and libraries, gives what is known of the service. A port is a habit and no proof, and a driver talks
//! to a pooler as it does to the database: whatever is concluded from them is to be said as an inference.

use std::net::SocketAddr;

use crate::model::driver::{OF_MYSQL, OF_POSTGRESQL};

/// A service by its usual port, as it is when nobody has configured it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// Connections that it takes, the application's and all others'; `None`: not known to be few.
    pub limit: Option<Limit>,
    /// How to keep connections to it.
    pub keep: &'static str,
    /// Its drivers, by their import names.
    pub drivers: &'static [&'static str],
    /// Their C libraries, by how the names of their files begin.
    pub native: &'static [&'static str],
}

impl Service {
    /// Whether this library, a package or a C library's file, is one of its drivers.
    #[must_use]
    pub fn is_driver(&self, library: &str) -> bool {
        self.drivers.contains(&library) || self.native.iter().any(|name| library.starts_with(name))
    }
}

/// A service, and how it is known that it is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The service.
    pub service: Service,
    /// The driver, where it is not known by its port.
    pub driver: Option<String>,
}

impl Known {
    /// How it is known: `by its port`.
    #[must_use]
    pub fn how(&self) -> String {
        self.driver
            .as_ref()
            .map_or("by its port".to_owned(), |driver| format!("as {driver} talks to it"))
    }
}

/// How many connections a service takes unless it is configured otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The setting.
    pub setting: &'static str,
    /// Its default.
    pub default: u32,
    /// Of these, for superusers alone.
    pub reserved: u32,
    /// What tells the one in force.
    pub ask: &'static str,
}

impl Limit {
    /// Connections that applications get.
    #[must_use]
    pub fn usable(self) -> u32 {
        self.default.saturating_sub(self.reserved)
    }
}

/// What Django keeps open for each thread is never used again under ASGI, where each request has a thread of its own
/// (<https://docs.djangoproject.com/en/5.1/ref/databases/#persistent-connections>).
const SQL: &str = "keep a pool for the life of the worker: SQLAlchemy's `create_engine(…)` once and without \
     `NullPool`, `psycopg_pool.ConnectionPool`, Django's `CONN_MAX_AGE` (under ASGI `\"OPTIONS\": {\"pool\": True}` \
     instead, with psycopg 3)";
const MYSQL: &str = "keep a pool for the life of the worker: SQLAlchemy's `create_engine(…)` once and without \
     `NullPool`, Django's `CONN_MAX_AGE` (not under ASGI)";

const OF_LIBPQ: &[&str] = &["libpq", "_psycopg"];

/// PostgreSQL: 100, of which `superuser_reserved_connections` = 3
/// (<https://www.postgresql.org/docs/15/runtime-config-connection.html>).
const POSTGRESQL: Service = Service {
    name: "PostgreSQL",
    limit: Some(Limit {
        setting: "max_connections",
        default: 100,
        reserved: 3,
        ask: "`SHOW max_connections`",
    }),
    keep: SQL,
    drivers: OF_POSTGRESQL,
    native: OF_LIBPQ,
};
/// MySQL: 151 (<https://dev.mysql.com/doc/refman/8.4/en/server-system-variables.html#sysvar_max_connections>).
const MYSQL_SERVER: Service = Service {
    name: "MySQL",
    limit: Some(Limit {
        setting: "max_connections",
        default: 151,
        reserved: 0,
        ask: "`SHOW VARIABLES LIKE 'max_connections'`",
    }),
    keep: MYSQL,
    drivers: OF_MYSQL,
    native: &["libmysqlclient", "libmariadb", "_mysql"],
};
/// Redis: 10,000 (<https://redis.io/docs/latest/develop/reference/clients/#maximum-concurrent-connected-clients>).
const REDIS: Service = Service {
    name: "Redis",
    limit: Some(Limit {
        setting: "maxclients",
        default: 10_000,
        reserved: 0,
        ask: "`CONFIG GET maxclients`",
    }),
    keep: "make one `redis.Redis(…)` (or one `ConnectionPool`) for the life of the worker, not one for \
           each request",
    drivers: &["redis", "aioredis", "valkey"],
    native: &[],
};
const PGBOUNCER: Service =
    Service { name: "PgBouncer", limit: None, keep: SQL, drivers: OF_POSTGRESQL, native: OF_LIBPQ };
const MONGODB: Service = Service {
    name: "MongoDB",
    limit: None,
    keep: "make one `MongoClient` for the life of the worker: it has a pool of its own",
    drivers: &["pymongo"],
    native: &[],
};
const MEMCACHED: Service = Service {
    name: "memcached",
    limit: None,
    keep: "make one client for the life of the worker, `pymemcache.client.hash.HashClient(…, \
           use_pooling=True)`",
    drivers: &["pymemcache", "memcache", "pylibmc", "aiomcache"],
    native: &["libmemcached"],
};
const OTHER: Service = Service {
    name: "",
    limit: None,
    keep: "over HTTP, make one client for the life of the worker and not one for each request: \
           `requests.Session()` (`requests.get` opens a connection for each call), `httpx.Client()` or \
           `AsyncClient()`, `aiohttp.ClientSession()`; of anything else, a pool",
    drivers: &[],
    native: &[],
};

/// Usual ports (<https://www.iana.org/assignments/service-names-port-numbers>).
const PORTS: [(u16, Service); 6] = [
    (5432, POSTGRESQL),
    (6432, PGBOUNCER),
    (3306, MYSQL_SERVER),
    (6379, REDIS),
    (27017, MONGODB),
    (11211, MEMCACHED),
];

/// What usually listens at such an address; at other ports, what one of these libraries talks to.
#[must_use]
pub fn service_of(peer: &str, libraries: impl IntoIterator<Item = impl AsRef<str>>) -> Known {
    let address = peer.parse::<SocketAddr>().ok();
    let at = |port: u16| PORTS.iter().find(|(usual, _)| *usual == port);
    if let Some((_, service)) = address.and_then(|address| at(address.port())) {
        return Known { service: *service, driver: None };
    }
    let by_driver = |library: &str| -> Option<Known> {
        let service =
            PORTS.iter().map(|(_, service)| service).find(|one| one.is_driver(library))?;
        Some(Known { service: *service, driver: Some(library.to_owned()) })
    };
    let known = libraries
        .into_iter()
        .filter(|_| address.is_some())
        .find_map(|library| by_driver(library.as_ref()));
    known.unwrap_or(Known { service: OTHER, driver: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: [&str; 0] = [];

    #[test]
    fn a_service_is_told_by_its_port() {
        let at = |peer| service_of(peer, NOBODY).service;
        assert_eq!(at("10.0.0.7:5432").limit.map(Limit::usable), Some(97));
        assert_eq!(at("[::1]:6379").name, "Redis");
        assert_eq!(at("10.0.0.7:54321").name, "");
        assert_eq!(at("/run/postgresql/.s.PGSQL.5432").limit, None, "no address");
    }

    #[test]
    fn or_by_who_talks_to_it() {
        let name = |peer, library| service_of(peer, ["sqlalchemy", library]).service.name;
        assert_eq!(name("10.0.0.7:25060", "psycopg2"), "PostgreSQL");
        assert_eq!(name("10.0.0.7:25060", "libpq.so.5.15"), "PostgreSQL");
        assert_eq!(name("10.0.0.7:25060", "libmariadb.so.3"), "MySQL");
        assert_eq!(name("10.0.0.7:25060", "urllib3"), "");
        // A pooler at its own port stays one.
        assert_eq!(name("10.0.0.7:6432", "psycopg2"), "PgBouncer");
        assert_eq!(service_of("10.0.0.7:25060", ["pg8000"]).how(), "as pg8000 talks to it");
    }
}
