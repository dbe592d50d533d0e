//! The Python interpreters the live tests run, and starting a script under each.
//!
//! `STALLSPY_INTERPRETERS` names a JSON file: a list of
//! `{"version": "3.14", "how": "plain" | "chroot", "root": "/some/root", "python": "/usr/bin/python3",
//! "packages": ["fastapi"]}` (`root` only for `chroot`; the version may be full; `packages` are those
//! that tests ask for). Without it there is just the `python3` on the path; without that nothing can be
//! tested, and the tests fail.
#![allow(dead_code)] // each test binary uses some of it

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

/// One interpreter.
#[derive(Debug, Clone, Deserialize)]
pub struct Python {
    /// As in `sys.version`, perhaps without the patch level.
    pub version: String,
    how: How,
    #[serde(default)]
    root: Option<PathBuf>,
    python: PathBuf,
    #[serde(default)]
    packages: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum How {
    Plain,
    Chroot,
}

/// All interpreters to test with.
pub fn interpreters() -> Vec<Python> {
    if let Some(file) = std::env::var_os("STALLSPY_INTERPRETERS") {
        let text = std::fs::read_to_string(&file).expect("STALLSPY_INTERPRETERS can be read");
        return serde_json::from_str(&text).expect("STALLSPY_INTERPRETERS is a list");
    }
    vec![at("python3").expect("STALLSPY_INTERPRETERS is not set, and there is no python3")]
}

/// The interpreter that this command is, if it is one.
pub fn at(command: &str) -> Option<Python> {
    // It may be a script that starts the real one: that one is asked for.
    let ask = "import platform, sys; print(platform.python_version(), sys.executable)";
    let answer = Command::new(command).args(["-c", ask]).output().ok()?;
    let answer = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    let (version, python) = answer.split_once(' ')?;
    Some(Python {
        version: version.to_owned(),
        how: How::Plain,
        root: None,
        python: python.into(),
        packages: Vec::new(),
    })
}

/// A few of them, where versions make no difference that another test would not show: the oldest,
/// the newest and one in the middle.
pub fn some_interpreters() -> Vec<Python> {
    some_of(interpreters())
}

/// The same of these.
pub fn some_of(mut all: Vec<Python>) -> Vec<Python> {
    all.sort_by_key(Python::minor);
    let mut places = vec![0, all.len() / 2, all.len().saturating_sub(1)];
    places.dedup();
    places.into_iter().filter_map(|place| all.get(place).cloned()).collect()
}

/// The first and the last of these: where versions make a difference at the ends of a range alone.
pub fn ends_of(mut all: Vec<Python>) -> Vec<Python> {
    all.drain(all.len().min(1)..all.len().saturating_sub(1).max(all.len().min(1)));
    all
}

impl Python {
    /// The minor version: the `y` of 3.y.
    pub fn minor(&self) -> u8 {
        self.version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0)
    }

    /// Whether the list says that it can import this.
    pub fn has(&self, package: &str) -> bool {
        self.packages.iter().any(|one| one == package)
    }

    /// The root it lives in, `/` for most.
    pub fn root(&self) -> &Path {
        match (self.how, &self.root) {
            (How::Chroot, Some(root)) => root,
            _ => Path::new("/"),
        }
    }

    /// Where scripts are put for it, as seen from outside.
    pub fn temporary(&self) -> PathBuf {
        match self.how {
            How::Chroot => self.root().join("tmp"),
            How::Plain => std::env::temp_dir(),
        }
    }

    /// A path as it sees it.
    pub fn inside(&self, path: &Path) -> PathBuf {
        Path::new("/").join(path.strip_prefix(self.root()).unwrap_or(path))
    }

    /// The interpreter, its arguments still to come. The started pid is Python's: `chroot` and
    /// `env` become it.
    pub fn command(&self) -> Command {
        let mut words = self.words().into_iter();
        let mut command = Command::new(words.next().expect("the first word is there"));
        command.args(words).env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
        command
    }

    /// The words that start it, for somebody else's command line.
    pub fn words(&self) -> Vec<PathBuf> {
        match self.how {
            How::Plain => vec![self.python.clone()],
            How::Chroot => vec![
                "chroot".into(),
                self.root().to_owned(),
                "env".into(),
                "LC_ALL=C.UTF-8".into(),
                self.python.clone(),
            ],
        }
    }

    /// Starts `script` and waits for its first line, which it prints when it is ready.
    pub fn start(&self, script: &Path) -> Script {
        let folder = folder(self);
        let copy = folder.path().join(script.file_name().expect("a script has a name"));
        std::fs::copy(script, &copy).expect("a temporary folder can be written");
        let mut command = self.command();
        let child = command.arg(self.inside(&copy)).stdin(Stdio::piped()).stdout(Stdio::piped());
        // From here on dropping ends it.
        let mut started = Script {
            child: child.spawn().expect("python starts"),
            _folder: folder,
            line: String::new(),
        };
        let stdout = started.child.stdout.take().expect("stdout is a pipe");
        BufReader::new(stdout).read_line(&mut started.line).expect("python speaks");
        started
    }
}

impl std::fmt::Display for Python {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "CPython {} ({})", self.version, self.inside(&self.python).display())?;
        if self.how == How::Chroot { write!(out, " in {}", self.root().display()) } else { Ok(()) }
    }
}

/// A new folder that this interpreter can see and every user can use, deleted when dropped.
pub fn folder(python: &Python) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("stallspy-test-").tempdir_in(python.temporary());
    let folder = folder.expect("a temporary folder can be made");
    let everybody = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(folder.path(), everybody).expect("the folder is ours");
    folder
}

/// A running script; ended when dropped.
#[derive(Debug)]
pub struct Script {
    child: Child,
    _folder: tempfile::TempDir,
    /// What it said.
    pub line: String,
}

impl Script {
    /// The interpreter's pid.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
