//! Records the memory images in `fixtures/images`: run by `scripts/capture-images`, as root.
//!
//! Each is one look at `fixtures/images/server.py`, which holds still in a known place; only what
//! the look reads is kept. The program runs as `/srv/app/server.py` and with an empty environment,
//! because images hold another program's memory and are published: nothing of the machine they are
//! made on shall be in them.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

#[path = "common/images.rs"]
mod images;
#[path = "common/survey.rs"]
mod survey;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use images::{DIRECTORY, Image};
use serde_json::Value;
use stallspy::python::locate::locate;
use stallspy::sampler::pace;
use stallspy::target::{LiveMemory, Modules, ProcFs, TeeMemory};
use stallspy::units::Pid;
use survey::{Known, survey};

/// What is recorded; of a second interpreter of the same minor version only the first two.
const CASES: [&str; 4] = ["request", "task", "callback", "idle"];
/// From "ready" to the call it waits in.
const SETTLING: Duration = Duration::from_millis(300);

/// One server; ended when dropped.
struct Server(Child);

impl Server {
    fn start(interpreter: &Value, case: &str) -> Server {
        let python = interpreter["python"].as_str().unwrap();
        let root = interpreter["root"].as_str();
        let home = format!("{}/srv/app", root.unwrap_or(""));
        std::fs::create_dir_all(&home).unwrap();
        std::fs::copy(format!("{DIRECTORY}/server.py"), format!("{home}/server.py")).unwrap();
        let mut command = match root {
            Some(root) => {
                let mut command = Command::new("/usr/sbin/chroot");
                command.arg(root).args(["/usr/bin/env", "-C", "/srv/app", python]);
                command
            }
            None => {
                let mut command = Command::new(python);
                command.current_dir(&home);
                command
            }
        };
        command.args(["/srv/app/server.py", case]).env_clear().env("LC_ALL", "C.UTF-8");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let stdout = child.stdout.take().unwrap();
        let server = Server(child);
        BufReader::new(stdout).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "{interpreter}");
        std::thread::sleep(SETTLING);
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn capture(pid: Pid, case: &str) -> Image {
    let procfs = ProcFs::host();
    let live = LiveMemory::new(pid);
    let located = locate(&live, &Modules::load(&procfs, pid).unwrap()).unwrap();
    let mut tids: Vec<i32> = procfs.namespace_tids(pid).unwrap().into_keys().collect();
    tids.sort_unstable();
    let known = Known { runtime: located.runtime, now: pace::now(), tids };
    let tee = TeeMemory::new(LiveMemory::new(pid));
    let seen = survey(&tee, &known).unwrap();
    let memory = tee.into_image();
    assert_eq!(survey(&memory, &known).unwrap(), seen, "the image tells what the process told");
    Image { name: format!("{}-asyncio-{case}", located.version), memory, known }
}

#[test]
#[ignore = "records fixtures; needs root and STALLSPY_INTERPRETERS"]
fn capture_all() {
    let list = std::env::var("STALLSPY_INTERPRETERS").expect("STALLSPY_INTERPRETERS is set");
    let list = std::fs::read_to_string(list).unwrap();
    let list: Vec<Value> = serde_json::from_str(&list).unwrap();
    assert!(!Path::new("/srv/app").exists(), "/srv/app is in use");
    for (index, interpreter) in list.iter().enumerate() {
        let again = list.iter().take(index).any(|other| other["version"] == interpreter["version"]);
        for case in CASES.into_iter().take(if again { 2 } else { 4 }) {
            let server = Server::start(interpreter, case);
            let image = capture(Pid(server.0.id().cast_signed()), case);
            image.save();
            let blocks = image.memory.block_count();
            println!("{}: {blocks} blocks, runtime at {}", image.name, image.known.runtime);
        }
    }
    for interpreter in &list {
        let root = interpreter["root"].as_str().unwrap_or("");
        let _ = std::fs::remove_dir_all(format!("{root}/srv/app"));
    }
}
