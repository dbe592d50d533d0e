//! What a probe may judge by: the stacks of a process and the objects in them first, its command
//! line and its parent's second.
//!
//! Takes what the sampler has just walked, answers questions about it. Reads memory only where a
//! probe asks for an object; opens nothing outside the target's own root but its parent's
//! `/proc/PID/cmdline`.

use crate::python::Interpreter;
use crate::python::frames::local;
use crate::python::loaded::module_value;
use crate::target::ProcFs;
use crate::units::{Addr, Pid};

/// Most entries of `site-packages` searched for a version.
const MAX_ENTRIES: usize = 10_000;
/// Longest version taken: `1.2.3.post4.dev5+g1234567` is one of the longer ones.
const MAX_VERSION: usize = 40;

/// The name of the code that a module's body is, which runs as it is imported.
pub const MODULE: &str = "<module>";

/// A frame with its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its function.
    pub function: String,
    /// Its source file, as compiled.
    pub file: String,
    /// Where the frame lies.
    pub frame: Addr,
    /// Names of its local variables, by slot.
    pub locals: Vec<String>,
}

impl Place {
    /// Whether it runs `function` of a file whose path ends with `file`.
    #[must_use]
    pub fn is(&self, file: &str, function: &str) -> bool {
        self.function == function && self.file.ends_with(file)
    }
}

/// What is known of a process.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The command line, argument by argument.
    pub command: &'a [String],
    /// The command line of its parent.
    pub parent: &'a [String],
    /// Its threads' stacks, leaf first; the main thread's comes first.
    pub stacks: &'a [Vec<Place>],
    /// Source files of all functions seen on stacks so far, as the target sees them.
    pub files: &'a [String],
    /// Its interpreter; `None` where there is no memory to look into.
    pub python: Option<&'a Interpreter<'a>>,
    /// Where to ask for more.
    pub procfs: &'a ProcFs,
    /// The process.
    pub pid: Pid,
}

impl<'a> Facts<'a> {
    /// The frame that runs `function` of a file whose path ends with `file`: the innermost such one,
    /// of the main thread if it has one.
    #[must_use]
    pub fn frame(&self, file: &str, function: &str) -> Option<&'a Place> {
        self.stacks.iter().flatten().find(|place| place.is(file, function))
    }

    /// Whether a function, now or earlier, ran of a file whose path ends with `file`: that it was imported
    /// does not count.
    #[must_use]
    pub fn has_file(&self, file: &str) -> bool {
        self.files.iter().any(|one| one.ends_with(file))
            || self.functions().any(|place| place.file.ends_with(file))
    }

    fn functions(&self) -> impl Iterator<Item = &'a Place> {
        self.stacks.iter().flatten().filter(|place| place.function != MODULE)
    }

    /// The object that a frame has in the local variable `name`, also where a nested function shares
    /// it.
    #[must_use]
    pub fn object(&self, place: &Place, name: &str) -> Option<Addr> {
        let python = self.python?;
        let index = place.locals.iter().position(|local| local == name)?;
        let value = local(python, place.frame, index).ok()?;
        let objects = python.objects();
        match objects.type_name(value).ok()?.as_str() {
            "cell" => objects.cell_contents(value).ok(),
            _ => Some(value),
        }
    }

    /// An object's attribute.
    #[must_use]
    pub fn attribute(&self, object: Addr, name: &str) -> Option<Addr> {
        self.python?.objects().attribute(object, name).ok().flatten()
    }

    /// An object's attribute, also where its class keeps it in a slot.
    #[must_use]
    pub fn member(&self, object: Addr, name: &str) -> Option<Addr> {
        self.python?.objects().member(object, name).ok().flatten()
    }

    /// Whether an object is `True`, or a number other than 0.
    #[must_use]
    pub fn is_true(&self, object: Addr) -> bool {
        self.python.is_some_and(|python| python.objects().int(object).is_ok_and(|one| one != 0))
    }

    /// A text.
    #[must_use]
    pub fn text(&self, object: Addr) -> Option<String> {
        self.python?.objects().str(object).ok()
    }

    /// The name of an object's type.
    #[must_use]
    pub fn type_name(&self, object: Addr) -> Option<String> {
        self.python?.objects().type_name(object).ok()
    }

    /// A package's version: `__version__` (tornado: `version`) of the
    /// module `package`, else by the name of the metadata
    /// folder beside a source file of it that was seen.
    #[must_use]
    pub fn version(&self, package: &str) -> Option<String> {
        self.version_in_memory(package).or_else(|| self.version_on_disk(package))
    }

    fn version_in_memory(&self, package: &str) -> Option<String> {
        let python = self.python?;
        ["__version__", "version"].iter().find_map(|name| {
            let value = module_value(python, package, name).ok()??;
            python.objects().str(value).ok().filter(|version| is_version(version))
        })
    }

    fn version_on_disk(&self, package: &str) -> Option<String> {
        let folder = format!("/{package}/");
        let seen = self.stacks.iter().flatten().map(|place| &place.file).chain(self.files);
        let parents = |file: &'a String| {
            file.rsplit_once(&folder).map(|(parent, _)| parent).filter(|one| one.starts_with('/'))
        };
        let packages = seen.filter_map(parents).next()?;
        let names = self.procfs.names_in(self.pid, packages, MAX_ENTRIES).ok()?;
        let found = names.iter().find_map(|name| {
            let (name, version) = name.strip_suffix(".dist-info")?.split_once('-')?;
            let same = name.replace('-', "_").eq_ignore_ascii_case(package);
            same.then_some(version)
        })?;
        is_version(found).then(|| found.to_owned())
    }

    /// Whether the process was started as the program `name`.
    #[must_use]
    pub fn runs(&self, name: &str) -> bool {
        program(self.command) == Some(name)
    }

    /// Whether the process is a child of `multiprocessing`, started by `spawn`.
    #[must_use]
    pub fn is_spawned(&self) -> bool {
        is_spawned(self.command)
    }
}

/// Whether a command line is that of a child started by `multiprocessing`'s `spawn`
/// (<https://github.com/python/cpython/blob/v3.12.1/Lib/multiprocessing/spawn.py#L81>).
#[must_use]
pub fn is_spawned(command: &[String]) -> bool {
    command.iter().any(|word| word.contains("multiprocessing.spawn import spawn_main"))
}

/// Whether a child of a server's master with this command line is one of its workers: forked, with
/// the master's own; spawned by `multiprocessing`; or with a title of `setproctitle`'s.
#[must_use]
pub fn is_worker_of(command: &[String], master: &[String]) -> bool {
    let title = command.first().map(String::as_str).unwrap_or_default();
    let has_title = ["gunicorn: worker", "gunicorn: master", "gunicorn: dirty", "uWSGI worker"]
        .iter()
        .any(|known| title.starts_with(known));
    !command.is_empty() && (command == master || is_spawned(command) || has_title)
}

/// Whether a command line is that of a process by which `multiprocessing` keeps its house.
#[must_use]
pub fn is_helper(command: &[String]) -> bool {
    let helpers = ["multiprocessing.resource_tracker", "multiprocessing.forkserver"];
    command.iter().any(|word| helpers.iter().any(|helper| word.contains(helper)))
}

/// What a command line runs: the name of the program, or of the script or module it is an
/// interpreter of (`/venv/bin/python -u /venv/bin/NAME`, `python -m NAME`).
#[must_use]
pub fn program(command: &[String]) -> Option<&str> {
    fn base(word: &str) -> &str {
        word.rsplit('/').next().unwrap_or(word)
    }
    let mut words = command.iter();
    let first = base(words.next()?);
    if !first.starts_with("python") {
        return Some(first);
    }
    while let Some(word) = words.next() {
        match word.as_str() {
            "-m" => return words.next().map(String::as_str),
            "-c" | "-" => return None,
            "-X" | "-W" | "--check-hash-based-pycs" => drop(words.next()),
            option if option.starts_with('-') => {}
            _ => return Some(base(word)),
        }
    }
    None
}

fn is_version(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | '_' | '!');
    text.len() <= MAX_VERSION
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(plain)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Facts without memory: a command line, its parent's, and one stack, leaf first, of
    /// `file:function` lines.
    pub(in super::super) fn with<T>(
        command: &str,
        parent: &str,
        stack: &[&str],
        ask: impl FnOnce(&Facts<'_>) -> T,
    ) -> T {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let place = |line: &&str| {
            let (file, function) = line.rsplit_once(':').unwrap();
            let file = format!("/srv/venv/lib/python3.12/site-packages/{file}");
            let function = function.to_owned();
            Place { function, file, frame: Addr(0), locals: Vec::new() }
        };
        let stacks = [stack.iter().map(place).collect()];
        let procfs = ProcFs::at("fixtures/proc");
        ask(&Facts {
            command: &words(command),
            parent: &words(parent),
            stacks: &stacks,
            files: &[],
            python: None,
            procfs: &procfs,
            pid: Pid(1),
        })
    }

    #[test]
    fn a_program_is_told_from_a_word() {
        let is = |command: &str| {
            let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
            program(&words) == Some("gunicorn")
        };
        for yes in [
            "gunicorn app:app",
            "/srv/venv/bin/gunicorn -w 4 app:app",
            "/srv/venv/bin/python3.12 /srv/venv/bin/gunicorn app:app",
            "python -X dev /srv/venv/bin/gunicorn app:app",
            "python3 -m gunicorn app:app",
            "python3 -u -m gunicorn app:app",
        ] {
            assert!(is(yes), "{yes}");
        }
        for no in [
            "grep gunicorn log",
            "python tail.py gunicorn",
            "vi gunicorn.py",
            "",
            "sh -c gunicorn",
            "python -c gunicorn",
        ] {
            assert!(!is(no), "{no}");
        }
    }

    #[test]
    fn only_versions_are_versions() {
        for yes in ["0.30.1", "26.9.0", "1.0.0rc1", "5.1.dev3+g12ab", "20"] {
            assert!(is_version(yes), "{yes}");
        }
        for no in ["", "latest", "1.0; rm", "1\n2", &"1".repeat(50)] {
            assert!(!is_version(no), "{no}");
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // a tree of its own
    fn a_version_is_found_by_the_folder_beside_the_package() {
        let dir = tempfile::tempdir().unwrap();
        let packages = dir.path().join("7/root/lib/site-packages");
        std::fs::create_dir_all(packages.join("Hypercorn-0.18.0.dist-info")).unwrap();
        std::fs::create_dir_all(packages.join("hypercorn_x-9.dist-info")).unwrap();
        let files = ["/lib/site-packages/hypercorn/run.py".to_owned()];
        let facts = Facts {
            command: &[],
            parent: &[],
            stacks: &[],
            files: &files,
            python: None,
            procfs: &ProcFs::at(dir.path()),
            pid: Pid(7),
        };
        assert_eq!(facts.version("hypercorn").as_deref(), Some("0.18.0"));
        assert_eq!(facts.version("uvicorn"), None);
    }
}
