//! Which lines are to blame, and what is to be done at them.

use super::*;

#[test]
fn lines_of_one_function_are_one_thing_to_do() {
    let mut story = Story::new(400);
    for (n, line) in [41, 42, 43, 41].into_iter().enumerate() {
        let stack = story.stack(&[("/srv/app/views.py", line, "render")]);
        story.stall(500.0 + 900.0 * n as f64, Story::computing(60.0, stack));
    }
    for (at, length, line, function) in [
        (5000.0, 30.0, 90, "other"),
        // What is defined on a line is changed with it.
        (5100.0, 25.0, 90, "<genexpr>"),
        // A rare and short one is not worth the words.
        (5200.0, 12.0, 200, "seldom"),
    ] {
        let stack = story.stack(&[("/srv/app/views.py", line, function)]);
        story.stall(at, Story::computing(length, stack));
    }
    for n in 0..20 {
        let stack = story.stack(&[("/srv/app/views.py", 41, "render")]);
        story.stall(6000.0 + 100.0 * f64::from(n), Story::computing(70.0, stack));
    }
    let report = conclude(story.recording, &nothing_allowed);
    let lines = report.findings[0].recommendations.iter().map(|advice| match advice.remedy {
        Remedy::Code { frame } => report.recording.tables.get_frame(frame).unwrap().line,
        _ => None,
    });
    assert_eq!(lines.collect::<Vec<_>>(), [Some(41), Some(90)]);
}

#[test]
fn a_stall_is_explained_by_what_its_looks_saw() {
    let reports = stories();
    let report = |name: &str| &reports.iter().find(|(story, _)| *story == name).unwrap().1;

    let calls = report("a handler calls requests.get");
    assert_eq!(calls.stalls.len(), 10);
    let [total] = &calls.culprits[..] else { panic!("{:#?}", calls.culprits) };
    assert_eq!((total.count, total.cause), (10, Cause::BlockingCall));
    assert_eq!(total.endpoint.map(|e| calls.recording.tables.text(e)), Some("GET /sandboxes"));
    let culprit = total.culprit.as_ref().unwrap();
    let place = |frame| stallspy::diagnosis::wording::place(&calls.recording, frame);
    assert_eq!(place(culprit.frame), "lifecycle.py:88 list_sandboxes");
    assert_eq!(culprit.library.map(place).as_deref(), Some("connection.py:203 getresponse"));
    assert!(culprit.wait.is_some() && culprit.share > 0.99);
    let stall = &calls.stalls[0];
    assert!(stall.length().lo.0 <= 400_000_000 && 400_000_000 <= stall.length().hi.0);
    assert!(stall.split.off_cpu.0 > 395_000_000, "{:?}", stall.split);

    let starved = report("no CPU for it");
    assert_eq!(starved.stalls[0].cause, Cause::CpuStarved);
    assert_eq!(starved.stalls[0].culprit, None);

    let spent = report("the CPU quota is spent");
    assert_eq!(spent.stalls[0].cause, Cause::CpuStarved);
    assert_eq!(spent.stalls[0].culprit, None);
    let throttled = spent.stalls[0].particulars.throttled.unwrap();
    assert_eq!((throttled.periods, throttled.quota.name()), (1, "0.5 CPUs".to_owned()));
    assert!(throttled.time.0.abs_diff(85_000_000) < 1_000_000, "{throttled:?}");

    let many = report("a hundred callbacks of 0.4 ms");
    assert_eq!(many.stalls[0].cause, Cause::ManyCallbacks);
    // The last of them had not begun at the last look.
    assert_eq!(many.stalls[0].callbacks, 99);
    assert_eq!(many.stalls[0].particulars.batch, Some(100));
    let [only] = &many.stalls[0].particulars.contributors[..] else { panic!("{many:#?}") };
    assert_eq!(many.recording.tables.text(only.name), "app");
    assert!(only.share > 0.99, "{only:?}");

    let unseen = report("a stall not seen into");
    assert_eq!(unseen.stalls[0].cause, Cause::Unknown);

    let hung = report("a call that did not return");
    assert!(hung.stalls[0].ongoing && hung.stalls[0].ended.hi == at(10_000.0));

    let allowed = report("a call that --allow accepts");
    assert!(allowed.culprits[0].allowed);
}

#[test]
fn the_line_that_took_longest_is_to_blame() {
    let mut story = Story::new(400);
    let call = in_request(&mut story);
    let render = rendering(&mut story, 60.0);
    story.busy(500.0, &[render, Part { ms: 100.0, callback: 1, ..call }], true);
    let report = conclude(story.recording, &nothing_allowed);
    let [stall] = &report.stalls[..] else { panic!("{:#?}", report.stalls) };
    let culprit = stall.culprit.as_ref().unwrap();
    assert!((culprit.share - 100.0 / 160.0).abs() < 0.01, "{}", culprit.share);
    assert_eq!(stall.cause, Cause::BlockingCall);
}

/// Waits in the limiter of the story `control-plane`.
fn throttled(story: &mut Story, ms: f64) -> Part {
    let stack = story.stack(&[
        ("/srv/app/lifecycle.py", 80, "list_sandboxes"),
        ("/srv/app/throttle.py", 12, "wait"),
    ]);
    Part { callback: 1, ..story.asleep(ms, stack, "clock_nanosleep", None) }
}

#[test]
fn another_line_of_the_same_iteration_is_told_with_its_own_time() {
    let mut story = Story::new(400);
    for n in 0..5 {
        let (call, sleep) = (in_request(&mut story), throttled(&mut story, 20.0));
        let render = rendering(&mut story, 60.0);
        let little = story.stack(&[("/srv/app/views.py", 90, "log")]);
        let little = Part { callback: 3, ..story.asleep(3.0, little, "write", None) };
        let parts =
            [Part { ms: 150.0, ..call }, sleep, Part { callback: 2, ..render }, little, call];
        story.busy(100.0 + 700.0 * f64::from(n), &parts, true);
    }
    let report = conclude(story.recording, &nothing_allowed);
    let tables = &report.recording.tables;
    let place = |frame| stallspy::diagnosis::wording::place_in(tables, frame);
    let told: Vec<String> = { report.culprits.iter() }
        .map(|total| {
            let frame = total.culprit.as_ref().unwrap().frame;
            let [sum, max] = [total.total, total.max].map(|time| time.as_millis_f64().round());
            format!(
                "{} {} × {}, {sum} ms, at most {max} ms",
                total.cause.id(),
                place(frame),
                total.count
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            // Twice in each iteration, and what no line took enough of.
            "blocking_call lifecycle.py:88 list_sandboxes × 5, 2764 ms, at most 633 ms",
            "cpu views.py:41 render × 5, 300 ms, at most 60 ms",
            "blocking_call throttle.py:12 wait × 5, 100 ms, at most 20 ms",
        ]
    );
    let stalled: Nanos = report.stalls.iter().map(Stall::duration).sum();
    assert_eq!(report.culprits.iter().map(|total| total.total).sum::<Nanos>(), stalled);
    let share = |id: &str| {
        let finding = report.findings.iter().find(|finding| finding.id == id).unwrap();
        let lines = finding.recommendations.iter().filter_map(|advice| match advice.remedy {
            Remedy::Code { frame } => Some(place(frame)),
            _ => None,
        });
        (finding.figure("blocked_share").unwrap(), finding.stalls.len(), lines.collect::<Vec<_>>())
    };
    let (calls, stalls, lines) = share("loop-blocked-by-call");
    assert!((calls - 0.2865).abs() < 0.001 && stalls == 5, "{calls}");
    assert_eq!(lines, ["lifecycle.py:88 list_sandboxes", "throttle.py:12 wait"]);
    let (computing, stalls, lines) = share("loop-blocked-by-cpu");
    assert!((computing - 0.03).abs() < 0.001 && stalls == 5, "{computing}");
    assert_eq!(lines, ["views.py:41 render"]);
    // What explains most comes first, and a part of a stall explains no more than its time.
    assert!(
        report.verdict.contains("synchronous calls: 29 % of the time, longest 633 ms"),
        "{}",
        report.verdict
    );

    let mut text = Vec::new();
    let exporter = stallspy::export::Format::Text.exporter();
    exporter.write(&report, &stallspy::export::View::default(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let row = text.lines().find(|line| line.contains("throttle.py:12 wait")).unwrap();
    assert!(row.contains("~100 ms") && row.contains("~20 ms") && row.contains("sleeps"), "{row}");
    assert!(text.contains("within stalls of other lines that took longer"), "{text}");
}

#[test]
fn other_lines_of_a_stall_that_nobody_or_another_thread_is_to_blame_for_are_not_told() {
    let others = |parts: &dyn Fn(&mut Story) -> Vec<Part>| {
        let mut story = Story::new(400);
        let parts = parts(&mut story);
        story.busy(500.0, &parts, true);
        let report = conclude(story.recording, &nothing_allowed);
        report.stalls[0].particulars.others.len()
    };
    let with_sleep = |first: Part, story: &mut Story| vec![first, throttled(story, 20.0)];
    assert_eq!(others(&|story| with_sleep(in_request(story), story)), 1);
    assert_eq!(others(&|story| with_sleep(rendering(story, 60.0), story)), 1);
    let waits_for_gil = |story: &mut Story| {
        let render = rendering(story, 0.0);
        story.asleep(60.0, render.stack, "futex", Some(Peer::Gil))
    };
    assert_eq!(others(&|story| with_sleep(waits_for_gil(story), story)), 0);
    // It was ready and got no CPU: no line took that time.
    let starved = |story: &mut Story| {
        let render = rendering(story, 0.0);
        vec![in_request(story), Part { callback: 1, ..Story::starved(40.0, render.stack) }]
    };
    assert_eq!(others(&starved), 0);
}

#[test]
fn a_request_of_several_calls_keeps_its_sync_worker_as_a_whole() {
    let mut story = Story::of_threads(400, 1, 1);
    let lines = [10, 11, 12].map(|line| {
        let stack = story.stack(&[("/srv/app/views.py", line, "view")]);
        story.asleep(1_000.0 + f64::from(line) * 10.0, stack, "recvfrom", None)
    });
    story.busy(1_000.0, &lines, true);
    let story = under_gunicorn(story, WorkerClass::Sync, Some(4));
    let report = conclude(story.recording, &nothing_allowed);
    assert_eq!(report.stalls.len(), 3);
    let found = report.findings.iter().find(|one| one.id == "worker-timeout-ahead").unwrap();
    assert!((found.figure("longest_hold").unwrap() - 3.33).abs() < 0.01, "{found:#?}");
    assert_eq!((found.figure("holds"), found.stalls.len()), (Some(1.0), 3));
    assert!(found.summary.contains("views.py:12 view"), "the longest of them: {}", found.summary);
}

#[test]
fn what_was_not_told_goes_by_the_others_of_its_line() {
    let mut story = Story::new(400);
    let render = rendering(&mut story, 60.0);
    let native = Part { in_call_with_gil: Some(false), ..render };
    story.stall(500.0, native);
    story.stall(1000.0, Part { ms: 15.0, ..render });
    let stack = story.stack(&[("/srv/app/other.py", 3, "loop")]);
    story.stall(1500.0, Story::computing(15.0, stack));
    let report = conclude(story.recording, &nothing_allowed);
    let causes: Vec<Cause> = report.stalls.iter().map(|stall| stall.cause).collect();
    assert_eq!(causes, [Cause::CCall, Cause::CCall, Cause::Cpu]);
}

#[test]
fn nothing_is_advised_twice() {
    for (name, report) in stories() {
        let words: Vec<&str> = report.advice().iter().map(|one| one.command.as_str()).collect();
        assert!(words.iter().all(|one| !one.is_empty()), "{name}: {words:#?}");
        let mut once = words.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), words.len(), "{name}: {words:#?}");
    }
}

#[test]
fn a_line_does_the_same_in_each_of_its_stalls() {
    let told = |in_c: f64, in_python: f64| {
        let mut story = Story::new(400);
        let render = rendering(&mut story, in_c);
        story.stall(500.0, Part { in_call_with_gil: Some(false), ..render });
        story.stall(1500.0, Part { ms: in_python, is_moving: true, ..render });
        let report = conclude(story.recording, &nothing_allowed);
        let told = |stall: &Stall| (stall.cause, stall.particulars.releases_gil);
        report.stalls.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(told(60.0, 40.0), [(Cause::CCall, Some(true)); 2]);
    assert_eq!(told(40.0, 60.0), [(Cause::Cpu, None); 2]);
}

#[test]
fn a_handler_is_made_def_only_where_that_puts_it_on_a_thread() {
    let told_of = |endpoint: &str, framework: &str| -> String {
        let mut story = Story::new(400);
        story.endpoint = Some(story.recording.tables.name(endpoint));
        let framework = format!("{VENV}/{framework}");
        let stack = story.frames(&[
            ("/usr/lib/python3.12/asyncio/base_events.py", 2000, "_run_once"),
            (&framework, 70, "app"),
            ("/srv/app/lifecycle.py", 88, "list_sandboxes"),
        ]);
        let call = story.asleep(400.0, stack, "recvfrom", None);
        story.stall(500.0, call);
        let report = conclude(story.recording, &nothing_allowed);
        report.advice().first().unwrap().command.clone()
    };
    let told = |framework: &str| told_of("GET /sandboxes", framework);
    assert!(told("starlette/routing.py").starts_with("make the handler `def`"));
    // What serves a WebSocket awaits what comes.
    let of_socket = told_of("WS /sandboxes", "starlette/routing.py");
    assert!(of_socket.starts_with("`await asyncio.to_thread(…)`"), "{of_socket}");
    let litestar = told("litestar/routes/http.py");
    assert!(
        litestar.starts_with("make the handler `def`, with `sync_to_thread=True`"),
        "{litestar}"
    );
    assert!(told("quart/app.py").starts_with("make the handler `def`"));
    assert!(told("tornado/web.py").starts_with("`await asyncio.to_thread(…)`"));
    assert!(told("sanic/app.py").starts_with("`await asyncio.to_thread(…)`"));
}

#[test]
fn to_keep_a_connection_is_told_beside_what_its_line_waits_for() {
    let mut story = Story::of_threads(400, 2, 2);
    let call = in_request(&mut story);
    story.stall(500.0, call);
    story.connected("10.0.0.7:443", 5, 1.0);
    let report = conclude(story.recording, &nothing_allowed);
    let (call, keep) = (advised(&report, "threads-occupied"), advised(&report, "connection-churn"));
    assert!(call.line().is_some() && call.line() == keep.line(), "{call:#?} {keep:#?}");
    let all = report.advice();
    assert!(all.contains(&call) && all.contains(&keep), "{all:#?}");
}

#[test]
fn a_turn_of_the_interpreter_lock_is_no_reason_for_a_process() {
    let told = |ms: f64| {
        let mut story = Story::new(400);
        let stack = story.stack(&[("/srv/app/views.py", 41, "render")]);
        let waits = story.asleep(ms, stack, "futex", Some(Peer::Gil));
        let other = story.frames(&[("/srv/app/export.py", 12, "rows")]);
        let cpu = CpuState::Running;
        let holder = GilHolder { tid: Tid(7), stack: other, native: None, cpu };
        story.stall(500.0, Part { holder: Some(holder), ..waits });
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "gil-held-elsewhere").unwrap();
        (found.severity, found.recommendations.len())
    };
    assert_eq!(told(15.0), (Severity::Low, 0));
    assert_eq!(told(900.0), (Severity::Medium, 1));
}

#[test]
fn of_one_line_one_remedy_is_told() {
    let mut story = Story::new(600);
    let (call, render) = (in_request(&mut story), rendering(&mut story, 40.0));
    story.stall(500.0, Part { cpu: render.cpu, on_cpu: 1.0, ms: 40.0, ..call });
    story.stall(1500.0, call);
    let report = conclude(story.recording, &nothing_allowed);
    let lines = report.advice().iter().filter(|one| one.line().is_some()).count();
    let found: Vec<&str> = report.findings.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(found, ["loop-blocked-by-call", "loop-blocked-by-cpu"]);
    assert_eq!(lines, 1, "{:#?}", report.advice());
}

/// What is advised of a line that waits on a loop of this kind: in which library, in which system call.
fn told_of_a_wait(kind: LoopKind, library: &str, syscall: &str, ms: f64) -> String {
    let mut story = Story::new(400);
    story.recording.loops[0].kind = kind;
    let library = format!("{VENV}/{library}");
    let stack =
        story.stack(&[("/srv/app/lifecycle.py", 88, "list_sandboxes"), (&library, 9, "get")]);
    let call = story.asleep(ms, stack, syscall, None);
    story.stall(500.0, call);
    let report = conclude(story.recording, &nothing_allowed);
    report.advice().first().unwrap().command.clone()
}

#[test]
fn each_family_of_loops_has_ways_of_its_own() {
    let told = |kind, syscall| told_of_a_wait(kind, "requests/api.py", syscall, 300.0);
    let nap = "clock_nanosleep";
    for (kind, thread, client, sleep) in [
        (LoopKind::Asyncio, "`await asyncio.to_thread(…)`", "aiohttp", "`await asyncio.sleep(…)`"),
        (LoopKind::Trio, "`await trio.to_thread.run_sync(…)`", "httpx", "`await trio.sleep(…)`"),
        (
            LoopKind::Twisted,
            "`twisted.internet.threads.deferToThread(…)`",
            "treq",
            "`twisted.internet.task",
        ),
    ] {
        let (call, sleeps) = (told(kind, "recvfrom"), told(kind, nap));
        assert!(call.starts_with(thread) && call.contains(client), "{kind:?}: {call}");
        assert!(sleeps.starts_with(sleep), "{kind:?}: {sleeps}");
        let foreign =
            kind != LoopKind::Asyncio && [call, sleeps].iter().any(|one| one.contains("asyncio"));
        assert!(!foreign, "{kind:?}");
    }
    // What computes, too.
    for (kind, word) in [(LoopKind::Trio, "trio."), (LoopKind::Twisted, "task.cooperate")] {
        let mut story = Story::new(400);
        story.recording.loops[0].kind = kind;
        let render = rendering(&mut story, 60.0);
        story.stall(500.0, render);
        let report = conclude(story.recording, &nothing_allowed);
        let told = &report.advice().first().unwrap().command;
        assert!(told.contains(word) && !told.contains("asyncio"), "{kind:?}: {told}");
    }
}

#[test]
fn how_long_a_call_may_take_is_told_once_and_with_a_number() {
    let story = supervised(WorkerClass::Sync, Some(4), 2.5, true);
    let report = conclude(story.recording, &nothing_allowed);
    let timeout = of_lines(&report, "worker-timeout-ahead");
    // Less than half of the 4 s.
    assert_eq!(timeout, ["give the call a timeout of at most 1.9 s, or do it after the answer"]);
    assert_eq!(of_lines(&report, "threads-occupied"), [""; 0]);
    let advice = report.advice();
    let one = advice.iter().find(|one| one.line().is_some()).unwrap();
    assert!(one.reason.contains("it took 2.5 s, 62 % of what gunicorn may kill"), "{}", one.reason);
    // A sleep has no timeout; a lock of SQLite's has a cure.
    let near = |syscall: &'static str, native: &[(&str, &str)]| {
        let mut story = Story::of_threads(400, 1, 1);
        let stack = story.stack(&[("/srv/app/orders.py", 33, "sums")]);
        let native = Some(story.native(native));
        let part = Part { native, ..story.asleep(2_500.0, stack, syscall, None) };
        story.stall(1_000.0, part);
        let story = under_gunicorn(story, WorkerClass::Sync, Some(4));
        let report = conclude(story.recording, &nothing_allowed);
        of_lines(&report, "worker-timeout-ahead").concat()
    };
    let sleep = near("clock_nanosleep", &[("/usr/bin/python3.12", "time_sleep")]);
    assert_eq!(sleep, "sleep for at most 1.9 s, or do it after the answer");
    assert!(near("clock_nanosleep", &QUERY).contains("journal_mode=WAL"));
    // Where the timeout is far it is told without a number, by the other.
    let story = supervised(WorkerClass::Sync, Some(30), 2.5, true);
    let report = conclude(story.recording, &nothing_allowed);
    assert_eq!(of_lines(&report, "worker-timeout-ahead"), [""; 0]);
    assert_eq!(of_lines(&report, "threads-occupied").len(), 1);
}

#[test]
fn what_keeps_a_loop_from_its_sign_is_taken_off_it_and_the_gain_is_told() {
    let mut story = supervised(WorkerClass::Asgi, Some(4), 3.5, true);
    story.recording.processes[1].requests.first = Some(0);
    story.recording.processes[1].requests.last = Some(400);
    let report = conclude(story.recording, &nothing_allowed);
    let own = of_lines(&report, "worker-timeout-ahead");
    assert_eq!(own, of_lines(&report, "loop-blocked-by-call"), "the same words");
    let advice = report.advice();
    let lines: Vec<_> = advice.iter().filter(|one| one.line().is_some()).collect();
    assert!(lines.len() == 1 && lines[0].gain().is_some(), "{lines:#?}");
}

#[test]
fn no_line_is_to_be_changed_for_what_the_collector_does() {
    let mut story = Story::new(400);
    let render = rendering(&mut story, 2_500.0);
    story.stall(1_000.0, Part { collecting: true, ..render });
    let story = under_gunicorn(story, WorkerClass::Asgi, Some(4));
    let report = conclude(story.recording, &nothing_allowed);
    assert!(report.findings.iter().any(|one| one.id == "worker-timeout-ahead"));
    assert_eq!(of_lines(&report, "worker-timeout-ahead"), [""; 0]);
}

#[test]
fn a_request_is_told_call_by_call() {
    let told = |parts: &dyn Fn(&mut Story) -> Vec<Part>| {
        let mut story = Story::of_threads(400, 4, 1);
        let parts = parts(&mut story);
        story.busy(500.0, &parts, true);
        let report = conclude(story.recording, &nothing_allowed);
        let tables = &report.recording.tables;
        let place = |stall: &Stall| {
            stallspy::diagnosis::wording::place_in(tables, stall.culprit.as_ref().unwrap().frame)
        };
        let length = |stall: &Stall| (stall.duration().0 + 500_000) / 1_000_000;
        assert!(report.stalls.iter().all(|stall| stall.occupies));
        report
            .stalls
            .iter()
            .map(|one| format!("{} {}", place(one), length(one)))
            .collect::<Vec<_>>()
    };
    let line = |story: &mut Story, ms: f64, line: u32| {
        let stack = story.stack(&[("/srv/app/views.py", line, "view")]);
        story.asleep(ms, stack, "recvfrom", None)
    };
    let loops = |story: &mut Story, ms: f64, line: u32| {
        let stack = story.stack(&[("/srv/app/views.py", line, "view")]);
        Story::computing(ms, stack)
    };
    // Two long calls, and a short one between them.
    let two = told(&|story| vec![line(story, 40.0, 7), line(story, 4.0, 8), line(story, 30.0, 9)]);
    assert_eq!(two, ["views.py:7 view 40", "views.py:9 view 30"]);
    // One computation goes from line to line.
    let one = told(&|story| {
        let lines = [7, 8, 7, 8, 7].map(|at| loops(story, 12.0, at));
        lines.to_vec()
    });
    assert_eq!(one, ["views.py:7 view 60"]);
    // None of them is long, but the request is: its heaviest line stands for it.
    let many = told(&|story| (0..16).map(|at| line(story, 3.0, 20 + at % 3)).collect());
    assert_eq!(many, ["views.py:22 view 48"]);
    // What is between two long calls, if it is not most of the request, is not told.
    let some = told(&|story| {
        let mut parts = vec![line(story, 60.0, 7)];
        parts.extend([8, 9, 10].map(|at| line(story, 6.0, at)));
        parts
    });
    assert_eq!(some, ["views.py:7 view 60"]);
}

#[test]
fn a_middleware_is_no_handler() {
    let told = |caller: &str, function: &str| {
        let mut story = Story::new(400);
        story.endpoint = Some(story.recording.tables.name("GET /"));
        let folder = if caller.starts_with("dependencies") { "fastapi" } else { "starlette" };
        let caller = format!("{VENV}/{folder}/{caller}");
        let stack = story.stack(&[(&caller, 191, "app"), ("/srv/app/auth.py", 9, function)]);
        let part = story.asleep(100.0, stack, "recvfrom", None);
        story.stall(500.0, part);
        let report = conclude(story.recording, &nothing_allowed);
        advised(&report, "loop-blocked-by-call").command.clone()
    };
    assert!(told("middleware/base.py", "dispatch").starts_with("`await asyncio.to_thread(…)`"));
    assert!(told("middleware/errors.py", "__call__").starts_with("`await asyncio.to_thread(…)`"));
    assert!(told("routing.py", "orders").starts_with("make the handler `def`"));
    // Nor are a dependency and a task, which are made `def` themselves.
    let (dependency, task) = (told("dependencies/utils.py", "user"), told("background.py", "mail"));
    assert!(dependency.starts_with("make the dependency `def`, or `await"), "{dependency}");
    assert!(task.starts_with("make the task `def`, or `await"), "{task}");
}

#[test]
fn a_row_names_the_other_end_that_any_of_its_stalls_found() {
    let mut story = Story::new(400);
    let call = in_request(&mut story);
    let too_new = story.asleep(500.0, call.stack, "recvfrom", None);
    story.stall(500.0, call);
    story.stall(2_000.0, too_new);
    let report = conclude(story.recording, &nothing_allowed);
    let [row] = &report.culprits[..] else { panic!("{:#?}", report.culprits) };
    let wait = row.culprit.as_ref().and_then(|culprit| culprit.wait).unwrap();
    let tables = &report.recording.tables;
    assert!(row.count == 2 && row.max > Nanos::from_millis(450), "{row:?}");
    assert_eq!(tables.get_wait(wait).unwrap().in_words(tables), "recvfrom() from 10.0.0.7:443");
}

#[test]
fn what_a_line_gains_is_not_what_another_cause_takes_in_the_same_function() {
    let mut story = Story::new(0);
    let tally = &mut story.recording.loops[0].tally;
    tally.polling = 500;
    (0..500).for_each(|_| tally.count_running(Nanos::from_millis(1)));
    let line = |story: &mut Story, line| story.stack(&[("/srv/app/feed.py", line, "handle")]);
    let (waits, computes) = (line(&mut story, 10), line(&mut story, 13));
    for n in 0..9 {
        let call = story.asleep(400.0, waits, "recvfrom", None);
        story.stall(100.0 + 1000.0 * f64::from(n), call);
    }
    story.stall(9_300.0, Story::computing(60.0, computes));
    let report = conclude(story.recording, &nothing_allowed);
    let (before, after) = effect(&report, "loop-blocked-by-call", "capacity").unwrap();
    assert!(after > 2.0 * before, "{before} {after}");
    let (before, after) = effect(&report, "loop-blocked-by-cpu", "capacity").unwrap();
    assert!(after < 1.1 * before, "{before} {after}");
}

#[test]
fn short_pauses_of_the_collector_are_no_reason_to_change_anything() {
    let told = |times: u32| {
        let mut story = Story::new(400);
        let render = rendering(&mut story, 30.0);
        for n in 0..times {
            story.stall(500.0 + 300.0 * f64::from(n), Part { collecting: true, ..render });
        }
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "gc-pause").unwrap();
        (found.severity, found.recommendations.len())
    };
    assert_eq!(told(3), (Severity::Info, 0));
    assert_eq!(told(8), (Severity::Medium, 1));
}

#[test]
fn a_request_that_waits_for_the_interpreter_lock_needs_no_timeout() {
    let waiting = held_by(|story| {
        let stack = story.stack(&[("/srv/app/views.py", 41, "render")]);
        let waits = story.asleep(400.0, stack, "futex", Some(Peer::Gil));
        // Who held it when that was read waits for it by now.
        let holder = GilHolder { tid: Tid(7), stack, native: None, cpu: waits.cpu };
        Part { holder: Some(holder), ..waits }
    });
    let commands: Vec<&str> = waiting.advice().iter().map(|one| one.command.as_str()).collect();
    assert!(commands.iter().all(|one| !one.contains("timeout")), "{commands:#?}");
    let in_c = held_by(|story| {
        let render = rendering(story, 400.0);
        Part { in_call_with_gil: Some(false), ..render }
    });
    let reasons: Vec<&str> = in_c.advice().iter().map(|one| one.reason.as_str()).collect();
    assert!(
        reasons.iter().any(|one| one.contains("lets go of the interpreter lock")),
        "{reasons:#?}"
    );
}

#[test]
fn a_line_that_hardly_blocks_is_nothing_to_change_beside_one_that_does() {
    let told = |call_ms: f64| {
        let mut story = Story::new(900);
        let call = in_request(&mut story);
        for n in 0..9 {
            story.stall(100.0 + 900.0 * f64::from(n), Part { ms: call_ms, ..call });
        }
        let render = rendering(&mut story, 20.0);
        story.stall(9_000.0, render);
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "loop-blocked-by-cpu").unwrap();
        found.recommendations.len()
    };
    assert_eq!(told(400.0), 0, "20 ms beside 3.6 s");
    assert_eq!(told(60.0), 1, "20 ms beside 0.54 s");
}
