//! The rule `oom-killed`: the kernel killed a worker because there was no memory left.
//!
//! Takes processes that ended when their control group counted a kill. What one of them did then is named, and not
//! blamed: the kernel takes whoever has most.

use super::worker_timeout_ahead::ended_with;
use crate::diagnosis::blocked::count;
use crate::diagnosis::{Case, Rule, wording};
use crate::model::{
    Finding, Measured, ProcessInfo, Recommendation, Remedy, Role, Severity, Verdict,
};
use crate::units::to_f64;

/// See `docs/findings/oom-killed.md`.
#[derive(Debug)]
pub struct OomKilled;

impl Rule for OomKilled {
    fn id(&self) -> &'static str {
        "oom-killed"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/oom-killed.md")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let ended = || case.recording.processes.iter().filter(|one| one.ended.is_some());
        let killed: Vec<&ProcessInfo> =
            ended().filter(|one| one.killed_for_memory == Some(true)).collect();
        let Some(last) = killed.last() else {
            let is_unknown =
                |one: &ProcessInfo| one.topology.is_server() && one.killed_for_memory.is_none();
            return match ended().any(is_unknown) {
                true => {
                    Verdict::NotEnoughData { need: "its control group's count of kills for memory" }
                }
                false => Verdict::Clear,
            };
        };
        let stalls: Vec<usize> = { case.stalls.iter().enumerate() }
            .filter(|(_, stall)| {
                !stall.allowed
                    && killed.iter().any(|one| one.pid == stall.pid)
                    && ended_with(case, stall)
            })
            .map(|(index, _)| index)
            .collect();
        let evidence = evidence(case, &killed);
        Verdict::Found(Finding {
            id: self.id().to_owned(),
            severity: Severity::High,
            summary: summary(case, last, killed.len(), &stalls),
            recommendations: recommendations(last, &evidence),
            evidence,
            stalls,
        })
    }
}

fn summary(case: &Case<'_>, last: &ProcessInfo, several: usize, stalls: &[usize]) -> String {
    let what = if last.topology.role == Role::Worker { "worker" } else { "process" };
    let others = match several {
        1 => String::new(),
        several => format!("{several} of its processes, the last of them "),
    };
    let limit = limit(case)
        .map_or(String::new(), |limit| format!("; its control group may use {limit:.0} MiB"));
    let tables = &case.recording.tables;
    let at = stalls.iter().rev().filter_map(|index| case.stalls.get(*index));
    let mut at = at.filter(|stall| stall.pid == last.pid);
    let during = at.next().map_or(String::new(), |stall| {
        let endpoint = stall.endpoint.map(|name| tables.text(name).to_owned());
        let place = stall.culprit.as_ref().map(|one| wording::place(case.recording, one.frame));
        let both: Vec<String> = endpoint.into_iter().chain(place).collect();
        if both.is_empty() { String::new() } else { format!(", in {}", both.join(", ")) }
    });
    format!(
        "the kernel killed {others}{what} {} for memory{during}: it had {:.0} MiB when last looked at{limit}",
        last.pid,
        mebibytes(last.rss_bytes)
    )
}

fn mebibytes(bytes: u64) -> f64 {
    to_f64(bytes) / wording::MEBIBYTE
}

/// What the control group may use, in MiB: those that did not end were asked.
fn limit(case: &Case<'_>) -> Option<f64> {
    let limits = case.recording.processes.iter().filter_map(|one| one.budget.memory_limit_bytes);
    limits.min().map(mebibytes)
}

fn evidence(case: &Case<'_>, killed: &[&ProcessInfo]) -> Vec<Measured> {
    let most = killed.iter().map(|one| one.rss_bytes).max().unwrap_or(0);
    let mut all = vec![
        count("killed", killed.len()),
        Measured::new("resident_before", mebibytes(most), "MiB"),
    ];
    all.extend(limit(case).map(|limit| Measured::new("memory_limit", limit, "MiB")));
    all
}

/// More memory, or fewer that share it; and what helps where each takes more and more.
fn recommendations(last: &ProcessInfo, evidence: &[Measured]) -> Vec<Recommendation> {
    let advice = |remedy, command: String, reason: &str| Recommendation {
        remedy,
        command,
        reason: reason.to_owned(),
        inputs: evidence.to_vec(),
        predicted: Vec::new(),
    };
    let is_worker = last.topology.role == Role::Worker;
    let fewer = if is_worker { ", or run fewer workers" } else { "" };
    let mut all = vec![advice(
        Remedy::Platform,
        format!(
            "keep less in memory at once (read and answer in pieces, bound what one request may ask for); give the \
             container more memory (Kubernetes: `resources.limits.memory`, Docker: `--memory`){fewer}"
        ),
        "the kernel kills whoever has most when there is none left, in the middle of whatever it does: its clients get \
         no answer",
    )];
    let renewed = match last.topology.server.as_str() {
        "gunicorn" | "hypercorn" => Some("`--max-requests` with `--max-requests-jitter`"),
        "uvicorn" => Some("`--limit-max-requests`"),
        _ => None,
    };
    all.extend(renewed.filter(|_| is_worker).map(|option| {
        advice(
            Remedy::Config,
            format!("{option}, if its memory grows from request to request"),
            "a worker that is renewed in time gives back what it has gathered, and ends between two requests",
        )
    }));
    all
}
