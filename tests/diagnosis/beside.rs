//! What computes beside the requests of a server, and holds the lock that they compute with.

use stallspy::conclusion::conclude;
use stallspy::model::{CpuState, Remedy, ResidentKind, Severity};
use stallspy::units::Nanos;

use crate::{JOB, advised, computing_beside, effect, nothing_allowed};

#[test]
fn what_computes_beside_requests_is_told_with_its_thread_and_line_and_sizes_no_server() {
    let report = conclude(computing_beside(&JOB, 500).recording, &nothing_allowed);
    let found = &report.findings[0];
    assert_eq!((found.id.as_str(), found.severity), ("gil-held-elsewhere", Severity::High));
    let told = "requests wait for the interpreter lock 88 % of their time: beside them thread 200 (jobs_0) \
                holds it 50 % of the time, at rates.py:31 compute (called by jobs.py:6 report)";
    assert_eq!(found.summary, told);
    assert_eq!(found.stalls.len(), 1);
    let advice = advised(&report, "gil-held-elsewhere");
    assert!(advice.command.contains("`BlockingScheduler`"), "{}", advice.command);
    let starved = &advised(&report, "gthread-starved").command;
    assert!(starved.starts_with("no more workers or threads before rates.py:31"), "{starved}");
    let all = report.findings.iter().flat_map(|finding| &finding.recommendations);
    assert!(all.clone().all(|one| !matches!(one.remedy, Remedy::Setting { .. })));
    // Of 6 s of CPU it used five sevenths, and what is left the requests did.
    let load = &report.loads[0];
    let (costs, beside) = (load.costs.unwrap(), load.beside.unwrap());
    assert!((costs.cpu - 6.0 * 2.0 / 7.0 / 400.0).abs() < 1e-4, "{costs:?}");
    assert!((beside.held - 0.5).abs() < 1e-9 && beside.cpu < Nanos::from_millis(4_300));
    let (before, after) = effect(&report, "gil-held-elsewhere", "throughput").unwrap();
    let with_it = stallspy::diagnosis::thread_size::ThreadSize::of(load).unwrap();
    assert!(after > before * 1.5, "{before} {after}");
    assert!(with_it.recommendation().predicted[0].after < after * 0.6);
    // It would be there once more in each worker more.
    assert!(load.residents.iter().any(|one| one.kind == ResidentKind::ComputingThread));
}

#[test]
fn what_a_request_waits_for_is_not_beside_it() {
    let frames = [JOB[0], JOB[1], ("/srv/app/rates.py", 31, "compute")];
    let mut story = computing_beside(&frames, 500);
    let result = story.frames(&[
        (
            "/srv/venv/lib/python3.12/site-packages/gunicorn/workers/gthread.py",
            350,
            "handle_request",
        ),
        ("/srv/app/views.py", 41, "render"),
        ("/usr/lib/python3.12/concurrent/futures/_base.py", 451, "result"),
    ]);
    story.sampled(result, 400, CpuState::Blocked { wait: None });
    let report = conclude(story.recording, &nothing_allowed);
    assert_eq!(report.loads[0].beside, None);
    assert!(report.findings.iter().all(|one| one.id != "gil-held-elsewhere"));
    let costs = report.loads[0].costs.unwrap();
    assert!((costs.cpu - 6.0 / 400.0).abs() < 1e-9, "{costs:?}");
    // Else it is.
    let report = conclude(computing_beside(&frames, 500).recording, &nothing_allowed);
    assert!(report.loads[0].beside.is_some());
    let advice = &advised(&report, "gil-held-elsewhere").command;
    assert!(advice.contains("Celery"), "{advice}");
}
