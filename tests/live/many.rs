//! Iterations made of many short callbacks: none is blamed, and what they are made of is told.

use crate::interpreters::interpreters;
use crate::profiler::record;
use crate::server::Server;
use crate::truth::Stall;
use crate::turn::each;

#[test]
fn many_callbacks_are_counted_and_named() {
    each(&interpreters(), |python| {
        let server = Server::start(python, "asyncio_many.py", 120, &[]);
        let (report, _) = record(server.pid(), 3, &[]);
        let stalls = Stall::all(&report);
        let (many, others): (Vec<&Stall>, Vec<&Stall>) =
            stalls.iter().partition(|stall| stall.kind == "many_callbacks");
        assert!(many.len() >= 3, "{} of {}", many.len(), stalls.len());
        // A callback that is kept off the CPU is a long one, if the machine is starved.
        let starved = |stall: &&&Stall| stall.number("run_delay_ns") > 10_000_000;
        let blamed: Vec<String> =
            others.iter().filter(|stall| !starved(stall)).map(|stall| stall.brief()).collect();
        assert!(blamed.len() <= 2, "{blamed:#?}"); // at the recording's ends
        let share = |name: &str| -> f64 {
            let all = many.iter().flat_map(|stall| stall.json["contributors"].as_array().unwrap());
            let own = all.filter(|one| one["name"] == name);
            own.map(|one| one["share"].as_f64().unwrap()).sum::<f64>() / many.len() as f64
        };
        let (refresh, tick) = (share("refresh"), share("tick"));
        // Three quarters and one; a look every 4 ms meets some 14 of each 200.
        assert!(refresh > 0.5 && tick > 0.02 && refresh + tick > 0.8, "{refresh} {tick}");
        for stall in &many {
            assert!(stall.json["culprit"].is_null(), "{}", stall.json);
            let ran = stall.number("callbacks");
            let batch = stall.json["batch_callbacks"].as_u64().expect("a batch");
            assert!(batch >= 200 && ran <= batch, "{ran} of {batch}");
        }
        let most = many.iter().map(|stall| stall.number("callbacks")).max();
        assert!(most > Some(150), "{most:?}");
    });
}
