//! The CPU quotas of one process under observation: notes when one was spent.
//!
//! Reads are paced: often while a loop stalls, else once in a period of the kernel's own default, so
//! that a process without a quota costs nothing and one with it next to nothing.

use super::notes::Notes;
use crate::model::Throttle;
use crate::target::{ProcFs, QuotaFile, ThrottleCounts};
use crate::units::{Nanos, Pid, Timestamp};

/// Distance of readings while nothing stalls: the period of a quota unless changed
/// (`default_cfs_period`, kernel/sched/fair.c), in which it can be spent once.
const CALM: Nanos = Nanos::from_millis(100);
/// Least distance of readings in a stall. One costs 2 µs, on cgroup v2 more as all CPUs are added up.
const IN_STALL: Nanos = Nanos::from_millis(2);
/// How often the groups are looked for again: limits can be changed, processes moved.
const AGAIN: Nanos = Nanos::from_secs(5);

/// The quotas above one process.
#[derive(Debug, Default)]
pub struct ThrottleWatch {
    levels: Vec<Level>,
    /// The last reading of all of them.
    read: Option<Timestamp>,
    /// When the groups are looked for next.
    next_search: Timestamp,
    was_stalled: bool,
}

#[derive(Debug)]
struct Level {
    file: QuotaFile,
    counts: Option<ThrottleCounts>,
}

impl ThrottleWatch {
    /// Reads the counts if it is time. `stalled`: a loop of the process is being looked into.
    pub fn see(
        &mut self,
        procfs: &ProcFs,
        pid: Pid,
        notes: &mut Notes,
        stalled: bool,
        at: Timestamp,
    ) {
        // A search may take a while, and a stall is no time for it.
        if at >= self.next_search && !stalled {
            self.next_search = at + AGAIN;
            self.search(procfs, pid);
        }
        let was_stalled = std::mem::replace(&mut self.was_stalled, stalled);
        if self.levels.is_empty() {
            return;
        }
        let distance = match (stalled, was_stalled) {
            (true, _) => IN_STALL,
            // What the stall's end has booked.
            (false, true) => Nanos::ZERO,
            (false, false) => CALM,
        };
        if self.read.is_some_and(|read| at.since(read) < distance) {
            return;
        }
        let from = self.read.replace(at);
        for level in &mut self.levels {
            let now = level.file.read();
            if let (Some(from), Some(before), Some(now)) = (from, level.counts, now) {
                let time = now.time.saturating_sub(before.time);
                let periods = now.periods.saturating_sub(before.periods);
                if time > Nanos::ZERO || periods > 0 {
                    let quota = level.file.quota;
                    notes.throttle(Throttle { pid, from, until: at, periods, time, quota });
                }
            }
            level.counts = now.or(level.counts);
        }
    }

    fn search(&mut self, procfs: &ProcFs, pid: Pid) {
        let known = std::mem::take(&mut self.levels);
        let counts = |file: &QuotaFile| {
            known.iter().find(|level| level.file.is_same(file)).and_then(|level| level.counts)
        };
        let files = procfs.cpu_quotas(pid).into_iter();
        self.levels = files.map(|file| Level { counts: counts(&file), file }).collect();
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // the control group is a made-up one
mod tests {
    use std::fs;

    use super::*;

    fn ms(n: u64) -> Timestamp {
        Timestamp(n * 1_000_000)
    }

    #[test]
    fn a_rise_is_noted_with_the_readings_around_it() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let stat = |periods: u64, micros: u64| {
            put("cg/app/cpu.stat", &format!("nr_throttled {periods}\nthrottled_usec {micros}\n"));
        };
        put("proc/7/cgroup", "0::/app\n");
        let mount = dir.path().join("cg");
        put("proc/self/mountinfo", &format!("1 1 0:1 / {} rw - cgroup2 x rw\n", mount.display()));
        put("cg/app/cpu.max", "20000 100000\n");
        stat(5, 5_000);
        let procfs = ProcFs::at(dir.path().join("proc"));
        let (mut watch, mut notes) = (ThrottleWatch::default(), Notes::default());
        let mut see = |notes: &mut Notes, at, stalled| {
            watch.see(&procfs, Pid(7), notes, stalled, ms(at));
        };
        // What was before is nobody's business.
        see(&mut notes, 0, false);
        see(&mut notes, 200, false);
        assert!(notes.throttles.is_empty());
        stat(6, 85_000);
        // Not yet time; then it is; then the stall is over.
        see(&mut notes, 250, false);
        assert!(notes.throttles.is_empty());
        see(&mut notes, 251, true);
        stat(6, 86_000);
        see(&mut notes, 252, true);
        see(&mut notes, 253, false);
        see(&mut notes, 254, false);
        let told: Vec<_> = notes
            .throttles
            .iter()
            .map(|rise| (rise.from, rise.until, rise.periods, rise.time))
            .collect();
        let (first, second) = (Nanos::from_millis(80), Nanos::from_millis(1));
        assert_eq!(told, [(ms(200), ms(251), 1, first), (ms(251), ms(253), 0, second)]);
        assert!(notes.throttles.iter().all(|rise| rise.quota.name() == "0.2 CPUs"));
        // A search keeps what was known of a group.
        stat(7, 87_000);
        see(&mut notes, 6_000, false);
        assert_eq!(notes.throttles.len(), 3);
    }
}
