//! Whether the threads of a process have been on a CPU at all since they were last asked.
//!
//! While none has, none of them has begun or ended a thread, and what the interpreter keeps is as it
//! was: what was read of it is true still. One `pread` a thread tells, by the CPU time that the kernel
//! has booked for it. Decides nothing.
//!
//! A thread that is on a CPU all the while is booked its time at each tick of the scheduler, and when it
//! goes to sleep (`update_curr`, kernel/sched/fair.c): a look that comes within one tick of the last may
//! miss it, the next does not. Threads that the interpreter does not know are not asked, so whoever
//! relies on this looks anyway now and then.

use super::thread_watch::ThreadWatch;
use crate::units::{Nanos, Timestamp};

/// Processes of more threads are not asked: all that this spares is two reads of 10 µs, and each thread
/// costs one of 1.5.
const FEW: usize = 4;
/// A process found at work so many times in a row is not asked the next [`LEFT_OUT`] times: one that
/// wakes ten times a second, as uvicorn's do, never is at rest.
const BUSY: u8 = 3;
const LEFT_OUT: u8 = 16;

/// What the threads had used when they were last asked.
#[derive(Debug, Default)]
pub struct Quiet {
    spent: Vec<Nanos>,
    /// Found at work so many times in a row.
    busy: u8,
    /// To be left out so many times more.
    left_out: u8,
}

impl Quiet {
    /// Whether none of the threads has been on a CPU since this was asked before. No if that is not known.
    /// Ask before reading what is to be true until the next time.
    pub fn ask(&mut self, threads: &[ThreadWatch]) -> bool {
        if self.left_out > 0 {
            self.left_out -= 1;
            return false;
        }
        let of = |watch: &ThreadWatch| watch.files.sched(Timestamp(0)).map(|sched| sched.on_cpu);
        let few = Some(threads).filter(|threads| threads.len() <= FEW);
        self.compare(few.and_then(|threads| threads.iter().map(of).collect()))
    }

    /// What was read after it was last asked is not to be relied on.
    pub fn forget(&mut self) {
        self.spent.clear();
    }

    /// `spent` is what each thread has used, if all of that is known.
    fn compare(&mut self, spent: Option<Vec<Nanos>>) -> bool {
        let spent = spent.unwrap_or_default();
        let is_quiet = !spent.is_empty() && spent == self.spent;
        self.spent = spent;
        self.busy = if is_quiet { 0 } else { self.busy.saturating_add(1) };
        if self.busy >= BUSY {
            (self.busy, self.left_out) = (0, LEFT_OUT);
            self.forget();
        }
        is_quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(quiet: &mut Quiet, spent: [u64; 2]) -> bool {
        quiet.compare(Some(spent.map(Nanos).to_vec()))
    }

    #[test]
    fn quiet_as_long_as_no_thread_has_run() {
        let mut quiet = Quiet::default();
        assert!(!ask(&mut quiet, [100, 100]), "nothing to compare with");
        assert!(ask(&mut quiet, [100, 100]) && ask(&mut quiet, [100, 100]));
        assert!(!ask(&mut quiet, [100, 101]));
        assert!(ask(&mut quiet, [100, 101]));
        assert!(!quiet.compare(Some(vec![Nanos(100)])), "a thread has ended");
        assert!(!ask(&mut quiet, [100, 101]));
        assert!(ask(&mut quiet, [100, 101]));
        quiet.forget();
        assert!(!ask(&mut quiet, [100, 101]));
    }

    #[test]
    fn what_is_not_known_is_not_quiet() {
        let mut quiet = Quiet::default();
        for unknown in [None, None, Some(Vec::new()), Some(Vec::new())] {
            assert!(!quiet.compare(unknown));
        }
        assert!(!quiet.ask(&[]));
    }

    #[test]
    fn a_busy_process_is_left_alone_and_found_at_rest_later() {
        let mut quiet = Quiet::default();
        for spent in 0..u64::from(BUSY) {
            assert!(!ask(&mut quiet, [spent, 0]));
        }
        for left in (0..LEFT_OUT).rev() {
            assert!(!quiet.ask(&[]));
            assert_eq!(quiet.left_out, left);
        }
        // Nothing is said of the time that it was not asked in.
        assert!(!ask(&mut quiet, [2, 0]));
        assert!(ask(&mut quiet, [2, 0]));
    }
}
