//! Real processes: ourselves, and children that do one known thing.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use stallspy::target::{ProcError, ProcFs, SyscallState, ThreadFiles};
use stallspy::units::{Addr, Nanos, Pid, Tid, Timestamp};

/// A child that ends with the test.
struct Owned(Child);

impl Owned {
    fn spawn(program: &str, args: &[&str]) -> Owned {
        let mut command = Command::new(program);
        Owned(command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid(self.0.id().cast_signed())
    }

    fn files(&self) -> ThreadFiles {
        ThreadFiles::new(&ProcFs::host(), self.pid(), Tid(self.pid().0))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ourselves() -> Pid {
    Pid(std::process::id().cast_signed())
}

/// Waits for something that must become true soon; a loaded machine may be slow.
fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "it never came true");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn our_own_process() {
    let (procfs, me) = (ProcFs::host(), ourselves());
    let maps = procfs.maps(me).unwrap();
    assert!(maps.is_sorted_by_key(|mapping| mapping.start));
    let local = Addr(std::ptr::from_ref(&maps) as u64);
    assert!(maps.iter().any(|mapping| mapping.contains(local) && mapping.perms.write));
    assert_eq!(procfs.exe(me).unwrap(), std::env::current_exe().unwrap());
    assert_eq!(procfs.cwd(me).unwrap(), std::env::current_dir().unwrap());
    let stat = procfs.stat(me).unwrap();
    assert_eq!(stat.ppid, Pid(std::os::unix::process::parent_id().cast_signed()));
    assert!(stat.rss_bytes > 100_000 && stat.threads >= 1 && stat.started > Nanos::ZERO);
    assert!(procfs.cpus_allowed(me).unwrap() >= 1);
    assert_eq!(procfs.monotonic_offset(me).unwrap(), 0);
    assert!(procfs.pids().unwrap().contains(&me));
    let inner = procfs.namespace_tids(me).unwrap();
    assert!(inner.values().any(|tid| *tid == Tid(me.0)));
}

#[test]
fn a_sleeping_child() {
    let child = Owned::spawn("sleep", &["100"]);
    let procfs = ProcFs::host();
    assert!(procfs.children(ourselves()).unwrap().contains(&child.pid()));
    assert_eq!(procfs.stat(child.pid()).unwrap().ppid, ourselves());
    let files = child.files();
    let (sp, pc) = eventually(|| match files.syscall() {
        // It may still be starting: wait for a call that does not change for a while.
        SyscallState::Blocked { sp, pc, .. } if files.state() == Some('S') => Some((sp, pc)),
        _ => None,
    });
    assert!(sp.is_plausible() && pc.is_plausible());
    let maps = procfs.maps(child.pid()).unwrap();
    assert!(maps.iter().any(|mapping| mapping.contains(pc) && mapping.perms.execute));
    assert!(files.sched(Timestamp(1)).unwrap().on_cpu > Nanos::ZERO);
}

#[test]
fn an_ended_child() {
    let mut child = Owned::spawn("sleep", &["100"]);
    let (procfs, files, pid) = (ProcFs::host(), child.files(), child.pid());
    eventually(|| matches!(files.syscall(), SyscallState::Blocked { .. }).then_some(()));
    child.0.kill().unwrap();
    eventually(|| procfs.stat(pid).unwrap().has_ended().then_some(()));
    assert_eq!(files.syscall(), SyscallState::Ended, "ended, not yet collected");
    child.0.wait().unwrap();
    assert_eq!(files.syscall(), SyscallState::Ended);
    assert_eq!(files.state(), None);
    assert!(matches!(procfs.maps(pid), Err(ProcError::NoSuchProcess(gone)) if gone == pid));
    assert!(matches!(procfs.children(pid), Err(ProcError::NoSuchProcess(_))));
}
