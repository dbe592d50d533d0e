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
use crate::target::ThreadFiles;
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
        let few = threads.len() <= FEW;
        self.compare(few.then(|| threads.iter().map(|thread| &thread.files)))
    }

    /// What was read after it was last asked is not to be relied on.
    pub fn forget(&mut self) {
        self.spent.clear();
    }

    fn compare<'a>(&mut self, files: Option<impl Iterator<Item = &'a ThreadFiles>>) -> bool {
        if self.left_out > 0 {
            self.left_out -= 1;
            return false;
        }
        let spent = |files: &ThreadFiles| files.sched(Timestamp(0)).map(|sched| sched.on_cpu);
        let now: Option<Vec<Nanos>> = files.and_then(|mut all| {
            all.try_fold(Vec::new(), |mut done, one| {
                done.push(spent(one)?);
                Some(done)
            })
        });
        let now = now.unwrap_or_default();
        let is_quiet = !now.is_empty() && now == self.spent;
        self.spent = now;
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
    use crate::target::ProcFs;
    use crate::units::{Pid, Tid};

    /// A process of threads 1 and 2.
    struct Process {
        dir: tempfile::TempDir,
        files: Vec<ThreadFiles>,
    }

    impl Process {
        fn new() -> Process {
            let dir = tempfile::tempdir().unwrap();
            let procfs = ProcFs::at(dir.path());
            let files = (1..=2).map(|tid| ThreadFiles::new(&procfs, Pid(1), Tid(tid))).collect();
            let process = Process { dir, files };
            process.spend(1, 100);
            process.spend(2, 100);
            process
        }

        fn spend(&self, tid: i32, on_cpu: u64) {
            let folder = self.dir.path().join(format!("1/task/{tid}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("schedstat"), format!("{on_cpu} 5 7\n")).unwrap();
        }

        fn ask(&self, quiet: &mut Quiet) -> bool {
            quiet.compare(Some(self.files.iter()))
        }
    }

    #[test]
    fn quiet_as_long_as_no_thread_has_run() {
        let (process, mut quiet) = (Process::new(), Quiet::default());
        assert!(!process.ask(&mut quiet), "nothing to compare with");
        assert!(process.ask(&mut quiet) && process.ask(&mut quiet));
        process.spend(2, 101);
        assert!(!process.ask(&mut quiet));
        assert!(process.ask(&mut quiet));
        quiet.forget();
        assert!(!process.ask(&mut quiet));
        assert!(process.ask(&mut quiet));
    }

    #[test]
    fn what_cannot_be_read_is_not_quiet() {
        let mut quiet = Quiet::default();
        let none = ThreadFiles::new(&ProcFs::at("/nonexistent"), Pid(1), Tid(1));
        for _ in 0..3 {
            assert!(!quiet.compare(Some([&none].into_iter())));
            assert!(!quiet.compare(None::<std::iter::Empty<&ThreadFiles>>));
        }
    }

    #[test]
    fn a_busy_process_is_left_alone_and_found_at_rest_later() {
        let (process, mut quiet) = (Process::new(), Quiet::default());
        for spent in 0..u64::from(BUSY) {
            process.spend(1, 1000 + spent);
            assert!(!process.ask(&mut quiet));
        }
        // It has come to rest; nothing is said of the time that it was not asked in.
        for _ in 0..=LEFT_OUT {
            assert!(!process.ask(&mut quiet));
        }
        assert!(process.ask(&mut quiet));
    }
}
