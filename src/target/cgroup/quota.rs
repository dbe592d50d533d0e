//! The CPU quotas a process runs under, and the files that count how often each was spent, kept open
//! (cgroup v2: `cpu.max` and `cpu.stat`; v1: Documentation/scheduler/sched-bwc.rst).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{SMALL, Version, open, whole, words};
use crate::model::CpuQuota;
use crate::target::procfs::{ProcFs, decimal};
use crate::units::{Nanos, Pid};

/// One group with a quota.
#[derive(Debug)]
pub struct QuotaFile {
    /// Its quota.
    pub quota: CpuQuota,
    stat: File,
    directory: PathBuf,
}

/// How often and for how long a quota was spent so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleCounts {
    /// Periods in which it was.
    pub periods: u64,
    /// Time the group was kept off CPUs since it was made, over all of them together.
    pub time: Nanos,
}

impl QuotaFile {
    /// The counts now; `None` once the group is gone.
    #[must_use]
    pub fn read(&self) -> Option<ThrottleCounts> {
        let mut buf = [0; SMALL];
        let length = self.stat.read_at(&mut buf, 0).ok()?;
        counts(buf.get(..length)?)
    }

    /// Whether this is the same group as another.
    #[must_use]
    pub fn is_same(&self, other: &QuotaFile) -> bool {
        self.directory == other.directory
    }
}

impl ProcFs {
    /// The quotas above a process, the closest first; none where there is no limit, or where none
    /// can be seen.
    #[must_use]
    pub fn cpu_quotas(&self, pid: Pid) -> Vec<QuotaFile> {
        let Some((version, groups)) = self.groups(pid, b"cpu") else { return Vec::new() };
        let level = |directory: PathBuf| {
            let quota = quota(version, &directory)?;
            let stat = open(&directory.join("cpu.stat"))?;
            Some(QuotaFile { quota, stat, directory })
        };
        groups.into_iter().filter_map(level).collect()
    }
}

/// The quota of one group; `None` where it has no limit.
fn quota(version: Version, directory: &Path) -> Option<CpuQuota> {
    let text = |name: &str| whole(&directory.join(name), SMALL as u64);
    let (quota, period) = match version {
        Version::V2 => {
            let text = text("cpu.max")?;
            let mut words = words(&text);
            (decimal(words.next()?)?, decimal(words.next()?)?)
        }
        // Without a limit the quota is -1.
        Version::V1 => (
            decimal(words(&text("cpu.cfs_quota_us")?).next()?)?,
            decimal(words(&text("cpu.cfs_period_us")?).next()?)?,
        ),
    };
    let micros = |count: u64| Some(Nanos(count.checked_mul(1000)?));
    let (quota, period) = (micros(quota)?, micros(period)?);
    (quota > Nanos::ZERO && period > Nanos::ZERO).then_some(CpuQuota { quota, period })
}

fn counts(stat: &[u8]) -> Option<ThrottleCounts> {
    let value = |name: &[u8]| {
        stat.split(|byte| *byte == b'\n').find_map(|line| {
            let mut words = words(line);
            (words.next()? == name).then(|| decimal(words.next()?)).flatten()
        })
    };
    let time = match value(b"throttled_usec") {
        Some(micros) => micros.checked_mul(1000)?,
        None => value(b"throttled_time")?,
    };
    Some(ThrottleCounts { periods: value(b"nr_throttled")?, time: Nanos(time) })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tree::Tree;
    use super::*;

    fn quotas(tree: &Tree) -> Vec<(f64, ThrottleCounts)> {
        let quotas = tree.procfs().cpu_quotas(Pid(7));
        quotas.iter().map(|file| (file.quota.cpus(), file.read().unwrap())).collect()
    }

    const V2_STAT: &str = "usage_usec 9\nnr_periods 40\nnr_throttled 12\nthrottled_usec 345\n";
    const V2: ThrottleCounts = ThrottleCounts { periods: 12, time: Nanos(345_000) };

    #[test]
    fn every_group_with_a_quota_counts_the_closest_first() {
        let tree = Tree::new("0::/kube/pod/app\n");
        tree.mount("/", "cg", "cgroup2", "rw");
        tree.put("cg/kube/pod/app/cpu.max", "50000 100000\n");
        tree.put("cg/kube/pod/app/cpu.stat", V2_STAT);
        tree.put("cg/kube/pod/cpu.max", "max 100000\n");
        tree.put("cg/kube/pod/cpu.stat", V2_STAT);
        tree.put("cg/kube/cpu.max", "200000 100000\n");
        tree.put("cg/kube/cpu.stat", "nr_throttled 1\nthrottled_usec 2\n");
        let above = ThrottleCounts { periods: 1, time: Nanos(2_000) };
        assert_eq!(quotas(&tree), [(0.5, V2), (2.0, above)]);
    }

    #[test]
    fn the_older_interface_counts_in_nanoseconds() {
        let tree = Tree::new("4:memory:/other\n2:cpu,cpuacct:/box\n0::/elsewhere\n");
        tree.mount("/", "cg/cpu", "cgroup", "rw,cpu,cpuacct");
        tree.put("cg/cpu/box/cpu.cfs_quota_us", "20000\n");
        tree.put("cg/cpu/box/cpu.cfs_period_us", "100000\n");
        tree.put(
            "cg/cpu/box/cpu.stat",
            "nr_periods 17\nnr_throttled 16\nthrottled_time 1010591393\n",
        );
        tree.put("cg/cpu/cpu.cfs_quota_us", "-1\n");
        tree.put("cg/cpu/cpu.cfs_period_us", "100000\n");
        tree.put("cg/cpu/cpu.stat", "nr_throttled 0\nthrottled_time 0\n");
        let seen = ThrottleCounts { periods: 16, time: Nanos(1_010_591_393) };
        assert_eq!(quotas(&tree), [(0.2, seen)]);
    }

    #[test]
    fn a_mount_of_part_of_the_tree_is_understood() {
        // In a container that shares the host's names: only its own group is mounted.
        let tree = Tree::new("0::/docker/abc/worker\n");
        tree.mount("/docker/abc", "cg", "cgroup2", "rw");
        tree.put("cg/worker/cpu.max", "50000 100000\n");
        tree.put("cg/worker/cpu.stat", V2_STAT);
        assert_eq!(quotas(&tree), [(0.5, V2)]);
        // One of another container shows nothing of it.
        tree.mount("/docker/xyz", "cg", "cgroup2", "rw");
        assert_eq!(quotas(&tree), []);
    }

    #[test]
    fn where_we_have_no_mount_the_targets_is_used() {
        let tree = Tree::new("0::/app\n");
        tree.put("proc/7/mountinfo", "9 1 0:2 / /sys/fs/cgroup rw shared:4 - cgroup2 none rw\n");
        tree.put("proc/7/root/sys/fs/cgroup/app/cpu.max", "50000 100000");
        tree.put("proc/7/root/sys/fs/cgroup/app/cpu.stat", V2_STAT);
        assert_eq!(quotas(&tree), [(0.5, V2)]);
    }

    #[test]
    fn what_makes_no_sense_is_no_quota() {
        for cgroup in ["", "0::/../..", "nonsense", "0:", "1:cpu", "0::/gone"] {
            let tree = Tree::new(cgroup);
            tree.mount("/", "cg", "cgroup2", "rw");
            tree.put("cg/cpu.max", "0 0");
            tree.put("cg/cpu.stat", "");
            assert_eq!(quotas(&tree), [], "{cgroup}");
        }
        for stat in ["", "nr_throttled\n", "nr_throttled -3\nthrottled_usec 1", "\u{0}"] {
            assert_eq!(counts(stat.as_bytes()), None, "{stat:?}");
        }
        let vast = format!("nr_throttled 1\nthrottled_usec {}", u64::MAX);
        assert_eq!(counts(vast.as_bytes()), None);
    }

    #[test]
    fn nobody_waits_at_a_pipe() {
        let tree = Tree::new("0::/app\n");
        tree.mount("/", "cg", "cgroup2", "rw");
        fs::create_dir_all(tree.0.path().join("cg/app")).unwrap();
        let pipe = tree.0.path().join("cg/app/cpu.max");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(quotas(&tree), []);
    }
}
