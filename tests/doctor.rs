//! What the doctor says of machines that were made up: a truth table of states, reasons and
//! commands. Which kernel really does so is tested live (`live/doctor.rs`).

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

use std::fmt::Write;

use serde_json::Value;
use stallspy::doctor::{Attach, Diagnosis, Facts, Machine, Numbers, State, Target, Us, judge};
use stallspy::target::{Capabilities, Container, Engine, Gate, Trial};
use stallspy::units::Pid;

/// Everything up to `CAP_CHECKPOINT_RESTORE`.
const ALL: Capabilities = Capabilities((1 << 41) - 1);
/// What Docker leaves its containers.
const DOCKER: Capabilities = Capabilities(0xa804_25fb);
const NET_BIND_SERVICE: Capabilities = Capabilities(1 << 10);

/// A plain Linux, and alice, who may do what everybody may; asked about nothing.
fn alice() -> Facts {
    Facts {
        machine: Machine {
            kernel: "6.1.0".to_owned(),
            architecture: "x86_64",
            perf_event_paranoid: Some(2),
            ptrace_scope: None,
            has_perfmon: true,
            tracepoints: Numbers::Trying,
        },
        us: Us {
            uid: 1000,
            user: "alice".to_owned(),
            executable: "/usr/local/bin/stallspy".to_owned(),
            capabilities: Capabilities::NONE,
            bounding: ALL,
            no_new_privs: false,
            nosuid: false,
            seccomp: false,
            first_user_namespace: true,
            container: None,
            open_files: Some(1024),
            open_files_hard: Some(4096),
            memory_call: Gate::Open,
            perf_call: Gate::Open,
            edges: Trial::Works,
            running_stacks: Trial::Works,
            priority: false,
        },
        target: None,
    }
}

/// A server of her own, that can be watched.
fn own() -> Target {
    Target {
        pid: Pid(4242),
        command: "python3 app.py".to_owned(),
        uid: 1000,
        user: "alice".to_owned(),
        same_user: true,
        more_capabilities: Capabilities::NONE,
        open_to_its_user: Some(true),
        has_memory: true,
        same_user_namespace: Some(true),
        same_pid_namespace: Some(true),
        root: Some("/".to_owned()),
        cgroup: Some("/user.slice".to_owned()),
        attach: Attach::Read {
            python: "3.12.1".to_owned(),
            loops: vec!["asyncio".to_owned()],
            asleep: 2,
            with_c_stack: 2,
        },
        maps: Trial::Works,
        files: Trial::Works,
        system_call: Trial::Works,
        edges: Trial::Works,
        running_stacks: Trial::Works,
    }
}

/// One that she may not look at in any way.
fn closed() -> Target {
    Target {
        attach: Attach::Denied { error: "denied".to_owned(), exit_code: 5 },
        maps: Trial::Denied,
        files: Trial::Denied,
        system_call: Trial::Denied,
        edges: Trial::Denied,
        running_stacks: Trial::Denied,
        same_user_namespace: None,
        same_pid_namespace: None,
        root: None,
        ..own()
    }
}

/// One of www-data's.
fn foreign() -> Target {
    Target { uid: 33, user: "www-data".to_owned(), same_user: false, ..closed() }
}

fn with(target: Target) -> Facts {
    Facts { target: Some(target), ..alice() }
}

fn root() -> Facts {
    let mut facts = alice();
    facts.us.uid = 0;
    facts.us.user = "root".to_owned();
    facts.us.capabilities = ALL;
    facts.us.priority = true;
    facts.machine.tracepoints = Numbers::Tracefs;
    facts
}

/// Root in a container of Docker, as it comes.
fn docker() -> Facts {
    let mut facts = root();
    facts.us.capabilities = DOCKER;
    facts.us.bounding = DOCKER;
    facts.us.priority = false;
    facts.us.seccomp = true;
    facts.us.perf_call = Gate::Filtered;
    facts.us.edges = Trial::Denied;
    facts.us.running_stacks = Trial::Denied;
    facts.us.container =
        Some(Container { engine: Engine::Docker, name: Some("0123456789ab".to_owned()) });
    facts.machine.tracepoints = Numbers::Unknown;
    facts
}

fn in_docker(mut target: Target) -> Facts {
    target.edges = Trial::Denied;
    target.running_stacks = Trial::Denied;
    Facts { target: Some(target), ..docker() }
}

fn changed(mut facts: Facts, change: impl FnOnce(&mut Facts)) -> Facts {
    change(&mut facts);
    facts
}

/// Every case by its name, in the order of the table.
fn cases() -> Vec<(&'static str, Facts)> {
    let yama = |scope| move |facts: &mut Facts| facts.machine.ptrace_scope = Some(scope);
    let debian = |facts: &mut Facts| {
        facts.machine.perf_event_paranoid = Some(4);
        facts.us.edges = Trial::Denied;
        facts.us.running_stacks = Trial::Denied;
    };
    let read_only_by_perf =
        Target { edges: Trial::Works, running_stacks: Trial::Works, ..closed() };
    let no_perf = Target { edges: Trial::Denied, running_stacks: Trial::Denied, ..own() };
    vec![
        ("root", root()),
        ("root, a server", Facts { target: Some(own()), ..root() }),
        ("root, denied all the same", Facts { target: Some(closed()), ..root() }),
        ("alice", alice()),
        ("alice, her own", with(own())),
        ("alice, www-data's", with(foreign())),
        ("alice, root's", with(Target { uid: 0, user: "root".to_owned(), ..foreign() })),
        ("alice, not dumpable", with(Target { open_to_its_user: Some(false), ..closed() })),
        (
            "alice, with capabilities",
            with(Target { more_capabilities: NET_BIND_SERVICE, ..closed() }),
        ),
        (
            "alice, a rootless container's",
            with(Target { same_user_namespace: Some(false), ..closed() }),
        ),
        ("alice, no_new_privs, www-data's", changed(with(foreign()), |f| f.us.no_new_privs = true)),
        ("alice, nosuid, www-data's", changed(with(foreign()), |f| f.us.nosuid = true)),
        (
            "alice, her own build, www-data's",
            changed(with(foreign()), |f| {
                f.us.executable = "/home/alice/my tools/stallspy".to_owned();
            }),
        ),
        ("Yama 1", changed(alice(), yama(1))),
        ("Yama 1, her own", changed(with(read_only_by_perf.clone()), yama(1))),
        ("Yama 1, www-data's", changed(with(foreign()), yama(1))),
        ("Yama 2", changed(alice(), yama(2))),
        ("Yama 3, root", changed(root(), yama(3))),
        ("Debian's paranoid 4", changed(alice(), debian)),
        ("Debian's paranoid 4, her own", changed(with(no_perf.clone()), debian)),
        (
            "Debian's paranoid 4, before 5.8",
            changed(changed(with(no_perf), debian), |f| {
                f.machine.has_perfmon = false;
            }),
        ),
        ("Debian's paranoid 4, www-data's", changed(with(foreign()), debian)),
        ("docker on Ubuntu", changed(docker(), |f| f.machine.perf_event_paranoid = Some(4))),
        (
            "SYS_PTRACE alone, www-data's",
            changed(
                with(Target {
                    uid: 33,
                    user: "www-data".to_owned(),
                    same_user: false,
                    system_call: Trial::Denied,
                    files: Trial::Denied,
                    edges: Trial::Denied,
                    running_stacks: Trial::Denied,
                    ..own()
                }),
                |f| f.us.capabilities = Capabilities::SYS_PTRACE,
            ),
        ),
        (
            "SYS_PTRACE alone, its program closed",
            changed(with(Target { maps: Trial::Works, ..foreign() }), |f| {
                f.us.capabilities = Capabilities::SYS_PTRACE
            }),
        ),
        (
            "PERFMON alone, www-data's",
            changed(
                with(Target {
                    maps: Trial::Works,
                    edges: Trial::Works,
                    running_stacks: Trial::Works,
                    ..foreign()
                }),
                |f| f.us.capabilities = Capabilities::PERFMON,
            ),
        ),
        ("docker", docker()),
        ("docker, a server", in_docker(own())),
        (
            "docker, nobody in it",
            changed(in_docker(foreign()), |f| {
                f.us.uid = 65534;
                f.us.capabilities = Capabilities::NONE;
            }),
        ),
        (
            "docker, with the capabilities, nobody in it",
            changed(with(foreign()), |f| {
                f.us.container = Some(Container {
                    engine: Engine::Docker,
                    name: Some("0123456789ab".to_owned()),
                });
            }),
        ),
        ("docker, no process_vm_readv", changed(docker(), |f| f.us.memory_call = Gate::Filtered)),
        (
            "kubernetes, a server",
            changed(in_docker(own()), |f| {
                f.us.container =
                    Some(Container { engine: Engine::Kubernetes, name: Some("web-1".to_owned()) });
            }),
        ),
        (
            "unshare -r, outside it",
            changed(with(closed()), |f| {
                f.us.uid = 0;
                f.us.user = "root".to_owned();
                f.us.capabilities = ALL;
                f.us.first_user_namespace = false;
                f.us.container = Some(Container { engine: Engine::Other, name: None });
            }),
        ),
        (
            "filtered, no container",
            changed(alice(), |f| {
                f.us.seccomp = true;
                f.us.perf_call = Gate::Filtered;
                f.us.edges = Trial::Denied;
                f.us.running_stacks = Trial::Denied;
            }),
        ),
        (
            "a sandboxed kernel",
            changed(root(), |f| {
                f.us.memory_call = Gate::Missing;
                f.us.perf_call = Gate::Missing;
                f.us.edges = Trial::Missing;
                f.us.running_stacks = Trial::Missing;
            }),
        ),
        (
            "STALLSPY_NO_PERF",
            changed(
                with(Target { edges: Trial::Unwanted, running_stacks: Trial::Unwanted, ..own() }),
                |f| f.us.edges = Trial::Unwanted,
            ),
        ),
        (
            "no loop seen",
            with(Target {
                attach: Attach::Read {
                    python: "3.12.1".to_owned(),
                    loops: Vec::new(),
                    asleep: 1,
                    with_c_stack: 0,
                },
                ..own()
            }),
        ),
        (
            "not Python",
            with(Target {
                attach: Attach::Failed { error: "it is not Python".to_owned(), exit_code: 4 },
                ..own()
            }),
        ),
        (
            "a kernel thread",
            with(Target {
                attach: Attach::Failed { error: "it is not Python".to_owned(), exit_code: 4 },
                has_memory: false,
                uid: 0,
                user: "root".to_owned(),
                ..own()
            }),
        ),
    ]
}

fn diagnosis(name: &str) -> Diagnosis {
    let (_, facts) = cases().into_iter().find(|(case, _)| *case == name).expect(name);
    judge(facts)
}

fn letters(diagnosis: &Diagnosis) -> String {
    let letter = |state| match state {
        State::Yes => 'y',
        State::Partly => 'p',
        State::No => '-',
    };
    diagnosis.tiers.iter().map(|tier| letter(tier.state)).collect()
}

/// Every command advised.
fn commands(name: &str) -> Vec<String> {
    let advised = diagnosis(name).tiers.into_iter().flat_map(|tier| tier.advice);
    let mut commands: Vec<String> = advised.map(|advice| advice.command).collect();
    commands.sort_unstable();
    commands.dedup();
    commands
}

/// In order: memory, system calls, edges, C stacks asleep and running, priority.
#[test]
fn states_and_exit_codes() {
    let table = [
        ("root", "yyyyyy", 0),
        ("root, a server", "yyyyyy", 0),
        ("root, denied all the same", "-----y", 5),
        ("alice", "yyyyyp", 0),
        ("alice, her own", "yyyyyp", 0),
        ("alice, www-data's", "-----p", 5),
        ("alice, root's", "-----p", 5),
        ("alice, not dumpable", "-----p", 5),
        ("alice, with capabilities", "-----p", 5),
        ("alice, a rootless container's", "-----p", 5),
        ("alice, no_new_privs, www-data's", "-----p", 5),
        ("alice, nosuid, www-data's", "-----p", 5),
        ("alice, her own build, www-data's", "-----p", 5),
        ("Yama 1", "ppypyp", 0),
        ("Yama 1, her own", "--y-yp", 5),
        ("Yama 1, www-data's", "-----p", 5),
        ("Yama 2", "--y-yp", 5),
        ("Yama 3, root", "--y-yy", 5),
        ("Debian's paranoid 4", "yy-y-p", 0),
        ("Debian's paranoid 4, her own", "yy-y-p", 0),
        ("Debian's paranoid 4, before 5.8", "yy-y-p", 0),
        ("Debian's paranoid 4, www-data's", "-----p", 5),
        ("docker on Ubuntu", "yy-y-p", 0),
        ("SYS_PTRACE alone, www-data's", "y----p", 0),
        ("SYS_PTRACE alone, its program closed", "-----p", 5),
        ("PERFMON alone, www-data's", "--y-yp", 5),
        ("docker", "yy-y-p", 0),
        ("docker, a server", "yy-y-p", 0),
        ("docker, nobody in it", "-----p", 5),
        ("docker, with the capabilities, nobody in it", "-----p", 5),
        ("docker, no process_vm_readv", "-----p", 5),
        ("kubernetes, a server", "yy-y-p", 0),
        ("unshare -r, outside it", "-----p", 5),
        ("filtered, no container", "yy-y-p", 0),
        ("a sandboxed kernel", "-----y", 5),
        ("STALLSPY_NO_PERF", "yy-y-p", 0),
        ("no loop seen", "pyyyyp", 0),
        ("not Python", "-yy-yp", 4),
        ("a kernel thread", "-yy-yp", 4),
    ];
    let found = cases();
    assert_eq!(
        table.map(|(name, ..)| name).as_slice(),
        found.iter().map(|(n, _)| *n).collect::<Vec<_>>()
    );
    for ((name, states, code), (_, facts)) in table.into_iter().zip(found) {
        let diagnosis = judge(facts);
        assert_eq!((letters(&diagnosis).as_str(), diagnosis.exit_code), (states, code), "{name}");
    }
}

#[test]
fn reasons_and_commands() {
    let mut text = String::new();
    for (name, facts) in cases() {
        let diagnosis = judge(facts);
        writeln!(text, "# {name}").unwrap();
        for (tier, state) in diagnosis.tiers.iter().zip(letters(&diagnosis).chars()) {
            writeln!(text, "{state} {}: {}", tier.id, tier.reason).unwrap();
        }
        for command in commands(name) {
            writeln!(text, "    {command}").unwrap();
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_json_fits_its_schema() {
    let schema: Value =
        serde_json::from_str(include_str!("../docs/stallspy-doctor-1.schema.json")).unwrap();
    jsonschema::draft202012::meta::validate(&schema).map_err(|error| error.to_string()).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for (name, facts) in cases() {
        let value = serde_json::to_value(judge(facts)).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
        // And the schema is one that can fail: it names every key there is.
        for part in ["machine", "us", "target"] {
            let described = &schema["properties"][part]["properties"];
            for key in value[part].as_object().into_iter().flat_map(|object| object.keys()) {
                assert!(described[key].is_object(), "{part}.{key} is not described");
            }
        }
    }
}

#[test]
fn nothing_is_advised_that_cannot_help() {
    for (name, facts) in cases() {
        let (us, target) = (facts.us.clone(), facts.target.clone());
        for command in commands(name) {
            let sudo_here = command.starts_with("sudo ")
                && !command.contains("HOST_PID")
                && !command.contains("docker inspect");
            assert!(!(sudo_here && us.no_new_privs), "{name}: {command}");
            assert!(!(sudo_here && us.container.is_some()), "{name}: {command}");
            assert!(!(sudo_here && us.uid == 0), "{name}: {command}");
            assert!(!(command.contains("setcap") && us.nosuid), "{name}: {command}");
            assert!(!(command.contains("docker") && us.container.is_none()), "{name}: {command}");
            let as_user = command.starts_with("sudo -u");
            let closed =
                target.as_ref().is_some_and(|target| target.open_to_its_user == Some(false));
            assert!(!(as_user && closed), "{name}: {command}");
        }
    }
    for nothing in ["root", "root, a server", "a sandboxed kernel", "Yama 3, root", "not Python"] {
        assert!(commands(nothing).is_empty(), "{nothing}");
    }
}

#[test]
fn the_exact_commands() {
    let has = |name: &str, command: &str| {
        let commands = commands(name);
        assert!(commands.iter().any(|one| one == command), "{name}: {commands:#?}");
    };
    let setcap = "sudo setcap cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_sys_nice+ep \
                  /usr/local/bin/stallspy";
    has("alice, www-data's", setcap);
    has("alice, www-data's", "sudo stallspy record -p 4242");
    has("alice, www-data's", "sudo -u www-data stallspy record -p 4242");
    let not = |name: &str, part: &str| {
        let commands = commands(name);
        assert!(!commands.iter().any(|one| one.contains(part)), "{name}: {commands:#?}");
    };
    // Where www-data may not go.
    not("alice, her own build, www-data's", "sudo -u");
    // More than anybody should give to a file.
    not("Debian's paranoid 4", "admin");
    // It would not be enough.
    not("Debian's paranoid 4, www-data's", "sysctl");
    has(
        "docker on Ubuntu",
        "docker run --rm -it --user 0 --pid=container:0123456789ab --cap-add \
         SYS_ADMIN --cap-add SYS_PTRACE --cap-add SYS_NICE IMAGE stallspy record -p PID",
    );
    has(
        "docker, nobody in it",
        "docker exec -it -u 33 0123456789ab /usr/local/bin/stallspy record -p 4242",
    );
    has("alice, her own build, www-data's", "sudo '/home/alice/my tools/stallspy' record -p 4242");
    has("Yama 1, her own", "sudo sysctl kernel.yama.ptrace_scope=0");
    has("Yama 1, her own", "/usr/local/bin/stallspy record -- COMMAND");
    has("Debian's paranoid 4", "sudo sysctl kernel.perf_event_paranoid=2");
    let docker = "docker run --rm -it --user 0 --pid=container:0123456789ab --cap-add PERFMON \
                  --cap-add SYS_PTRACE --cap-add SYS_NICE IMAGE stallspy record -p 4242";
    has("docker, a server", docker);
    let kubernetes = "kubectl debug -it web-1 --image=IMAGE --target=CONTAINER --profile=sysadmin \
                      -- stallspy record -p 4242";
    has("kubernetes, a server", kubernetes);
    let exec = "docker exec -it -u 0 0123456789ab /usr/local/bin/stallspy record -p 4242";
    has("docker, with the capabilities, nobody in it", exec);
    has("STALLSPY_NO_PERF", "unset STALLSPY_NO_PERF");
}
