//! Findings and recommendations as JSON.

use serde::Serialize;

use super::place::{self, SpotOut};
use crate::model::{Effect, Finding, Measured, Recommendation, Recording, Remedy, Severity};

/// One finding, or a rule that could not tell.
#[derive(Serialize)]
pub(super) struct FindingOut<'a> {
    id: &'a str,
    severity: Severity,
    verdict: &'static str,
    summary: &'a str,
    evidence: &'a [Measured],
    stalls: &'a [usize],
    recommendations: Vec<RecommendationOut<'a>>,
}

/// A rule's finding.
pub(super) fn found<'a>(recording: &'a Recording, finding: &'a Finding) -> FindingOut<'a> {
    let advice = finding.recommendations.iter();
    FindingOut {
        id: &finding.id,
        severity: finding.severity,
        verdict: "found",
        summary: &finding.summary,
        evidence: &finding.evidence,
        stalls: &finding.stalls,
        recommendations: advice.map(|one| recommendation(recording, one)).collect(),
    }
}

/// A rule that had not enough to go by; the summary says what it needs.
pub(super) fn undecided<'a>(id: &'a str, need: &'a str) -> FindingOut<'a> {
    FindingOut {
        id,
        severity: Severity::Info,
        verdict: "not_enough_data",
        summary: need,
        evidence: &[],
        stalls: &[],
        recommendations: Vec::new(),
    }
}

#[derive(Serialize)]
struct RecommendationOut<'a> {
    kind: &'static str,
    place: Option<SpotOut<'a>>,
    setting: Option<&'a str>,
    current: Option<u32>,
    recommended: Option<u32>,
    range: Option<[u32; 2]>,
    command: &'a str,
    reason: &'a str,
    limited_by: Option<&'a str>,
    inputs: &'a [Measured],
    predicted: &'a [Effect],
}

fn recommendation<'a>(
    recording: &'a Recording,
    advice: &'a Recommendation,
) -> RecommendationOut<'a> {
    let out = RecommendationOut {
        kind: "code",
        place: None,
        setting: None,
        current: None,
        recommended: None,
        range: None,
        command: &advice.command,
        reason: &advice.reason,
        limited_by: None,
        inputs: &advice.inputs,
        predicted: &advice.predicted,
    };
    match &advice.remedy {
        Remedy::Code { frame } => {
            RecommendationOut { place: Some(place::spot(recording, *frame)), ..out }
        }
        Remedy::Config => RecommendationOut { kind: "config", ..out },
        Remedy::Platform => RecommendationOut { kind: "platform", ..out },
        Remedy::Setting { kind, setting, current, recommended, suggested, limited_by } => {
            RecommendationOut {
                kind: kind.name(),
                setting: Some(setting),
                current: *current,
                recommended: Some(*recommended),
                range: Some([suggested.lo, suggested.hi]),
                limited_by: Some(limited_by),
                ..out
            }
        }
    }
}
