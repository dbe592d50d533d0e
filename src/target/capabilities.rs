//! Capabilities: the parts root's power is divided into (capabilities(7)).
//!
//! Knows their numbers and names (include/uapi/linux/capability.h). Pure data; changes nothing.

use std::ops::BitOr;

/// A set of capabilities, one bit for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

/// By number, without `CAP_`; numbers are never given anew.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Capabilities {
    /// None.
    pub const NONE: Capabilities = Capabilities(0);
    /// Reads and writes any file.
    pub const DAC_OVERRIDE: Capabilities = Capabilities(1 << 1);
    /// Reads any file: those of `/proc` that only their owner may.
    pub const DAC_READ_SEARCH: Capabilities = Capabilities(1 << 2);
    /// Reads other processes.
    pub const SYS_PTRACE: Capabilities = Capabilities(1 << 19);
    /// Nearly everything; includes [`Capabilities::PERFMON`] and [`Capabilities::BPF`].
    pub const SYS_ADMIN: Capabilities = Capabilities(1 << 21);
    /// Goes before others on a CPU.
    pub const SYS_NICE: Capabilities = Capabilities(1 << 23);
    /// Watches other processes by perf events; since Linux 5.8.
    pub const PERFMON: Capabilities = Capabilities(1 << 38);
    /// Loads programs into the kernel; since Linux 5.8.
    pub const BPF: Capabilities = Capabilities(1 << 39);

    /// As `/proc/PID/status` writes a set.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Capabilities> {
        u64::from_str_radix(text, 16).ok().map(Capabilities)
    }

    /// Whether all of `others` are in it.
    #[must_use]
    pub fn has(self, others: Capabilities) -> bool {
        others.0 & !self.0 == 0
    }

    /// Those that are not in `others`.
    #[must_use]
    pub fn without(self, others: Capabilities) -> Capabilities {
        Capabilities(self.0 & !others.0)
    }

    /// Those that are in `others`, too.
    #[must_use]
    pub fn among(self, others: Capabilities) -> Capabilities {
        Capabilities(self.0 & others.0)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their names without `CAP_`, by number; those without a name are left out.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let numbered = NAMES.into_iter().enumerate();
        numbered.filter(move |(number, _)| self.0 >> number & 1 == 1).map(|(_, name)| name)
    }
}

impl BitOr for Capabilities {
    type Output = Capabilities;

    fn bitor(self, others: Capabilities) -> Capabilities {
        Capabilities(self.0 | others.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_belong_together() {
        for (one, name) in [
            (Capabilities::DAC_OVERRIDE, "DAC_OVERRIDE"),
            (Capabilities::DAC_READ_SEARCH, "DAC_READ_SEARCH"),
            (Capabilities::SYS_PTRACE, "SYS_PTRACE"),
            (Capabilities::SYS_ADMIN, "SYS_ADMIN"),
            (Capabilities::SYS_NICE, "SYS_NICE"),
            (Capabilities::PERFMON, "PERFMON"),
            (Capabilities::BPF, "BPF"),
        ] {
            assert_eq!(one.names().collect::<Vec<_>>(), [name]);
        }
        assert_eq!(Capabilities(1 << 63).names().count(), 0);
    }

    #[test]
    fn sets() {
        let two = Capabilities::SYS_NICE | Capabilities::BPF;
        assert!(two.has(Capabilities::BPF) && !Capabilities::BPF.has(two));
        assert_eq!(two.without(Capabilities::BPF), Capabilities::SYS_NICE);
        assert_eq!(two.among(Capabilities::BPF), Capabilities::BPF);
        assert!(Capabilities::NONE.is_empty() && two.has(Capabilities::NONE));
        assert_eq!(Capabilities::from_hex("000001fffeffffff"), Some(Capabilities(0x1ff_feff_ffff)));
        assert_eq!(Capabilities::from_hex("xyz"), None);
    }
}
