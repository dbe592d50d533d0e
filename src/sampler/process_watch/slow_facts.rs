//! What is read again once a second or less: memory, CPU time, patches, drivers, libraries.

use super::ProcessWatch;
use crate::model::ThreadInfo;
use crate::model::driver::{OF_MYSQL, OF_POSTGRESQL};
use crate::python::Interpreter;
use crate::python::loaded::module_value;
use crate::python::thread_names::thread_names;
use crate::server::monkey::patches;
use crate::target::Mapping;
use crate::units::Timestamp;

/// Packages of event loops that are not read yet, by the names of the folders that their libraries lie in.
const UNREAD_LOOPS: &[&str] = &["rloop"];

/// One part in so many of the looks: a thread that held the lock for more of them is named.
const NAMED_FROM: u64 = 50;
/// As many looks at least: 0.2 s of computing, at a hundred a second.
const LEAST_HELD: u64 = 20;

impl ProcessWatch {
    /// Reads the slow facts again.
    pub(in crate::sampler) fn refresh(&mut self) {
        self.types.forget();
        self.see_names();
        self.stat = self.procfs.stat(self.pid).ok();
        if let Some(stat) = &self.stat {
            self.info.rss_bytes = stat.rss_bytes;
            self.info.cpu = stat.cpu.saturating_sub(self.cpu_before);
        }
        if !self.known_loops.is_empty() {
            self.info.unread_loop = None;
        }
        // What patches has been imported, and what was imported shows its files sooner or later.
        if self.files.len() != self.patches_by {
            self.patches_by = self.files.len();
            if let Ok(patches) = patches(&self.located.view(&self.memory)) {
                self.info.patches = patches;
            }
            self.info.drivers = drivers(&self.located.view(&self.memory));
        }
        if self.info.stdlib.is_none() {
            let python = self.located.view(&self.memory);
            // Every interpreter has imported it, from the folder of the standard library.
            let file = module_value(&python, "os", "__file__").ok().flatten();
            let file = file.and_then(|file| python.objects().str(file).ok());
            let folder = file.and_then(|file| Some(file.strip_suffix("/os.py")?.to_owned()));
            let suffix = "/asyncio/base_events.py";
            let seen = || self.files.iter().find_map(|file| file.strip_suffix(suffix));
            self.info.stdlib = folder.or_else(|| seen().map(str::to_owned));
        }
    }

    /// Asks for the names of threads that held the lock for long: a look costs a walk along Python's own list.
    pub(in crate::sampler) fn see_names(&mut self) {
        let least = self.info.gil.looks / NAMED_FROM;
        let is_due =
            |info: &ThreadInfo| info.python_name.is_none() && info.gil_held > least.max(LEAST_HELD);
        if !self.info.threads.iter().any(is_due) {
            return;
        }
        let Ok(names) = thread_names(&self.located.view(&self.memory)) else { return };
        for info in self.info.threads.iter_mut().filter(|info| is_due(info)) {
            let watch = self.threads.iter().find(|watch| watch.tid == info.tid);
            let name = watch.and_then(|watch| names.get(&watch.thread.ident));
            // One that Python has no name for is not asked for again.
            info.python_name = Some(name.map_or_else(|| info.name.clone(), String::clone));
        }
    }

    /// The library of a loop may have been loaded since.
    pub(super) fn see_libraries(&mut self, at: Timestamp) {
        let mapped = self.stat.as_ref().map(|stat| stat.mapped_bytes);
        let watched = at.since(self.info.attached);
        if !self.known_loops.is_empty() || !self.libraries.are_due(mapped, watched, at) {
            return;
        }
        let Ok(maps) = self.procfs.maps(self.pid) else { return };
        self.info.unread_loop = unread_loop(&maps);
        self.space.update(&self.procfs, maps, at);
    }
}

/// Drivers of databases that were imported, by their names.
fn drivers(python: &Interpreter<'_>) -> Vec<String> {
    let is_there =
        |name: &str| module_value(python, name, "__name__").is_ok_and(|one| one.is_some());
    let all = OF_POSTGRESQL.iter().chain(OF_MYSQL);
    all.filter(|name| is_there(name)).map(|&name| name.to_owned()).collect()
}

/// The library of a loop that no probe reads, if it is loaded: its name says more than that no
/// loop was found.
fn unread_loop(maps: &[Mapping]) -> Option<String> {
    let mut parts = maps.iter().filter_map(|map| map.path.as_deref()).flatten();
    let found = parts.find_map(|part| UNREAD_LOOPS.iter().find(|name| part == **name));
    found.map(|name| (*name).to_owned())
}
