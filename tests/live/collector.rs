//! The garbage collector of a large heap: seen, not blamed on a line, and its generation told.

use crate::interpreters::interpreters;
use crate::profiler::record;
use crate::server::Server;
use crate::truth::Stall;
use crate::turn::each;

#[test]
fn a_collection_is_named_with_its_generation() {
    each(&interpreters(), |python| {
        let server = Server::start(python, "asyncio_gc.py", 120, &[]);
        let (report, _) = record(server.pid(), 5, &["--threshold", "4ms"]);
        let stalls = Stall::all(&report);
        let collections: Vec<&Stall> = stalls.iter().filter(|stall| stall.kind == "gc").collect();
        let mut seen = [0; 3];
        for stall in &collections {
            assert!(stall.json["culprit"].is_null(), "{}", stall.json);
            let stack = stall.json["stack"].as_array().expect("a stack");
            let functions = stack.iter().filter_map(|frame| frame["function"].as_str());
            let Some(made) = { functions }.find_map(|name| name.strip_prefix("collect_")) else {
                continue;
            };
            let generation = stall.json["gc_generation"].as_u64();
            assert_eq!(generation.map(|n| n.to_string()).as_deref(), Some(made), "{}", stall.json);
            seen[made.parse::<usize>().expect("a generation")] += 1;
        }
        assert!(seen.iter().all(|count| *count > 0), "{seen:?} of {} stalls", stalls.len());
    });
}
