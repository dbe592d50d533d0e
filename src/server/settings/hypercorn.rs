//! hypercorn's settings: attributes of its `Config`, or of that class where nobody set them
//! (<https://github.com/pgjones/hypercorn/blob/0.17.3/src/hypercorn/config.py>).

use super::Kind::{List, Number, Switch, Text};
use super::{Known, attributes, declared};
use crate::model::ServerConfig;
use crate::server::{Facts, ServerObjects};

macro_rules! known {
    ($name:literal, $options:expr, $kind:expr) => {
        Known { name: $name, options: &$options, variable: None, kind: $kind }
    };
}

const KNOWN: &[Known] = &[
    known!("workers", ["-w", "--workers"], Number),
    known!("worker_class", ["-k", "--worker-class"], Text),
    known!("backlog", ["--backlog"], Number),
    known!("_bind", ["-b", "--bind"], List),
    known!("graceful_timeout", ["--graceful-timeout"], Number),
    known!("keep_alive_timeout", ["--keep-alive"], Number),
    known!("keep_alive_max_requests", [], Number),
    known!("read_timeout", ["--read-timeout"], Number),
    known!("max_requests", ["--max-requests"], Number),
    known!("max_app_queue_size", [], Number),
    known!("h2_max_concurrent_streams", [], Number),
    known!("use_reloader", ["--reload"], Switch),
];

pub(super) fn settings(facts: &Facts<'_>, objects: &ServerObjects) -> ServerConfig {
    let mut config = ServerConfig::new();
    if let Some(object) = objects.config {
        attributes(facts, object, KNOWN, &mut config);
    }
    if config.is_empty() {
        config = declared(facts, KNOWN);
    }
    // Its public name is a property.
    if let Some(bind) = config.remove("_bind") {
        config.insert("bind".to_owned(), bind);
    }
    config
}
