//! Drivers of databases, by their import names.

/// PostgreSQL's: the libraries of <https://wiki.postgresql.org/wiki/Python>, and what makes psycopg2 wait for gevent.
pub const OF_POSTGRESQL: &[&str] = &[
    "psycopg2",
    "psycopg",
    "psycopg2cffi",
    "psycopg_c",
    "psycogreen",
    "asyncpg",
    "aiopg",
    "pg8000",
];
/// MySQL's and MariaDB's.
pub const OF_MYSQL: &[&str] = &["pymysql", "MySQLdb", "mysql", "aiomysql", "asyncmy", "mariadb"];
