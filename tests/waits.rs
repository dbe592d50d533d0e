//! What a thread waits for, told from a recorded `/proc` and hand-made memory.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]
#![cfg(target_arch = "x86_64")] // the numbers below are x86_64's

use std::path::Path;

use proptest::prelude::*;
use stallspy::target::{ImageMemory, PeerText, Peers, ProcFs, SyscallState, Waiting};
use stallspy::units::{Addr, Pid, Timestamp};

const READ: u64 = 0;
const POLL: u64 = 7;
const SELECT: u64 = 23;
const CONNECT: u64 = 42;
const RECVFROM: u64 = 45;
const WAIT4: u64 = 61;
const FUTEX: u64 = 202;
const EPOLL_WAIT: u64 = 232;
const OPENAT: u64 = 257;
const NEWFSTATAT: u64 = 262;

fn wait_in(memory: &ImageMemory, nr: u64, args: [u64; 6]) -> Option<Waiting> {
    let procfs = ProcFs::at(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/proc"));
    let state = SyscallState::Blocked { nr, args, sp: Addr(1), pc: Addr(2) };
    Peers::new().describe(&procfs, memory, Pid(4242), &state, Timestamp(0))
}

/// The call's name, descriptor and peer, in one line.
fn told(memory: &ImageMemory, nr: u64, args: [u64; 6]) -> String {
    let waiting = wait_in(memory, nr, args).unwrap();
    let fd = waiting.fd.map(|fd| fd.to_string()).unwrap_or_default();
    let peer = match waiting.peer {
        Some(PeerText::Remote(text)) => format!("-> {text}"),
        Some(PeerText::Local(text)) => format!("at {text}"),
        Some(PeerText::Path(text)) => text,
        Some(PeerText::Child(pid)) => format!("child {pid}"),
        None => "?".to_owned(),
    };
    format!("{}({fd}) {peer}", waiting.syscall)
}

#[test]
fn descriptors() {
    let none = ImageMemory::new();
    let by_fd = |nr, fd| told(&none, nr, [fd, 0, 0, 0, 0, 0]);
    assert_eq!(by_fd(RECVFROM, 7), "recvfrom(7) -> 10.0.0.7:443");
    assert_eq!(by_fd(RECVFROM, 8), "recvfrom(8) at 0.0.0.0:8000");
    assert_eq!(by_fd(RECVFROM, 9), "recvfrom(9) -> [::1]:443");
    assert_eq!(by_fd(RECVFROM, 10), "recvfrom(10) -> 10.0.0.7:5432");
    assert_eq!(by_fd(RECVFROM, 11), "recvfrom(11) -> 10.0.0.53:53");
    assert_eq!(by_fd(RECVFROM, 12), "recvfrom(12) at 0.0.0.0:5353");
    assert_eq!(by_fd(RECVFROM, 13), "recvfrom(13) /run/app dir/api.sock");
    assert_eq!(by_fd(RECVFROM, 14), "recvfrom(14) socket:[9999]");
    assert_eq!(by_fd(EPOLL_WAIT, 5), "epoll_wait(5) ?");
    assert_eq!(by_fd(READ, 6), "read(6) pipe:[77]");
    assert_eq!(by_fd(READ, 15), "read(15) /home/api/data.db");
    assert_eq!(by_fd(READ, 16), "read(16) /tmp/log (deleted)");
    assert_eq!(by_fd(READ, 99), "read(99) ?");
    assert_eq!(by_fd(READ, u64::MAX), "read() ?");
}

#[test]
fn descriptors_in_memory() {
    let mut memory = ImageMemory::new();
    memory.insert(Addr(0x1000), &(-1_i32).to_le_bytes());
    memory.insert(Addr(0x1008), &7_i32.to_le_bytes());
    assert_eq!(told(&memory, POLL, [0x1000, 2, 0, 0, 0, 0]), "poll(7) -> 10.0.0.7:443");
    assert_eq!(told(&memory, POLL, [0x1000, 1, 0, 0, 0, 0]), "poll() ?");
    assert_eq!(told(&memory, POLL, [0x9000, u64::MAX, 0, 0, 0, 0]), "poll() ?");
    memory.insert(Addr(0x2000), &(1_u64 << 9 | 1 << 40).to_le_bytes());
    assert_eq!(told(&memory, SELECT, [10, 0, 0x2000, 0, 0, 0]), "select(9) -> [::1]:443");
    assert_eq!(told(&memory, SELECT, [0, 0, 0, 0, 0, 0]), "select() ?", "an old way to sleep");
}

#[test]
fn addresses_in_memory() {
    let mut memory = ImageMemory::new();
    memory.insert(Addr(0x1000), &[2, 0, 0x15, 0x38, 10, 0, 0, 9]);
    assert_eq!(told(&memory, CONNECT, [14, 0x1000, 16, 0, 0, 0]), "connect(14) -> 10.0.0.9:5432");
    memory.insert(Addr(0x1100), &[10, 0, 0, 80, 0, 0, 0, 0]);
    memory.insert(Addr(0x1100 + 23), &[1]);
    assert_eq!(told(&memory, CONNECT, [14, 0x1100, 28, 0, 0, 0]), "connect(14) -> [::1]:80");
    memory.insert(Addr(0x1200), b"\x01\0/run/db.sock\0");
    assert_eq!(told(&memory, CONNECT, [14, 0x1200, 110, 0, 0, 0]), "connect(14) /run/db.sock");
    memory.insert(Addr(0x1300), b"\x01\0\0hidden");
    assert_eq!(told(&memory, CONNECT, [14, 0x1300, 9, 0, 0, 0]), "connect(14) @hidden");
    assert_eq!(told(&memory, CONNECT, [7, 0x9000, 16, 0, 0, 0]), "connect(7) -> 10.0.0.7:443");
}

#[test]
fn names_in_memory() {
    const HERE: u64 = 0xffff_ff9c; // AT_FDCWD
    let mut memory = ImageMemory::new();
    let at_a_pages_end = 0x2000 - 6;
    memory.insert(Addr(at_a_pages_end), b"/a/b\0");
    assert_eq!(told(&memory, OPENAT, [HERE, at_a_pages_end, 0, 0, 0, 0]), "openat() /a/b");
    assert_eq!(told(&memory, OPENAT, [HERE, 0x9000, 0, 0, 0, 0]), "openat() ?");
    memory.insert(Addr(0x1000), &[0; 256]); // the empty name
    assert_eq!(told(&memory, NEWFSTATAT, [6, 0x1000, 0, 0, 0, 0]), "newfstatat(6) pipe:[77]");
    memory.insert(Addr(0x4000), &[b'x'; 8192]);
    let long = wait_in(&memory, OPENAT, [HERE, 0x4000, 0, 0, 0, 0]).unwrap();
    assert!(matches!(long.peer, Some(PeerText::Path(path)) if path.len() == 1024));
}

#[test]
fn children_locks_and_the_unknown() {
    let none = ImageMemory::new();
    assert_eq!(told(&none, WAIT4, [99, 0, 0, 0, 0, 0]), "wait4() child 99");
    assert_eq!(told(&none, WAIT4, [u64::MAX, 0, 0, 0, 0, 0]), "wait4() ?");
    assert_eq!(told(&none, FUTEX, [0x1000, 0, 0, 0, 0, 0]), "futex() ?");
    assert_eq!(told(&none, 9999, [0; 6]), "syscall_9999() ?");
}

proptest! {
    #[test]
    fn hostile_arguments_never_panic(nr in 0..480_u64, args: [u64; 6], near in any::<[bool; 6]>()) {
        let mut memory = ImageMemory::new();
        memory.insert(Addr(0x1000), &[0xff; 4096]);
        let mut args = args;
        for (arg, near) in args.iter_mut().zip(near) {
            if near { *arg = 0x1000 + *arg % 4096; }
        }
        prop_assert!(wait_in(&memory, nr, args).is_some());
    }
}
