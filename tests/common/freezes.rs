//! When this machine stood still: a virtual machine's CPU may be taken away for tens of milliseconds,
//! and no counter of the kernel in it tells.
//!
//! A thread on each CPU, ahead of all others, asks to be woken every millisecond, and notes when that
//! came late: then nothing else ran there either. Only where the kernel lets us go first (root); elsewhere
//! nothing is known, and nothing excused.
#![allow(dead_code)] // each test binary uses some of it

use std::sync::{Mutex, Once};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use nix::unistd::Pid;

const STEP_NS: u64 = 1_000_000;
/// A thread that goes first is woken within some 50 µs; ten times that is no accident.
const LATE_NS: u64 = 500_000;
/// Any priority of `SCHED_FIFO` goes before whoever has none (sched(7)).
const PRIORITY: i32 = 10;

/// Of each CPU, the stretches in which it stood still: from, to, on `CLOCK_MONOTONIC`.
static FREEZES: Mutex<Vec<(usize, u64, u64)>> = Mutex::new(Vec::new());
static STARTED: Once = Once::new();

/// Begins to watch, if that was not done before.
pub fn watch() {
    STARTED.call_once(|| {
        let allowed = sched_getaffinity(Pid::from_raw(0)).expect("we know our CPUs");
        for cpu in (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)) {
            std::thread::spawn(move || tick(cpu));
        }
    });
}

/// For how long a CPU stood still in that stretch of time: the one that did so the longest.
pub fn within(from: u64, to: u64) -> u64 {
    let all = FREEZES.lock().expect("nobody panics in here");
    let mut by_cpu = std::collections::HashMap::new();
    for (cpu, began, ended) in all.iter() {
        *by_cpu.entry(cpu).or_insert(0) += (*ended).min(to).saturating_sub((*began).max(from));
    }
    by_cpu.into_values().max().unwrap_or(0)
}

fn tick(cpu: usize) {
    let mut only = CpuSet::new();
    let pinned = only.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &only));
    let first = nix::libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: takes a number and a struct that outlives the call; concerns this thread alone.
    #[allow(unsafe_code)]
    let goes_first = unsafe { nix::libc::sched_setscheduler(0, nix::libc::SCHED_FIFO, &first) };
    if pinned.is_err() || goes_first != 0 {
        return;
    }
    let mut due = now() + STEP_NS;
    loop {
        let until = TimeSpec::nanoseconds(i64::try_from(due).expect("not in 292 years"));
        let flags = ClockNanosleepFlags::TIMER_ABSTIME;
        let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, flags, &until);
        let woken = now();
        if woken > due + LATE_NS {
            // It may have stood still ever since it was here last.
            let freeze = (cpu, due - STEP_NS, woken);
            FREEZES.lock().expect("nobody panics in here").push(freeze);
        }
        due = (due + STEP_NS).max(woken + STEP_NS / 2);
    }
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the clock is there");
    u64::try_from(time.num_nanoseconds()).expect("it is not before the boot")
}
