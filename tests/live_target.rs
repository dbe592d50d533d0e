//! Real processes: ourselves, and children that do one known thing.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use stallspy::target::{
    Descendants, LiveMemory, PeerText, Peers, ProcError, ProcFs, SyscallState, ThreadFiles, Waiting,
};
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

/// What the child's first thread waits for.
fn waiting(child: &Owned, files: &ThreadFiles) -> Option<Waiting> {
    let memory = LiveMemory::new(child.pid());
    Peers::new().describe(&ProcFs::host(), &memory, child.pid(), &files.syscall(), Timestamp(0))
}

#[test]
fn a_sleeping_child_waits_for_time() {
    let child = Owned::spawn("sleep", &["100"]);
    let files = child.files();
    let waits = eventually(|| {
        waiting(&child, &files).filter(|waiting| waiting.syscall.ends_with("nanosleep"))
    });
    assert_eq!((waits.fd, waits.peer), (None, None));
}

/// A thread of ours that does one thing for ever, seen as any other process's.
fn seen_in_a_thread(blocks: impl FnOnce() + Send + 'static, call: &str) -> Waiting {
    let (send, tid) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        send.send(nix::unistd::gettid().as_raw()).unwrap();
        blocks();
    });
    let (procfs, us, tid) = (ProcFs::host(), ourselves(), Tid(tid.recv().unwrap()));
    let (files, memory) = (ThreadFiles::new(&procfs, us, tid), LiveMemory::new(us));
    eventually(|| {
        let state = files.syscall();
        let waiting = Peers::new().describe(&procfs, &memory, us, &state, Timestamp(0));
        waiting.filter(|waiting| waiting.syscall == call)
    })
}

#[test]
fn whom_a_blocked_socket_talks_to() {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(bind) else { continue }; // no IPv6 here
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let waits = seen_in_a_thread(move || drop(client.read(&mut [0])), "recvfrom");
        assert!(waits.fd.is_some());
        assert_eq!(waits.peer, Some(PeerText::Remote(address.to_string())));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let waits = seen_in_a_thread(move || drop(listener.accept()), "accept4");
    assert_eq!(waits.peer, Some(PeerText::Local(address.to_string())));
}

#[test]
fn a_unix_socket_by_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap().join("db.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let waits = seen_in_a_thread(move || drop(listener.accept()), "accept4");
    assert_eq!(waits.peer, Some(PeerText::Path(path.to_str().unwrap().to_owned())));
}

#[test]
fn a_shell_waits_for_its_child() {
    let shell = Owned::spawn("sh", &["-c", "sleep 100 & wait $!; true"]);
    let mut family = Descendants::new();
    let below = eventually(|| {
        let below = family.of(&ProcFs::host(), &[shell.pid()]);
        (!below.is_empty()).then_some(below)
    });
    assert_eq!(below.len(), 1);
    let comm = ProcFs::host().comm(below[0], Tid(below[0].0)).unwrap();
    assert!(["sh", "sleep"].contains(&comm.as_str()), "{comm}");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(below[0].0),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
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
