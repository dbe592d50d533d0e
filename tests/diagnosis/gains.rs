//! What a loop would do without a line that blocks it, and what limits it then.

use super::*;

#[test]
fn what_computes_gets_no_more_done_elsewhere_where_the_cpus_are_used_up() {
    let told = |idle_ms| {
        let mut story = computing(idle_ms, 9_500);
        let render = rendering(&mut story, 40.0);
        story.stall(500.0, render);
        let report = conclude(story.recording, &nothing_allowed);
        let advice = advised(&report, "loop-blocked-by-cpu");
        (advice.command.clone(), advice.predicted.len())
    };
    assert_eq!(told(0), ("make it cheaper, or give the server more CPUs".to_owned(), 0));
    let (command, _) = told(9_000);
    assert!(command.contains("process pool"), "{command}");
}

/// A recording of 10 s with two lines that block: `waits` calls of 400 ms and `renders` of 60 ms.
fn two_culprits(waits: u32, renders: u32) -> Report {
    two_culprits_with_cpu(waits, renders, Nanos::ZERO)
}

/// The same of a process that used so much CPU time.
fn two_culprits_with_cpu(waits: u32, renders: u32, cpu: Nanos) -> Report {
    let mut story = Story::new(0);
    let tally = &mut story.recording.loops[0].tally;
    let busy = u64::from(waits) * 40 + u64::from(renders) * 6 + 50;
    tally.polling = 1000 - busy;
    (0..busy).for_each(|_| tally.count_running(Nanos::from_millis(1)));
    let process = &mut story.recording.processes[0];
    (process.requests.first, process.requests.last) = (Some(0), Some(400));
    process.cpu = cpu;
    for n in 0..waits {
        let call = in_request(&mut story);
        story.stall(100.0 + 420.0 * f64::from(n), call);
    }
    for n in 0..renders {
        let render = rendering(&mut story, 60.0);
        story.stall(100.0 + 420.0 * f64::from(waits) + 70.0 * f64::from(n), render);
    }
    conclude(story.recording, &nothing_allowed)
}

#[test]
fn each_culprit_says_what_the_loop_would_do_without_it() {
    let report = two_culprits(6, 20);
    let lag = |rule| effect(&report, rule, "loop_lag_p99").unwrap();
    let (without_calls, without_renders) =
        (lag("loop-blocked-by-call"), lag("loop-blocked-by-cpu"));
    // Σ (400 - t)⁺ × 6 = 1 % of 10 s: 383 ms, by hand.
    assert!((without_calls.0 - 0.383).abs() < 0.005, "{without_calls:?}");
    // What is left are calls of 60 ms, 2 a second, that sometimes meet.
    assert!((0.05..=0.08).contains(&without_calls.1), "{without_calls:?}");
    assert!(without_renders.1 > 0.35, "{without_renders:?}");
    // 40 requests/s in (2.4 + 1.2 + 0.5) s of 10; without the calls in 1.7 s.
    let capacity = effect(&report, "loop-blocked-by-call", "capacity").unwrap();
    assert!((capacity.0 - 40.0 / 0.41).abs() < 2.0, "{capacity:?}");
    assert!((capacity.1 - 40.0 / 0.17).abs() < 10.0, "{capacity:?}");
    // Off the loop they take as much CPU time: 22.5 ms of each request, on what there is of CPUs.
    let report_of_cpu = two_culprits_with_cpu(6, 20, Nanos::from_millis(9_000));
    let bound = effect(&report_of_cpu, "loop-blocked-by-call", "capacity").unwrap();
    let cores = report_of_cpu.loads[0].cores.usable();
    assert!((bound.0 - capacity.0).abs() < 2.0, "{bound:?}");
    assert!((bound.1 - (cores / 0.0225).max(bound.0)).abs() < 1.0, "{bound:?}, {cores} CPUs");
    assert!(bound.1 < capacity.1, "{bound:?} {capacity:?}");
    // What gains more is first, and what to keep is last.
    let advice = report.advice();
    let gains: Vec<f64> = advice.iter().filter_map(|one| one.gain()).collect();
    assert!(gains.windows(2).all(|two| two[0] >= two[1]), "{gains:?}");
    assert!(advice.last().unwrap().keeps(), "{advice:#?}");
    assert_eq!(advice.last().unwrap().command, "keep 1 worker");
}

#[test]
fn the_pool_that_takes_the_calls_over_is_the_next_limit_where_it_is_too_small() {
    let report = two_culprits(6, 0);
    let call = &report.findings.iter().find(|one| one.id == "loop-blocked-by-call").unwrap();
    // 0.6/s × 0.4 s are a quarter of one: there is room.
    assert!(call.recommendations[0].reason.contains("1 of its 40 are needed"), "{call:#?}");

    let mut story = Story::new(0);
    let tally = &mut story.recording.loops[0].tally;
    tally.polling = 400;
    (0..600).for_each(|_| tally.count_running(Nanos::from_millis(1)));
    let process = &mut story.recording.processes[0];
    (process.requests.first, process.requests.last) = (Some(0), Some(400));
    process.pools.push(full_pool(1, 1, 50));
    for n in 0..12 {
        let call = in_request(&mut story);
        story.stall(100.0 + 500.0 * f64::from(n), call);
    }
    let report = conclude(story.recording, &nothing_allowed);
    let call = &report.findings.iter().find(|one| one.id == "loop-blocked-by-call").unwrap();
    let [_, pool, ..] = &call.recommendations[..] else { panic!("{call:#?}") };
    let Remedy::Setting { current, recommended, suggested, .. } = &pool.remedy else {
        panic!("{pool:#?}")
    };
    // 1.2/s × 0.4 s and the 2 that are there, at 75 % use.
    assert_eq!((*current, *recommended), (Some(1), 4));
    assert!(suggested.lo <= 4 && suggested.hi >= 4);
}

#[test]
fn a_saturated_loop_is_told_what_it_can_carry_and_no_delay() {
    let report = two_culprits(20, 18);
    assert_eq!(effect(&report, "loop-blocked-by-call", "loop_lag_p99"), None);
    let (before, after) = effect(&report, "loop-blocked-by-call", "capacity").unwrap();
    assert!(after > 3.0 * before, "{before} {after}");
    let call = report.findings.iter().find(|one| one.id == "loop-blocked-by-call").unwrap();
    assert!(call.recommendations[0].reason.contains("known from below only"), "{call:#?}");
}

#[test]
fn a_full_loop_makes_room_in_the_pool_for_those_before_it() {
    let told = |queued: u64| {
        let mut story = Story::new(950);
        let process = &mut story.recording.processes[0];
        (process.requests.first, process.requests.last) = (Some(0), Some(400));
        process.requests.looked = Nanos::from_secs(10);
        process.requests.in_flight = Nanos::from_secs(20);
        let queue = Level { looks: 40, sum: 40 * queued, max: 60 };
        let address = "0.0.0.0:8000".to_owned();
        let line = ListenerInfo { inode: 1, address, limit: None, queue, waiting: 40 };
        process.listeners.push(line);
        for n in 0..22 {
            let call = in_request(&mut story);
            story.stall(50.0 + 440.0 * f64::from(n), call);
        }
        let report = conclude(story.recording, &nothing_allowed);
        let call = report.findings.iter().find(|one| one.id == "loop-blocked-by-call").unwrap();
        let pool = call.recommendations.get(1).map(|one| one.command.clone());
        (call.recommendations[0].reason.clone(), pool)
    };
    let (reason, _) = told(0);
    assert!(reason.contains("at least 3 of its 40 are needed"), "{reason}");
    let (_, pool) = told(58);
    assert!(pool.unwrap().contains("total_tokens = 80"));
}
