//! Gates and allowed stalls, on the hand-made report.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

use stallspy::gate::{Gate, Pattern, allow};

#[path = "common/report.rs"]
mod report;

fn verdict(expression: &str) -> Option<String> {
    let gate: Gate = expression.parse().unwrap();
    gate.check(&report::rich()).map(|failure| failure.to_string())
}

#[test]
fn gates_that_pass() {
    for expression in [
        "stall>6s",
        "stall>5.2s",
        "stalls>7",
        "stalls>=8",
        "loop-utilization>0.9",
        "loop-utilization>86%",
        "finding:pool-size",
        "finding:no-such-*",
    ] {
        assert_eq!(verdict(expression), None, "{expression}");
    }
}

#[test]
fn gates_that_fail_name_the_worst() {
    let failures: Vec<String> = [
        "stall>5s",
        "stall>=5.2s",
        "stall>100ms",
        "stalls>6",
        "stalls>=7",
        "loop-utilization>0.85",
        "finding:loop-*",
    ]
    .iter()
    .map(|expression| verdict(expression).unwrap_or_else(|| panic!("{expression} passes")))
    .collect();
    insta::assert_snapshot!(failures.join("\n"));
}

#[test]
fn allowed_stalls_are_not_gated() {
    let mut report = report::rich();
    let patterns: Vec<Pattern> = ["GET /sand*", "jobs.py:12", "render", "crunch", "fsync"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    allow(&mut report.stalls, &report.recording.tables, &patterns);
    let left: Vec<_> = report.stalls.iter().filter(|stall| !stall.allowed).collect();
    assert_eq!(left.len(), 1, "the one without a culprit");
    let gate = |text: &str| text.parse::<Gate>().unwrap().check(&report);
    assert_eq!(gate("stall>100ms"), None);
    assert_eq!(gate("stalls>1"), None);
    assert!(gate("stalls>0").is_some());
}

#[test]
fn each_part_of_a_culprit_can_be_allowed() {
    let report = report::rich();
    let tables = &report.recording.tables;
    let accepted = |pattern: &str| {
        let pattern: Pattern = pattern.parse().unwrap();
        report.stalls.iter().filter(|stall| pattern.accepts(stall, tables)).count()
    };
    for (pattern, count) in [
        ("GET /sandboxes", 3),
        ("list_sandboxes", 3),
        ("lifecycle.py:88", 3),
        ("lifecycle.py", 3),
        ("/srv/app/lifecycle.py:88", 3),
        ("app/lifecycle.py", 3),
        ("recvfrom", 3),
        ("futex", 1),
        ("views.py*", 2),
        ("*", 7),
        ("lifecycle.py:8", 0),
        ("ifecycle.py", 0),
        ("GET", 0),
        ("connection.py", 0),
    ] {
        assert_eq!(accepted(pattern), count, "{pattern}");
    }
}

/// Nothing measured is not the same as nothing wrong.
#[test]
fn a_gate_without_its_number_fails() {
    let gate: Gate = "loop-utilization>0.9".parse().unwrap();
    let failure = gate.check(&report::blind()).unwrap().to_string();
    assert_eq!(failure, "gate failed: loop-utilization>0.9: no event loop was measured");
}
