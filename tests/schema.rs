//! The JSON report is held to its published schema, and the schema to being one that can fail.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

use serde_json::Value;
use stallspy::export::{Format, View};
use stallspy::model::{Cause, Report};

#[path = "common/report.rs"]
mod report;

const SCHEMA: &str = include_str!("../docs/stallspy-1.schema.json");

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    jsonschema::draft202012::meta::validate(&schema).map_err(|error| error.to_string()).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

fn json(report: &Report) -> Value {
    let mut out = Vec::new();
    Format::Json.exporter().write(report, &View::default(), &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn every_report_fits() {
    let validator = validator();
    let mut empty = report::blind();
    empty.recording.processes.clear();
    let mut unmeasured = report::rich();
    unmeasured.loops.clear();
    unmeasured.recording.tables = stallspy::model::Tables::default();
    let mut reports = vec![report::rich(), report::healthy(), report::blind(), empty, unmeasured];
    for cause in [
        Cause::BlockingCall,
        Cause::Cpu,
        Cause::CCall,
        Cause::GilWait,
        Cause::Gc,
        Cause::CpuStarved,
        Cause::PageFault,
        Cause::ManyCallbacks,
        Cause::Unknown,
    ] {
        let mut report = report::rich();
        report.stalls.iter_mut().for_each(|stall| stall.cause = cause);
        reports.push(report);
    }
    for report in &reports {
        let value = json(report);
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

/// Every key that is written is described, at every depth.
#[test]
fn every_key_is_described() {
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
    close(&mut schema);
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let value = json(&report::rich());
    let errors: Vec<String> = validator
        .iter_errors(&value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let mut value = value;
    value["stalls"][0]["culprit"]["surprise"] = Value::Null;
    assert!(!validator.is_valid(&value), "a closed schema takes no key it does not describe");
}

/// Forbids keys that are not described, wherever an object's keys are.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.contains_key("required") {
                object.insert("unevaluatedProperties".to_owned(), Value::Bool(false));
            }
            // `spot` is also part of `frame` and `culprit`, which add keys to it.
            if object.contains_key("spot") {
                object.values_mut().for_each(close);
                object["spot"].as_object_mut().unwrap().remove("unevaluatedProperties");
            } else {
                object.values_mut().for_each(close);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[test]
fn a_broken_report_does_not_fit() {
    let validator = validator();
    let good = json(&report::rich());
    assert!(validator.is_valid(&good));
    let breaks: [(&str, Value); 12] = [
        ("/schema", "stallspy/2".into()),
        ("/clock", "wall".into()),
        ("/stalls/0/duration_ns", (-1).into()),
        ("/stalls/0/duration_ns", 1.5.into()),
        ("/stalls/0/kind", "bad_luck".into()),
        ("/stalls/0/evidence", "guessed".into()),
        ("/stalls/0/culprit/file", 7.into()),
        ("/stalls/0/stack/0/native", "no".into()),
        ("/processes/1/role", "boss".into()),
        ("/processes/1/loops/0/utilization", 1.2.into()),
        ("/findings/0/severity", "grave".into()),
        ("/losses/reads", Value::Null),
    ];
    for (pointer, value) in breaks {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert!(!validator.is_valid(&bad), "{pointer}");
    }
    for (pointer, key) in [
        ("", "stalls"),
        ("/summary", "verdict"),
        ("/stalls/0", "duration_min_ns"),
        ("/stalls/0/culprit", "line"),
        ("/processes/1/loops/0", "lag_p99_ns"),
        ("/culprits/0", "share"),
    ] {
        let mut bad = good.clone();
        bad.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(key).unwrap();
        assert!(!validator.is_valid(&bad), "{pointer} without {key}");
    }
}
