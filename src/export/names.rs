//! What files and frames are called in front of people.
//!
//! A library's file is shown by its path inside the library directory (`urllib3/connection.py`,
//! `asyncio/events.py`), the application's by its last component, or by as many as tell it from
//! another of the same name. Takes the recording's tables; never touches a file system, because a
//! recording may be read on another machine.

use std::collections::{HashMap, HashSet};

use crate::model::{Frame, FrameId, FrameKind, NameId, Recording};
use crate::printable::printable;

/// Directories that hold libraries, wherever they lie.
const LIBRARY_DIRS: [&str; 2] = ["/site-packages/", "/dist-packages/"];

/// A name that every package has: of no use without its directory's.
const PACKAGE_FILE: &str = "__init__.py";

/// The short name of every source file of a recording.
#[derive(Debug)]
pub(super) struct FileNames<'a> {
    recording: &'a Recording,
    short: HashMap<NameId, String>,
}

impl<'a> FileNames<'a> {
    /// Names the files of `recording`; by their whole path if `full`.
    pub(super) fn new(recording: &'a Recording, full: bool) -> FileNames<'a> {
        let tables = &recording.tables;
        let mut ids: Vec<NameId> = tables.frames.iter().filter_map(|frame| frame.file).collect();
        ids.sort_unstable();
        ids.dedup();
        if full {
            let short = ids.iter().map(|id| (*id, printable(tables.text(*id)).into_owned()));
            return FileNames { recording, short: short.collect() };
        }
        let mut short = HashMap::new();
        let mut taken = HashSet::new();
        let mut own = Vec::new();
        for id in ids {
            let path = tables.text(id);
            match inside_library(recording, path) {
                Some(rest) => {
                    taken.insert(rest);
                    short.insert(id, printable(rest).into_owned());
                }
                None => own.push((id, path)),
            }
        }
        for (id, name) in tell_apart(own, &taken) {
            short.insert(id, printable(name).into_owned());
        }
        FileNames { recording, short }
    }

    /// The file's name; `?` if it has none.
    pub(super) fn file(&self, id: NameId) -> &str {
        self.short.get(&id).map_or("?", String::as_str)
    }

    /// Where a frame is: `views.py:12`, `libc.so.6`, or nothing.
    pub(super) fn place(&self, frame: &Frame) -> Option<String> {
        let tables = &self.recording.tables;
        match (frame.kind, frame.file, frame.module) {
            (FrameKind::Marker, _, _) | (_, None, None) => None,
            (_, Some(file), _) => Some(match frame.line {
                Some(line) => format!("{}:{line}", self.file(file)),
                None => self.file(file).to_owned(),
            }),
            (_, None, Some(module)) => {
                let path = tables.text(module);
                Some(printable(path.rsplit('/').next().unwrap_or(path)).into_owned())
            }
        }
    }

    /// A frame's function.
    pub(super) fn function(&self, frame: &Frame) -> String {
        printable(self.recording.tables.text(frame.function)).into_owned()
    }

    /// A frame in py-spy's words: `name (file.py:12)`, without the line if not `lines`.
    pub(super) fn label(&self, frame: &Frame, lines: bool) -> String {
        let function = self.function(frame);
        let place = if lines {
            self.place(frame)
        } else {
            self.place(&Frame { line: None, ..frame.clone() })
        };
        match place {
            // A C function without a name is called by its module already.
            Some(place) if function.starts_with(&format!("{place}+")) => function,
            Some(place) => format!("{function} ({place})"),
            None => function,
        }
    }

    /// A frame for the text summary: `views.py:12 handler`.
    pub(super) fn spot(&self, id: FrameId) -> String {
        let Some(frame) = self.recording.tables.get_frame(id) else { return "?".to_owned() };
        match self.place(frame) {
            Some(place) => format!("{place} {}", self.function(frame)),
            None => self.function(frame),
        }
    }
}

/// The part of `path` inside a library directory or a standard library.
fn inside_library<'p>(recording: &Recording, path: &'p str) -> Option<&'p str> {
    for directory in LIBRARY_DIRS {
        if let Some((_, rest)) = path.rsplit_once(directory) {
            return Some(rest);
        }
    }
    recording.processes.iter().filter_map(|process| process.stdlib.as_deref()).find_map(|stdlib| {
        let rest = path.strip_prefix(stdlib.trim_end_matches('/'))?;
        rest.strip_prefix('/')
    })
}

/// The shortest ending of each path, by whole components, that no other path has.
fn tell_apart<'p>(
    mut paths: Vec<(NameId, &'p str)>,
    taken: &HashSet<&str>,
) -> Vec<(NameId, &'p str)> {
    let mut named = Vec::new();
    let mut components = 1;
    while !paths.is_empty() {
        let mut users: HashMap<&str, usize> = HashMap::new();
        for (_, path) in &paths {
            *users.entry(ending(path, components)).or_default() += 1;
        }
        paths.retain(|(id, path)| {
            let name = ending(path, components);
            let whole = name.len() == path.len();
            let alone = users.get(name) == Some(&1) && !taken.contains(name);
            if whole || (alone && name != PACKAGE_FILE) {
                named.push((*id, name));
                return false;
            }
            true
        });
        components += 1;
    }
    named
}

/// The last `components` components of a path.
fn ending(path: &str, components: usize) -> &str {
    path.rmatch_indices('/')
        .nth(components.saturating_sub(1))
        .and_then(|(at, _)| path.get(at + 1..))
        .unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(paths: &[&str], taken: &[&'static str]) -> Vec<String> {
        let ids = paths.iter().zip(0..).map(|(path, id)| (NameId(id), *path)).collect();
        let mut named = tell_apart(ids, &taken.iter().copied().collect());
        named.sort_unstable();
        named.into_iter().map(|(_, name)| name.to_owned()).collect()
    }

    #[test]
    fn files_of_one_name_are_told_apart() {
        assert_eq!(
            short(
                &["/srv/app/users/views.py", "/srv/app/orders/views.py", "/srv/app/main.py"],
                &[]
            ),
            ["users/views.py", "orders/views.py", "main.py"]
        );
        assert_eq!(short(&["/srv/app/__init__.py"], &[]), ["app/__init__.py"]);
        assert_eq!(short(&["/srv/socket.py"], &["socket.py"]), ["srv/socket.py"]);
        assert_eq!(short(&["<string>", "x.py", "/x.py"], &[]), ["<string>", "x.py", "/x.py"]);
        assert_eq!(short(&["", "/", "//"], &[]), ["", "/", "//"]);
    }
}
