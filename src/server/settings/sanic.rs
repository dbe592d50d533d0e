//! Sanic's settings: of the state of its application what the manager was started with, and of its
//! configuration what bears on how requests are run, by its own names
//! (<https://github.com/sanic-org/sanic/blob/v23.12.0/sanic/config.py>); else its options.

use super::Kind::{Number, Switch, Text};
use super::{Known, attributes, declared, from_memory, plain};
use crate::model::{ServerConfig, SettingValue};
use crate::server::{Facts, ServerObjects};

macro_rules! known {
    ($name:literal, $options:expr, $kind:expr) => {
        Known { name: $name, options: &$options, variable: None, kind: $kind }
    };
}

/// Attributes of `app.state`; a worker's own has no workers.
const KNOWN: &[Known] = &[
    known!("workers", ["-w", "--workers"], Number),
    known!("fast", ["--fast"], Switch),
    known!("host", ["-H", "--host"], Text),
    known!("port", ["-p", "--port"], Number),
    known!("unix", ["-u", "--unix"], Text),
    known!("auto_reload", ["-r", "--reload", "--auto-reload"], Switch),
];

/// Keys of `app.config`, which is a dict.
const KEYS: &[&str] = &[
    "ACCESS_LOG",
    "GRACEFUL_SHUTDOWN_TIMEOUT",
    "KEEP_ALIVE",
    "KEEP_ALIVE_TIMEOUT",
    "REQUEST_BUFFER_SIZE",
    "REQUEST_MAX_SIZE",
    "REQUEST_TIMEOUT",
    "RESPONSE_TIMEOUT",
    "WEBSOCKET_PING_INTERVAL",
    "WEBSOCKET_PING_TIMEOUT",
];

pub(super) fn settings(facts: &Facts<'_>, objects: &ServerObjects) -> ServerConfig {
    let mut config = ServerConfig::new();
    let (Some(app), Some(python)) = (objects.config, facts.python) else {
        return declared(facts, KNOWN);
    };
    if let Some(state) = facts.member(app, "_state") {
        attributes(facts, state, KNOWN, &mut config);
        // Not set: a worker's, or one of a socket of the other family.
        config.retain(|_, setting| {
            let value = &setting.value;
            let is_empty = matches!(value, SettingValue::Text(text) if text.is_empty());
            !is_empty && *value != SettingValue::Number(0) && *value != SettingValue::None
        });
    }
    if let Some(keys) = facts.member(app, "config") {
        for key in KEYS {
            let value = python.objects().dict_get(keys, key).ok().flatten();
            if let Some(value) = value.and_then(|value| plain(python, value)) {
                from_memory(&mut config, key, value);
            }
        }
    }
    if config.is_empty() { declared(facts, KNOWN) } else { config }
}
