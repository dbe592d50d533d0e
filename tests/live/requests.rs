//! Which request a loop was blocked for: an ASGI scope in the stack, no framework needed.

use std::path::Path;

use crate::interpreters::interpreters;
use crate::profiler::record;
use crate::truth::Stall;
use crate::turn::each;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/targets/blocks.py");

#[test]
fn a_stall_is_named_by_its_request() {
    each(&interpreters(), |python| {
        let script = python.start(Path::new(SCRIPT));
        let line: u64 = script.line.trim().parse().expect("the script tells the blocking line");
        let (report, _) = record(script.pid(), 2, &[]);
        let all = Stall::all(&report);
        let blamed: Vec<&Stall> = all.iter().filter(|one| !one.json["culprit"].is_null()).collect();
        // One every 100 ms or so for 2 s; a starved machine makes fewer, never none.
        assert!(blamed.len() >= 5, "{} stalls", blamed.len());
        for stall in blamed {
            assert_eq!(stall.json["endpoint"], "GET /slow", "{}", stall.json);
            assert_eq!(stall.json["culprit"]["line"], line, "{}", stall.json);
            assert_eq!(stall.json["culprit"]["function"], "wait_for_it", "{}", stall.json);
        }
    });
}
