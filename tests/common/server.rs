//! A server of `fixtures/servers`: started under an interpreter, loaded, ended, and asked for the
//! truth it wrote down.
#![allow(dead_code)] // each test binary uses some of it

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::interpreters::{Python, folder};
use super::truth::Entry;

const SERVERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/servers");
/// What anything may take before a test gives up; a starved machine is slow.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A running server; ended when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    python: Python,
    folder: tempfile::TempDir,
    /// Where it listens, if it does.
    pub port: u16,
    /// All ports that it named.
    pub ports: Vec<u16>,
}

impl Server {
    /// Starts a server and waits until its loop runs. It ends by itself after `seconds`.
    pub fn start(python: &Python, script: &str, seconds: u32, args: &[&str]) -> Server {
        Server::start_by(python, script, seconds, args, &mut |_| {})
    }

    /// The same, the command line still to be changed.
    pub fn start_by(
        python: &Python,
        script: &str,
        seconds: u32,
        args: &[&str],
        change: &mut dyn FnMut(&mut Command),
    ) -> Server {
        let folder = copy(python);
        let mut command = python.command();
        command.args(words(python, folder.path(), script)).args(args);
        command.args(["--seconds", &seconds.to_string()]);
        change(&mut command);
        let child = command.spawn().expect("python starts");
        // From here on dropping ends it.
        let mut server =
            Server { child, python: python.clone(), folder, port: 0, ports: Vec::new() };
        let ready = ready(server.folder.path(), &mut || server.child.try_wait().ok()??.code());
        server.ports = ready.get(1..).unwrap_or_default().to_vec();
        server.port = server.ports.first().copied().unwrap_or(0);
        server
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// One of its files, as its code objects name it.
    pub fn file(&self, name: &str) -> String {
        self.python.inside(&self.folder.path().join(name)).display().to_string()
    }

    /// A loader for it, as `fixtures/servers/load.py` says.
    pub fn load(&self, args: &[&str]) -> Load {
        let mut command = self.python.command();
        command.arg(self.python.inside(&self.folder.path().join("load.py")));
        command.args(["--url", &format!("http://127.0.0.1:{}", self.port)]).args(args);
        Load(command.stdout(std::process::Stdio::piped()).spawn().expect("python starts"))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it: no truth.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    /// Asks it to end, and gives what was true.
    pub fn end(mut self) -> Vec<Entry> {
        let _ = kill(nix::unistd::Pid::from_raw(self.pid()), Signal::SIGTERM);
        self.wait()
    }

    /// Waits for its own end, and gives what was true.
    pub fn wait(&mut self) -> Vec<Entry> {
        let end = Instant::now() + PATIENCE;
        while self.is_running() {
            assert!(Instant::now() < end, "the server does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        truth(self.folder.path())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running loader; ended when dropped.
#[derive(Debug)]
pub struct Load(Child);

impl Load {
    /// Waits for its end; how many requests were answered, and how many of them by an error.
    pub fn finish(mut self) -> (u64, u64) {
        use std::io::Read;
        let mut text = String::new();
        let mut out = self.0.stdout.take().expect("stdout is a pipe");
        out.read_to_string(&mut text).expect("it can be read");
        let told: serde_json::Value = serde_json::from_str(&text).expect("the loader tells");
        (told["requests"].as_u64().unwrap_or(0), told["errors"].as_u64().unwrap_or(u64::MAX))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A copy of all servers that this interpreter can see.
pub fn copy(python: &Python) -> tempfile::TempDir {
    let folder = folder(python);
    for file in std::fs::read_dir(SERVERS).expect("the servers are there").flatten() {
        if file.path().extension().is_some_and(|end| end == "py") {
            let to = folder.path().join(file.file_name());
            std::fs::copy(file.path(), to).expect("the folder can be written");
        }
    }
    folder
}

/// The arguments of the interpreter that start a server out of [`copy`].
pub fn words(python: &Python, folder: &Path, script: &str) -> Vec<PathBuf> {
    let inside = |name: &str| python.inside(&folder.join(name));
    let mut words = vec![inside(script), "--truth".into(), inside("truth.jsonl")];
    words.extend(["--ready".into(), inside("ready"), "--iterations".into()]);
    words
}

/// Waits until a server is ready, and gives its port if it has one, after its pid's place.
pub fn ready(folder: &Path, ended: &mut dyn FnMut() -> Option<i32>) -> Vec<u16> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Ok(line) = std::fs::read_to_string(folder.join("ready")) {
            // A pid may not fit, and nobody asks for it here.
            return line.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
        }
        let code = ended();
        assert!(code.is_none(), "the server ended with {code:?} before it was ready");
        assert!(Instant::now() < end, "the server does not get ready");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a server that ended wrote down.
pub fn truth(folder: &Path) -> Vec<Entry> {
    let text = std::fs::read_to_string(folder.join("truth.jsonl")).expect("the truth is written");
    let entry = |line: &str| serde_json::from_str(line).expect("the truth is JSON");
    text.lines().map(entry).collect()
}
