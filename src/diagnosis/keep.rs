//! Where a size was computed and is right, it is said: keep it, and why.
//!
//! Takes the findings of a case, adds to the one that speaks of its loops, or of health, what to leave alone. Says
//! nothing where some finding wants another number of workers or threads.

use super::thread_size::ThreadSize;
use super::{Case, size};
use crate::model::{Finding, Remedy, SettingKind};

/// Findings that the number of workers belongs to: of blocked loops it is what people change first.
const SPEAK_OF_SIZE: [&str; 4] =
    ["loop-blocked-by-call", "loop-blocked-by-cpu", "loop-blocked-by-native", "healthy"];

/// Adds what to keep, the findings being in their order.
pub fn attach<'a>(case: &Case<'_>, findings: impl Iterator<Item = &'a mut Finding>) {
    let mut findings: Vec<&mut Finding> = findings.collect();
    let sizes = |remedy: &Remedy| {
        matches!(remedy, Remedy::Setting { kind: SettingKind::Workers | SettingKind::Threads, .. })
    };
    let mut all = findings.iter().flat_map(|finding| &finding.recommendations);
    if all.any(|one| sizes(&one.remedy)) {
        return;
    }
    let mut speaks = findings.iter_mut().filter(|one| SPEAK_OF_SIZE.contains(&one.id.as_str()));
    let Some(finding) = speaks.next() else { return };
    finding.recommendations.extend(case.sizes.iter().filter_map(ThreadSize::to_keep));
    finding.recommendations.extend(case.loads.iter().filter_map(size::loops_to_keep));
}
