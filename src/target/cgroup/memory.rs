//! The memory a process's control groups may use (cgroup v2: `memory.max`, `memory.high`,
//! `memory.current`; v1: `memory.limit_in_bytes`, `memory.usage_in_bytes`,
//! Documentation/admin-guide/cgroup-v1/memory.rst).

use std::path::Path;

use super::{SMALL, Version, whole, words};
use crate::target::procfs::{ProcFs, decimal};
use crate::units::Pid;

/// A limit this large is none: v1 writes the largest number of pages there is, in bytes
/// (`PAGE_COUNTER_MAX`, include/linux/page_counter.h).
const UNLIMITED: u64 = 1 << 60;

/// The tightest limit above a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// How much its group may use before processes are killed or slowed, in bytes.
    pub limit: u64,
    /// How much that group uses, caches included, in bytes; `None` if it does not say.
    pub used: Option<u64>,
}

impl ProcFs {
    /// The lowest limit among the groups above a process; `None` where there is none, or where none
    /// can be seen.
    #[must_use]
    pub fn memory_limit(&self, pid: Pid) -> Option<MemoryLimit> {
        let (version, groups) = self.groups(pid, b"memory")?;
        let limits = groups.iter().filter_map(|group| limit_of(version, group));
        limits.min_by_key(|limit| limit.limit)
    }
}

fn limit_of(version: Version, directory: &Path) -> Option<MemoryLimit> {
    let bytes = |name: &str| {
        let text = whole(&directory.join(name), SMALL as u64)?;
        // Without a limit v2 says `max`.
        decimal(words(&text).next()?)
    };
    let (limits, used) = match version {
        Version::V2 => (&["memory.max", "memory.high"][..], "memory.current"),
        Version::V1 => (&["memory.limit_in_bytes"][..], "memory.usage_in_bytes"),
    };
    let limit = limits.iter().filter_map(|name| bytes(name)).min()?;
    (limit < UNLIMITED).then(|| MemoryLimit { limit, used: bytes(used) })
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::*;

    fn limit(cgroup: &str, mount: &str, files: &[(&str, &str)]) -> Option<MemoryLimit> {
        Tree::mounted(cgroup, mount, files).procfs().memory_limit(Pid(7))
    }

    #[test]
    fn the_tightest_of_all_groups_counts() {
        let files = [
            ("pod/app/memory.max", "max\n"),
            ("pod/app/memory.current", "5000\n"),
            ("pod/memory.max", "900000\n"),
            ("pod/memory.high", "700000\n"),
            ("pod/memory.current", "6000\n"),
            ("memory.max", "800000\n"),
        ];
        let found = limit("0::/pod/app\n", "cgroup2 cgroup2 rw", &files);
        assert_eq!(found, Some(MemoryLimit { limit: 700_000, used: Some(6000) }));
    }

    #[test]
    fn the_older_interface_writes_a_vast_number_for_none() {
        let at = |text: &str| {
            let files = [("box/memory.limit_in_bytes", text), ("box/memory.usage_in_bytes", "x")];
            limit("3:memory:/box\n2:cpu:/other\n", "cgroup cgroup rw,memory", &files)
        };
        assert_eq!(at("1048576\n"), Some(MemoryLimit { limit: 1_048_576, used: None }));
        assert_eq!(at("9223372036854771712\n"), None);
        assert_eq!(at("-1\n"), None);
    }
}
