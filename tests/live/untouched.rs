//! Being watched changes nothing: the server is never traced or stopped, and does what it would
//! have done.

use crate::interpreters::some_interpreters;
use crate::profiler::Profiler;
use crate::server::Server;
use crate::turn::each;

/// What `/proc/PID/status` says of one thread.
fn status(pid: i32) -> (String, String) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
    };
    (field("TracerPid:"), field("State:"))
}

#[test]
fn a_server_is_never_traced_or_stopped() {
    each(&some_interpreters(), |python| {
        let mut server = Server::start(python, "asyncio_stalls.py", 60, &["--lengths", "5-50"]);
        let pid = server.pid();
        let args = ["record", "-q", "-d", "3", "-f", "json", "-p", &pid.to_string()];
        let mut profiler = Profiler::start(&args);
        let mut looks = 0;
        while profiler.is_running() {
            let (tracer, state) = status(pid);
            assert_eq!(tracer, "0", "it is traced");
            assert!(!state.starts_with(['t', 'T']), "it is stopped: {state}");
            looks += 1;
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
        assert!(looks > 50, "{looks} looks");
        let ended = profiler.finish();
        assert_eq!(ended.code(), Some(0), "{}", ended.err);
        let detached = ended.report()["detached_ns"].as_u64().expect("a time");
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert!(server.is_running());
        let truth = server.end();
        assert!(truth.iter().any(|entry| entry.start_ns > detached), "it went on");
    });
}
