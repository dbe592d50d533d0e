//! One hand-made report in every format, held against reviewed text.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

#[path = "common/report.rs"]
mod report;

use stallspy::export::{Format, View};
use stallspy::model::{Frame, FrameKind, Report, Stack};

fn written(report: &Report, format: Format, view: &View) -> String {
    let mut out = Vec::new();
    format.exporter().write(report, view, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn text() {
    insta::assert_snapshot!(written(&report::rich(), Format::Text, &View::default()));
}

#[test]
fn c_functions_are_named() {
    let mut report = report::rich();
    let tables = &mut report.recording.tables;
    let mut frame = |function: &str, module: &str| {
        let (function, module) = (tables.name(function), Some(tables.name(module)));
        let kind = FrameKind::Native;
        tables.frame(Frame { kind, function, file: None, line: None, module })
    };
    let poll = frame("poll", "/usr/lib/x86_64-linux-gnu/libc.so.6");
    let nameless = frame("libpq.so.5.17+0x1f2a0", "/usr/lib/x86_64-linux-gnu/libpq.so.5.17");
    let exec = frame("PQexec", "/usr/lib/x86_64-linux-gnu/libpq.so.5.17");
    let native = Some(tables.stack(Stack { frames: vec![poll, nameless, exec], truncated: None }));
    for culprit in report.culprits.iter_mut().take(1).filter_map(|total| total.culprit.as_mut()) {
        (culprit.native, culprit.native_library) = (Some(poll), Some(exec));
    }
    let stall = &mut report.stalls[0];
    stall.native = native;
    let culprit = stall.culprit.as_mut().unwrap();
    (culprit.native, culprit.native_library) = (Some(poll), Some(exec));

    let text = written(&report, Format::Text, &View::default());
    assert!(text.contains("→ PQexec (libpq.so.5.17)"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&written(&report, Format::Json, &View::default())).unwrap();
    let stall = &json["stalls"][0];
    assert_eq!(stall["culprit"]["native"]["function"], "poll");
    assert_eq!(stall["culprit"]["native"]["module"], "libc.so.6");
    let stack: Vec<&str> = stall["stack"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["function"].as_str().unwrap())
        .collect();
    assert_eq!(stack[..4], ["poll", "libpq.so.5.17+0x1f2a0", "PQexec", "getresponse"]);
    assert_eq!(stall["stack"][0]["native"], true);
}

#[test]
fn c_frames_can_be_left_out_of_flamegraphs() {
    let raw = |view: &View| written(&report::rich(), Format::Raw, view);
    let native = "scanstring";
    assert!(raw(&View::default()).contains(native));
    let view = View { no_native: true, ..View::default() };
    assert!(!raw(&view).contains(native));
    assert!(!written(&report::rich(), Format::Speedscope, &view).contains("[0,3,8]"));
}

#[test]
fn text_on_a_narrow_terminal() {
    let view = View { width: 66, ..View::default() };
    insta::assert_snapshot!(written(&report::rich(), Format::Text, &view));
}

#[test]
fn text_in_colour() {
    let view = View { color: true, ..View::default() };
    insta::assert_snapshot!(written(&report::rich(), Format::Text, &view).replace('\x1b', "␛"));
}

#[test]
fn text_without_a_stall() {
    insta::assert_snapshot!(written(&report::healthy(), Format::Text, &View::default()));
}

#[test]
fn a_note_that_is_the_verdict_is_not_said_twice() {
    let mut report = report::rich();
    let mut note = report.findings[0].clone();
    note.recommendations.clear();
    note.summary = "a note".to_owned();
    report.findings.push(note);
    let times =
        |report: &Report| written(report, Format::Text, &View::default()).matches("a note").count();
    assert_eq!(times(&report), 1);
    report.verdict = "a note".to_owned();
    assert_eq!(times(&report), 1);
}

#[test]
fn text_with_only_allowed_stalls() {
    let mut report = report::rich();
    report.stalls.retain(|stall| stall.allowed);
    report.culprits.retain(|total| total.allowed);
    report.verdict = "no stall that is not allowed".to_owned();
    let text = written(&report, Format::Text, &View::default());
    assert!(text.contains("No other stall of 10 ms or longer in 30.0 s: 30,000 looks"), "{text}");
    assert!(text.contains("ALLOWED"), "{text}");
}

#[test]
fn text_without_a_loop() {
    insta::assert_snapshot!(written(&report::blind(), Format::Text, &View::default()));
}

#[test]
fn json() {
    insta::assert_snapshot!(written(&report::rich(), Format::Json, &View::default()));
}

#[test]
fn recording() {
    insta::assert_snapshot!(written(&report::rich(), Format::Recording, &View::default()));
}

#[test]
fn raw() {
    insta::assert_snapshot!(written(&report::rich(), Format::Raw, &View::default()));
}

#[test]
fn raw_with_every_flag_that_adds() {
    let view = View { idle: true, threads: true, full_filenames: true, ..View::default() };
    insta::assert_snapshot!(written(&report::rich(), Format::Raw, &view));
}

#[test]
fn raw_with_every_flag_that_takes_away() {
    let view = View { gil: true, functions: true, ..View::default() };
    let drawn = written(&report::rich(), Format::Raw, &view);
    insta::assert_snapshot!(drawn);
    let view = View { gil: true, nolineno: true, ..View::default() };
    assert_eq!(written(&report::rich(), Format::Raw, &view), drawn);
}

#[test]
fn speedscope() {
    let drawn = written(&report::rich(), Format::Speedscope, &View::default());
    let value: serde_json::Value = serde_json::from_str(&drawn).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&value).unwrap());
    let frames = value["shared"]["frames"].as_array().unwrap().len() as u64;
    for profile in value["profiles"].as_array().unwrap() {
        let samples = profile["samples"].as_array().unwrap();
        let weights = profile["weights"].as_array().unwrap();
        assert_eq!(samples.len(), weights.len());
        let sum: u64 = weights.iter().map(|weight| weight.as_u64().unwrap()).sum();
        assert_eq!(profile["endValue"].as_u64(), Some(sum));
        let ids = samples.iter().flat_map(|stack| stack.as_array().unwrap());
        assert!(ids.into_iter().all(|id| id.as_u64().unwrap() < frames));
    }
}

/// The drawing itself is inferno's, so only what we give it is held: the frames, and that the file
/// is the same each time.
#[test]
fn flamegraph() {
    let drawn = written(&report::rich(), Format::Flamegraph, &View::default());
    assert_eq!(drawn, written(&report::rich(), Format::Flamegraph, &View::default()));
    assert!(drawn.starts_with("<?xml") && drawn.trim_end().ends_with("</svg>"));
    assert!(!drawn.contains('\x1b') && !drawn.contains("&<"), "names are made printable");
    let titles: Vec<&str> =
        drawn.split("<title>").skip(1).filter_map(|rest| rest.split("</title>").next()).collect();
    insta::assert_snapshot!(titles.join("\n"));
}

#[test]
fn flamegraph_without_samples() {
    let drawn = written(&report::blind(), Format::Flamegraph, &View::default());
    assert!(drawn.contains("no samples to show") && drawn.contains("</svg>"), "{drawn}");
}

/// Frames too narrow to see are cut, and what they counted stays counted.
#[test]
fn flamegraph_of_many_stacks_stays_small() {
    let mut report = report::rich();
    let recording = &mut report.recording;
    let first = recording.samples[1].clone();
    for n in 0..20_000_u32 {
        let mut frames = recording.tables.get_stack(first.stack).unwrap().frames.clone();
        let mut leaf = recording.tables.get_frame(frames[0]).unwrap().clone();
        leaf.line = Some(n + 1);
        frames.insert(0, recording.tables.frame(leaf));
        let stack = recording.tables.stack(stallspy::model::Stack { frames, truncated: None });
        recording.samples.push(stallspy::model::Sample { stack, count: 1, ..first.clone() });
    }
    let drawn = written(&report, Format::Flamegraph, &View::default());
    assert!(drawn.contains("20,050 samples, 100%"), "no sample is lost");
    assert!(drawn.len() < 100_000, "{}", drawn.len());
    let raw = written(&report, Format::Raw, &View::default());
    let count = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
    assert_eq!(raw.lines().map(count).sum::<u64>(), 20_050);
}
