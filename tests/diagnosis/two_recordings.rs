//! What two recordings of one server at different sizes tell of the database that its requests wait for.

use stallspy::conclusion::{conclude, conclude_after, loads_of};
use stallspy::model::{
    Effect, PoolInfo, PoolKind, PoolReading, Recommendation, Remedy, Report, WorkerClass,
};
use stallspy::units::Nanos;

use crate::nothing_allowed;
use crate::story::Story;

/// A server before a database that works on 8 at once for 80 ms, asked by 44 clients, with so many threads.
fn narrow(threads: u32) -> Story {
    let held = threads.min(44);
    let requests = if held <= 8 { u64::from(held) * 123 } else { 995 };
    Story::asking(threads, held, requests, 44 - held)
}

/// The same before one that works on as many as ask.
fn wide(threads: u32) -> Story {
    let held = threads.min(44);
    Story::asking(threads, held, u64::from(held) * 123, 44 - held)
}

fn both(before: Story, after: Story) -> Report {
    conclude_after(after.recording, &loads_of(before.recording), &nothing_allowed)
}

/// Rows of the truth table.
pub fn rows() -> Vec<(&'static str, Report)> {
    vec![
        ("60 threads ask no faster than 4", both(narrow(4), narrow(60))),
        ("10 threads ask as fast as 60", both(narrow(60), narrow(10))),
        ("4 threads ask half of what 60 do", both(narrow(60), narrow(4))),
        ("60 threads ask more than 4", both(wide(4), wide(60))),
        ("4 threads ask, one recording", conclude(narrow(4).recording, &nothing_allowed)),
        ("4 threads ask, as many as before", both(narrow(4), narrow(4))),
    ]
}

fn found(report: &Report) -> Option<&[Recommendation]> {
    let found = report.findings.iter().find(|one| one.id == "peer-saturated")?;
    Some(&found.recommendations)
}

pub fn need(report: &Report) -> Option<&'static str> {
    report.undecided.iter().find(|(rule, _)| *rule == "peer-saturated").map(|(_, need)| *need)
}

pub fn throughput(advice: &Recommendation) -> (f64, f64) {
    let is_it = |one: &&Effect| one.name == "throughput";
    let effect = advice.predicted.iter().find(is_it).unwrap();
    (effect.before, effect.after)
}

/// What is said of threads, but to keep them.
fn threads(report: &Report) -> Vec<&Recommendation> {
    report.advice().into_iter().filter(|one| one.command.contains("--threads")).collect()
}

#[test]
fn threads_that_only_wait_at_a_database_are_taken_back() {
    let report = both(narrow(4), narrow(60));
    assert_eq!(report.findings[0].id, "peer-saturated", "{:#?}", report.findings);
    let advice = &found(&report).unwrap()[0];
    let Remedy::Setting { current, recommended, suggested, .. } = &advice.remedy else {
        panic!("{advice:#?}")
    };
    // 99.5 a second × 80 ms, and a quarter of room.
    assert_eq!((*current, *recommended), (Some(60), 11), "{advice:#?}");
    assert!(suggested.lo <= 11 && suggested.hi >= 11 && suggested.hi <= 16, "{suggested:?}");
    assert_eq!(advice.command, "`--threads 11`");
    let said = "10.0.0.7:5432 works on about 8 at once: of 4 that ask each waits 80 ms, of 44 each waits 441 ms, \
                and no more than 100 a second get done";
    assert!(report.verdict.ends_with(said), "{}", report.verdict);
    assert!(advice.reason.contains(said), "{}", advice.reason);
    let (before, after) = throughput(advice);
    assert!((after / before - 1.0).abs() < 0.03, "{before} {after}");
    // Nothing else asks for more of them.
    assert_eq!(threads(&report).len(), 1, "{:#?}", report.advice());
    let help = &found(&report).unwrap()[1];
    assert!(help.command.starts_with("ask 10.0.0.7:5432 for less"), "{help:#?}");
}

#[test]
fn a_size_that_is_right_for_a_database_is_kept() {
    for now in [8, 10, 12] {
        let report = both(narrow(60), narrow(now));
        let advice = found(&report).unwrap();
        let keep = format!("keep 1 worker of {now} threads");
        assert!(advice.iter().any(|one| one.command == keep), "{advice:#?}");
        assert!(threads(&report).is_empty(), "{:#?}", report.advice());
    }
    // A few threads more than it takes are not taken back, a quarter of them are.
    let report = both(narrow(4), narrow(14));
    assert!(found(&report).is_some() && threads(&report).is_empty(), "{:#?}", report.advice());
    let report = both(narrow(4), narrow(16));
    let [advice] = threads(&report)[..] else { panic!("{:#?}", report.advice()) };
    assert_eq!(advice.command, "`--threads 11`");
    // But not where the measurements may be off by as much: 160 requests by a sixth.
    let few = |threads: u32, requests| {
        Story::asking(threads, threads.min(44), requests, 44 - threads.min(44))
    };
    let report = both(few(4, 80), few(16, 160));
    assert!(found(&report).is_some() && threads(&report).is_empty(), "{:#?}", report.advice());
}

#[test]
fn a_server_that_asks_too_little_grows_to_what_the_database_works_on() {
    let report = both(narrow(60), narrow(4));
    assert!(found(&report).is_none() && need(&report).is_none());
    let [advice] = threads(&report)[..] else { panic!("{:#?}", report.advice()) };
    assert_eq!(advice.command, "`--threads 11`");
    let (before, after) = throughput(advice);
    assert!((before - 49.2).abs() < 0.1 && (after - 99.0).abs() < 3.0, "{before} {after}");
}

#[test]
fn a_database_that_answers_as_many_as_ask_changes_nothing() {
    for (before, now) in [(4, 60), (60, 4), (4, 12)] {
        let alone = conclude(wide(now).recording, &nothing_allowed);
        let report = both(wide(before), wide(now));
        assert_eq!(report.findings, alone.findings);
        assert_eq!(need(&report), None);
    }
}

#[test]
fn one_recording_says_what_would_tell() {
    let report = conclude(narrow(4).recording, &nothing_allowed);
    assert!(need(&report).unwrap().contains("--before FILE"));
    let [advice] = threads(&report)[..] else { panic!("{:#?}", report.advice()) };
    assert!(advice.reason.contains("--before before.stallspy` tells"), "{}", advice.reason);
    // Where no size rests on it there is nothing to tell.
    assert_eq!(need(&conclude(narrow(60).recording, &nothing_allowed)), None);
}

#[test]
fn what_two_recordings_cannot_tell_is_not_told() {
    let told = |change: fn(&mut Story)| {
        let mut after = narrow(60);
        change(&mut after);
        let report = both(narrow(4), after);
        assert!(found(&report).is_none());
        need(&report).unwrap_or_default()
    };
    assert!(told(|after| *after = narrow(5)).contains("about as many requests wait at once"));
    let few = told(|after| after.recording.processes[0].requests.last = Some(19));
    assert!(few.contains("20 requests"), "{few}");
    let other = told(|after| after.recording.processes[0].cpu = Nanos::from_millis(2_200));
    assert!(other.contains("the same load"), "{other}");
    let starved = told(|after| {
        after.recording.processes[0].turns.run_delay = Nanos::from_secs(170);
    });
    assert!(starved.contains("CPUs to spare"), "{starved}");
    let sleeps = told(|after| after.recording.samples.clear());
    assert!(sleeps.contains("mostly wait for a peer"), "{sleeps}");
}

#[test]
fn few_requests_show_no_longer_wait() {
    // 25 requests each: each mean may be off by two fifths.
    let of = |threads, held| Story::asking(threads, held, 25, 44 - held);
    assert!(need(&both(of(4, 4), of(8, 8))).unwrap().contains("more where waits vary"));
    assert!(found(&both(of(4, 4), of(60, 44))).is_some());
}

#[test]
fn a_peer_that_has_moved_is_what_requests_wait_for() {
    let mut before = narrow(4);
    let names = &mut before.recording.tables.names;
    *names.iter_mut().find(|name| *name == "10.0.0.7:5432").unwrap() = "10.0.0.9:5432".to_owned();
    let report = both(before, narrow(60));
    assert!(
        report.verdict.contains("their database or API works on about 8"),
        "{}",
        report.verdict
    );
}

#[test]
fn servers_of_another_name_are_not_compared() {
    let mut before = narrow(4);
    before.recording.processes[0].topology.server = "waitress".to_owned();
    before.recording.processes[0].topology.class = WorkerClass::ThreadPool;
    let report = both(before, narrow(60));
    assert!(found(&report).is_none() && need(&report).is_none());
}

#[test]
fn a_pool_of_connections_does_not_grow_before_a_database_that_is_used_up() {
    let mut after = narrow(60);
    let mut pool = PoolInfo::new(PoolKind::SqlalchemyPool, "QueuePool".to_owned());
    for _ in 0..50 {
        pool.add(&PoolReading { limit: Some(40), busy: Some(40), waiting: Some(4) });
    }
    after.recording.processes[0].pools.push(pool);
    let report = both(narrow(4), after);
    let all = report.advice();
    assert!(found(&report).is_some());
    assert!(all.iter().all(|one| !one.command.contains("pool_size")), "{all:#?}");
}
