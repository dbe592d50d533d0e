//! Pausing a thread of the target while its stack is read: `--blocking`, and never without it.
//!
//! Takes a thread, gives what was read while it could not move. A thread that sleeps is not paused:
//! it is read as it lies, and its scheduler clock proves that it slept on. So a pause never cuts a
//! system call short, and a thread the kernel cannot stop (in state D) is never waited for. Only
//! the one thread is paused, for as long as one stack is read; the others go on, though they may
//! have to wait for the interpreter lock if the paused one holds it.
//!
//! The pause is `PTRACE_SEIZE` and `PTRACE_INTERRUPT` (ptrace(2)) through `remoteprocess`: no
//! SIGSTOP is sent, so nothing is left behind that could keep the target stopped. It ends when
//! `Paused` is dropped, on every way out; should we be killed, the kernel ends it.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::procfs::{ProcError, ProcFs};
use super::thread_files::{SyscallState, ThreadFiles};
use crate::units::{Pid, Tid, Timestamp};

/// Why threads of a process cannot be paused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FreezeError {
    /// A thread has one tracer at most.
    #[error("it is traced by process {0} already")]
    Traced(Pid),
    /// No right to trace it, or a filter that forbids `ptrace`.
    #[error("the kernel does not let it be paused")]
    Denied,
    /// `/proc` does not tell.
    #[error(transparent)]
    Proc(#[from] ProcError),
}

/// Pauses threads of one process.
#[derive(Debug)]
pub struct Freezer {
    paused: Cell<u64>,
}

impl Freezer {
    /// Proves that threads of `pid` can be paused, by pausing its first one for a moment.
    ///
    /// # Errors
    /// See [`FreezeError`].
    pub fn new(procfs: &ProcFs, pid: Pid) -> Result<Freezer, FreezeError> {
        if let Some(tracer) = procfs.tracer(pid)? {
            return Err(FreezeError::Traced(tracer));
        }
        let freezer = Freezer { paused: Cell::new(0) };
        // One in state D would keep us waiting, one in T stands still already.
        let stoppable = !matches!(procfs.stat(pid)?.state, 'D' | 'T');
        match stoppable.then(|| freezer.pause(Tid(pid.0))) {
            // It may have been taken between the two looks.
            Some(Err(Errno::EPERM)) => Err(match procfs.tracer(pid)? {
                Some(tracer) => FreezeError::Traced(tracer),
                None => FreezeError::Denied,
            }),
            Some(Err(Errno::ENOSYS | Errno::EACCES)) => Err(FreezeError::Denied),
            _ => Ok(freezer),
        }
    }

    /// How often a thread was paused.
    #[must_use]
    pub fn paused(&self) -> u64 {
        self.paused.get()
    }

    /// Calls `read` while thread `tid` does not move: it sleeps, or it is paused. One that cannot
    /// be paused (it has just ended, a debugger has taken it) is read all the same.
    pub fn hold<T>(&self, files: &ThreadFiles, tid: Tid, mut read: impl FnMut() -> T) -> T {
        if files.syscall() != SyscallState::Running {
            let before = files.sched(Timestamp(0));
            let seen = read();
            if before.is_some() && before == files.sched(Timestamp(0)) {
                return seen;
            }
        }
        let paused = self.pause(tid);
        let seen = read();
        drop(paused);
        seen
    }

    fn pause(&self, tid: Tid) -> Result<Paused, Errno> {
        let stops = Stops::held_back();
        let thread = remoteprocess::Thread::new(tid.0).map_err(errno)?;
        let lock = thread.lock().map_err(errno)?;
        self.paused.set(self.paused.get().saturating_add(1));
        Ok(Paused { _lock: lock, _stops: stops, _here: PhantomData })
    }
}

/// A paused thread; it goes on when this is dropped.
#[must_use]
struct Paused {
    // Dropped in this order: the target goes on before we may be stopped.
    _lock: remoteprocess::ThreadLock,
    _stops: Stops,
    /// Only the thread of ours that paused it can let it go on (ptrace(2)).
    _here: PhantomData<*const ()>,
}

impl fmt::Debug for Paused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Paused")
    }
}

/// Our own stop by Ctrl-Z is held back: the target would stay paused for as long as we are.
struct Stops {
    before: Option<SigSet>,
}

impl Stops {
    fn held_back() -> Stops {
        let stops: SigSet =
            [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU].into_iter().collect();
        Stops { before: stops.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok() }
    }
}

impl Drop for Stops {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Setting a mask that was in force cannot fail (pthread_sigmask(3)).
            let _ = before.thread_set_mask();
        }
    }
}

fn errno(error: remoteprocess::Error) -> Errno {
    match error {
        remoteprocess::Error::NixError(errno) => errno,
        remoteprocess::Error::IOError(error) => {
            error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
        }
        _ => Errno::UnknownErrno,
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// Ended when dropped.
    struct Busy(Child);

    impl Busy {
        fn start(command: &str) -> Busy {
            let mut shell = Command::new("sh");
            Busy(shell.args(["-c", command]).stdout(Stdio::null()).spawn().unwrap())
        }

        fn pid(&self) -> Pid {
            Pid(self.0.id().cast_signed())
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn state(pid: Pid) -> char {
        ProcFs::host().stat(pid).unwrap().state
    }

    #[test]
    fn a_thread_that_runs_stands_still_while_it_is_read() {
        let busy = Busy::start("while :; do :; done");
        let procfs = ProcFs::host();
        // It may still be loading.
        let begins = std::time::Instant::now();
        while state(busy.pid()) != 'R' && begins.elapsed().as_secs() < 10 {}
        let freezer = Freezer::new(&procfs, busy.pid()).unwrap();
        let tid = Tid(busy.pid().0);
        let files = ThreadFiles::new(&procfs, busy.pid(), tid);
        let before = freezer.paused();
        let seen = freezer.hold(&files, tid, || state(busy.pid()));
        assert_eq!((seen, freezer.paused()), ('t', before + 1));
        assert_ne!(state(busy.pid()), 't');
        assert_eq!(procfs.tracer(busy.pid()).unwrap(), None);
    }

    #[test]
    fn a_thread_that_sleeps_is_left_alone() {
        let asleep = Busy::start("exec sleep 60");
        let procfs = ProcFs::host();
        while procfs.stat(asleep.pid()).unwrap().comm != "sleep" || state(asleep.pid()) != 'S' {
            std::thread::yield_now();
        }
        let freezer = Freezer::new(&procfs, asleep.pid()).unwrap();
        let tid = Tid(asleep.pid().0);
        let files = ThreadFiles::new(&procfs, asleep.pid(), tid);
        while files.syscall() == SyscallState::Running {
            std::thread::yield_now();
        }
        let before = freezer.paused();
        assert_eq!(freezer.hold(&files, tid, || state(asleep.pid())), 'S');
        assert_eq!(freezer.paused(), before);
    }

    #[test]
    fn a_stopped_process_stays_stopped() {
        let busy = Busy::start("kill -STOP $$; sleep 60");
        while state(busy.pid()) != 'T' {
            std::thread::yield_now();
        }
        let procfs = ProcFs::host();
        let freezer = Freezer::new(&procfs, busy.pid()).unwrap();
        let tid = Tid(busy.pid().0);
        let files = ThreadFiles::new(&procfs, busy.pid(), tid);
        freezer.hold(&files, tid, || ());
        assert_eq!(state(busy.pid()), 'T');
        assert_eq!(procfs.tracer(busy.pid()).unwrap(), None);
    }

    #[test]
    fn a_panic_lets_it_go_on() {
        let busy = Busy::start("while :; do :; done");
        let procfs = ProcFs::host();
        let freezer = Freezer::new(&procfs, busy.pid()).unwrap();
        let tid = Tid(busy.pid().0);
        let files = ThreadFiles::new(&procfs, busy.pid(), tid);
        let read =
            std::panic::AssertUnwindSafe(|| freezer.hold(&files, tid, || panic!("on purpose")));
        assert!(std::panic::catch_unwind(read).is_err());
        assert_ne!(state(busy.pid()), 't');
        assert_eq!(procfs.tracer(busy.pid()).unwrap(), None);
    }

    #[test]
    fn a_traced_process_names_its_tracer() {
        let busy = Busy::start("while :; do :; done");
        let procfs = ProcFs::host();
        let tid = nix::unistd::Pid::from_raw(busy.pid().0);
        nix::sys::ptrace::seize(tid, nix::sys::ptrace::Options::empty()).unwrap();
        let error = Freezer::new(&procfs, busy.pid()).unwrap_err();
        assert!(matches!(error, FreezeError::Traced(_)), "{error}");
        // It must stay traced up to here, by this thread.
        nix::sys::ptrace::interrupt(tid).unwrap();
    }
}
