//! A server's configuration in force, as far as it bears on how requests are run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// ServerConfig by name.
pub type ServerConfig = BTreeMap<String, Setting>;

/// One setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// What it is.
    pub value: SettingValue,
    /// How that is known.
    pub source: SettingSource,
}

/// A setting's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SettingValue {
    /// Python's `None`: no limit, mostly.
    None,
    /// A switch.
    Switch(bool),
    /// A whole number.
    Number(i64),
    /// Seconds, mostly.
    Fraction(f64),
    /// A text.
    Text(String),
    /// Several.
    List(Vec<String>),
}

/// How a setting is known, the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingSource {
    /// Read from the server's own objects: it is in force.
    Memory,
    /// Given on the command line; a configuration file may say otherwise where that wins.
    CommandLine,
    /// Given in the environment.
    Environment,
}

impl std::fmt::Display for SettingValue {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SettingValue::None => out.write_str("none"),
            SettingValue::Switch(value) => value.fmt(out),
            SettingValue::Number(value) => value.fmt(out),
            SettingValue::Fraction(value) => value.fmt(out),
            SettingValue::Text(value) => value.fmt(out),
            SettingValue::List(values) => out.write_str(&values.join(",")),
        }
    }
}
