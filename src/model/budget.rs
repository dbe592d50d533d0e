//! What a process may use and what it took: CPU quotas, memory, turns on the CPUs.

use serde::{Deserialize, Serialize};

use super::CpuQuota;
use crate::units::Nanos;

/// What one process may use. Unknown is `None`, and never 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// The CPU quotas of its control groups, the closest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quotas: Vec<CpuQuota>,
    /// The tightest memory limit of its control groups, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// What the group with that limit used, caches included, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<u64>,
    /// Memory that is its own alone: what one more process like it takes, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_bytes: Option<u64>,
    /// The most that was its own alone, as far as the peak of its resident memory tells: what one more process like it
    /// takes at its worst moment, while it loads its data perhaps, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_peak_bytes: Option<u64>,
}

impl Budget {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Budget::default()
    }

    /// The CPUs that the tightest quota allows; `None` without a quota.
    #[must_use]
    pub fn quota_cpus(&self) -> Option<f64> {
        self.quotas.iter().map(|quota| quota.cpus()).min_by(f64::total_cmp)
    }
}

/// How a process's threads came by the CPUs while it was watched, over those that were there at the
/// end: a lower bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns {
    /// Time they were ready to run and waited for a CPU, added up.
    pub run_delay: Nanos,
    /// Times they went to sleep.
    pub voluntary: u64,
    /// Times they were put off a CPU.
    pub involuntary: u64,
}

impl Turns {
    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Turns::default()
    }
}

/// The whole machine over the recording.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// CPUs that are online; 0 is unknown.
    pub cpus: u32,
    /// CPU time used by everything on it, our own included.
    pub busy: Nanos,
    /// CPU time in which it had nothing to run.
    pub idle: Nanos,
    /// CPU time that a host took from a virtual machine.
    pub stolen: Nanos,
    /// Memory that can be had without swapping, in bytes, at the end (`MemAvailable`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_available_bytes: Option<u64>,
}

impl Machine {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Machine::default()
    }

    /// CPUs that had nothing to run, on average; `None` if that was not counted.
    #[must_use]
    pub fn idle_cpus(&self) -> Option<f64> {
        let all = self.busy + self.idle + self.stolen;
        (all > Nanos::ZERO && self.cpus > 0).then(|| self.idle.share_of(all) * f64::from(self.cpus))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_quota_counts_and_none_is_no_limit() {
        let quota = |micros| CpuQuota {
            quota: Nanos::from_micros(micros),
            period: Nanos::from_micros(100_000),
        };
        let mut budget = Budget::default();
        assert_eq!(budget.quota_cpus(), None);
        budget.quotas = vec![quota(200_000), quota(50_000)];
        assert_eq!(budget.quota_cpus(), Some(0.5));
    }

    #[test]
    fn idle_is_a_share_of_all_cpus() {
        let second = Nanos::from_secs(1);
        let machine = Machine { cpus: 4, busy: second, idle: second, ..Machine::default() };
        assert_eq!(machine.idle_cpus(), Some(2.0));
        assert_eq!(Machine::default().idle_cpus(), None);
    }
}
