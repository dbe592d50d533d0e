//! `stallspy dump` of a server that is blocked right now.

use serde_json::Value;

use crate::interpreters::interpreters;
use crate::profiler::stallspy;
use crate::server::Server;
use crate::turn::each;

/// Looks until the server is seen blocked: it pauses for less than 0.1 s before.
fn blocked(pid: &str, flags: &[&str]) -> String {
    let mut args = vec!["dump", "-p", pid];
    args.extend(flags);
    for _ in 0..100 {
        let ended = stallspy(&args);
        assert_eq!(ended.code(), Some(0), "{}", ended.err);
        if ended.out.contains("recvfrom") {
            return ended.out;
        }
    }
    panic!("it is never blocked")
}

#[test]
fn a_dump_shows_the_blocked_line_and_its_loop() {
    each(&interpreters(), |python| {
        let args = ["--kinds", "recv", "--lengths", "30000-30001"];
        let server = Server::start(python, "asyncio_stalls.py", 60, &args);
        let pid = server.pid().to_string();
        let file = server.file("stalls.py");

        let text = blocked(&pid, &[]);
        let source = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/fixtures/servers/stalls.py"
        ));
        let source = source.expect("the source is there");
        let line = 1 + source.lines().position(|line| line.contains("recv(1)  # blocks")).unwrap();
        assert!(text.contains(&format!("    recv ({file}:{line})\n")), "{text}");
        assert!(text.contains("blocked in recvfrom(): 127.0.0.1:"), "{text}");
        assert!(text.contains("asyncio loop: running for "), "{text}");
        assert!(!text.contains("seconds = "), "no locals unless asked for: {text}");

        let text = blocked(&pid, &["-l"]);
        assert!(text.contains("        seconds = 30"), "{text}");

        let json: Value = serde_json::from_str(&blocked(&pid, &["--json", "-l"])).unwrap();
        assert_eq!(json["schema"], "stallspy-dump/1");
        assert_eq!(json["pid"], server.pid());
        let threads = json["threads"].as_array().expect("threads");
        let main = threads.iter().find(|one| one["tid"] == server.pid()).expect("its main thread");
        assert_eq!(main["loop"]["phase"], "running");
        assert!(main["loop"]["running_for_ns"].as_u64() > Some(0));
        assert_eq!(main["loop"]["coroutine"], "handle");
        assert_eq!(main["syscall"], "recvfrom");
        let leaf = &main["frames"][0];
        assert_eq!((&leaf["function"], &leaf["line"]), (&"recv".into(), &line.into()));
        assert_eq!(leaf["file"], *file);
        assert_eq!(leaf["locals"][0][0], "seconds", "{leaf}");
    });
}
