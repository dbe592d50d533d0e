//! The report: a recording and everything concluded from it. What exporters write.

use super::{Cause, Culprit, Finding, Load, LoopId, NameId, Recording, Stall};
use crate::units::Nanos;

/// All stalls with the same culprit and cause.
#[derive(Debug, Clone, PartialEq)]
pub struct CulpritTotal {
    /// Whether they held threads of their own, and no loop.
    pub occupies: bool,
    /// The culprit of the longest of them.
    pub culprit: Option<Culprit>,
    /// The endpoint they share, if they do.
    pub endpoint: Option<NameId>,
    /// Their cause.
    pub cause: Cause,
    /// How many.
    pub count: usize,
    /// Their lengths together.
    pub total: Nanos,
    /// The longest.
    pub max: Nanos,
    /// Their part of all stalled time, 0 to 1.
    pub share: f64,
    /// Whether `--allow` accepts them.
    pub allowed: bool,
}

/// One loop's figures.
#[derive(Debug, Clone, PartialEq)]
pub struct LoopSummary {
    /// Which loop.
    pub loop_id: LoopId,
    /// Share of time outside the poll.
    pub utilization: Option<f64>,
    /// Median delay an event met.
    pub lag_p50: Option<Nanos>,
    /// 99th percentile of it.
    pub lag_p99: Option<Nanos>,
    /// The longest stall.
    pub lag_max: Nanos,
}

/// Everything known and concluded about one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What was observed.
    pub recording: Recording,
    /// Stalls, in order of their beginning.
    pub stalls: Vec<Stall>,
    /// Culprits, the costliest first; allowed ones last.
    pub culprits: Vec<CulpritTotal>,
    /// Loops.
    pub loops: Vec<LoopSummary>,
    /// Servers: what they had to do, and what with.
    pub loads: Vec<Load>,
    /// Findings, the one that explains most first.
    pub findings: Vec<Finding>,
    /// Rules that could not tell, and what they would need.
    pub undecided: Vec<(&'static str, &'static str)>,
    /// One sentence.
    pub verdict: String,
}
