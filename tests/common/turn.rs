//! Takes turns: never more than two servers at a time, whatever number of tests runs, as each of
//! them wants a core and what they measure is time.
#![allow(dead_code)] // each test binary uses some of it

use std::sync::{Condvar, Mutex};

use super::interpreters::Python;

const AT_A_TIME: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// The right to run a server; given back when dropped.
#[derive(Debug)]
pub struct Turn(());

impl Turn {
    /// Waits for a turn.
    pub fn take() -> Turn {
        let running = RUNNING.lock().expect("nobody panics in here");
        let full = |running: &mut usize| *running >= AT_A_TIME;
        *ENDED.wait_while(running, full).expect("nobody panics in here") += 1;
        Turn(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Ok(mut running) = RUNNING.lock() {
            *running = running.saturating_sub(1);
            ENDED.notify_one();
        }
    }
}

/// Runs a test under each interpreter, two at a time; panics with all that failed.
pub fn each(pythons: &[Python], test: impl Fn(&Python) + Sync) {
    let failed: Vec<String> = std::thread::scope(|scope| {
        let test = &test;
        let started: Vec<_> = pythons
            .iter()
            .map(|python| {
                let run = move || {
                    let _turn = Turn::take();
                    test(python);
                };
                (python, scope.spawn(run))
            })
            .collect();
        let joined = started.into_iter().map(|(python, thread)| (python, thread.join()));
        joined.filter_map(|(python, end)| end.err().map(|why| describe(python, &*why))).collect()
    });
    assert!(
        failed.is_empty(),
        "{} of {} failed:\n{}",
        failed.len(),
        pythons.len(),
        failed.join("\n")
    );
}

fn describe(python: &Python, why: &(dyn std::any::Any + Send)) -> String {
    let text = why.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| why.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
    format!("{python}: {text}")
}
