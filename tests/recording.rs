//! The recording file: what is written is read again, and nothing a file holds can do harm.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

use std::io::Cursor;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use stallspy::model::{
    Budget, CallbackRun, ConnectionInfo, CpuQuota, CpuState, EdgeStatus, Frame, FrameId, FrameKind,
    Gap, GilHolder, GilState, GilTally, Glimpse, Level, ListenerInfo, LockHolder, LoopId, LoopInfo,
    LoopKind, LoopPhase, LoopState, LoopTally, Losses, Machine, NameId, Neighbour, Peer, PoolInfo,
    PoolKind, PoolReading, ProcessInfo, Readiness, ReadyFd, Recording, Resident, ResidentKind,
    Role, Sample, SchedTimes, Settings, Spin, Stack, StackId, Tables, ThreadInfo, ThreadLook,
    Throttle, Truncation, Turns, Wait, WaitId, WorkerClass, WorkerTopology,
};
use stallspy::recording::{Loaded, ReadError, read, write};
use stallspy::units::{Bounds, Nanos, Pid, Tid, Timestamp};

#[path = "common/report.rs"]
mod report;

fn to_bytes(recording: &Recording) -> Vec<u8> {
    let mut out = Vec::new();
    write(recording, &mut out).unwrap();
    out
}

fn from_bytes(bytes: &[u8]) -> Result<Loaded, ReadError> {
    read(&mut Cursor::new(bytes), "x.stallspy")
}

fn error(text: &str) -> String {
    from_bytes(text.as_bytes()).unwrap_err().to_string()
}

/// Any id of a table of `len` entries; there is always one.
fn id(len: usize) -> impl Strategy<Value = u32> {
    0..u32::try_from(len).unwrap()
}

fn cpu() -> impl Strategy<Value = CpuState> {
    prop_oneof![
        Just(CpuState::Running),
        Just(CpuState::Unknown),
        of(id(1).prop_map(WaitId)).prop_map(|wait| CpuState::Blocked { wait }),
    ]
}

fn bounds() -> impl Strategy<Value = Bounds<Timestamp>> {
    any::<(u64, u64)>().prop_map(|(a, b)| Bounds::spanning(Timestamp(a), Timestamp(b)))
}

prop_compose! {
    /// Tables whose every entry is used by another; at least one of each.
    fn tables()(
        names in vec(any::<String>(), 1..300),
        frames in vec((any::<u32>(), of(any::<u32>()), of(any::<u32>()), 0..3_usize), 1..40),
        stacks in vec((vec(any::<u32>(), 0..30), 0..4_usize), 1..20),
        waits in vec((any::<u32>(), of(any::<i32>()), 0..6_usize, any::<u32>()), 1..10),
    ) -> Tables {
        let mut tables = Tables::default();
        for name in &names {
            tables.name(name);
        }
        let count = u32::try_from(tables.names.len()).unwrap();
        for (function, file, line, kind) in frames {
            tables.frame(Frame {
                kind: [FrameKind::Python, FrameKind::Native, FrameKind::Marker][kind],
                function: NameId(function % count),
                file: file.map(|id| NameId(id % count)),
                line,
                module: line.map(|id| NameId(id % count)),
            });
        }
        let depth = u32::try_from(tables.frames.len()).unwrap();
        for (frames, cut) in stacks {
            use Truncation::{DepthLimit, Torn, Unreadable};
            tables.stack(Stack {
                frames: frames.into_iter().map(|id| FrameId(id % depth)).collect(),
                truncated: [None, Some(Torn), Some(Unreadable), Some(DepthLimit)][cut],
            });
        }
        for (syscall, fd, peer, name) in waits {
            let name = NameId(name % count);
            let peers: [Option<Peer>; 6] = [
                None,
                Some(Peer::Remote(name)),
                Some(Peer::Local(name)),
                Some(Peer::Path(name)),
                Some(Peer::Child(-1)),
                Some(Peer::Gil),
            ];
            tables.wait(Wait { syscall: NameId(syscall % count), fd, peer: peers[peer].clone() });
        }
        tables
    }
}

fn listener(number: u32) -> ListenerInfo {
    let (address, queue) = (format!("127.0.0.1:{number}"), Level::default());
    let mut info = ListenerInfo { inode: number.into(), address, limit: None, queue, waiting: 0 };
    info.add(Some(number), number.is_multiple_of(2).then_some(number));
    info
}

fn connection(number: u32) -> ConnectionInfo {
    let open = Level { looks: 2, sum: number.into(), max: number };
    let peer = number.is_multiple_of(2).then(|| format!("10.0.0.7:{number}"));
    ConnectionInfo {
        peer,
        open,
        met: number.into(),
        fresh: u64::from(number / 2),
        libraries: Vec::new(),
    }
}

fn pool(number: u32) -> PoolInfo {
    let mut pool = PoolInfo::new(PoolKind::AnyioLimiter, format!("limiter {number}"));
    let half = number.is_multiple_of(2).then_some(number / 2);
    pool.add(&PoolReading { limit: half, busy: Some(number), waiting: half });
    pool
}

fn resident(count: u32) -> Resident {
    let (kind, name) = (ResidentKind::SqliteWriter, format!("/srv/{count}.db"));
    let period = count.is_multiple_of(2).then_some(Nanos(count.into()));
    Resident { kind, name, place: None, count, period }
}

prop_compose! {
    fn process()(
        ids in any::<(i32, i32, u32, u64, u64)>(),
        words in any::<(String, String, String)>(),
        version in of(any::<String>()),
        ended in of(any::<u64>()),
        threads in vec(any::<(i32, String)>(), 0..5),
        role in 0..3_usize,
    ) -> ProcessInfo {
        ProcessInfo {
            patches: None,
 killed_for_memory: None,
 tasks_waiting: None,
            occupancy: stallspy::model::Occupancy::default(),
            pid: Pid(ids.0),
            ppid: Pid(ids.1),
            python: words.0,
            command: words.1,
            topology: WorkerTopology {
                server: words.2,
                server_version: version.clone(),
                role: [Role::Master, Role::Worker, Role::Single][role],
                class: if role == 0 { WorkerClass::Bare } else { WorkerClass::Uvicorn },
                class_version: None,
                development: false,
            },
            stdlib: version,
            unread_loop: None,
            drivers: Vec::new(),
            serving_children: Vec::new(),
            attached: Timestamp(ids.3),
            ended: ended.map(Timestamp),
            cpu: Nanos(ids.4),
            rss_bytes: ids.3,
            cpus: ids.2,
            pools: vec![pool(ids.2)],
            config: Default::default(),
            requests: Default::default(),
            listeners: vec![listener(ids.2)],
            connections: vec![connection(ids.2)],
            budget: Budget {
                quotas: vec![CpuQuota { quota: Nanos(ids.3), period: Nanos(ids.4) }],
                memory_limit_bytes: Some(ids.3),
                memory_used_bytes: None,
                private_bytes: (ids.2 > 9).then_some(ids.4),
                private_peak_bytes: (ids.2 > 8).then_some(ids.3),
            },
            turns: Turns { run_delay: Nanos(ids.4), voluntary: ids.3, involuntary: ids.4 },
            residents: role.checked_sub(1).map(|_| vec![resident(ids.2)]),
            gil: GilTally { looks: u64::from(ids.2), held: ids.4 >> 16 },
            threads: threads
                .into_iter()
                .map(|(tid, name)| ThreadInfo {
                    tid: Tid(tid),
                    python_name: Some(name.clone()).filter(|name| name.len() > 2),
                    name,
                    gil_held: u64::from(ids.2),
                })
                .collect(),
        }
    }
}

prop_compose! {
    fn tally()(
        counts in vec(0..1_u64 << 48, 4),
        ages in vec(0..1_u64 << 48, 0..=stallspy::model::loop_state::AGE_BUCKETS),
    ) -> LoopTally {
        LoopTally {
            polling: counts[0],
            running: counts[1],
            unknown: counts[2],
            iterations_seen: counts[3],
            ages,
        }
    }
}

prop_compose! {
    /// A look at loop 0, whose ids are within tables of one entry.
    fn state()(
        times in any::<(u64, u64)>(),
        phase in 0..4_usize,
        began in of(bounds()),
        callback in of(any::<(u32, u32)>()),
        waiting in of(any::<u32>()),
        sched in of(any::<(u64, u64, u64)>()),
        look in of((cpu(), of(id(1)), of(id(1)))),
    ) -> LoopState {
        LoopState {
major_faults: waiting.map(u64::from),
            loop_id: LoopId(0),
            at: Timestamp(times.0),
            window: Nanos(times.1),
            phase: [LoopPhase::Polling, LoopPhase::Running, LoopPhase::Gone, LoopPhase::Leaving][phase],
            began,
            callback: callback.map(|(index, batch)| CallbackRun { index, batch }),
            waiting,
            sched: sched.map(|(at, on_cpu, run_delay)| SchedTimes {
                at: Timestamp(at),
                on_cpu: Nanos(on_cpu),
                run_delay: Nanos(run_delay),
            }),
            look: look.map(|(cpu, task, endpoint)| ThreadLook {
                in_call: None,
                in_call_with_gil: None,
lock_holder: task.map(|name| LockHolder { tid: Tid(7), name: Some(NameId(name)), stack: StackId(0) }),
                collecting: false,
                generation: task.map(|_| 2),
                stack: StackId(0),
                native: endpoint.map(|_| StackId(0)),
                holder: task.map(|tid| GilHolder {
                    tid: Tid(tid.cast_signed()),
                    stack: StackId(0),
                    native: endpoint.map(|_| StackId(0)),
                    cpu,
                }),
                cpu,
                task: task.map(NameId),
                coroutine: endpoint.map(NameId),
                endpoint: endpoint.map(NameId),
            }),
        }
    }
}

/// A closer look at a loop.
fn spin(rounds: u64) -> Spin {
    let ready =
        ReadyFd { fd: 7, what: "10.0.0.7:5432".to_owned(), why: Readiness::Closed, bursts: 2 };
    Spin {
        bursts: 3,
        rounds,
        span: Nanos(rounds),
        glimpses: vec![Glimpse { stack: StackId(0), count: 9 }],
        ready: vec![ready],
    }
}

prop_compose! {
    /// A gap of loop 0.
    fn gap()(
        ends in bounds(),
        split in any::<(u64, u64, u64, u32)>(),
    ) -> Gap {
        Gap {
            loop_id: LoopId(0),
            left: ends.lo,
            entered: ends.hi,
            on_cpu: Nanos(split.0),
            off_cpu: Nanos(split.1),
            preempted: Nanos(split.2),
            looks: split.3,
            unclear_looks: split.3 / 2,
        }
    }
}

prop_compose! {
    fn throttle()(
        ends in bounds(),
        counts in any::<(i32, u64, u64, u64, u64)>(),
    ) -> Throttle {
        Throttle {
            pid: Pid(counts.0),
            from: ends.lo,
            until: ends.hi,
            periods: counts.1,
            time: Nanos(counts.2),
            quota: CpuQuota { quota: Nanos(counts.3), period: Nanos(counts.4) },
        }
    }
}

prop_compose! {
    fn sample()(
        at in any::<u64>(),
        ids in any::<(i32, i32, u32, u64)>(),
        cpu in cpu(),
        gil in 0..4_usize,
    ) -> Sample {
        use GilState::{Holding, Released, Unknown, Waiting};
        Sample {
            at: Timestamp(at),
            pid: Pid(ids.0),
            tid: Tid(ids.1),
            stack: StackId(0),
            cpu,
            gil: [Holding, Waiting, Released, Unknown][gil],
            count: ids.2,
            weight: Nanos(ids.3),
        }
    }
}

prop_compose! {
    fn recording()(
        version in any::<String>(),
        // A rate is what someone typed; not any float survives text to the last bit.
        settings in (any::<u64>(), 1..80_000_u32, any::<bool>()),
        times in any::<(u64, u64, u64)>(),
        tables in tables(),
        processes in vec(process(), 0..4),
        loops in vec((any::<(i32, i32, u64, u64)>(), tally()), 1..4),
        loop_states in vec(state(), 0..12),
        gaps in vec(gap(), 0..6),
        throttles in vec(throttle(), 0..6),
        samples in vec(sample(), 0..12),
        losses in any::<(u64, u64, u64, u64, u64)>(),
    ) -> Recording {
        Recording {
            version,
            settings: Settings {
                threshold: Nanos(settings.0),
                rate_hz: f64::from(settings.1) / 4.0,
                rate_is_most: settings.1 % 2 == 0,
                blocking: settings.2,
                native: if settings.2 { stallspy::model::NativeStacks::All } else { stallspy::model::NativeStacks::Off },
            },
            attached: Timestamp(times.0),
            detached: Timestamp(times.1),
            tables,
            processes,
            loops: loops.into_iter().zip(0..).map(|((ids, tally), id)| LoopInfo {
                id: LoopId(id),
                pid: Pid(ids.0),
                tid: Tid(ids.1),
                kind: LoopKind::Asyncio,
                first_seen: Timestamp(ids.2),
                last_seen: Timestamp(ids.3),
                tally,
                edges: if ids.2 % 2 == 0 { EdgeStatus::Off } else { EdgeStatus::Blind },
                traced: (ids.0 > 0).then_some(Bounds { lo: Timestamp(1), hi: Timestamp(ids.3.max(1)) }),
                spin: (ids.1 > 0).then(|| spin(ids.2 >> 24)),
            }).collect(),
            loop_states,
            gaps,
            throttles,
            samples,
            losses: Losses {
                reads: losses.0,
                torn_reads: losses.1,
                failed_reads: losses.2,
                late_ticks: losses.3,
                dropped: losses.4,
                lost_edges: losses.4,
                blind_edges: losses.3,
                edge_disagreements: losses.2,
            },
            machine: Machine { cpus: 3, busy: Nanos(times.2), ..Machine::default() },
            neighbours: vec![Neighbour {
                pid: Pid(9),
                name: "nginx".to_owned(),
                of: vec![Pid(7)],
                cpu: Nanos(times.1),
                known: Nanos(times.2),
            }],
            own_cpu: Nanos(times.2),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_again(recording in recording()) {
        let mut loaded = from_bytes(&to_bytes(&recording)).unwrap();
        prop_assert_eq!(&loaded.recording, &recording);
        prop_assert!(loaded.notes.is_empty());
        // The tables still find what they hold.
        let tables = &mut loaded.recording.tables;
        let first = (tables.names[0].clone(), tables.frames[0].clone());
        prop_assert_eq!(tables.name(&first.0), NameId(0));
        prop_assert_eq!(tables.frame(first.1), FrameId(0));
        prop_assert_eq!(&tables, &&recording.tables);
    }

    #[test]
    fn a_file_cut_anywhere_is_read_up_to_the_cut(recording in recording(), cut in any::<prop::sample::Index>()) {
        let bytes = to_bytes(&recording);
        let header = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let cut = cut.index(bytes.len() - 1);
        match from_bytes(&bytes[..cut]) {
            Err(error) => prop_assert!(cut < header, "{error}"),
            Ok(loaded) => {
                prop_assert!(cut >= header);
                prop_assert_eq!(loaded.notes.len(), 1);
                prop_assert!(recording.samples.starts_with(&loaded.recording.samples));
                prop_assert!(recording.tables.names.starts_with(&loaded.recording.tables.names));
            }
        }
    }

    #[test]
    fn a_changed_byte_does_no_harm(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = to_bytes(&report::rich().recording);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(loaded) = from_bytes(&bytes) {
            // Whatever was let through must also be safe to conclude from.
            for info in &loaded.recording.loops {
                _ = (info.tally.utilization(), info.tally.lag_quantile(0.99));
            }
            _ = to_bytes(&loaded.recording);
        }
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(from_bytes(&bytes).is_err());
    }
}

const HEADER: &str = r#"{"format":"stallspy-recording","format_version":1,"version":"0.1.0","attached_ns":5,"settings":{"threshold":10000000,"rate_hz":100.0}}"#;

#[test]
fn what_is_no_recording_is_told_so() {
    for text in ["", "\n", "hello\n", "{}\n", "[1]\n", "\u{0}\u{0}", r#"{"schema":"stallspy/1"}"#] {
        let error = error(text);
        assert!(error.starts_with("x.stallspy is not a stallspy recording ("), "{text}: {error}");
        assert!(error.ends_with("`stallspy record -f recording -o FILE` makes one"), "{error}");
    }
}

#[test]
fn a_newer_format_is_refused() {
    let newer =
        r#"{"format":"stallspy-recording","format_version":2,"version":"9.0\u001b[2J","x":0}"#;
    insta::assert_snapshot!(error(newer), @"x.stallspy was recorded by stallspy 9.0�[2J in recording format 2; this stallspy reads formats up to 1: use that version or a later one");
}

#[test]
fn a_bad_line_is_named() {
    for (line, what) in [
        ("nonsense", "line 2: expected"),
        (r#"{"frames":[{"kind":"python","function":0}]}"#, "line 2: refers to name 0"),
        (r#"{"stacks":[{"frames":[4]}]}"#, "refers to frame 4"),
        (r#"{"waits":[{"syscall":1}]}"#, "refers to name 1"),
        (
            r#"{"sample":{"at":1,"pid":1,"tid":1,"stack":7,"cpu":"running","gil":"unknown","count":1,"weight":1}}"#,
            "refers to stack 7, but the file has named only 0",
        ),
        (r#"{"state":{"loop_id":0,"at":1,"window":1,"phase":"running"}}"#, "refers to loop 0"),
        (r#"{"surprise":1}"#, "unknown variant `surprise`"),
        (r#"{"end":{"detached_ns":-1,"own_cpu_ns":0}}"#, "invalid value"),
        (
            r#"{"loop":{"id":0,"pid":1,"tid":1,"kind":"asyncio","first_seen":1,"last_seen":1,"tally":{"polling":18446744073709551615,"running":1,"unknown":0,"iterations_seen":0,"ages":[]}}}"#,
            "a count of 18446744073709551615 looks cannot be",
        ),
        (
            "{\"end\":{\"detached_ns\":1,\"own_cpu_ns\":0}}\n{\"names\":[]}",
            "line 3: something follows",
        ),
    ] {
        let error = error(&format!("{HEADER}\n{line}\n"));
        assert!(error.contains(what), "{line}: {error}");
        assert!(error.ends_with("`stallspy record -f recording -o FILE` makes one"), "{error}");
    }
    let deep = format!("{HEADER}\n{}\n", "[".repeat(100_000));
    assert!(error(&deep).contains("line 2"), "nesting is bounded");
}

#[test]
fn an_endless_line_is_not_read() {
    let mut text = HEADER.to_owned();
    text.push_str("\n{\"names\":[\"");
    text.push_str(&"x".repeat(usize::try_from(stallspy::recording::MAX_LINE).unwrap()));
    assert!(error(&text).contains("line 2: a line of more than"));
}

#[test]
fn an_entry_twice_keeps_both_places() {
    let text = format!("{HEADER}\n{}\n", r#"{"names":["a","a","b"]}"#);
    let mut loaded = from_bytes(text.as_bytes()).unwrap();
    assert_eq!(loaded.recording.tables.names, ["a", "a", "b"]);
    assert_eq!(loaded.recording.tables.name("b"), NameId(2));
}

#[test]
fn a_cut_file_says_how_far_it_goes() {
    let bytes = to_bytes(&report::rich().recording);
    let text = String::from_utf8(bytes).unwrap();
    let upto = text.find("{\"losses\"").unwrap();
    let loaded = from_bytes(&text.as_bytes()[..upto]).unwrap();
    assert_eq!(loaded.recording.detached, Timestamp(1_030_000_000_000), "the last thing seen");
    assert_eq!(
        loaded.notes,
        ["x.stallspy is cut off in or after line 20: what followed is lost, what came before is \
          used"]
    );
    // A crash may leave zeros where the file system had made room.
    let zeros = format!("{}{}", &text[..upto], "\0".repeat(300));
    assert_eq!(from_bytes(zeros.as_bytes()).unwrap().recording, loaded.recording);
}
