//! What is behind a peer's address, by its port: services that are connected to often.
//!
//! Takes an address, gives what is known of the service that usually listens there. A port is a habit
//! and no proof: whatever is concluded from it is to be said as an inference.

use std::net::SocketAddr;

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

const SQL: &str = "keep a pool for the life of the worker: SQLAlchemy's `create_engine(…)` once and without \
     `NullPool`, `psycopg_pool.ConnectionPool`, Django's `CONN_MAX_AGE`";
const MYSQL: &str = "keep a pool for the life of the worker: SQLAlchemy's `create_engine(…)` once and without \
     `NullPool`, Django's `CONN_MAX_AGE`";

const OF_POSTGRESQL: &[&str] =
    &["psycopg2", "psycopg", "psycopg2cffi", "asyncpg", "aiopg", "pg8000"];

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
    drivers: &["pymysql", "MySQLdb", "mysql", "aiomysql", "asyncmy", "mariadb"],
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
};
const PGBOUNCER: Service =
    Service { name: "PgBouncer", limit: None, keep: SQL, drivers: OF_POSTGRESQL };
const MONGODB: Service = Service {
    name: "MongoDB",
    limit: None,
    keep: "make one `MongoClient` for the life of the worker: it has a pool of its own",
    drivers: &["pymongo"],
};
const MEMCACHED: Service = Service {
    name: "memcached",
    limit: None,
    keep: "make one client for the life of the worker, `pymemcache.client.hash.HashClient(…, \
           use_pooling=True)`",
    drivers: &["pymemcache", "memcache", "pylibmc", "aiomcache"],
};
const OTHER: Service = Service {
    name: "",
    limit: None,
    keep: "over HTTP, make one client for the life of the worker and not one for each request: \
           `requests.Session()` (`requests.get` opens a connection for each call), `httpx.Client()` or \
           `AsyncClient()`, `aiohttp.ClientSession()`; of anything else, a pool",
    drivers: &[],
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

/// What usually listens at such an address.
#[must_use]
pub fn service_at(peer: &str) -> Service {
    let port = peer.parse::<SocketAddr>().ok().map(|address| address.port());
    let known = PORTS.iter().find(|(usual, _)| Some(*usual) == port);
    known.map_or(OTHER, |(_, service)| *service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_told_by_its_port() {
        assert_eq!(service_at("10.0.0.7:5432").limit.map(Limit::usable), Some(97));
        assert_eq!(service_at("[::1]:6379").name, "Redis");
        assert_eq!(service_at("10.0.0.7:54321").name, "");
        assert_eq!(service_at("/run/postgresql/.s.PGSQL.5432").limit, None, "no address");
    }
}
