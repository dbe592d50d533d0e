//! Edges of a thread of our own, that polls and sleeps and computes by turns.

#![allow(unsafe_code)] // the test polls by hand

use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::libc;

use super::*;
use crate::target::{ProcFs, SyscallState, ThreadFiles};
use crate::units::{Nanos, Pid};

/// What the thread did between two polls, by the clock that edges use too.
struct Truth {
    from: Timestamp,
    until: Timestamp,
    slept: bool,
}

fn now() -> Timestamp {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec that lives through the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Timestamp(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

/// Polls for 2 ms, then sleeps or computes for 15 ms; ten times.
fn server(tell: &mpsc::Sender<Tid>, go: &mpsc::Receiver<()>) -> Vec<Truth> {
    // SAFETY: takes and touches nothing.
    tell.send(Tid(unsafe { libc::gettid() })).unwrap();
    go.recv().unwrap();
    let mut truth = Vec::new();
    for round in 0..10 {
        // SAFETY: no descriptors, so no memory.
        unsafe { libc::poll(std::ptr::null_mut(), 0, 2) };
        let (from, slept) = (now(), round % 2 == 0);
        if slept {
            std::thread::sleep(Duration::from_millis(15));
        } else {
            let end = Instant::now() + Duration::from_millis(15);
            while Instant::now() < end {
                std::hint::spin_loop();
            }
        }
        truth.push(Truth { from, until: now(), slept });
    }
    // SAFETY: as above.
    unsafe { libc::poll(std::ptr::null_mut(), 0, 2) };
    truth
}

#[test]
fn a_thread_that_sleeps_on_is_quiet_and_one_that_woke_is_not() {
    let points = match Tracepoints::learn() {
        Ok(points) => points,
        Err(error) => return assert!(!is_root(), "{error}"),
    };
    let (tell, told) = mpsc::channel();
    let (go, begin) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // SAFETY: takes and touches nothing.
        let tid = Tid(unsafe { libc::gettid() });
        tell.send(tid).unwrap();
        while begin.recv().is_ok() {
            tell.send(tid).unwrap();
        }
    });
    let tid = told.recv().unwrap();
    let poll = PollCall { names: vec!["poll", "ppoll"], epfd: None };
    let mut edges = match Edges::open(tid, &poll, &points) {
        Ok(edges) => edges,
        Err(error) => return assert!(!is_root(), "{error}"),
    };
    // It may have been on its way to sleep, and have told of that.
    while !is_asleep(tid) {
        std::thread::yield_now();
    }
    edges.drain(|_| {});
    assert!(edges.is_quiet());
    // It polls nothing: that it ran is enough.
    go.send(()).unwrap();
    told.recv().unwrap();
    assert!(!edges.is_quiet());
    edges.drain(|_| {});
    drop(go);
    thread.join().unwrap();
    assert!(!edges.is_quiet());
}

/// Whether a thread of ours has left its CPU.
fn is_asleep(tid: Tid) -> bool {
    let files = ThreadFiles::new(&ProcFs::host(), Pid(std::process::id().cast_signed()), tid);
    matches!(files.syscall(), SyscallState::Blocked { .. })
}

#[test]
fn every_outing_of_a_thread_is_seen_with_both_ends() {
    let points = match Tracepoints::learn() {
        Ok(points) => points,
        Err(error) => return assert!(!is_root(), "{error}"),
    };
    let (tell, told) = mpsc::channel();
    let (go, begin) = mpsc::channel();
    let thread = std::thread::spawn(move || server(&tell, &begin));
    let tid = told.recv().unwrap();
    let poll = PollCall { names: vec!["poll", "ppoll"], epfd: None };
    let opened = Edges::open(tid, &poll, &points);
    go.send(()).unwrap();
    let mut edges = match opened {
        Ok(edges) => edges,
        Err(error) => return assert!(!is_root(), "{error}"),
    };
    let truth = thread.join().unwrap();
    let mut outings = Vec::new();
    edges.drain(|outing| outings.push(outing));
    if edges.seen() == 0 {
        // Somebody else's BPF program on the same tracepoints can swallow every record.
        eprintln!("blind: no records at all");
        return;
    }
    assert_eq!((outings.len(), edges.lost()), (truth.len(), 0), "{outings:?}");
    assert_eq!(edges.whereabouts(), Whereabouts::Ended);
    for (outing, truth) in outings.iter().zip(&truth) {
        assert!(outing.left <= truth.from && truth.until <= outing.entered, "{outing:?}");
        let length = truth.until.since(truth.from);
        assert!(outing.length() >= length);
        // Whatever else ran meanwhile, a sleep is no computing.
        if truth.slept {
            assert!(outing.off_cpu >= Nanos::from_millis(14), "{outing:?}");
        } else {
            assert!(outing.off_cpu < Nanos::from_millis(5), "{outing:?}");
        }
    }
}

#[test]
fn a_thread_that_is_not_there_is_told() {
    let Ok(points) = Tracepoints::learn() else { return };
    let poll = PollCall::guessed(3);
    let error = Edges::open(Tid(i32::MAX), &poll, &points).unwrap_err();
    assert!(
        matches!(error, EdgesError::Gone | EdgesError::Denied | EdgesError::Missing),
        "{error}"
    );
}

#[test]
fn the_poll_a_thread_is_seen_in() {
    let nr = syscalls::number("epoll_pwait").unwrap();
    let seen = PollCall::seen(nr, [12, 1, 2, 3, 0, 0]).unwrap();
    assert_eq!((seen.epfd, &seen.names[..]), (Some(12), &["epoll_pwait"][..]));
    assert!(seen.is(nr, [12, 9, 9, 9, 0, 0]) && !seen.is(nr, [13, 1, 2, 3, 0, 0]));
    assert!(PollCall::guessed(12).is(nr, [12, 0, 0, 0, 0, 0]));
    assert!(!PollCall::guessed(12).is(syscalls::number("ppoll").unwrap(), [12, 0, 0, 0, 0, 0]));
    assert_eq!(PollCall::seen(syscalls::number("futex").unwrap(), [12, 0, 0, 0, 0, 0]), None);
    assert_eq!(PollCall::seen(nr, [u64::MAX, 0, 0, 0, 0, 0]), None);
}

/// Root may use perf wherever it is allowed at all; sandboxes say so by this variable.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root() && std::env::var_os("CI").is_some()
}
