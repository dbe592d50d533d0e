//! A server's configuration in force: from its own objects, else from its command line and
//! environment.
//!
//! Each server has a list of the settings that are taken ([`Known`]); nothing else is ever read, as
//! configurations hold keys and passwords. Every value says where it came from.

mod cheroot;
mod gunicorn;
mod hypercorn;
mod sanic;
mod uvicorn;
mod waitress;

use super::{Facts, Recognised};
use crate::model::{ServerConfig, Setting, SettingSource, SettingValue};
use crate::python::Interpreter;
use crate::units::Addr;

/// Most items taken of a setting that is a list: addresses to bind.
const MAX_ITEMS: usize = 16;
/// Most attributes of a configuration object; uvicorn's has some 60.
const MAX_ATTRIBUTES: usize = 256;
/// Most characters of a text: addresses, names of classes.
const MAX_TEXT: usize = 256;

/// How a setting is written on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Number,
    /// A text.
    Text,
    /// A text that may be given several times.
    List,
    /// On if it is there.
    Switch,
}

/// A setting that is taken.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Its name in the server's own configuration.
    pub name: &'static str,
    /// Its options, long and short.
    pub options: &'static [&'static str],
    /// The variable that sets it.
    pub variable: Option<&'static str>,
    /// How it is written.
    pub kind: Kind,
}

/// The configuration in force of the process that `recognised` is of; empty where its server has none
/// that we know.
#[must_use]
pub fn settings(facts: &Facts<'_>, recognised: &Recognised) -> ServerConfig {
    match recognised.topology.server.as_str() {
        "gunicorn" => gunicorn::settings(facts, &recognised.objects),
        "uvicorn" => uvicorn::settings(facts, &recognised.objects),
        "waitress" => waitress::settings(facts, &recognised.objects),
        "cheroot" | "cherrypy" => cheroot::settings(facts, &recognised.objects),
        "sanic" => sanic::settings(facts, &recognised.objects),
        "hypercorn" => hypercorn::settings(facts, &recognised.objects),
        _ => ServerConfig::new(),
    }
}

/// The words and variables that `known` settings may come from: those of the process itself, or of
/// its parent where it was spawned by that.
fn declared(facts: &Facts<'_>, known: &[Known]) -> ServerConfig {
    let mut config = ServerConfig::new();
    let names: Vec<&str> = known.iter().filter_map(|one| one.variable).collect();
    from_variables(&mut config, known, &facts.procfs.variables(facts.pid, &names));
    let words = if facts.is_spawned() { facts.parent } else { facts.command };
    from_words(&mut config, known, words, SettingSource::CommandLine);
    config
}

/// Says of what was read from memory that a variable of the environment has set it, where it has that value and
/// nothing stronger gives one: a number is changed where it is written.
fn credit_variables(config: &mut ServerConfig, declared: &ServerConfig) {
    for (name, given) in declared {
        let is_set = given.source == SettingSource::Environment;
        if let Some(known) =
            config.get_mut(name).filter(|known| is_set && known.value == given.value)
        {
            known.source = SettingSource::Environment;
        }
    }
}

/// Attributes of a configuration object, its own or its class's, by the names in `known`.
fn attributes(facts: &Facts<'_>, object: Addr, known: &[Known], config: &mut ServerConfig) {
    let Some(python) = facts.python else { return };
    let Ok(own) = python.objects().attributes(object, MAX_ATTRIBUTES) else { return };
    for setting in known {
        let own = own.iter().find(|(name, _)| name == setting.name).map(|(_, value)| *value);
        let value =
            own.or_else(|| python.objects().class_attribute(object, setting.name).ok().flatten());
        if let Some(value) = value.and_then(|value| plain(python, value)) {
            from_memory(config, setting.name, value);
        }
    }
}

/// A value as Rust has it; `None` for what is no plain value: an object, a long text.
#[must_use]
pub fn plain(python: &Interpreter<'_>, addr: Addr) -> Option<SettingValue> {
    let objects = python.objects();
    Some(match objects.type_name(addr).ok()?.as_str() {
        "NoneType" => SettingValue::None,
        "bool" => SettingValue::Switch(objects.int(addr).ok()? != 0),
        "int" => SettingValue::Number(objects.int(addr).ok()?),
        "float" => SettingValue::Fraction(objects.float(addr).ok().filter(|one| one.is_finite())?),
        "str" => SettingValue::Text(short(objects.str(addr).ok()?)?),
        "type" => SettingValue::Text(short(objects.name_of_type(addr).ok()?)?),
        "list" => texts(python, objects.list_items(addr, MAX_ITEMS).ok()?),
        "tuple" => texts(python, objects.tuple_items(addr, MAX_ITEMS).ok()?),
        _ => return None,
    })
}

fn texts(python: &Interpreter<'_>, items: Vec<Addr>) -> SettingValue {
    let objects = python.objects();
    let texts = items.into_iter().filter_map(|item| short(objects.str(item).ok()?));
    SettingValue::List(texts.collect())
}

fn short(text: String) -> Option<String> {
    (text.chars().count() <= MAX_TEXT).then_some(text)
}

/// Takes a value read from memory.
pub fn from_memory(settings: &mut ServerConfig, name: &str, value: SettingValue) {
    settings.insert(name.to_owned(), Setting { value, source: SettingSource::Memory });
}

/// What the words of a command line set of `known`, over what is in `settings`.
pub fn from_words(
    settings: &mut ServerConfig,
    known: &[Known],
    words: &[String],
    source: SettingSource,
) {
    let mut given = ServerConfig::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some((setting, attached)) = known.iter().find_map(|one| matches(one, word)) else {
            continue;
        };
        let text = match (setting.kind, attached) {
            (Kind::Switch, _) => Some("true".to_owned()),
            (_, Some(value)) => Some(value.to_owned()),
            (_, None) => words.next().cloned(),
        };
        let Some(value) = text.and_then(|text| parse(setting.kind, &text)) else { continue };
        let before = given.remove(setting.name).map(|one| one.value);
        let value = match (before, value) {
            (Some(SettingValue::List(mut all)), SettingValue::List(more)) => {
                all.extend(more);
                all.truncate(MAX_ITEMS);
                SettingValue::List(all)
            }
            (_, value) => value,
        };
        given.insert(setting.name.to_owned(), Setting { value, source });
    }
    settings.extend(given);
}

/// What variables set of `known`.
pub fn from_variables(
    settings: &mut ServerConfig,
    known: &[Known],
    variables: &[(String, String)],
) {
    for setting in known {
        let named = |(name, _): &&(String, String)| Some(name.as_str()) == setting.variable;
        let value = variables.iter().find(named).and_then(|(_, text)| parse(setting.kind, text));
        if let Some(value) = value {
            let source = SettingSource::Environment;
            settings.insert(setting.name.to_owned(), Setting { value, source });
        }
    }
}

/// The setting that a word gives, and the value that is part of the word: `--workers=4`, `-w4`.
fn matches<'a>(known: &'a Known, word: &'a str) -> Option<(&'a Known, Option<&'a str>)> {
    known.options.iter().find_map(|option| {
        let rest = word.strip_prefix(option)?;
        match (rest, option.starts_with("--")) {
            ("", _) => Some((known, None)),
            (_, true) => rest.strip_prefix('=').map(|value| (known, Some(value))),
            (value, false) if known.kind != Kind::Switch => Some((known, Some(value))),
            _ => None,
        }
    })
}

fn parse(kind: Kind, text: &str) -> Option<SettingValue> {
    let text = short(text.to_owned())?;
    Some(match kind {
        Kind::Number => match text.parse() {
            Ok(number) => SettingValue::Number(number),
            Err(_) => {
                SettingValue::Fraction(text.parse().ok().filter(|one: &f64| one.is_finite())?)
            }
        },
        Kind::Text => SettingValue::Text(text),
        Kind::List => {
            SettingValue::List(text.split(',').map(str::to_owned).take(MAX_ITEMS).collect())
        }
        Kind::Switch => {
            SettingValue::Switch(matches!(text.as_str(), "true" | "1" | "True" | "yes"))
        }
    })
}

/// A line split into words as a shell does, as far as `GUNICORN_CMD_ARGS` needs it: quotes join.
#[must_use]
pub fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, c) if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            (_, c) => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Known] = &[
        Known {
            name: "workers",
            options: &["-w", "--workers"],
            variable: Some("WEB_CONCURRENCY"),
            kind: Kind::Number,
        },
        Known { name: "bind", options: &["-b", "--bind"], variable: None, kind: Kind::List },
        Known { name: "reload", options: &["--reload"], variable: None, kind: Kind::Switch },
        Known { name: "timeout", options: &["--timeout"], variable: None, kind: Kind::Number },
    ];

    fn given(line: &str) -> ServerConfig {
        let mut settings = ServerConfig::new();
        from_words(&mut settings, KNOWN, &shell_words(line), SettingSource::CommandLine);
        settings
    }

    #[test]
    fn options_in_all_their_spellings() {
        for line in ["-w 4", "-w4", "--workers 4", "--workers=4", "-w 2 --workers 4"] {
            assert_eq!(given(line)["workers"].value, SettingValue::Number(4), "{line}");
        }
        let two = given("-b :80 -b 'unix:/run/x y' --reload --timeout 1.5 --workers-x 3");
        let list = vec![":80".to_owned(), "unix:/run/x y".to_owned()];
        assert_eq!(two["bind"].value, SettingValue::List(list));
        assert_eq!(two["reload"].value, SettingValue::Switch(true));
        assert_eq!(two["timeout"].value, SettingValue::Fraction(1.5));
        assert_eq!(two.len(), 3);
        assert!(given("--keyfile secret.pem --workers").is_empty());
    }

    #[test]
    fn what_a_variable_set_is_told_from_what_it_did_not() {
        let mut declared = ServerConfig::new();
        let variables = [("WEB_CONCURRENCY".to_owned(), "3".to_owned())];
        from_variables(&mut declared, KNOWN, &variables);
        let source = |value, declared: &ServerConfig| {
            let mut config = ServerConfig::new();
            from_memory(&mut config, "workers", SettingValue::Number(value));
            credit_variables(&mut config, declared);
            config["workers"].source
        };
        assert_eq!(source(3, &declared), SettingSource::Environment);
        // A configuration file says otherwise.
        assert_eq!(source(2, &declared), SettingSource::Memory);
        from_words(&mut declared, KNOWN, &shell_words("-w 3"), SettingSource::CommandLine);
        assert_eq!(source(3, &declared), SettingSource::Memory);
    }

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let mut settings = ServerConfig::new();
        let variables = [("WEB_CONCURRENCY".to_owned(), "9".to_owned())];
        from_variables(&mut settings, KNOWN, &variables);
        assert_eq!(settings["workers"].source, SettingSource::Environment);
        from_words(&mut settings, KNOWN, &shell_words("-w 2"), SettingSource::CommandLine);
        assert_eq!(settings["workers"].value, SettingValue::Number(2));
        assert_eq!(settings["workers"].source, SettingSource::CommandLine);
    }
}
