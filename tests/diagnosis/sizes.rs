//! Numbers of workers and threads, and what is typed for them.

use super::*;

#[test]
fn a_worker_that_others_keep_from_a_cpu_gains_by_another() {
    let told = |cpu_ms: u64, delay_ms: u64, requests: u64| {
        let mut story = starved_workers();
        story.machine(0);
        let process = &mut story.recording.processes[0];
        process.cpu = Nanos::from_millis(cpu_ms);
        process.turns.run_delay = Nanos::from_millis(delay_ms);
        process.requests.last = Some(requests);
        let report = conclude(story.recording, &nothing_allowed);
        let starved = report.findings.iter().find(|one| one.id == "sync-starved").unwrap();
        starved.recommendations[0].command.clone()
    };
    assert_eq!(told(5_000, 4_500, 250), "`--workers 3`");
    // It has the one CPU that is its own.
    let no_more = "no more workers or threads: make requests cheaper, or give the server more CPUs";
    assert_eq!(told(9_800, 0, 490), no_more);
}

#[test]
fn what_clients_on_the_machine_take_of_the_cpus_grows_with_what_is_predicted() {
    let told = |neighbours: &[(i32, u64)], quota: Option<u64>| {
        let mut story = starved_workers();
        // One CPU each for it and for its clients.
        story.machine(0);
        let process = &mut story.recording.processes[0];
        process.cpu = Nanos::from_millis(2_000);
        process.budget.quotas.extend(quota.map(|millis| CpuQuota {
            quota: Nanos::from_millis(millis),
            period: Nanos::from_millis(100),
        }));
        let (pid, length) = (process.pid, story.recording.length());
        story.recording.machine.busy = Nanos::from_millis(6_000);
        story.recording.neighbours = neighbours
            .iter()
            .map(|(of, millis)| Neighbour {
                pid: Pid(77),
                name: "python3".to_owned(),
                of: vec![Pid(pid.0 + of)],
                cpu: Nanos::from_millis(*millis),
                known: length,
            })
            .collect();
        let report = conclude(story.recording, &nothing_allowed);
        let starved = report.findings.iter().find(|one| one.id == "sync-starved").unwrap();
        let advice = &starved.recommendations[0];
        let of =
            |name: &str| advice.inputs.iter().find(|one| one.name == name).map(|one| one.value);
        let throughput = advice.predicted.iter().find(|one| one.name == "throughput");
        (throughput.map(|one| one.after), of("cpu_of_neighbours"), of("usable_cpus"))
    };
    let (alone, none, usable) = told(&[], None);
    assert_eq!((none, usable), (None, Some(1.6)), "{alone:?}");
    // What others use stays; what its clients use grows with what they ask for.
    let (together, each, usable) = told(&[(0, 4_000)], None);
    assert_eq!((each.map(|each| (each * 1e6).round()), usable), (Some(10_000.0), Some(2.0)));
    assert!(together.unwrap() < alone.unwrap() * 0.8, "{together:?} {alone:?}");
    // Nobody's neighbour, and one that has no part in the quota.
    assert_eq!(told(&[(1, 4_000)], None).1, None);
    assert_eq!(told(&[(0, 4_000)], Some(100)).1, None);
}

#[test]
fn a_worker_and_its_successor_are_not_two_at_a_time() {
    let mut story = Story::of_threads(400, 1, 1);
    let call = in_request(&mut story);
    story.stall(500.0, call);
    let mut successor = story.recording.processes[0].clone();
    (successor.pid, successor.attached) = (stallspy::units::Pid(101), at(4_000.0));
    story.recording.processes[0].ended = Some(at(4_000.0));
    story.recording.processes.push(successor);
    let report = conclude(story.recording, &nothing_allowed);
    // Each held its thread for half of the time that it was there.
    assert!(report.verdict.contains("the only thread is held 50 % of the time"), "{report:#?}");
}

#[test]
fn what_lives_in_another_server_keeps_no_workers() {
    let told = |own: Vec<Resident>, others: Vec<Resident>| {
        let mut story = Story::of_threads(400, 1, 1);
        let render = rendering(&mut story, 60.0);
        for n in 0..20 {
            story.stall(f64::from(n) * 450.0 + 500.0, Part { ms: 400.0, ..render });
        }
        let mut other = story.recording.processes[0].clone();
        other.pid = stallspy::units::Pid(101);
        other.residents = Some(others);
        story.recording.processes[0].residents = Some(own);
        story.recording.processes.push(other);
        let report = conclude(story.recording, &nothing_allowed);
        let advice: String = report.advice().iter().map(|one| one.command.as_str()).collect();
        advice.contains("no more workers, which would repeat what lives in each")
    };
    assert!(told(residents(), Vec::new()));
    assert!(!told(Vec::new(), residents()));
}

#[test]
fn more_workers_are_typed_as_the_server_takes_them() {
    let told = |server: &str| {
        let mut story = computing(9_000, 9_500);
        story.recording.processes[0].topology.server = server.to_owned();
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "too-few-workers").unwrap();
        found.recommendations[0].command.clone()
    };
    assert_eq!(told("hypercorn"), "`--workers 2`");
    assert!(told("tornado").contains("fork_processes(2)"));
    assert!(told("aiohttp").contains("aiohttp.GunicornWebWorker --workers 2"));
    assert_eq!(told("python"), "2 processes of it behind one proxy");
}

#[test]
fn a_server_that_makes_its_threads_itself_is_not_told_to_have_more() {
    let told = |limit| {
        let mut story = Story::of_threads(400, 2, 2);
        let call = in_request(&mut story);
        story.stall(500.0, call);
        let process = &mut story.recording.processes[0];
        process.topology.class = WorkerClass::Bare;
        (process.occupancy.limit, process.occupancy.busy) = (limit, vec![0, 0, 1000]);
        let report = conclude(story.recording, &nothing_allowed);
        advised(&report, "threads-occupied").command.clone()
    };
    assert!(told(Some(2)).contains("more threads"), "{}", told(Some(2)));
    assert!(!told(None).contains("more threads"), "{}", told(None));
}

#[test]
fn requests_before_eventlets_hub_are_others_than_those_on_it() {
    let told = |class: WorkerClass, kind: LoopKind, pool: PoolKind| {
        let mut story = kept_hub(Keeps::Client("oracledb"), 12);
        story.recording.loops[0].kind = kind;
        let process = &mut story.recording.processes[0];
        process.topology.class = class;
        process.pools[0].kind = pool;
        let (queue, limit) = (Level { looks: 40, sum: 440, max: 23 }, Some(2048));
        let address = "127.0.0.1:8000".to_owned();
        process.listeners.push(ListenerInfo { inode: 1, address, limit, queue, waiting: 40 });
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "wrong-worker-class").unwrap();
        found.recommendations[0].reason.clone()
    };
    let gevent = told(WorkerClass::Gevent, LoopKind::Gevent, PoolKind::GeventPool);
    assert!(gevent.contains("12 requests are there at once"), "{gevent}");
    let eventlet = told(WorkerClass::Eventlet, LoopKind::Eventlet, PoolKind::EventletPool);
    assert!(eventlet.contains("23 requests are there at once"), "{eventlet}");
}

#[test]
fn who_was_killed_for_memory_was_not_killed_for_a_timeout() {
    let told = |report: &Report, rule: &str| {
        let found = report.findings.iter().find(|one| one.id == rule);
        found.map_or(String::new(), |one| one.summary.clone())
    };
    let all = ended_workers().into_iter();
    let all: Vec<Report> =
        all.map(|(_, story)| conclude(story.recording, &nothing_allowed)).collect();
    assert_eq!(
        told(&all[0], "oom-killed"),
        "the kernel killed worker 100 for memory, in GET /sandboxes, lifecycle.py:88 list_sandboxes: it had 480 MiB \
         when last looked at; its control group may use 512 MiB"
    );
    // The request was old enough for gunicorn, too.
    assert!(told(&all[1], "worker-timeout-ahead").starts_with("a worker was held for 5.0 s"));
    assert!(told(&all[1], "oom-killed").starts_with("the kernel killed worker 100"));
    assert_eq!(told(&all[2], "oom-killed"), "");
    assert!(all[3].undecided.iter().any(|(rule, _)| *rule == "oom-killed"));
}

#[test]
fn more_threads_and_workers_are_told_as_the_server_takes_them() {
    let told = |server: &str, class: WorkerClass, computes: bool| {
        let mut story = Story::of_threads(400, 4, 4);
        let part = if computes { rendering(&mut story, 400.0) } else { in_request(&mut story) };
        story.stall(500.0, part);
        let process = &mut story.recording.processes[0];
        (process.topology.server, process.topology.class) = (server.to_owned(), class);
        process.occupancy.busy = vec![0, 0, 0, 0, 1000];
        let report = conclude(story.recording, &nothing_allowed);
        of_lines(&report, "threads-occupied").concat()
    };
    let plain = "give the call a timeout, or do it after the answer";
    assert_eq!(told("werkzeug", WorkerClass::ThreadPerRequest, false), plain);
    let cheaper = "make it cheaper, or do it after the answer";
    assert_eq!(told("werkzeug", WorkerClass::ThreadPerRequest, true), cheaper);
    assert!(told("gunicorn", WorkerClass::Gthread, false).ends_with("more threads (`--threads`)"));
    assert!(told("waitress", WorkerClass::ThreadPool, false).ends_with("(`threads`)"));
    assert!(told("waitress", WorkerClass::ThreadPool, true).contains("behind one proxy"));
    assert!(told("granian", WorkerClass::Granian, false).contains("--blocking-threads"));
}

#[test]
fn another_class_is_advised_in_one_command_and_its_effect_predicted() {
    let advised = |story: Story| {
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "wrong-worker-class").unwrap();
        let [advice] = &found.recommendations[..] else { panic!("{found:#?}") };
        let throughput = advice.predicted.iter().find(|one| one.name == "throughput").unwrap();
        let said = report.advice().iter().filter(|one| one.command == advice.command).count();
        let place = report.findings.iter().position(|one| one.id == "wrong-worker-class");
        (advice.clone(), throughput.before, throughput.after, said, place.unwrap())
    };
    // 24.5 ms of the hub each, of which two CPUs do 2 / 23.75 ms; and four threads for each CPU.
    let (advice, before, after, said, place) = advised(kept_hub(Keeps::NativeCode, 24));
    assert!(advice.command.starts_with("`-k gthread --workers "), "{}", advice.command);
    assert!(advice.reason.contains("WebSocket") && advice.reason.contains("safe for threads"));
    assert!(advice.reason.contains("what is predicted is the most"), "{}", advice.reason);
    assert!(advice.predicted.iter().all(|one| one.at_best), "{:?}", advice.predicted);
    assert!((before - 40.0).abs() < 0.1 && (after - 2.0 / 0.02375).abs() < 4.0, "{after}");
    // The line comes first, and nothing is said twice.
    assert_eq!((said, place), (1, 1));
    let Remedy::Setting { recommended, suggested, current: None, .. } = advice.remedy else {
        panic!("{advice:#?}")
    };
    assert!(suggested.lo <= recommended && recommended <= suggested.hi);
    // What lives in the worker keeps it one.
    let mut story = kept_hub(Keeps::NativeCode, 24);
    story.recording.processes[0].residents = Some(residents());
    let (advice, ..) = advised(story);
    assert_eq!(advice.command, "`-k gthread --workers 1 --threads 8`");
    // Workers whose number comes from the environment get theirs from there.
    let mut story = kept_hub(Keeps::NativeCode, 24);
    let setting = Setting { value: SettingValue::Number(1), source: SettingSource::Environment };
    story.recording.processes[0].config.insert("workers".to_owned(), setting);
    let (advice, ..) = advised(story);
    assert_eq!(advice.command, "`WEB_CONCURRENCY=2` and `-k gthread --threads 4`");
}

#[test]
fn a_spent_quota_is_what_requests_wait_for() {
    let mut story = starved_workers();
    let render = rendering(&mut story, 60.0);
    for n in 0..9 {
        let began = 1_000.0 + 500.0 * f64::from(n);
        story.stall(began, Story::starved(110.0, render.stack));
        story.throttled(began + 100.0, began + 105.0, 85.0);
    }
    let quota = CpuQuota { quota: Nanos::from_millis(50), period: Nanos::from_millis(100) };
    let process = &mut story.recording.processes[0];
    process.budget.quotas = vec![quota];
    process.cpu = Nanos::from_millis(5_000);
    process.turns.run_delay = Nanos::from_millis(5_000);
    let report = conclude(story.recording, &nothing_allowed);
    assert!(report.verdict.contains("CPU quota (0.5 CPUs) was spent"), "{}", report.verdict);
    let advice = advised(&report, "sync-starved");
    assert!(advice.command.starts_with("raise the CPU limit to 1 CPU"), "{advice:#?}");
    // More time on a CPU for each of them.
    assert!(advice.predicted[0].after > 1.2 * advice.predicted[0].before, "{advice:#?}");
    // Of a quota that is there and hardly spent nothing is said.
    let mut story = starved_workers();
    story.recording.processes[0].budget.quotas = vec![quota];
    let report = conclude(story.recording, &nothing_allowed);
    assert!(!report.verdict.contains("quota"), "{}", report.verdict);
}

#[test]
fn a_development_server_before_which_others_wait_comes_first() {
    let report = |waiting: u64| {
        let mut story = Story::of_threads(400, 4, 1);
        let call = in_request(&mut story);
        story.stall(500.0, call);
        let process = &mut story.recording.processes[0];
        process.topology.server = "werkzeug".to_owned();
        process.topology.development = true;
        let (queue, address) = (Level { looks: 40, sum: 120, max: 9 }, "127.0.0.1:5000".to_owned());
        process.listeners.push(ListenerInfo { inode: 1, address, limit: None, queue, waiting });
        story.connected("10.0.0.7:443", 5, 1.0);
        conclude(story.recording, &nothing_allowed)
    };
    let crowded = report(38);
    assert!(crowded.verdict.starts_with("werkzeug runs as a development server: one process"));
    assert!(crowded.verdict.ends_with("others waited to be accepted 95 % of the time"));
    assert!(!report(1).verdict.starts_with("werkzeug"));
}

#[test]
fn a_platforms_numbers_are_typed_where_it_takes_them() {
    let told = |variables: &[&str]| {
        let mut story = starved_workers();
        let process = &mut story.recording.processes[0];
        process.cpu = Nanos::from_millis(500);
        process.listeners[0].queue = Level { looks: 40, sum: 800, max: 20 };
        for name in variables {
            let setting =
                Setting { value: SettingValue::Number(1), source: SettingSource::Environment };
            process.config.insert((*name).to_owned(), setting);
        }
        story.machine(19_000);
        let report = conclude(story.recording, &nothing_allowed);
        advised(&report, "sync-starved").command.clone()
    };
    let platforms = ["PYTHON_ENABLE_GUNICORN_MULTIWORKERS", "PYTHON_GUNICORN_CUSTOM_WORKER_NUM"];
    let command = told(&platforms);
    assert!(command.contains("`PYTHON_GUNICORN_CUSTOM_THREAD_NUM="), "{command}");
    assert!(!command.contains("--") && !command.contains("MULTIWORKERS"), "{command}");
    assert!(told(&[]).contains("`--threads "));
}

#[test]
fn threads_that_keep_the_cpus_busy_gain_by_no_other_size() {
    let told = |cpu_ms: u64| {
        let mut story = taking_turns(cpu_ms);
        story.recording.samples.clear();
        story.recording.processes[0].occupancy.busy = vec![0, 0, 1000];
        story.recording.processes[0].occupancy.limit = Some(2);
        story.crowd(WorkerClass::Gthread, 2, 2, 18, 40);
        story.recording.processes[0].gil = GilTally { looks: 10_000, held: 800 };
        story.machine(20_000 - cpu_ms.min(20_000));
        let report = conclude(story.recording, &nothing_allowed);
        advised(&report, "gthread-starved").command.clone()
    };
    // 19.5 of the 20 s that two CPUs have, most of it without the interpreter lock.
    let no_more = "no more workers or threads: make requests cheaper, or give the server more CPUs";
    assert_eq!(told(19_500), no_more);
    assert_ne!(told(9_000), no_more);
}

#[test]
fn nothing_is_moved_away_while_cpus_are_idle() {
    let starved = |idle_ms: u64, times: u32| {
        let mut story = Story::new(400);
        let render = rendering(&mut story, 0.0);
        for n in 0..times {
            story.stall(500.0 + 100.0 * f64::from(n), Story::starved(30.0, render.stack));
        }
        story.machine(idle_ms);
        let report = conclude(story.recording, &nothing_allowed);
        let found = report.findings.iter().find(|one| one.id == "cpu-starved").unwrap();
        (found.summary.clone(), found.recommendations.clone())
    };
    let (summary, advice) = starved(1_000, 20);
    assert!(advice[0].command.starts_with("move other programs away"), "{advice:#?}");
    assert!(!summary.contains("idle"), "{summary}");
    assert_eq!(starved(1_000, 1).1, [], "too little for anybody to move anything");
    let (summary, advice) = starved(18_000, 1);
    assert!(summary.contains("though 1.8 of 2 CPUs are idle on average"), "{summary}");
    assert_eq!(advice, []);
    // Often, it is a limit that is not seen.
    let (_, advice) = starved(18_000, 20);
    assert!(advice[0].command.contains("`nr_throttled`"), "{advice:#?}");
}

#[test]
fn a_server_that_reloads_is_told_one_number_of_workers() {
    let told = |cpu_ms: u64| {
        let mut story = computing(9_000, cpu_ms);
        if cpu_ms < 5_000 {
            story.recording.loops[0].tally = Story::new(200).recording.loops[0].tally.clone();
        }
        story.recording.processes[0].topology.development = true;
        let report = conclude(story.recording, &nothing_allowed);
        let commands: Vec<String> = report.advice().iter().map(|one| one.command.clone()).collect();
        (advised(&report, "dev-server").command.clone(), commands)
    };
    let (command, all) = told(1_000);
    assert!(command.starts_with("`uvicorn MODULE:APP`, without `--reload`"), "{command}");
    assert!(all.iter().all(|one| !one.contains("--workers 2")), "{all:?}");
    let (command, _) = told(9_500);
    assert!(command.starts_with("`uvicorn MODULE:APP --workers 2`"), "{command}");
}

#[test]
fn a_request_that_waits_for_the_lock_of_a_group_without_cpu_time_waits_for_the_quota() {
    let verdict = |throttled: bool| {
        let mut story = Story::of_threads(990, 4, 4);
        let stack = story.stack(&[("/srv/app/views.py", 41, "render")]);
        let waits = story.asleep(110.0, stack, "futex", Some(Peer::Gil));
        for n in 0..9 {
            let began = 1_000.0 + 500.0 * f64::from(n);
            story.stall(began, waits);
            if throttled {
                story.throttled(began + 100.0, began + 105.0, 85.0);
            }
        }
        story.crowd(WorkerClass::Gthread, 4, 4, 3, 40);
        let report = conclude(story.recording, &nothing_allowed);
        (report.verdict.clone(), advised(&report, "gthread-starved").command.clone())
    };
    let (told, command) = verdict(true);
    assert!(told.contains("while their CPU quota (0.5 CPUs) was spent"), "{told}");
    assert!(command.starts_with("raise the CPU limit"), "{command}");
    let (told, _) = verdict(false);
    assert!(!told.contains("quota"), "{told}");
}

#[test]
fn a_size_for_bursts_is_for_those_that_are_there_while_they_last() {
    // One gthread worker of two threads: for `looks` of 40 both are held and 18 wait, else nobody is there.
    let told = |starved: u32, held_beside: usize| {
        let mut story = Story::of_threads(400, 2, 0);
        let call = in_request(&mut story);
        story.stall(500.0, call);
        let process = &mut story.recording.processes[0];
        process.topology.class = WorkerClass::Gthread;
        let crowd = process.occupancy.crowd.get_or_insert_default();
        for look in 0..40 {
            let (held, waiting) = if look < starved { (2, 18) } else { (0, 0) };
            crowd.add(CrowdLook { threads: 2, held, waiting });
        }
        let share = u64::from(starved);
        process.occupancy.busy = vec![0; 3];
        process.occupancy.busy[2] = share;
        process.occupancy.busy[held_beside] += 40 - share;
        let mut pool =
            PoolInfo::new(PoolKind::ThreadPoolExecutor, "ThreadPoolExecutor-0".to_owned());
        for look in 0..40 {
            let waiting = if look < starved { 18 } else { 0 };
            pool.add(&PoolReading { limit: Some(2), busy: Some(2), waiting: Some(waiting) });
        }
        process.pools.push(pool);
        let queue = Level { looks: 40, sum: 0, max: 0 };
        let address = "0.0.0.0:8000".to_owned();
        process.listeners.push(ListenerInfo { inode: 1, address, limit: None, queue, waiting: 0 });
        (process.requests.first, process.requests.last) = (Some(0), Some(500));
        process.cpu = Nanos::from_millis(500);
        story.machine(19_000);
        let report = conclude(story.recording, &nothing_allowed);
        advised(&report, "gthread-starved").clone()
    };
    let there = |advice: &Recommendation| {
        advice.inputs.iter().find(|one| one.name == "requests_at_once").unwrap().value
    };
    let bursts = told(20, 0);
    assert_eq!(there(&bursts), 20.0, "{bursts:#?}");
    assert!(bursts.reason.contains("while anybody is, 50 % of the time"), "{}", bursts.reason);
    // 50 requests a second, in half of the time.
    assert!((bursts.predicted[0].before - 100.0).abs() < 0.1, "{:?}", bursts.predicted);
    // All the time, or with somebody there in between, it is the mean.
    let always = told(40, 0);
    assert!(!always.reason.contains("while anybody is"), "{}", always.reason);
    let between = told(8, 2);
    assert!((there(&between) - (2.0 + 3.6)).abs() < 0.01, "{between:#?}");
}

#[test]
fn workers_have_to_fit_into_memory_while_they_load_their_data() {
    let told = |peak: Option<u64>| {
        let mut story = starved_workers();
        story.machine(10_000);
        story.recording.processes[0].budget = Budget {
            memory_limit_bytes: Some(300 << 20),
            memory_used_bytes: Some(130 << 20),
            private_bytes: Some(100 << 20),
            private_peak_bytes: peak.map(|mebibytes| mebibytes << 20),
            ..Budget::default()
        };
        let report = conclude(story.recording, &nothing_allowed);
        advised(&report, "sync-starved").clone()
    };
    // One more of 100 MiB fits, but of 195 MiB each there is no room for two at once.
    assert_eq!(told(None).command, "`--workers 2`");
    assert_eq!(told(Some(120)).command, "`--workers 2`");
    let none = told(Some(195));
    assert!(
        none.command.starts_with("no more workers or threads: make workers smaller"),
        "{none:#?}"
    );
    assert!(none.reason.contains("what limits it is memory"), "{none:#?}");
    assert!(
        none.inputs
            .iter()
            .any(|one| one.name == "memory_of_a_worker_at_most" && one.value == 195.0)
    );
}

#[test]
fn a_spent_quota_is_told_by_what_a_larger_one_does() {
    let quota =
        |ms: u64| CpuQuota { quota: Nanos::from_millis(ms), period: Nanos::from_millis(100) };
    // A loop that is kept off the CPUs for half of each period.
    let mut story = Story::new(960);
    let render = rendering(&mut story, 0.0);
    for n in 0..90 {
        let began = 500.0 + 100.0 * f64::from(n);
        story.stall(began, Story::starved(60.0, render.stack));
        story.throttled(began + 50.0, began + 55.0, 45.0);
    }
    let process = &mut story.recording.processes[0];
    process.budget.quotas = vec![quota(50)];
    (process.requests.first, process.requests.last) = (Some(0), Some(400));
    process.cpu = Nanos::from_millis(5_000);
    story.machine(14_000);
    let report = conclude(story.recording, &nothing_allowed);
    let advice = advised(&report, "cpu-starved");
    assert!(advice.command.starts_with("raise the CPU limit to 1 CPU (Kubernetes"), "{advice:#?}");
    let [capacity] = &advice.predicted[..] else { panic!("{advice:#?}") };
    assert!((capacity.after / capacity.before - 2.0).abs() < 1e-9, "{capacity:?}");

    // One that computes on all that a quota of one CPU gives.
    let told = |quotas: Vec<CpuQuota>| {
        let mut story = computing(9_000, 9_900);
        story.recording.processes[0].budget.quotas = quotas;
        story.machine(9_000);
        conclude(story.recording, &nothing_allowed)
    };
    let full = told(vec![quota(100)]);
    let said = "the only worker is busy 98 % of the time, computing, which uses its CPU quota up, while 0.9 CPUs";
    assert!(full.verdict.starts_with(said), "{}", full.verdict);
    let advice = advised(&full, "too-few-workers");
    assert!(
        advice.command.starts_with("`--workers 2` and a CPU limit of 2 (Kubernetes"),
        "{advice:#?}"
    );
    let advice = advised(&told(Vec::new()), "too-few-workers").command.clone();
    assert_eq!(advice, "`--workers 2`");
}

#[test]
fn what_others_use_is_not_taken_off_a_quota_that_leaves_it_room() {
    let cores = |quota: Option<f64>, others| Cores {
        affinity: 8,
        quota,
        budget: quota.unwrap_or(8.0),
        others: Some(others),
        neighbours: 0.0,
        idle: None,
    };
    assert_eq!(cores(Some(1.0), 6.0).usable(), 1.0);
    assert_eq!(cores(Some(4.0), 6.0).usable(), 2.0);
    assert_eq!(cores(None, 6.0).usable(), 4.0);
    assert_eq!(cores(None, 1.5).usable(), 6.5);
}
