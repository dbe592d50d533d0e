//! The report: a recording and everything concluded from it. What exporters write.

use super::{Cause, Culprit, Finding, Load, LoopId, NameId, Recommendation, Recording, Stall};
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

impl Report {
    /// Everything there is to do: what gains most first, as far as that was predicted. What was not keeps its
    /// place, or goes with the change before it in the same finding. Last comes what to leave
    /// as it is. What two findings say in the same words, or of the same line, is there once.
    #[must_use]
    pub fn advice(&self) -> Vec<&Recommendation> {
        let mut groups: Vec<Vec<&Recommendation>> = Vec::new();
        for finding in &self.findings {
            let mut is_first = true;
            for one in finding.recommendations.iter().filter(|one| !one.keeps()) {
                match groups.last_mut().filter(|_| !is_first && one.gain().is_none()) {
                    Some(group) => group.push(one),
                    None => groups.push(vec![one]),
                }
                is_first = false;
            }
        }
        let gain = |group: &Vec<&Recommendation>| group.first().and_then(|one| one.gain());
        let is_ranked: Vec<bool> = groups.iter().map(|group| gain(group).is_some()).collect();
        let (mut ranked, others): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| gain(group).is_some());
        // The sort is stable: of equals the one that explains more stays first.
        ranked.sort_by(|a, b| gain(b).unwrap_or(0.0).total_cmp(&gain(a).unwrap_or(0.0)));
        let (mut ranked, mut others) = (ranked.into_iter(), others.into_iter());
        let next = |is_ranked: bool| if is_ranked { ranked.next() } else { others.next() };
        let changes = is_ranked.into_iter().filter_map(next).flatten();
        let all = self.findings.iter().flat_map(|finding| &finding.recommendations);
        let mut told: Vec<&Recommendation> = Vec::new();
        for one in changes.chain(all.filter(|one| one.keeps())) {
            let is_told = |before: &&mut &Recommendation| {
                (&before.command, &before.reason) == (&one.command, &one.reason)
                    || before.line().is_some()
                        && before.line() == one.line()
                        && self.is_of_stalls(before)
                        && self.is_of_stalls(one)
            };
            match told.iter_mut().find(is_told) {
                // Two remedies of one line are in each other's way: the one that gains more stays.
                Some(before) if before.gain() < one.gain() => *before = one,
                Some(_) => {}
                None => told.push(one),
            }
        }
        told
    }

    /// Whether a recommendation is of a finding about stalls: what else there is to do at such a line, to keep a
    /// connection that is made there, is not in the way of what ends them.
    fn is_of_stalls(&self, one: &Recommendation) -> bool {
        let of_stalls = self.findings.iter().filter(|finding| !finding.stalls.is_empty());
        { of_stalls.flat_map(|finding| &finding.recommendations) }
            .any(|other| std::ptr::eq(other, one))
    }
}
