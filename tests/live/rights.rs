//! Without privileges: one's own processes can be watched, and of others it is said why not.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::interpreters::{Python, at, folder, interpreters};
use crate::profiler::{Ended, Profiler, STALLSPY};
use crate::server::Server;
use crate::turn::each;
use crate::{in_ci, say};

/// The user that owns nothing, on every Linux.
const NOBODY: u32 = 65_534;

pub fn am_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Becomes nobody, if there is anything to give up.
pub fn give_up_rights(command: &mut Command) {
    if am_root() {
        // Sets the groups to none as well.
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
    }
}

/// An interpreter that any user can start, such as the system's own: one in somebody's home or in a
/// root of its own is not. Without one nothing is tested, and that is said.
pub fn anybody() -> Vec<Python> {
    let systems = ["python3", "/usr/bin/python3"].into_iter().filter_map(at);
    let found = interpreters().into_iter().chain(systems).find(|python| {
        let mut command = python.command();
        give_up_rights(&mut command);
        let ends = command.args(["-c", "import asyncio"]).stderr(Stdio::null()).status();
        ends.is_ok_and(|status| status.success())
    });
    assert!(found.is_some() || !in_ci(), "no interpreter that any user can start");
    if found.is_none() {
        say("rights: did not run, there is no interpreter that every user can start");
    }
    found.into_iter().collect()
}

/// Runs stallspy as nobody, from a copy that nobody can read.
pub fn as_nobody(python: &Python, args: &[&str]) -> Ended {
    as_nobody_through(python, "env", &[], args)
}

/// The same, started by another program.
pub fn as_nobody_through(python: &Python, program: &str, flags: &[&str], args: &[&str]) -> Ended {
    let folder = folder(python);
    let copy = folder.path().join("stallspy");
    std::fs::copy(STALLSPY, &copy).expect("it can be copied");
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut command = Command::new(program);
    command.args(flags).arg(&copy).args(args);
    give_up_rights(&mut command);
    Profiler::start_by(command).finish()
}

/// Whether the kernel lets a user read processes of their own that are not their children.
pub fn own_processes_are_open() -> bool {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    scope.map_or(true, |scope| scope.trim() == "0")
}

#[test]
fn an_own_process_can_be_watched() {
    each(&anybody(), |python| {
        let args = ["--kinds", "sleep,recv", "--lengths", "20-60"];
        let give_up = &mut |command: &mut Command| {
            give_up_rights(command);
        };
        let server = Server::start_by(python, "asyncio_stalls.py", 60, &args, give_up);
        let pid = server.pid().to_string();
        let ended = as_nobody(python, &["record", "-q", "-d", "2", "-f", "json", "-p", &pid]);
        if !own_processes_are_open() {
            assert_eq!(ended.code(), Some(5), "{}", ended.err);
            assert!(ended.err.contains("because kernel.yama.ptrace_scope is"), "{}", ended.err);
            return;
        }
        assert_eq!(ended.code(), Some(0), "{}", ended.err);
        let report = ended.report();
        let stalls = report["stalls"].as_array().expect("stalls");
        let named = |name: &str| stalls.iter().any(|one| one["culprit"]["syscall"] == name);
        assert!(named("recvfrom"), "{report}");
    });
}

#[test]
fn a_foreign_process_cannot_and_that_is_explained() {
    each(&anybody(), |python| {
        // Somebody else's: root's own server, or without one the first process.
        let server = am_root().then(|| Server::start(python, "asyncio_healthy.py", 60, &[]));
        let pid = server.as_ref().map_or("1".to_owned(), |server| server.pid().to_string());
        for command in ["record", "dump"] {
            let ended = as_nobody(python, &[command, "-p", &pid]);
            assert_eq!(ended.code(), Some(5), "{}", ended.err);
            let sentence = format!(
                "stallspy: pid {pid} belongs to user root and this kernel lets only that user, root or \
                 CAP_SYS_PTRACE read it: run `sudo stallspy {command} -p {pid}`, or in a container add \
                 the capability SYS_PTRACE (`stallspy doctor {pid}` says what else helps)\n"
            );
            assert_eq!((ended.err.as_str(), ended.out.as_str()), (sentence.as_str(), ""));
        }
    });
}
