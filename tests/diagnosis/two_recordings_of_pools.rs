//! What two recordings tell of a database that requests wait for in a pool of a loop's, or beside a hub of greenlets.

use stallspy::conclusion::{conclude, conclude_after, loads_of};
use stallspy::model::{
    ConnectionInfo, GilState, GilTally, Level, LoopKind, Peer, PoolInfo, PoolKind, PoolReading,
    Recommendation, Remedy, Report, Setting, SettingSource, SettingValue, WorkerClass,
};
use stallspy::units::{Nanos, Tid};

use crate::nothing_allowed;
use crate::story::{Story, listening};
use crate::two_recordings::{need, throughput};

/// Where requests wait.
#[derive(Debug, Clone, Copy)]
enum Place {
    Anyio,
    Executor,
    Gevent,
    Eventlet,
}

const PLACES: [Place; 4] = [Place::Anyio, Place::Executor, Place::Gevent, Place::Eventlet];
const CLIENTS: u32 = 100;

/// A server with room for `size` of 100 clients, before a database that works on `at_once` for 400 ms; of 10 s.
fn asking(place: Place, size: u32, at_once: u32) -> Story {
    let there = size.min(CLIENTS);
    served(place, size, u64::from(there.min(at_once)) * 24)
}

/// The same with so many requests.
fn served(place: Place, size: u32, requests: u64) -> Story {
    let there = size.min(CLIENTS);
    let mut story = Story::new(100);
    story.machine(17_000);
    let (root, kind, name) = match place {
        Place::Anyio => (
            ("/srv/venv/lib/python3.12/site-packages/anyio/_backends/_asyncio.py", 1002, "run"),
            PoolKind::AnyioLimiter,
            "default_thread_limiter",
        ),
        Place::Executor => (
            ("/usr/lib/python3.12/concurrent/futures/thread.py", 92, "_worker"),
            PoolKind::ThreadPoolExecutor,
            "asyncio",
        ),
        Place::Gevent => (("", 0, ""), PoolKind::GeventPool, "worker_connections"),
        Place::Eventlet => (("", 0, ""), PoolKind::EventletPool, "worker_connections"),
    };
    let mut pool = PoolInfo::new(kind, name.to_owned());
    let is_hub = matches!(place, Place::Gevent | Place::Eventlet);
    let waiting = (!is_hub).then_some(CLIENTS - there);
    for _ in 0..50 {
        pool.add(&PoolReading { limit: Some(size), busy: Some(there), waiting });
    }
    if !is_hub {
        let start = ("/usr/lib/python3.12/threading.py", 1030, "_bootstrap");
        let stack = story.frames(&[start, root, ("/srv/app/views.py", 41, "orders")]);
        let peer = Peer::Remote(story.recording.tables.name("10.0.0.7:5432"));
        let query = story.asleep(20.0, stack, "recvfrom", Some(peer));
        story.sampled(stack, 1000 * there, query.cpu);
        story.recording.samples[0].tid = Tid(200);
    }
    let process = &mut story.recording.processes[0];
    process.pools.push(pool);
    (process.requests.first, process.requests.last) = (Some(0), Some(requests));
    process.cpu = Nanos::from_millis(requests);
    process.gil = GilTally { looks: 10_000, held: requests };
    if is_hub {
        process.topology.server = "gunicorn".to_owned();
        (process.topology.class, story.recording.loops[0].kind) = match place {
            Place::Eventlet => (WorkerClass::Eventlet, LoopKind::Eventlet),
            _ => (WorkerClass::Gevent, LoopKind::Gevent),
        };
        let value = SettingValue::Number(i64::from(size));
        let setting = Setting { value, source: SettingSource::CommandLine };
        process.config.insert("worker_connections".to_owned(), setting);
        process.listeners.push(listening(CLIENTS - there));
        connected(&mut story, None, there);
        connected(&mut story, Some("10.0.0.7:5432"), there);
    }
    story
}

fn connected(story: &mut Story, peer: Option<&str>, open: u32) {
    let mut one = ConnectionInfo {
        peer: peer.map(str::to_owned),
        open: Level::default(),
        met: 0,
        fresh: 0,
        libraries: Vec::new(),
    };
    (0..10).for_each(|_| one.open.add(Some(open)));
    story.recording.processes[0].connections.push(one);
}

fn both(before: Story, after: Story) -> Report {
    conclude_after(after.recording, &loads_of(before.recording), &nothing_allowed)
}

/// Rows of the truth table.
pub fn rows() -> Vec<(&'static str, Report)> {
    use Place::{Anyio, Executor, Gevent};
    let alone = |story: Story| conclude(story.recording, &nothing_allowed);
    vec![
        ("134 tokens ask hardly more than 40", both(asking(Anyio, 40, 50), asking(Anyio, 134, 50))),
        ("40 tokens ask as much as 134", both(asking(Anyio, 134, 8), asking(Anyio, 40, 8))),
        (
            "134 threads ask more than 40",
            both(asking(Executor, 40, 500), asking(Executor, 134, 500)),
        ),
        ("40 tokens ask, one recording", alone(asking(Anyio, 40, 50))),
        (
            "134 greenlets ask hardly more than 20",
            both(asking(Gevent, 20, 32), asking(Gevent, 134, 32)),
        ),
        ("20 greenlets ask, one recording", alone(asking(Gevent, 20, 32))),
    ]
}

/// What is to be typed for another number of tokens, threads or connections, and what to keep.
fn sizes(report: &Report) -> Vec<&Recommendation> {
    let is_size = |one: &&Recommendation| matches!(one.remedy, Remedy::Setting { .. });
    report.advice().into_iter().filter(is_size).filter(|one| one.command.starts_with('`')).collect()
}

fn is_found(report: &Report) -> bool {
    report.findings.iter().any(|one| one.id == "peer-saturated")
}

fn typed(place: Place, size: u32) -> String {
    match place {
        Place::Anyio => format!(
            "`anyio.to_thread.current_default_thread_limiter().total_tokens = {size}` in the application's startup \
             (lifespan)"
        ),
        Place::Executor => format!(
            "`loop.set_default_executor(ThreadPoolExecutor({size}))` in the application's startup"
        ),
        Place::Gevent | Place::Eventlet => format!("`--worker-connections {size}`"),
    }
}

#[test]
fn what_only_waits_at_a_database_is_taken_back() {
    for place in PLACES {
        let report = both(asking(place, 20, 32), asking(place, 134, 32));
        assert_eq!(report.findings[0].id, "peer-saturated", "{place:?} {:#?}", report.findings);
        let [advice] = sizes(&report)[..] else { panic!("{place:?} {:#?}", report.advice()) };
        let Remedy::Setting { current, recommended, suggested, .. } = &advice.remedy else {
            panic!("{advice:#?}")
        };
        // 76.8 a second × 416 ms, and a quarter of room.
        assert!(*current == Some(134) && (40..=46).contains(recommended), "{place:?} {advice:#?}");
        assert!(suggested.lo <= *recommended && suggested.hi >= *recommended, "{suggested:?}");
        assert_eq!(advice.command, typed(place, *recommended));
        let said = "10.0.0.7:5432 works on about 32 at once: of 20 that ask each waits ";
        assert!(report.verdict.contains(said), "{place:?} {}", report.verdict);
        assert!(advice.reason.contains(said), "{}", advice.reason);
        let (before, after) = throughput(advice);
        assert!((after / before - 1.0).abs() < 0.05, "{place:?} {before} {after}");
    }
}

#[test]
fn a_size_that_was_seen_to_be_enough_is_gone_back_to() {
    for place in PLACES {
        let report = both(asking(place, 40, 8), asking(place, 134, 8));
        let [advice] = sizes(&report)[..] else { panic!("{place:?} {:#?}", report.advice()) };
        assert_eq!(advice.command, typed(place, 40));
        assert!(advice.reason.contains("it may need less still"), "{}", advice.reason);
        // And is kept, though others wait for it.
        let report = both(asking(place, 134, 8), asking(place, 40, 8));
        assert!(is_found(&report) && sizes(&report).is_empty(), "{place:?} {:#?}", report.advice());
        let all = report.advice();
        assert!(all.iter().any(|one| one.command.starts_with("keep ")), "{place:?} {all:#?}");
        assert!(all.iter().any(|one| one.command.starts_with("no more ")), "{place:?} {all:#?}");
    }
}

#[test]
fn a_server_that_asks_too_little_grows_to_what_the_database_works_on() {
    for place in PLACES {
        let report = both(asking(place, 134, 50), asking(place, 20, 50));
        assert!(!is_found(&report) && need(&report).is_none(), "{place:?} {:#?}", report.findings);
        let [advice] = sizes(&report)[..] else { panic!("{place:?} {:#?}", report.advice()) };
        let Remedy::Setting { recommended, .. } = advice.remedy else { panic!("{advice:#?}") };
        assert!((60..=72).contains(&recommended), "{place:?} {advice:#?}");
        let (before, after) = throughput(advice);
        assert!((before - 48.0).abs() < 0.1 && (after - 120.0).abs() < 6.0, "{before} {after}");
    }
}

#[test]
fn a_database_that_answers_as_many_as_ask_changes_nothing() {
    for place in PLACES {
        for (before, now) in [(20, 134), (134, 20)] {
            let alone = conclude(asking(place, now, 500).recording, &nothing_allowed);
            let report = both(asking(place, before, 500), asking(place, now, 500));
            assert_eq!(report.findings, alone.findings, "{place:?}");
            assert_eq!(need(&report), None, "{place:?}");
        }
    }
}

#[test]
fn one_recording_says_what_would_tell() {
    for place in PLACES {
        let report = conclude(asking(place, 20, 50).recording, &nothing_allowed);
        assert!(need(&report).unwrap_or_default().contains("--before FILE"), "{place:?}");
        let [advice] = sizes(&report)[..] else { panic!("{place:?} {:#?}", report.advice()) };
        let said =
            "predicted as if 10.0.0.7:5432 answered that many at once as fast as it does now";
        assert!(advice.reason.contains(said), "{}", advice.reason);
        assert!(advice.reason.contains("--before before.stallspy` tells"), "{}", advice.reason);
        // Where all have room no size rests on it.
        assert_eq!(need(&conclude(asking(place, 134, 50).recording, &nothing_allowed)), None);
    }
}

#[test]
fn what_two_recordings_cannot_tell_is_not_told() {
    let told = |place, change: &dyn Fn(&mut Story)| {
        let mut after = asking(place, 134, 32);
        change(&mut after);
        let report = both(asking(place, 20, 32), after);
        assert!(!is_found(&report), "{place:?} {:#?}", report.findings);
        need(&report).unwrap_or_default()
    };
    for place in PLACES {
        let busy = told(place, &|after| {
            after.recording.loops[0].tally = Story::new(950).recording.loops[0].tally.clone()
        });
        assert!(busy.contains("time to spare"), "{place:?} {busy}");
        let same = told(place, &|after| *after = asking(place, 24, 500));
        assert!(same.contains("sizes further apart"), "{place:?} {same}");
        let other = told(place, &|after| after.recording.processes[0].cpu = Nanos::from_secs(3));
        assert!(other.contains("the same load"), "{place:?} {other}");
    }
    // What waits beside a hub on fewer connections than that waits for something else: a pool of connections, say.
    let few = |after: &mut Story| {
        after.recording.processes[0].connections.pop();
        connected(after, Some("10.0.0.7:5432"), 20);
    };
    assert!(told(Place::Gevent, &few).contains("mostly wait for a peer"));
    let sleeps = told(Place::Anyio, &|after| after.recording.samples.clear());
    assert!(sleeps.contains("mostly wait for a peer"), "{sleeps}");
    let other = told(Place::Gevent, &|after| *after = Story::asking(60, 44, 800, 0));
    assert!(other.contains("workers of the same class"), "{other}");
}

#[test]
fn threads_of_a_pool_that_wait_for_the_interpreter_lock_do_not_wait_for_a_database() {
    // All that they wait longer is for the lock.
    let mut after = asking(Place::Anyio, 134, 32);
    let mut sample = after.recording.samples[0].clone();
    (sample.gil, sample.weight) = (GilState::Waiting, Nanos::from_secs(670));
    after.recording.samples.push(sample);
    let report = both(asking(Place::Anyio, 20, 32), after);
    assert!(!is_found(&report), "{:#?}", report.findings);
}

#[test]
fn a_little_more_tells_that_a_database_answers_more_where_means_are_sure() {
    // Of 9,600 requests a wait is known to 5 %, and 1.3 times as long would be told from that.
    let report = both(served(Place::Anyio, 20, 9_600), served(Place::Anyio, 26, 12_480));
    assert_eq!(need(&report), None, "{:#?}", report.undecided);
    // Of some hundreds it is not.
    let report = both(served(Place::Anyio, 20, 480), served(Place::Anyio, 26, 624));
    assert!(need(&report).unwrap_or_default().contains("further apart"));
    // A longer wait of a little more that ask may be the database's own.
    let report = both(served(Place::Anyio, 20, 9_600), served(Place::Anyio, 26, 9_600));
    assert!(!is_found(&report) && need(&report).is_some());
}
