//! Who is at the other end, and who connects to it.

use super::*;

/// Concluded, where samples met a thread in these frames: waiting for a peer, or running.
fn met(mut story: Story, frames: &[(&str, u32, &str)], peer: Option<&str>) -> Report {
    let frames = story.frames(frames);
    let cpu = match peer {
        Some(peer) => {
            let peer = Some(Peer::Remote(story.recording.tables.name(peer)));
            let stack = story.stack(&[]);
            story.asleep(1.0, stack, "poll", peer).cpu
        }
        None => CpuState::Running,
    };
    story.sampled(frames, 5, cpu);
    conclude(story.recording, &nothing_allowed)
}

#[test]
fn the_line_that_connects_is_named_where_it_was_seen() {
    let told = |peers: &[&str], frames: &[(&str, u32, &str)], peer: Option<&str>| {
        let mut story = Story::new(400);
        for peer in peers {
            story.connected(peer, 2, 1.0);
        }
        let report = met(story, frames, peer);
        let found = report.findings.iter().find(|one| one.id == "connection-churn").unwrap();
        let (_, place) = found.summary.split_once("a second before").unwrap();
        place.to_owned()
    };
    let driver = format!("{VENV}/psycopg2/__init__.py");
    let client = format!("{VENV}/urllib3/util/connection.py");
    let by_driver = [("/srv/app/db.py", 25, "open"), (&*driver, 122, "connect")];
    let by_client = [("/srv/app/api.py", 12, "get"), (&*client, 60, "create_connection")];
    let query = [("/srv/app/db.py", 56, "query"), (&*driver, 130, "execute")];
    let (database, service) = ("10.0.0.7:5432", "10.0.0.9:8080");
    let unseen = "; the line that connects was not seen";
    assert_eq!(told(&[database], &by_driver, None), ", in db.py:25 open");
    assert_eq!(told(&[database], &query, None), unseen);
    // A client of something else, and two that may be meant.
    assert_eq!(told(&[database], &by_client, None), unseen);
    assert_eq!(told(&[service], &by_client, None), ", in api.py:12 get");
    assert_eq!(told(&[service, "10.0.0.8:9200"], &by_client, None), unseen);
    // A database at another port.
    assert_eq!(told(&["10.0.0.7:5433"], &by_driver, None), ", in db.py:25 open");
    assert_eq!(told(&["10.0.0.7:5433"], &by_client, Some("10.0.0.7:5433")), ", in api.py:12 get");
}

#[test]
fn a_database_at_another_port_is_told_by_its_driver() {
    let told = |peers: &[&str], frames: &[(&str, u32, &str)], peer: Option<&str>| {
        let mut story = Story::new(400);
        for peer in peers {
            story.connected(peer, 80, 0.0);
        }
        let report = met(story, frames, peer);
        let found = report.findings.iter().find(|one| one.id == "connection-limit");
        found.map(|found| found.summary.split(", ").next().unwrap().to_owned())
    };
    let (driver, pure) =
        (format!("{VENV}/psycopg2/__init__.py"), format!("{VENV}/pymysql/connections.py"));
    let connects = [("/srv/app/db.py", 25, "open"), (&*driver, 122, "connect")];
    let asks = [("/srv/app/db.py", 56, "query"), (&*pure, 700, "_read_bytes")];
    let (database, other) = ("10.0.0.7:25060", "10.0.0.8:9200");
    let of = |name: &str, how: &str| {
        let (count, whose) = (80, format!("{how} that is {name}"));
        Some(format!("up to {count} connections to {database}; {whose}"))
    };
    let mysql = told(&[database, other], &asks, Some(database));
    assert_eq!(mysql, None, "80 of 151 are far from the limit");
    let postgres = of("PostgreSQL", "as psycopg2 talks to it");
    assert_eq!(told(&[database, other], &connects, Some(database)), postgres);
    // Greenlets wait unseen: it is the only one that can be meant.
    assert_eq!(told(&[database], &connects, None), postgres);
    assert_eq!(told(&[database, other], &connects, None), None);
    let at_its_port = told(&[database, "10.0.0.7:5432"], &connects, None).unwrap();
    assert!(at_its_port.contains("by its port"), "{at_its_port}");
}

#[test]
fn a_socket_that_was_too_new_at_first_is_the_one_that_was_found() {
    let mut story = Story::new(400);
    let call = in_request(&mut story);
    let too_new = story.asleep(60.0, call.stack, "recvfrom", None);
    let lock = story.asleep(70.0, call.stack, "futex", Some(Peer::Gil));
    story.busy(500.0, &[too_new, Part { ms: 40.0, ..call }, lock], true);
    let report = conclude(story.recording, &nothing_allowed);
    let [stall] = &report.stalls[..] else { panic!("{:#?}", report.stalls) };
    let wait = stall.culprit.as_ref().and_then(|culprit| culprit.wait).unwrap();
    let tables = &report.recording.tables;
    let words = tables.get_wait(wait).unwrap().in_words(tables);
    assert_eq!(words, "recvfrom() from 10.0.0.7:443");
    assert_eq!(stall.cause, Cause::BlockingCall);
}
