//! Monkey-patching: what gevent and eventlet have replaced in the standard library.
//!
//! Both keep a dict of it. gevent's has the originals by module
//! (<https://github.com/gevent/gevent/blob/24.2.1/src/gevent/monkey.py#L179>), eventlet's the names of its
//! own options (<https://github.com/eventlet/eventlet/blob/0.36.1/eventlet/patcher.py#L232>).

use crate::model::Patches;
use crate::python::Interpreter;
use crate::python::loaded::module_value;
use crate::target::ReadError;

/// Most modules that are read: gevent patches some fifteen.
const MAX_MODULES: usize = 64;
/// What gevent keeps under this in the same dict are its own settings.
const OWN: &str = "_gevent";
/// The modules that each of eventlet's options stands for, but for those that it is named after.
const OPTIONS: [(&str, &[&str]); 3] = [
    ("thread", &["_thread", "threading", "queue"]),
    ("socket", &["socket", "ssl"]),
    ("psycopg", &["psycopg2"]),
];

/// What was patched; `None` in a process that has imported neither, or where it cannot be read.
///
/// # Errors
/// Only [`ReadError::Gone`] and [`ReadError::Denied`].
pub fn patches(python: &Interpreter<'_>) -> Result<Option<Patches>, ReadError> {
    match read(python) {
        Err(error @ (ReadError::Gone | ReadError::Denied)) => Err(error),
        read => Ok(read.unwrap_or_default()),
    }
}

fn read(python: &Interpreter<'_>) -> Result<Option<Patches>, ReadError> {
    let gevents = Patches { by: "gevent".to_owned(), modules: Vec::new() };
    if let Some(saved) = module_value(python, "gevent.monkey", "saved")? {
        let mut modules = names(python, saved)?;
        modules.retain(|name| !name.starts_with(OWN));
        return Ok(Some(Patches { modules, ..gevents }));
    }
    if let Some(patched) = module_value(python, "eventlet.patcher", "already_patched")? {
        let mut modules = Vec::new();
        for name in names(python, patched)? {
            match OPTIONS.iter().find(|(option, _)| *option == name) {
                Some((_, several)) => modules.extend(several.iter().map(|&one| one.to_owned())),
                None => modules.push(name),
            }
        }
        return Ok(Some(Patches { by: "eventlet".to_owned(), modules }));
    }
    // `gevent` without `gevent.monkey` has patched nothing.
    let is_there = module_value(python, "gevent.hub", "Hub")?.is_some();
    Ok(is_there.then_some(gevents))
}

fn names(python: &Interpreter<'_>, dict: crate::units::Addr) -> Result<Vec<String>, ReadError> {
    let objects = python.objects();
    objects.dict_items(dict, MAX_MODULES)?.into_iter().map(|(key, _)| objects.str(key)).collect()
}
