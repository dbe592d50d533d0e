//! Loops that go round for nobody: the descriptor that is never read, and the callback that asks for itself.

use serde_json::Value;

use crate::interpreters::some_interpreters;
use crate::profiler::record;
use crate::server::Server;
use crate::turn::each;

fn spun<'a>(report: &'a Value, what: &str) -> &'a Value {
    let findings = report["findings"].as_array().expect("findings");
    let found = findings.iter().find(|one| one["id"] == "busy-idle" && one["verdict"] == "found");
    found.unwrap_or_else(|| panic!("{what}: {findings:#?}"))
}

#[test]
fn what_a_loop_spins_for_is_named() {
    each(some_interpreters().get(..1).unwrap_or_default(), |python| {
        for event_loop in ["asyncio", "uvloop", "gevent"] {
            if event_loop != "asyncio" && !python.has(event_loop) {
                continue;
            }
            for by in ["fd", "soon"] {
                let what = format!("{event_loop} by {by}");
                let args = ["--loop", event_loop, "--by", by];
                let server = Server::start(python, "spin.py", 60, &args);
                let (report, _) = record(server.pid(), 5, &[]);
                let finding = spun(&report, &what);
                let summary = finding["summary"].as_str().expect("a summary");
                let told = match by {
                    "fd" => format!("(127.0.0.1:{}) has something to read", server.port),
                    _ => " again".to_owned(),
                };
                assert!(summary.contains(&told), "{what}: {summary}");
            }
        }
    });
}
