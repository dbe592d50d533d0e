//! The rule `dev-server`: what serves requests is meant for development.

use crate::diagnosis::blocked::ratio;
use crate::diagnosis::{Case, Rule, often, residents, size, wording};
use crate::model::{Finding, ListenerInfo, Load, Recommendation, Remedy, Severity, Verdict};
use crate::sizing::shape::{MOST_THREADS, TARGET_USE};
use crate::units::{to_f64, whole};

/// See `docs/findings/dev-server.md`.
#[derive(Debug)]
pub struct DevServer;

impl Rule for DevServer {
    fn id(&self) -> &'static str {
        "dev-server"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/dev-server.md")
    }

    fn explains(&self, finding: &Finding) -> Option<f64> {
        finding.figure("waiting_share")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let Some(load) = case.loads.iter().find(|load| load.development) else {
            return Verdict::Clear;
        };
        let (command, reason) = instead(load, threads(case, load));
        let waiting = waiting(case, load).filter(|share| *share >= often::SELDOM);
        let line = waiting.map_or(String::new(), |share| {
            format!(
                ": one process takes connections one by one, and others waited to be accepted {} of the time",
                wording::percent(share)
            )
        });
        Verdict::Found(Finding {
            id: self.id().to_owned(),
            severity: waiting
                .map_or(Severity::Low, |share| often::severity(share).max(Severity::Low)),
            summary: format!("{} runs as a development server{line}", load.server),
            evidence: waiting.map(|share| ratio("waiting_share", share)).into_iter().collect(),
            stalls: Vec::new(),
            recommendations: vec![Recommendation {
                remedy: Remedy::Config,
                command,
                reason,
                inputs: Vec::new(),
                predicted: Vec::new(),
            }],
        })
    }
}

/// The share of time in which connections waited for a server that gives each a thread; `None` where a loop serves, of
/// which other rules speak.
fn waiting(case: &Case<'_>, load: &Load) -> Option<f64> {
    let own = case.recording.processes.iter().filter(|one| load.workers.contains(&one.pid));
    let lines = own.filter(|_| load.loops.is_empty()).flat_map(|one| &one.listeners);
    let enough = lines.filter(|line| line.queue.looks >= often::LEAST_LOOKS);
    enough.filter_map(ListenerInfo::waiting_share).max_by(f64::total_cmp)
}

/// Threads of each worker for what was served at the same time at most, at a use of ρ.
fn threads(case: &Case<'_>, load: &Load) -> u32 {
    let own = case.recording.processes.iter().filter(|one| load.workers.contains(&one.pid));
    let most = own.filter_map(|one| one.occupancy.most()).max().unwrap_or(0);
    let workers = f64::from(workers_of(load));
    let wanted = to_f64(most as u64) / TARGET_USE / workers;
    whole(wanted.ceil()).clamp(FEW_THREADS, MOST_THREADS)
}

/// Threads of a worker where nothing is known of the load: that a request that waits lets others run.
const FEW_THREADS: u32 = 4;

/// The rule of thumb; 1 where more would repeat what lives in the one process.
fn workers_of(load: &Load) -> u32 {
    if residents::is_single(load) {
        return 1;
    }
    load.cores.rule_of_thumb()
}

/// Workers of a server with loops: one for each CPU; `None` for one, which it has unless it is told: where more would
/// repeat what lives in it, or have as little to do.
fn loops_workers(load: &Load) -> Option<u32> {
    let is_one = residents::is_single(load) || size::loops_to_keep(load).is_some();
    (!is_one).then(|| load.cores.whole()).filter(|count| *count > 1)
}

/// The command line for production, and why.
fn instead(load: &Load, threads: u32) -> (String, String) {
    let workers = workers_of(load);
    let option = loops_workers(load).map_or(String::new(), |count| format!(" --workers {count}"));
    let reloads = "it watches files and starts anew when one changes; one process serves everybody";
    match load.server.as_str() {
        "uvicorn" => (
            format!(
                "`uvicorn MODULE:APP{option}`, without `--reload` (`fastapi run` for `fastapi dev`)"
            ),
            reloads.to_owned(),
        ),
        "hypercorn" => {
            (format!("`hypercorn MODULE:APP{option}`, without `--reload`"), reloads.to_owned())
        }
        "sanic" => (
            format!("`sanic MODULE:APP{option}`, without `--dev`, `--auto-reload` and `debug`"),
            reloads.to_owned(),
        ),
        "gunicorn" => ("drop `--reload`".to_owned(), reloads.to_owned()),
        server => (
            format!(
                "`gunicorn --workers {workers} --threads {threads} MODULE:APP`, then record it under load"
            ),
            format!(
                "{server}'s own server starts a thread for every connection, without a limit, in one \
                 process; 2 × cores + 1 workers are gunicorn's rule of thumb to begin with"
            ),
        ),
    }
}
