//! The rule `single-process-state`: more workers would help, or there are several, and each has timers,
//! watches or a database of its own.
//!
//! Takes what lives in the processes, and whether a size asks for more of them. Where there is one worker
//! and it needs no other, what lives in it is no fault.

use crate::diagnosis::blocked::{count, ratio};
use crate::diagnosis::rules::too_few_workers::{self, COMPUTES_ITSELF, computes_itself};
use crate::diagnosis::{Case, Rule, background, residents, wording};
use crate::model::{Finding, Load, Recommendation, Remedy, Resident, Severity, Verdict};

/// See `docs/findings/single-process-state.md`.
#[derive(Debug)]
pub struct SingleProcessState;

impl Rule for SingleProcessState {
    fn id(&self) -> &'static str {
        "single-process-state"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/single-process-state.md")
    }

    fn explains(&self, finding: &Finding) -> Option<f64> {
        finding.figure(COMPUTES_ITSELF)
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let looked = |load: &&Load| {
            let mut workers = case.recording.processes.iter();
            workers.any(|one| load.workers.contains(&one.pid) && one.residents.is_some())
        };
        if !case.loads.is_empty() && !case.loads.iter().any(|load| looked(&load)) {
            return Verdict::NotEnoughData { need: "looks at a worker that are 2 s apart" };
        }
        let single = |load: &&Load| residents::is_single(load);
        // One for which workers were advised goes before one that has several.
        let held =
            case.loads.iter().filter(single).find_map(|load| Some((load, wanted(case, load)?)));
        if let Some((load, then)) = held {
            return Verdict::Found(self.held_back(case, load, then));
        }
        let several = case.loads.iter().find(|load| load.workers.len() > 1 && single(load));
        several.map_or(Verdict::Clear, |load| Verdict::Found(self.repeated(case, load)))
    }
}

impl SingleProcessState {
    /// More workers would help, and are not advised.
    fn held_back(&self, case: &Case<'_>, load: &Load, then: Recommendation) -> Finding {
        let own = residents::in_words(residents::repeated(load));
        let summary = format!("more workers would help, and repeat what lives in one: {own}");
        let mut finding =
            self.finding(load, Severity::Medium, summary, residents::instead(load, then));
        if !load.loops.is_empty() {
            finding.evidence.push(ratio(COMPUTES_ITSELF, computes_itself(case, load)));
        }
        finding
    }

    /// There are several workers already.
    fn repeated(&self, case: &Case<'_>, load: &Load) -> Finding {
        let own = || residents::repeated(load);
        let in_workers = in_workers(case, load);
        let summary = format!(
            "each of {} has its own: {}",
            wording::several(in_workers.max(2), "worker"),
            residents::in_words(own())
        );
        let advice = Recommendation {
            remedy: Remedy::Config,
            command:
                "if that is to be done once and not once in each worker, give it a process of its \
                      own, or let a lock pick the one worker that does it"
                    .to_owned(),
            reason: format!("each worker runs {}", residents::named(own())),
            inputs: residents::measured(own()),
            predicted: Vec::new(),
        };
        self.finding(load, Severity::Info, summary, advice)
    }

    fn finding(
        &self,
        load: &Load,
        severity: Severity,
        summary: String,
        advice: Recommendation,
    ) -> Finding {
        let mut evidence = residents::measured(residents::repeated(load));
        evidence.push(count("workers", load.workers.len()));
        Finding {
            id: self.id().to_owned(),
            severity,
            summary,
            evidence,
            stalls: Vec::new(),
            recommendations: vec![advice],
        }
    }
}

/// How many workers have any of what the load tells of.
fn in_workers(case: &Case<'_>, load: &Load) -> usize {
    let same = |one: &Resident| {
        residents::repeated(load).any(|known| known.kind == one.kind && known.name == one.name)
    };
    let workers = case.recording.processes.iter().filter(|one| load.workers.contains(&one.pid));
    workers.filter(|one| one.residents.iter().flatten().any(same)).count()
}

/// More workers, as they would be if nothing lived in them; `None` where none are wanted.
fn wanted(case: &Case<'_>, load: &Load) -> Option<Recommendation> {
    // That it is to leave the worker is said there, and what it keeps from requests.
    if background::instead_of_size(case, load).is_some() {
        return None;
    }
    match case.size_of(load) {
        Some(size) => size.more_workers(),
        None => too_few_workers::wanted(case, load),
    }
}
