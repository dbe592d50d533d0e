//! The Python interpreters the live tests run, and starting a script under each.
//!
//! `STALLSPY_INTERPRETERS` names a JSON file: a list of
//! `{"version": "3.14", "how": "plain" | "chroot", "root": "/some/root", "python": "/usr/bin/python3"}`
//! (`root` only for `chroot`; the version may be full). Without it there is just the `python3` on
//! the path, if any.

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
}

#[derive(Debug, Clone, Copy, Deserialize)]
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
    let ask = "import platform; print(platform.python_version())";
    let Ok(answer) = Command::new("python3").args(["-c", ask]).output() else {
        return Vec::new();
    };
    let version = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    vec![Python { version, how: How::Plain, root: None, python: "python3".into() }]
}

impl Python {
    /// The minor version: the `y` of 3.y.
    pub fn minor(&self) -> u8 {
        self.version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0)
    }

    /// Starts `script` and waits for its first line, which it prints when it is ready.
    pub fn start(&self, script: &Path) -> Script {
        let (mut command, copy) = match (self.how, &self.root) {
            (How::Chroot, Some(root)) => {
                let stem = script.file_stem().unwrap_or_default().to_string_lossy();
                let name = format!("tmp/{stem}-{}-{}.py", self.version, std::process::id());
                let copy = root.join(&name);
                std::fs::copy(script, &copy).expect("the root's /tmp can be written");
                let mut command = Command::new("chroot");
                command.arg(root).args(["env", "LC_ALL=C.UTF-8"]).arg(&self.python);
                command.arg(format!("/{name}"));
                (command, Some(copy))
            }
            _ => {
                let mut command = Command::new(&self.python);
                command.arg(script);
                (command, None)
            }
        };
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        // From here on dropping ends it.
        let mut started =
            Script { child: child.expect("python starts"), copy, line: String::new() };
        let stdout = started.child.stdout.take().expect("stdout is a pipe");
        BufReader::new(stdout).read_line(&mut started.line).expect("python speaks");
        started
    }
}

/// A running script; ended when dropped.
#[derive(Debug)]
pub struct Script {
    child: Child,
    copy: Option<PathBuf>,
    /// What it said.
    pub line: String,
}

impl Script {
    /// The interpreter's pid: `chroot` and `env` become it.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(copy) = &self.copy {
            let _ = std::fs::remove_file(copy);
        }
    }
}
