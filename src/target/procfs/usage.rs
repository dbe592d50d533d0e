//! What a process took of memory and CPUs: `smaps_rollup` and its threads' `schedstat` and `status`.

use std::collections::HashMap;

use super::machine::kibibytes;
use super::status::words;
use super::{ProcError, ProcFs, SMALL, decimal};
use crate::units::{Nanos, Pid, Tid};

/// One thread's turns on the CPUs since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadTurns {
    /// Time it was ready and waited for a CPU.
    pub run_delay: Nanos,
    /// Times it went to sleep.
    pub voluntary: u64,
    /// Times it was put off its CPU.
    pub involuntary: u64,
}

impl ProcFs {
    /// Memory that no other process shares, in bytes (`Private_*` of `smaps_rollup`, Linux 4.14). The
    /// kernel walks all its pages for that, and lets others change the map in between since 5.10
    /// (fs/proc/task_mmu.c, `show_smaps_rollup`): to be asked for once, not again and again.
    #[must_use]
    pub fn private_bytes(&self, pid: Pid) -> Option<u64> {
        let text = self.bytes(pid, "smaps_rollup", SMALL).ok()?;
        let (clean, dirty) =
            (kibibytes(&text, b"Private_Clean:")?, kibibytes(&text, b"Private_Dirty:")?);
        clean.checked_add(dirty)
    }

    /// By how much the resident memory of a process was once larger, in bytes (`VmHWM` of `status`: fs/proc/task_mmu.c,
    /// `task_mem`; in a forked process it begins anew: kernel/fork.c, `dup_mm`).
    #[must_use]
    pub fn shrunk_bytes(&self, pid: Pid) -> Option<u64> {
        let status = self.bytes(pid, "status", SMALL).ok()?;
        let (peak, resident) = (kibibytes(&status, b"VmHWM:")?, kibibytes(&status, b"VmRSS:")?);
        Some(peak.saturating_sub(resident))
    }

    /// The turns of all threads of a process. Those that end meanwhile are left out.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn turns(&self, pid: Pid) -> Result<HashMap<Tid, ThreadTurns>, ProcError> {
        let mut all = HashMap::new();
        for tid in self.tids(pid)? {
            if let Some(turns) = self.thread_turns(pid, tid) {
                all.insert(tid, turns);
            }
        }
        Ok(all)
    }

    fn thread_turns(&self, pid: Pid, tid: Tid) -> Option<ThreadTurns> {
        let status = self.bytes(pid, &format!("task/{tid}/status"), SMALL).ok()?;
        let count = |key| words(&status, key).next()?.parse().ok();
        // A kernel without that account has no such file.
        let sched = self.bytes(pid, &format!("task/{tid}/schedstat"), SMALL).unwrap_or_default();
        let delay = sched.split(u8::is_ascii_whitespace).nth(1).and_then(decimal);
        Some(ThreadTurns {
            run_delay: Nanos(delay.unwrap_or(0)),
            voluntary: count(b"voluntary_ctxt_switches:")?,
            involuntary: count(b"nonvoluntary_ctxt_switches:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_read_of_each_thread() {
        let dir = tempfile::tempdir().unwrap();
        for (tid, sched) in [(7, Some("100 20 3\n")), (8, None)] {
            let task = dir.path().join(format!("7/task/{tid}"));
            std::fs::create_dir_all(&task).unwrap();
            let status = "voluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t2\n";
            std::fs::write(task.join("status"), status).unwrap();
            if let Some(sched) = sched {
                std::fs::write(task.join("schedstat"), sched).unwrap();
            }
        }
        let turns = ProcFs::at(dir.path()).turns(Pid(7)).unwrap();
        let seen = |delay| ThreadTurns { run_delay: Nanos(delay), voluntary: 5, involuntary: 2 };
        assert_eq!(turns, HashMap::from([(Tid(7), seen(20)), (Tid(8), seen(0))]));
    }

    #[test]
    fn private_memory_is_what_nobody_shares() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("7")).unwrap();
        let text = "5-7 ---p 0 00:00 0 [rollup]\nRss: 90 kB\nPss: 50 kB\nPrivate_Clean: 4 kB\n\
                    Private_Dirty: 30 kB\n";
        std::fs::write(dir.path().join("7/smaps_rollup"), text).unwrap();
        let procfs = ProcFs::at(dir.path());
        assert_eq!(procfs.private_bytes(Pid(7)), Some(34 * 1024));
        assert_eq!(procfs.private_bytes(Pid(8)), None);
        assert_eq!(procfs.shrunk_bytes(Pid(7)), None);
        let status = "Name:\tpython3\nVmHWM:\t     190 kB\nVmRSS:\t      90 kB\n";
        std::fs::write(dir.path().join("7/status"), status).unwrap();
        assert_eq!(procfs.shrunk_bytes(Pid(7)), Some(100 * 1024));
    }
}
