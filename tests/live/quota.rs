//! A server in a control group whose CPU quota is too small for it. None of its callbacks is long.
//!
//! Needs the right to make a control group with a CPU limit (v1 or v2): root outside of most
//! containers. Where there is none this says so and passes; `target/cgroup.rs` and
//! `sampler/throttle_watch.rs` have their own tests over made-up groups.

use crate::control_group::Group;
use crate::interpreters::some_interpreters;
use crate::profiler::record;
use crate::say;
use crate::server::Server;
use crate::truth::Stall;
use crate::turn::each;

/// A fifth of a CPU, in the kernel's own period: 20 ms of work, 80 ms of standing still.
const QUOTA_US: u64 = 20_000;
const PERIOD_US: u64 = 100_000;

#[test]
fn a_spent_quota_is_named_and_no_line_is() {
    each(&some_interpreters(), |python| {
        let v1 = [
            ("cpu.cfs_period_us", PERIOD_US.to_string()),
            ("cpu.cfs_quota_us", QUOTA_US.to_string()),
        ];
        let v2 = [("cpu.max", format!("{QUOTA_US} {PERIOD_US}"))];
        let Some(group) = Group::make(&python.minor().to_string(), "cpu", &v1, &v2) else {
            say("no control group can be made here: nothing is told of quotas");
            return;
        };
        let server = Server::start(python, "asyncio_quota.py", 120, &[]);
        if !group.take(server.pid()) {
            say("no process can be moved to a control group here: nothing is told of quotas");
            return;
        }
        let (report, _) = record(server.pid(), 4, &[]);
        drop(server);
        // In 4 s the quota is spent 40 times, each time for 80 ms.
        let stalls = Stall::all(&report);
        let long: Vec<&Stall> =
            stalls.iter().filter(|s| s.number("duration_ns") > 60_000_000).collect();
        assert!(long.len() >= 10, "{:#?}", stalls.iter().map(Stall::brief).collect::<Vec<_>>());
        let named = |stall: &&&Stall| {
            let quota = &stall.json["quota"];
            let delay = stall.json["run_delay_ns"].as_u64().unwrap();
            stall.kind == "cpu_starved"
                && stall.json["culprit"].is_null()
                && quota["cpus"] == 0.2
                && quota["throttled_ns"]
                    .as_u64()
                    .is_some_and(|time| time > delay / 2 && time <= delay)
        };
        let right = long.iter().filter(named).count();
        let told = || {
            let wrong = long.iter().filter(|stall| !named(stall));
            wrong.map(|s| format!("{} {}", s.brief(), s.json["quota"])).collect::<Vec<_>>()
        };
        // The first and the last may be cut off by the recording; a busy machine may keep the thread
        // from a CPU for longer than its quota does.
        let few = 2 + long.len() / 10;
        assert!(right + few >= long.len(), "{right} of {}: {:#?}", long.len(), told());
        let periods: u64 =
            long.iter().filter_map(|s| s.json["quota"]["throttled_periods"].as_u64()).sum();
        assert!(periods >= 10, "{periods} periods");
        let verdict = report["summary"]["verdict"].as_str().unwrap();
        assert!(verdict.contains("your CPU quota (0.2 CPUs) was spent"), "{verdict}");
    });
}
