//! The CPU quotas a process runs under: its control group's and those above it.
//!
//! Takes a pid, gives the files that count how often each quota was spent, kept open (cgroup v2:
//! Documentation/admin-guide/cgroup-v2.rst, `cpu.max` and `cpu.stat`; v1:
//! Documentation/scheduler/sched-bwc.rst). The groups are looked for where our own mounts show them,
//! then where the target's do. All of it is optional: what cannot be read is no quota. Never writes,
//! and never waits for a file that is none.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use super::procfs::{ProcFs, decimal};
use crate::model::CpuQuota;
use crate::units::{Nanos, Pid};

/// Most groups above each other that are asked. Kubernetes nests five; the kernel's own limit can be
/// set by the user and is none by default.
const MAX_LEVELS: usize = 16;
/// Largest `mountinfo` taken: a host of many containers has thousands of mounts of 200 bytes.
const MOUNTS: u64 = 4 << 20;
/// Largest file of a group taken, and largest `/proc/PID/cgroup`. `cpu.stat` has ten short lines.
const SMALL: usize = 4096;

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

/// Which of the two interfaces a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl ProcFs {
    /// The quotas above a process, the closest first; none where there is no limit, or where none
    /// can be seen.
    #[must_use]
    pub fn cpu_quotas(&self, pid: Pid) -> Vec<QuotaFile> {
        let Some((version, group)) = self.cpu_group(pid) else { return Vec::new() };
        let own = (self.top("self/mountinfo"), PathBuf::new());
        let targets = (self.path(pid, "mountinfo"), self.path(pid, "root"));
        for (mounts, root) in [own, targets] {
            let Some(mounts) = whole(&mounts, MOUNTS) else { continue };
            for (mount, inside) in places(&mounts, version, &group) {
                let mount = under(&root, &mount);
                if mount.join(&inside).is_dir() {
                    return levels(version, &mount, &inside);
                }
            }
        }
        Vec::new()
    }

    /// The process's group in the hierarchy that limits CPU time, as `/proc/PID/cgroup` names it
    /// (cgroups(7)).
    fn cpu_group(&self, pid: Pid) -> Option<(Version, PathBuf)> {
        let text = whole(&self.path(pid, "cgroup"), SMALL as u64)?;
        let mut unified = None;
        for line in text.split(|byte| *byte == b'\n') {
            let mut parts = line.splitn(3, |byte| *byte == b':');
            let (Some(_), Some(controllers), Some(path)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let path = PathBuf::from(OsStr::from_bytes(path));
            if controllers.split(|byte| *byte == b',').any(|name| name == b"cpu") {
                return Some((Version::V1, path));
            }
            if controllers.is_empty() {
                unified = Some((Version::V2, path));
            }
        }
        unified
    }
}

/// Where mounts show a group: mount points, and the group's path below them (proc_pid_mountinfo(5)).
fn places(mounts: &[u8], version: Version, group: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for line in mounts.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let (Some(root), Some(point)) = (fields.get(3), fields.get(4)) else { continue };
        let Some(dash) = fields.iter().position(|field| *field == b"-") else { continue };
        let mut after = fields.iter().skip(dash.saturating_add(1));
        let (kind, options) = (after.next(), after.nth(1));
        let is_it = match version {
            Version::V2 => kind.is_some_and(|kind| *kind == b"cgroup2"),
            Version::V1 => {
                kind.is_some_and(|kind| *kind == b"cgroup")
                    && options.is_some_and(|options| {
                        options.split(|byte| *byte == b',').any(|option| option == b"cpu")
                    })
            }
        };
        let root = PathBuf::from(OsStr::from_bytes(root));
        if let Ok(inside) = group.strip_prefix(&root)
            && is_it
            && inside.components().all(|part| matches!(part, Component::Normal(_)))
        {
            found.push((PathBuf::from(OsStr::from_bytes(point)), inside.to_owned()));
        }
    }
    found
}

/// `path`, which begins at `/`, as seen from below `root`; itself without one.
fn under(root: &Path, path: &Path) -> PathBuf {
    if root.as_os_str().is_empty() {
        return path.to_owned();
    }
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn levels(version: Version, mount: &Path, inside: &Path) -> Vec<QuotaFile> {
    let level = |group: &Path| {
        let directory = mount.join(group);
        let quota = quota(version, &directory)?;
        let stat = open(&directory.join("cpu.stat"))?;
        Some(QuotaFile { quota, stat, directory })
    };
    inside.ancestors().take(MAX_LEVELS).filter_map(level).collect()
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

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// A whole file of at most `cap` bytes.
fn whole(path: &Path, cap: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(cap.saturating_add(1)).read_to_end(&mut bytes).ok()?;
    u64::try_from(bytes.len()).is_ok_and(|length| length <= cap).then_some(bytes)
}

/// Opened so that a pipe put in its place by the target keeps nobody waiting.
fn open(path: &Path) -> Option<File> {
    OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A `/proc` and control groups, both made up.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(cgroup: &str) -> Tree {
            let tree = Tree(tempfile::tempdir().unwrap());
            tree.put("proc/7/cgroup", cgroup);
            fs::create_dir_all(tree.0.path().join("proc/self")).unwrap();
            tree
        }

        fn put(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// A mount of ours, at `point` in the tree.
        fn mount(&self, root: &str, point: &str, kind: &str, options: &str) {
            let point = self.0.path().join(point);
            let text =
                format!("31 23 0:28 {root} {} rw - {kind} {kind} {options}\n", point.display());
            self.put("proc/self/mountinfo", &text);
        }

        fn quotas(&self) -> Vec<(f64, ThrottleCounts)> {
            let quotas = ProcFs::at(self.0.path().join("proc")).cpu_quotas(Pid(7));
            quotas.iter().map(|file| (file.quota.cpus(), file.read().unwrap())).collect()
        }
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
        assert_eq!(tree.quotas(), [(0.5, V2), (2.0, above)]);
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
        assert_eq!(tree.quotas(), [(0.2, seen)]);
    }

    #[test]
    fn a_mount_of_part_of_the_tree_is_understood() {
        // In a container that shares the host's names: only its own group is mounted.
        let tree = Tree::new("0::/docker/abc/worker\n");
        tree.mount("/docker/abc", "cg", "cgroup2", "rw");
        tree.put("cg/worker/cpu.max", "50000 100000\n");
        tree.put("cg/worker/cpu.stat", V2_STAT);
        assert_eq!(tree.quotas(), [(0.5, V2)]);
        // One of another container shows nothing of it.
        tree.mount("/docker/xyz", "cg", "cgroup2", "rw");
        assert_eq!(tree.quotas(), []);
    }

    #[test]
    fn where_we_have_no_mount_the_targets_is_used() {
        let tree = Tree::new("0::/app\n");
        tree.put("proc/7/mountinfo", "9 1 0:2 / /sys/fs/cgroup rw shared:4 - cgroup2 none rw\n");
        tree.put("proc/7/root/sys/fs/cgroup/app/cpu.max", "50000 100000");
        tree.put("proc/7/root/sys/fs/cgroup/app/cpu.stat", V2_STAT);
        assert_eq!(tree.quotas(), [(0.5, V2)]);
    }

    #[test]
    fn what_makes_no_sense_is_no_quota() {
        for cgroup in ["", "0::/../..", "nonsense", "0:", "1:cpu", "0::/gone"] {
            let tree = Tree::new(cgroup);
            tree.mount("/", "cg", "cgroup2", "rw");
            tree.put("cg/cpu.max", "0 0");
            tree.put("cg/cpu.stat", "");
            assert_eq!(tree.quotas(), [], "{cgroup}");
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
        assert_eq!(tree.quotas(), []);
    }
}
