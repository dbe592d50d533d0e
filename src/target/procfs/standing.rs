//! What a process may do and who may look at it: users, capabilities, filters, namespaces, cgroup.
//!
//! Knows `status` (proc_pid_status(5)), the links in `ns/` (namespaces(7)), `cgroup` (cgroups(7)),
//! and that the kernel gives the files of a process that may not be read to root
//! (`task_dump_owner`, fs/proc/base.c). Judges nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::status::words;
use super::{ProcError, ProcFs, SMALL};
use crate::target::Capabilities;
use crate::units::Pid;

/// The first namespaces of a system, by inode (include/linux/proc_ns.h).
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// What `/proc/PID/status` says of a process's rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its real, effective and saved user.
    pub uids: [u32; 3],
    /// Capabilities it may use.
    pub permitted: Capabilities,
    /// Capabilities in force.
    pub effective: Capabilities,
    /// The most it could ever get by starting another program.
    pub bounding: Capabilities,
    /// Whether programs it starts gain nothing by setuid or file capabilities.
    pub no_new_privs: bool,
    /// Whether a seccomp filter judges its system calls.
    pub is_filtered: bool,
    /// Whether it has memory of its own: not so a kernel thread, or a process that has ended.
    pub has_memory: bool,
}

impl ProcFs {
    /// A process's rights.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn standing(&self, pid: Pid) -> Result<Standing, ProcError> {
        let text = self.bytes(pid, "status", SMALL)?;
        parse(&text).ok_or_else(|| self.malformed(pid, "status", "rights are missing"))
    }

    /// Which namespace of a kind (`user`, `pid`, `mnt`) a process is in.
    ///
    /// # Errors
    /// Any [`ProcError`]: those of others are shown only to who may read them.
    pub fn namespace(&self, pid: Pid, kind: &str) -> Result<u64, ProcError> {
        let file = format!("ns/{kind}");
        let link = self.link(pid, &file)?;
        let number = link.to_str().and_then(|link| {
            link.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
        });
        number.ok_or_else(|| self.malformed(pid, &file, "no namespace"))
    }

    /// Whether a process is in the user namespace the system started with.
    ///
    /// # Errors
    /// As [`ProcFs::namespace`].
    pub fn is_in_first_user_namespace(&self, pid: Pid) -> Result<bool, ProcError> {
        Ok(self.namespace(pid, "user")? == FIRST_USER_NAMESPACE)
    }

    /// The same for the pid namespace.
    ///
    /// # Errors
    /// As [`ProcFs::namespace`].
    pub fn is_in_first_pid_namespace(&self, pid: Pid) -> Result<bool, ProcError> {
        Ok(self.namespace(pid, "pid")? == FIRST_PID_NAMESPACE)
    }

    /// Its cgroup: the one of version 2, else the longest of the others, which names a container
    /// if any does. `/` is the root, or hidden by a cgroup namespace.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn cgroup(&self, pid: Pid) -> Result<String, ProcError> {
        let text = self.bytes(pid, "cgroup", SMALL)?;
        Ok(longest_cgroup(&String::from_utf8_lossy(&text)))
    }

    /// Whether its user may read it: not so after it gave up its first user, or gained rights when
    /// it was started (prctl(2), `PR_SET_DUMPABLE`). `None` where the files' owner does not tell,
    /// as they are root's in any case.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn is_open_to_its_user(&self, pid: Pid) -> Result<Option<bool>, ProcError> {
        let user = self.uid(pid)?;
        let facts = fs::metadata(self.path(pid, "environ"));
        let facts = facts.map_err(|error| self.explain(pid, "environ", error))?;
        Ok((user != 0).then_some(facts.uid() == user))
    }
}

fn parse(text: &[u8]) -> Option<Standing> {
    let mut uids = words(text, b"Uid:").map_while(|word| word.parse().ok());
    let set = |key| words(text, key).next().and_then(Capabilities::from_hex);
    let flag = |key| words(text, key).next().is_some_and(|word| word != "0");
    Some(Standing {
        uids: [uids.next()?, uids.next()?, uids.next()?],
        permitted: set(b"CapPrm:")?,
        effective: set(b"CapEff:")?,
        bounding: set(b"CapBnd:")?,
        no_new_privs: flag(b"NoNewPrivs:"),
        is_filtered: flag(b"Seccomp:"),
        has_memory: words(text, b"VmSize:").next().is_some(),
    })
}

/// `0::/a/b`, one line for each hierarchy.
fn longest_cgroup(text: &str) -> String {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.max_by_key(|path| path.len()).unwrap_or("/").to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATUS: &[u8] = b"Name:\tx\nUid:\t33\t34\t35\t36\nVmSize:\t  12 kB\nCapPrm:\t0400\n\
        CapEff:\t0000\nCapBnd:\t01ff\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn a_status_is_read() {
        let standing = parse(STATUS).unwrap();
        assert_eq!(standing.uids, [33, 34, 35]);
        assert_eq!(standing.permitted, Capabilities(0x400));
        assert_eq!(standing.effective, Capabilities::NONE);
        assert_eq!(standing.bounding, Capabilities(0x1ff));
        assert!(standing.no_new_privs && standing.is_filtered && standing.has_memory);
        assert_eq!(parse(b"Uid:\t1\t1\t1\t1\n"), None);
    }

    #[test]
    fn a_cgroup_that_says_something_is_preferred() {
        assert_eq!(longest_cgroup("0::/system.slice/x.service\n"), "/system.slice/x.service");
        assert_eq!(longest_cgroup("4:memory:/docker/ab:cd\n1:cpu:/\n0::/\n"), "/docker/ab:cd");
        assert_eq!(longest_cgroup(""), "/");
    }

    #[test]
    fn our_own() {
        let (procfs, pid) = (ProcFs::host(), Pid(std::process::id().cast_signed()));
        let standing = procfs.standing(pid).unwrap();
        assert!(standing.has_memory && standing.permitted.has(standing.effective));
        assert_eq!(standing.uids[1], nix::unistd::geteuid().as_raw());
        assert!(procfs.namespace(pid, "user").unwrap() > 0);
        assert!(procfs.cgroup(pid).unwrap().starts_with('/'));
        assert_ne!(procfs.is_open_to_its_user(pid).unwrap(), Some(false));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = longest_cgroup(&String::from_utf8_lossy(&bytes));
        }
    }
}
