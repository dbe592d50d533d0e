//! The recorded `/proc` of a container's server (`fixtures/proc/README.md`), read as a whole.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

use std::path::Path;

use stallspy::target::{ProcFs, SyscallState, ThreadFiles};
use stallspy::units::{Addr, Nanos, Pid, Tid, Timestamp};

const SERVER: Pid = Pid(4242);

fn recorded() -> ProcFs {
    ProcFs::at(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/proc"))
}

#[test]
fn who_it_is() {
    let procfs = recorded();
    assert_eq!(procfs.pids().unwrap(), [SERVER, Pid(4250), Pid(4251), Pid(4260)]);
    assert_eq!(procfs.tids(SERVER).unwrap(), [Tid(4242), Tid(4243)]);
    assert_eq!(procfs.cmdline(SERVER).unwrap(), ["python3", "-m", "uvicorn", "app:api"]);
    assert_eq!(procfs.comm(SERVER, Tid(4243)).unwrap(), "worker ) 1)");
    assert_eq!(procfs.uid(SERVER).unwrap(), 1001);
    assert_eq!(procfs.cpus_allowed(SERVER).unwrap(), 10);
    let stat = procfs.stat(SERVER).unwrap();
    assert_eq!((stat.ppid, stat.state, stat.threads), (Pid(4241), 'S', 2));
    assert_eq!(stat.cpu, Nanos::from_millis(1750));
    assert!(!stat.in_foreground);
    assert_eq!(procfs.thread_stat(SERVER, Tid(4243)).unwrap().comm, "worker ) 1)");
}

#[test]
fn paths_are_told_as_the_target_sees_them() {
    let procfs = recorded();
    assert_eq!(procfs.root(SERVER).unwrap(), Path::new("/srv/app"));
    assert_eq!(procfs.cwd(SERVER).unwrap(), Path::new("/home/api"));
    assert_eq!(procfs.exe(SERVER).unwrap(), Path::new("/usr/bin/python3.12"));
    assert_eq!(procfs.fd_link(SERVER, 7).unwrap(), Path::new("socket:[1001]"));
}

#[test]
fn ids_and_clocks_of_other_namespaces() {
    let procfs = recorded();
    assert_eq!(procfs.namespace_pid(SERVER).unwrap(), 7);
    let inner = procfs.namespace_tids(SERVER).unwrap();
    assert_eq!((inner.len(), inner[&7], inner[&9]), (2, Tid(4242), Tid(4243)));
    assert_eq!(procfs.monotonic_offset(SERVER).unwrap(), 5_250_000_000);
    assert_eq!(procfs.monotonic_offset(Pid(4250)).unwrap(), 0);
}

#[test]
fn children_of_every_thread() {
    assert_eq!(recorded().children(SERVER).unwrap(), [Pid(4250), Pid(4251), Pid(4260)]);
}

#[test]
fn what_is_mapped() {
    let maps = recorded().maps(SERVER).unwrap();
    assert_eq!(maps.len(), 5);
    assert!(maps[1].perms.execute && maps[1].contains(Addr(0x55e5_3705_d000)));
    assert!(maps[3].deleted);
    assert_eq!(maps[3].path.as_deref(), Some(Path::new("/usr/lib/libc.so.6")));
}

#[test]
fn a_threads_hot_files() {
    let first = ThreadFiles::new(&recorded(), SERVER, Tid(4242));
    let SyscallState::Blocked { nr, args, sp, pc } = first.syscall() else { panic!() };
    assert_eq!((nr, args[0]), (45, 7));
    assert_eq!((sp, pc), (Addr(0x7ffc_e5eb_3e38), Addr(0x7f0a_ea77_c503)));
    assert_eq!(first.sched(Timestamp(5)).unwrap().on_cpu, Nanos(1_097_954));
    assert_eq!(first.state(), Some('S'));
    let second = ThreadFiles::new(&recorded(), SERVER, Tid(4243));
    assert_eq!(second.syscall(), SyscallState::Running);
    assert_eq!(second.sched(Timestamp(5)), None);
    assert_eq!(second.state(), Some('R'));
}
