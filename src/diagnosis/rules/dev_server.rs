//! The rule `dev-server`: what serves requests is meant for development.

use crate::diagnosis::{Case, Rule};
use crate::model::{Finding, Load, Recommendation, Remedy, Severity, Verdict};

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

    fn check(&self, case: &Case<'_>) -> Verdict {
        let Some(load) = case.loads.iter().find(|load| load.development) else {
            return Verdict::Clear;
        };
        let (command, reason) = instead(load);
        Verdict::Found(Finding {
            id: self.id().to_owned(),
            severity: Severity::Low,
            summary: format!("{} runs as a development server", load.server),
            evidence: Vec::new(),
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

/// The command line for production, and why.
fn instead(load: &Load) -> (String, String) {
    let workers = load.cores.whole().saturating_mul(2).saturating_add(1);
    let cpus = load.cores.whole();
    let reloads = "it watches files and starts anew when one changes; one process serves everybody";
    match load.server.as_str() {
        "uvicorn" => (
            format!("`uvicorn MODULE:APP --workers {cpus}`, without `--reload`"),
            reloads.to_owned(),
        ),
        "hypercorn" => (
            format!("`hypercorn MODULE:APP --workers {cpus}`, without `--reload`"),
            reloads.to_owned(),
        ),
        "gunicorn" => ("drop `--reload`".to_owned(), reloads.to_owned()),
        server => (
            format!(
                "`gunicorn --workers {workers} --threads 4 MODULE:APP`, then record it under load"
            ),
            format!(
                "{server}'s own server starts a thread for every connection, without a limit, in one \
                 process; 2 × cores + 1 workers are gunicorn's rule of thumb to begin with"
            ),
        ),
    }
}
