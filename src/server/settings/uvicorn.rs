//! uvicorn's settings: attributes of its `Config`
//! (<https://github.com/encode/uvicorn/blob/0.30.0/uvicorn/config.py>), else its options, each of which
//! a variable `UVICORN_…` can set as well.

use super::Kind::{Number, Switch, Text};
use super::{Known, attributes, credit_variables, declared};
use crate::model::ServerConfig;
use crate::server::{Facts, ServerObjects};

macro_rules! known {
    ($name:literal, $option:literal, $variable:literal, $kind:expr) => {
        Known { name: $name, options: &[$option], variable: Some($variable), kind: $kind }
    };
}

const KNOWN: &[Known] = &[
    known!("workers", "--workers", "WEB_CONCURRENCY", Number),
    known!("loop", "--loop", "UVICORN_LOOP", Text),
    known!("http", "--http", "UVICORN_HTTP", Text),
    known!("interface", "--interface", "UVICORN_INTERFACE", Text),
    known!("limit_concurrency", "--limit-concurrency", "UVICORN_LIMIT_CONCURRENCY", Number),
    known!("limit_max_requests", "--limit-max-requests", "UVICORN_LIMIT_MAX_REQUESTS", Number),
    known!("backlog", "--backlog", "UVICORN_BACKLOG", Number),
    known!("timeout_keep_alive", "--timeout-keep-alive", "UVICORN_TIMEOUT_KEEP_ALIVE", Number),
    known!(
        "timeout_graceful_shutdown",
        "--timeout-graceful-shutdown",
        "UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN",
        Number
    ),
    known!(
        "timeout_worker_healthcheck",
        "--timeout-worker-healthcheck",
        "UVICORN_TIMEOUT_WORKER_HEALTHCHECK",
        Number
    ),
    known!("reload", "--reload", "UVICORN_RELOAD", Switch),
    known!("host", "--host", "UVICORN_HOST", Text),
    known!("port", "--port", "UVICORN_PORT", Number),
    known!("uds", "--uds", "UVICORN_UDS", Text),
    known!("fd", "--fd", "UVICORN_FD", Number),
];

pub(super) fn settings(facts: &Facts<'_>, objects: &ServerObjects) -> ServerConfig {
    let mut config = ServerConfig::new();
    if let Some(object) = objects.config {
        attributes(facts, object, KNOWN, &mut config);
    }
    let declared = declared(facts, KNOWN);
    if config.is_empty() {
        return declared;
    }
    credit_variables(&mut config, &declared);
    config
}
