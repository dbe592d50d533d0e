//! CPU quotas, and times a group of processes was kept off the CPUs because its quota was spent.

use serde::{Deserialize, Serialize};

use crate::units::{Nanos, Pid, Timestamp};

/// A limit on the CPU time of a control group: so much in each period, over all its CPUs together
/// (Documentation/scheduler/sched-bwc.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CpuQuota {
    /// CPU time it may use in a period.
    #[serde(rename = "quota_ns")]
    pub quota: Nanos,
    /// The period.
    #[serde(rename = "period_ns")]
    pub period: Nanos,
}

impl CpuQuota {
    /// The quota in CPUs: 0.5 is half of one.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // real ones stay far below 2^53 ns
    pub fn cpus(self) -> f64 {
        // Not by way of seconds: 0.2 is to be 0.2.
        if self.period.0 == 0 { 0.0 } else { self.quota.0 as f64 / self.period.0 as f64 }
    }

    /// The quota in words: `0.5 CPUs`, `1 CPU`.
    #[must_use]
    pub fn name(self) -> String {
        let rounded = format!("{:.2}", self.cpus());
        let short = rounded.trim_end_matches('0').trim_end_matches('.');
        format!("{short} {}", if short == "1" { "CPU" } else { "CPUs" })
    }
}

/// A rise of a control group's account of throttling, seen between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// The process that is in the group, or in one below it.
    pub pid: Pid,
    /// The reading before the rise.
    #[serde(rename = "from_ns")]
    pub from: Timestamp,
    /// The reading that showed it.
    #[serde(rename = "until_ns")]
    pub until: Timestamp,
    /// Periods more in which the quota was spent (`nr_throttled`).
    pub periods: u64,
    /// Time more that the group was kept off CPUs, over all of them together (`throttled_usec`,
    /// `throttled_time`). The kernel adds it when the group may run again, so part of it may lie
    /// before `from`.
    #[serde(rename = "time_ns")]
    pub time: Nanos,
    /// The quota that was spent.
    pub quota: CpuQuota,
}

/// What a spent quota took of one stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttled {
    /// The quota.
    pub quota: CpuQuota,
    /// Time of the stall in which the thread was ready and its group was kept off the CPUs.
    pub time: Nanos,
    /// Periods whose quota was spent.
    pub periods: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_told_in_cpus() {
        let name = |quota, period| {
            CpuQuota { quota: Nanos::from_micros(quota), period: Nanos::from_micros(period) }.name()
        };
        assert_eq!(name(50_000, 100_000), "0.5 CPUs");
        assert_eq!(name(100_000, 100_000), "1 CPU");
        assert_eq!(name(1_000_000, 100_000), "10 CPUs");
        assert_eq!(name(12_345, 100_000), "0.12 CPUs");
    }
}
