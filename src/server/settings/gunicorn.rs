//! gunicorn's settings: `cfg.settings`, a dict of objects with a `value` each
//! (<https://github.com/benoitc/gunicorn/blob/23.0.0/gunicorn/config.py>; the same from 19 to 27).

use super::Kind::{List, Number, Switch, Text};
use super::{Known, credit_variables, declared, from_memory, from_words, plain, shell_words};
use crate::model::{ServerConfig, Setting, SettingSource, SettingValue};
use crate::server::{Facts, ServerObjects};
use crate::units::Addr;

/// Options for gunicorn in the environment, as a command line.
const CMD_ARGS: &str = "GUNICORN_CMD_ARGS";

macro_rules! known {
    ($name:literal, $options:expr, $kind:expr) => {
        Known { name: $name, options: &$options, variable: None, kind: $kind }
    };
}

/// How a platform that starts gunicorn itself is told the numbers (Azure App Service for Python:
/// <https://github.com/microsoft/Oryx/blob/main/doc/runtimes/python.md>).
const PLATFORMS: [&str; 3] = [
    "PYTHON_ENABLE_GUNICORN_MULTIWORKERS",
    "PYTHON_GUNICORN_CUSTOM_WORKER_NUM",
    "PYTHON_GUNICORN_CUSTOM_THREAD_NUM",
];

const KNOWN: &[Known] = &[
    Known {
        name: "workers",
        options: &["-w", "--workers"],
        variable: Some("WEB_CONCURRENCY"),
        kind: Number,
    },
    known!("threads", ["--threads"], Number),
    known!("worker_class", ["-k", "--worker-class"], Text),
    known!("worker_connections", ["--worker-connections"], Number),
    known!("timeout", ["-t", "--timeout"], Number),
    known!("graceful_timeout", ["--graceful-timeout"], Number),
    known!("keepalive", ["--keep-alive"], Number),
    known!("max_requests", ["--max-requests"], Number),
    known!("max_requests_jitter", ["--max-requests-jitter"], Number),
    known!("preload_app", ["--preload"], Switch),
    known!("backlog", ["--backlog"], Number),
    known!("bind", ["-b", "--bind"], List),
    known!("reload", ["--reload"], Switch),
    known!("reuse_port", ["--reuse-port"], Switch),
];
/// uvicorn's own settings inside `UvicornWorker`, which has them beside gunicorn's.
const UVICORNS: [&str; 5] = ["loop", "http", "limit_concurrency", "timeout_keep_alive", "backlog"];

pub(super) fn settings(facts: &Facts<'_>, objects: &ServerObjects) -> ServerConfig {
    // A master that was told to load its configuration anew has another object.
    let current = objects.master.and_then(|master| facts.attribute(master, "cfg"));
    let mut config = match current.or(objects.config) {
        Some(cfg) => in_memory(facts, cfg),
        None => ServerConfig::new(),
    };
    if config.is_empty() {
        config = outside(facts);
    } else {
        let mut given = declared(facts, KNOWN);
        // Options in a variable go before a variable of their own.
        for (_, line) in facts.procfs.variables(facts.pid, &[CMD_ARGS]) {
            from_words(&mut given, KNOWN, &shell_words(&line), SettingSource::CommandLine);
        }
        credit_variables(&mut config, &given);
    }
    for (name, value) in facts.procfs.variables(facts.pid, &PLATFORMS) {
        let value = value.parse().map_or(SettingValue::Text(value), SettingValue::Number);
        config.insert(name, Setting { value, source: SettingSource::Environment });
    }
    let uvicorn = objects.worker.and_then(|worker| facts.attribute(worker, "config"));
    if let (Some(uvicorn), Some(python)) = (uvicorn, facts.python) {
        for name in UVICORNS {
            let value = facts.attribute(uvicorn, name).and_then(|value| plain(python, value));
            if let Some(value) = value {
                from_memory(&mut config, &format!("uvicorn.{name}"), value);
            }
        }
    }
    config
}

fn in_memory(facts: &Facts<'_>, cfg: Addr) -> ServerConfig {
    let mut config = ServerConfig::new();
    let Some(python) = facts.python else { return config };
    let Some(settings) = facts.attribute(cfg, "settings") else { return config };
    let objects = python.objects();
    for known in KNOWN {
        let setting = objects.dict_get(settings, known.name).ok().flatten();
        // One that was never set has its default in its class.
        let value = setting.and_then(|setting| {
            let own = objects.attribute(setting, "value").ok()?;
            own.or_else(|| objects.class_attribute(setting, "value").ok()?)
        });
        if let Some(value) = value.and_then(|value| plain(python, value)) {
            from_memory(&mut config, known.name, value);
        }
    }
    config
}

/// In the order in which gunicorn takes them, the last one wins.
fn outside(facts: &Facts<'_>) -> ServerConfig {
    let mut config = ServerConfig::new();
    let variables = facts.procfs.variables(facts.pid, &["WEB_CONCURRENCY", CMD_ARGS]);
    super::from_variables(&mut config, KNOWN, &variables);
    for (_, line) in variables.iter().filter(|(name, _)| name == CMD_ARGS) {
        from_words(&mut config, KNOWN, &shell_words(line), SettingSource::Environment);
    }
    let given = declared(facts, KNOWN);
    config.extend(given.into_iter().filter(|(_, one)| one.source == SettingSource::CommandLine));
    config
}
