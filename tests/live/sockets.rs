//! Sockets: who waits to be accepted, which connections are kept and which are used once.

use serde_json::Value;

use crate::interpreters::some_interpreters;
use crate::profiler::{record, stallspy};
use crate::server::Server;
use crate::turn::each;

fn row<'a>(report: &'a Value, list: &str, key: &str, value: &Value) -> &'a Value {
    let rows = report["processes"][0][list].as_array().expect("a list");
    let found = rows.iter().find(|row| row[key] == *value);
    found.unwrap_or_else(|| panic!("no {key} {value} in {rows:?}"))
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"))
}

#[test]
fn lines_are_counted_and_connections_told_apart() {
    each(&some_interpreters(), |python| {
        let server = Server::start(python, "asyncio_sockets.py", 60, &[]);
        let [line, kept, once, port] = server.ports[..] else { panic!("{:?}", server.ports) };
        let at = |port: u16| Value::from(format!("127.0.0.1:{port}"));
        let (report, _) = record(server.pid(), 8, &[]);

        let listener = row(&report, "listeners", "address", &at(line));
        assert_eq!((&listener["queue_max"], &listener["limit"]), (&10.into(), &16.into()));
        assert_eq!(number(listener, "queue_mean"), 10.0, "{listener}");
        assert_eq!(number(listener, "waiting_fraction"), 1.0, "{listener}");
        assert!(number(listener, "looks") >= 15.0, "{listener}");
        let accepted = row(&report, "listeners", "address", &at(port));
        assert_eq!((&accepted["queue_max"], &accepted["limit"]), (&0.into(), &32.into()));
        let listeners = report["processes"][0]["listeners"].as_array().expect("a list");
        let unix = listeners.iter().find(|row| {
            row["address"].as_str().is_some_and(|address| address.ends_with("/app.sock"))
        });
        // Which a kernel without unix_diag cannot tell.
        if let Some(unix) = unix {
            assert_eq!((&unix["queue_max"], &unix["limit"]), (&3.into(), &5.into()));
        }

        let keeps = row(&report, "connections", "peer", &at(kept));
        assert_eq!((&keeps["open_max"], &keeps["opened_seen"]), (&3.into(), &0.into()));
        assert_eq!((number(keeps, "open_mean"), number(keeps, "fresh_fraction")), (3.0, 0.0));
        let used_once = row(&report, "connections", "peer", &at(once));
        assert!(number(used_once, "fresh_fraction") > 0.9, "{used_once}");
        assert!((0.5..=3.0).contains(&number(used_once, "open_mean")), "{used_once}");
        let clients = row(&report, "connections", "incoming", &true.into());
        assert_eq!((&clients["open_max"], &clients["peer"]), (&4.into(), &Value::Null));
        assert_eq!(clients["fresh_fraction"], 0.0);
    });
}

#[test]
fn what_matters_is_in_the_text() {
    each(some_interpreters().get(..1).unwrap_or_default(), |python| {
        let server = Server::start(python, "asyncio_sockets.py", 60, &[]);
        let [line, kept, once, _] = server.ports[..] else { panic!("{:?}", server.ports) };
        let text = stallspy(&["record", "-q", "-p", &server.pid().to_string(), "-d", "8"]).out;
        let told = format!(" line  127.0.0.1:{line}: up to 10 connections waited to be accepted");
        assert!(text.contains(&told), "{text}");
        assert!(text.contains(&format!(" peer  127.0.0.1:{once}: ")), "{text}");
        assert!(!text.contains(&format!(" peer  127.0.0.1:{kept}: ")), "{text}");
    });
}
