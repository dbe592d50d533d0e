//! What lives in a process beside its requests: threads, tasks and timers that another would repeat.

use serde_json::Value;

use crate::interpreters::interpreters;
use crate::profiler::record;
use crate::server::Server;
use crate::turn::each;

#[test]
fn what_lives_in_a_process_is_told_and_nothing_else() {
    each(&interpreters(), |python| {
        let server = Server::start(python, "asyncio_residents.py", 60, &[]);
        let (report, _) = record(server.pid(), 5, &[]);
        let found = &report["processes"][0]["residents"];
        let mut told: Vec<(String, String, Value)> = Vec::new();
        for one in found.as_array().unwrap_or_else(|| panic!("{report}")) {
            assert_eq!(one["count"], 1, "{one}");
            let name = one["name"].as_str().unwrap();
            let name = name.rsplit('/').next().unwrap_or(name);
            let kind = one["kind"].as_str().unwrap().to_owned();
            told.push((kind, name.to_owned(), one["period_ns"].clone()));
        }
        let ms = |ms: u64| Value::from(ms * 1_000_000);
        let wanted = [
            ("sqlite_writer", "residents.db", Value::Null),
            ("timer", "again", ms(1200)),
            ("timer", "napper", Value::Null),
            ("timer", "refresh", ms(1500)),
            ("timer", "tick", Value::Null),
            ("timer", "waiter", ms(2500)),
            ("watch", "follower", Value::Null),
        ];
        let wanted = wanted.map(|(kind, name, period)| (kind.to_owned(), name.to_owned(), period));
        told.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        assert_eq!(told, wanted, "{found}");
        // The line is the application's, where it waits.
        let all = found.as_array().unwrap();
        let refresh = all.iter().find(|one| one["name"] == "refresh").unwrap();
        assert_eq!(refresh["file"], server.file("asyncio_residents.py").as_str(), "{refresh}");
        assert_eq!((&refresh["line"], &refresh["function"]), (&44.into(), &"refresh".into()));
    });
}
