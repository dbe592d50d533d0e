//! What is a load, and what is none.

use super::*;

#[test]
fn who_watches_a_parent_alone_is_told_which_children_serve() {
    let said = |children: &[i32]| {
        let mut story = Story::new(0);
        story.recording.loops.clear();
        story.recording.processes[0].serving_children = children.iter().copied().map(Pid).collect();
        conclude(story.recording, &nothing_allowed).verdict
    };
    assert!(!said(&[]).contains("-s"), "{}", said(&[]));
    let two = said(&[101, 102]);
    let what = "; below pid 100, processes 101 and 102 run event loops or serve requests: \
                `stallspy record -s -p 100` watches them too";
    assert!(two.ends_with(what), "{two}");
    let one = said(&[101]);
    assert!(one.contains("process 101 runs an event loop or serves requests"), "{one}");
    let many = said(&[101, 102, 103, 104, 105, 106]);
    assert!(many.contains("processes 101, 102, 103, 104 and 2 more run"), "{many}");
}

#[test]
fn what_explains_most_comes_first_with_stalls_or_without() {
    let ids = |story: Story| -> Vec<String> {
        let report = conclude(story.recording, &nothing_allowed);
        report.findings.into_iter().map(|finding| finding.id).collect()
    };
    // A pool that is full all the time, and a stall of 40 ms in ten seconds.
    let mut story = Story::new(400);
    let render = rendering(&mut story, 40.0);
    story.stall(500.0, render);
    story.recording.processes[0].pools.push(full_pool(40, 20, 50));
    assert_eq!(ids(story), ["pool-saturated", "loop-blocked-by-cpu"]);
    // A loop that has nothing to do, as all that there is waits for the pool, is no lack of load.
    let mut story = Story::new(10);
    let requests = &mut story.recording.processes[0].requests;
    (requests.first, requests.last) = (Some(0), Some(400));
    story.recording.processes[0].pools.push(full_pool(40, 20, 50));
    assert_eq!(ids(story), ["pool-saturated"]);
    // A note comes last, however long the calls are that it speaks of.
    let mut story = Story::of_threads(400, 4, 1);
    let call = in_request(&mut story);
    story.stall(500.0, call);
    story.recording.processes[0].topology.development = true;
    assert_eq!(ids(story), ["dev-server", "threads-occupied"]);
}

#[test]
fn a_hub_that_turns_round_a_callback_spins() {
    let found = |in_hub: u32| {
        let mut story = Story::new(990);
        let hub = story.frames(&[(&format!("{VENV}/gevent/hub.py"), 647, "run")]);
        let again = story.frames(&[
            (&format!("{VENV}/gevent/hub.py"), 647, "run"),
            ("/srv/app/poll.py", 12, "again"),
        ]);
        story.sampled(again, 1000 - in_hub, CpuState::Running);
        story.sampled(hub, in_hub, CpuState::Running);
        story.recording.loops[0].kind = LoopKind::Gevent;
        let requests = &mut story.recording.processes[0].requests;
        (requests.first, requests.last) = (Some(0), Some(0));
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "busy-idle");
        found.map(|one| one.summary.clone())
    };
    let summary = found(400).unwrap();
    assert!(summary.ends_with(": each round runs poll.py:12 again"), "{summary}");
    // A greenlet that computes lets others in now and then.
    assert_eq!(found(40), None);
}

#[test]
fn no_finding_explains_more_than_the_whole() {
    let mut story = Story::new(400);
    story.connected("10.0.0.7:5432", 97, 0.0);
    let stack = story.stack(&[("/srv/app/views.py", 41, "render")]);
    for n in 0..60 {
        story.stall(f64::from(n) * 150.0 + 100.0, Story::computing(100.0, stack));
    }
    // The same on a second and a third loop.
    let all = story.recording.clone();
    for id in [1, 2] {
        let (mut info, states) = (all.loops[0].clone(), all.loop_states.iter().cloned());
        info.id = LoopId(info.id.0 + id);
        story
            .recording
            .loop_states
            .extend(states.map(|state| LoopState { loop_id: info.id, ..state }));
        story.recording.loops.push(info);
    }
    story.recording.loop_states.sort_by_key(|state| state.at);
    let report = conclude(story.recording, &nothing_allowed);
    let ids: Vec<&str> = report.findings.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids[..2], ["connection-limit", "loop-blocked-by-cpu"], "{ids:?}");
    assert!(report.findings[1].summary.starts_with("3 event loops"), "{report:#?}");
}

#[test]
fn a_stall_from_before_the_attach_counts_only_for_what_was_observed() {
    let mut story = Story::new(400);
    let call = in_request(&mut story);
    story.busy(-60_000.0, &[Part { ms: 61_000.0, ..call }], true);
    story.recording.loop_states.retain(|state| state.at >= at(0.0));
    let report = conclude(story.recording, &nothing_allowed);
    assert!(report.stalls[0].before_attach);
    assert!(report.stalls[0].duration().0 > 60_000_000_000);
    assert!(report.verdict.contains(": 10 % of the time"), "{}", report.verdict);
}

#[test]
fn an_iteration_in_which_requests_are_counted_is_no_hang() {
    let told = |counted_at: Option<f64>, loops: usize| {
        let mut story = Story::new(400);
        let render = rendering(&mut story, 5_000.0);
        story.busy(5_000.0, &[render], false);
        story.recording.processes[0].requests.risen = counted_at.map(at);
        for n in 1..loops {
            let mut another = story.recording.loops[0].clone();
            another.id = LoopId(u32::try_from(n).unwrap());
            story.recording.loops.push(another);
        }
        conclude(story.recording, &nothing_allowed).findings[0].id.clone()
    };
    assert_eq!(told(Some(9_700.0), 1), "loop-blocked-by-cpu");
    assert_eq!(told(Some(7_000.0), 1), "loop-hung", "the last one hangs");
    assert_eq!(told(Some(4_900.0), 1), "loop-hung", "that was before");
    assert_eq!(told(None, 1), "loop-hung");
    assert_eq!(told(Some(9_700.0), 2), "loop-hung", "another loop may have served it");
}

#[test]
fn fewer_than_twenty_requests_are_not_a_load() {
    let of = |requests| {
        let mut story = Story::new(400);
        let process = &mut story.recording.processes[0];
        (process.requests.first, process.requests.last) = (Some(0), Some(requests));
        let report = conclude(story.recording, &nothing_allowed);
        (cell(&report, "healthy"), cell(&report, "not-under-load"), report.verdict.clone())
    };
    let (healthy, idle, verdict) = of(19);
    assert_eq!((healthy, idle), ("-", "FOUND"), "{verdict}");
    let (healthy, idle, verdict) = of(20);
    assert_eq!((healthy, idle), ("FOUND", "-"), "{verdict}");
    assert!(verdict.ends_with("at 2.0 requests/s"), "{verdict}");
}

#[test]
fn websockets_that_keep_a_loop_busy_are_a_load() {
    let told = |busy: u64, in_flight: u64| {
        let mut story = Story::new(busy);
        story.recording.processes[0].cpu = Nanos::from_millis(500);
        let requests = &mut story.recording.processes[0].requests;
        (requests.first, requests.last) = (Some(0), Some(0));
        requests.looked = Nanos::from_secs(10);
        requests.in_flight = requests.looked.scaled(in_flight, 1);
        let report = conclude(story.recording, &nothing_allowed);
        (cell(&report, "healthy"), cell(&report, "not-under-load"))
    };
    assert_eq!(told(400, 12), ("FOUND", "-"));
    assert_eq!(told(400, 0), ("-", "FOUND"));
    // Nobody sends anything.
    assert_eq!(told(20, 12), ("-", "FOUND"));
}

#[test]
fn an_idle_loop_with_requests_in_flight_is_under_load() {
    let told = |in_flight_ms: u64| {
        let mut story = Story::new(20);
        let process = &mut story.recording.processes[0];
        (process.requests.first, process.requests.last) = (Some(0), Some(200));
        process.requests.looked = Nanos::from_secs(10);
        process.requests.in_flight = Nanos::from_millis(in_flight_ms);
        let report = conclude(story.recording, &nothing_allowed);
        (cell(&report, "healthy"), cell(&report, "not-under-load"), report.verdict.clone())
    };
    let (healthy, idle, verdict) = told(300_000);
    assert_eq!((healthy, idle), ("FOUND", "-"));
    assert!(verdict.contains("20.0 requests/s, while 30.0 are in flight on average"), "{verdict}");
    let (healthy, idle, _) = told(9_000);
    assert_eq!((healthy, idle), ("-", "FOUND"));
}
