//! The rule `slow-loop-implementation`: asyncio's loop or an HTTP parser in Python takes a large share of
//! the CPU where the same is to be had in C.
//!
//! Takes what threads spent their time on. That share is the most that there is to gain: what
//! replaces them takes a part of it again.

use crate::diagnosis::blocked::ratio;
use crate::diagnosis::rules::busy_idle;
use crate::diagnosis::size::LEAST_REQUESTS;
use crate::diagnosis::{Case, Rule, wording};
use crate::model::{
    Finding, LoopKind, Measured, ProcessInfo, Recommendation, Remedy, SettingValue, Severity,
    ThreadUse, Verdict, WorkerClass,
};
use crate::units::to_f64;

/// Below this use of a CPU nobody gains by a faster loop: requests wait for something else.
const BUSY: f64 = 0.5;
/// From this share of that CPU time on: a fifth less is what a reader of a graph can see, and the
/// loops in C take something as well.
const LARGE: f64 = 0.2;
/// From this share on it is the first thing to do.
const LARGEST: f64 = 0.5;
/// Samples at which it ran, at the least: the share's standard error is then at most 0.05
/// (√(p (1 − p) / n)).
const LEAST_SAMPLES: u64 = 100;

/// See `docs/findings/slow-loop-implementation.md`.
#[derive(Debug)]
pub struct SlowLoopImplementation;

impl Rule for SlowLoopImplementation {
    fn id(&self) -> &'static str {
        "slow-loop-implementation"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/slow-loop-implementation.md")
    }

    fn explains(&self, finding: &Finding) -> Option<f64> {
        finding.figure("of_the_time")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        if busy_idle::is_found(case) {
            return Verdict::Clear;
        }
        let on_asyncio = case.uses.iter().filter(|one| {
            let event_loop = one.loop_id.and_then(|id| case.recording.get_loop(id));
            event_loop.is_some_and(|info| info.kind == LoopKind::Asyncio)
                && one.running_share().is_some_and(|share| share >= BUSY)
        });
        let found = on_asyncio.filter_map(|one| {
            let process = case.recording.get_process(one.pid)?;
            let served = process.requests.served();
            let is_large = own_share(one) >= LARGE && served.is_none_or(|n| n >= LEAST_REQUESTS);
            is_large.then_some((one, process, served))
        });
        let worst = found.max_by(|a, b| own_share(a.0).total_cmp(&own_share(b.0)));
        let Some((used, process, served)) = worst else { return Verdict::Clear };
        let Some(command) = command(process, used) else { return Verdict::Clear };
        if served.is_none() {
            return Verdict::NotEnoughData { need: "the server's own count of its requests" };
        }
        if used.running < LEAST_SAMPLES {
            return Verdict::NotEnoughData { need: "100 samples at which the loop ran" };
        }
        Verdict::Found(finding(self.id(), used, command, served))
    }
}

fn own_share(used: &ThreadUse) -> f64 {
    used.loop_share() + used.parser_share()
}

fn finding(id: &str, used: &ThreadUse, command: String, served: Option<u64>) -> Finding {
    let share = own_share(used);
    let on_cpu = used.running_share().unwrap_or(0.0);
    let parser = if used.in_parser > 0 {
        format!(" and {} h11, a parser in Python", wording::percent(used.parser_share()))
    } else {
        String::new()
    };
    let mut evidence = vec![
        ratio("of_the_time", share * on_cpu),
        ratio("on_cpu", on_cpu),
        ratio("of_it_in_the_loop", used.loop_share()),
        ratio("of_it_in_the_parser", used.parser_share()),
        Measured::new("samples", to_f64(used.running), "count"),
    ];
    evidence.extend(served.map(|served| Measured::new("requests", to_f64(served), "count")));
    let severity = if share >= LARGEST { Severity::Medium } else { Severity::Low };
    Finding {
        id: id.to_owned(),
        severity,
        summary: format!(
            "{} of the worker's CPU time is asyncio's own loop{parser}; uvloop and httptools do the \
             same in C",
            wording::percent(used.loop_share()),
        ),
        evidence: evidence.clone(),
        stalls: Vec::new(),
        recommendations: vec![Recommendation {
            remedy: Remedy::Config,
            command,
            reason: format!(
                "at most {} of its CPU time can go, a bound: system calls and what a loop in C takes itself \
                 stay",
                wording::percent(share)
            ),
            inputs: evidence,
            predicted: Vec::new(),
        }],
    }
}

/// What to type; `None` of a server that has no other loop.
fn command(process: &ProcessInfo, used: &ThreadUse) -> Option<String> {
    let is_set = |name: &str, value: &str| {
        let setting = process.config.get(name).map(|setting| &setting.value);
        matches!(setting, Some(SettingValue::Text(text)) if text == value)
    };
    let install =
        "`pip install 'uvicorn[standard]'` (uvloop and httptools; uvicorn takes them by itself)";
    match (process.topology.server.as_str(), process.topology.class) {
        ("hypercorn", _) => Some(
            "`pip install 'hypercorn[uvloop]'`, then `hypercorn --worker-class uvloop`".to_owned(),
        ),
        (_, WorkerClass::Uvicorn) | ("uvicorn", _) => {
            let mut all = vec![install.to_owned()];
            if is_set("loop", "asyncio") {
                all.push("drop `--loop asyncio`".to_owned());
            }
            if is_set("http", "h11") && used.in_parser > 0 {
                all.push("drop `--http h11`".to_owned());
            }
            Some(all.join(", and "))
        }
        _ => None,
    }
}
