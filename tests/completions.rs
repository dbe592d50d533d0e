//! What shells and manual pages are given.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn stallspy(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stallspy")).args(args).output().expect("stallspy runs")
}

fn printed(args: &[&str]) -> String {
    let output = stallspy(args);
    assert!(output.status.success() && output.stderr.is_empty(), "{args:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn every_shell_completes_every_flag() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        for word in ["record", "threshold", "speedscope", "nonblocking"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn bash_takes_its_script() {
    let Ok(mut bash) = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn() else { return };
    let script = printed(&["completions", "bash"]);
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn each_command_has_a_page() {
    assert!(printed(&["man"]).contains("stallspy\\-record(1)"));
    for command in ["record", "report", "advise", "dump", "doctor", "demo", "completions", "man"] {
        let page = printed(&["man", command]);
        assert!(page.contains(&format!(".TH stallspy-{command} 1")), "{command}");
    }
    assert_eq!(stallspy(&["man", "no-such-command"]).status.code(), Some(2));
}

#[test]
fn commands_may_be_abbreviated_while_unambiguous() {
    assert_eq!(printed(&["ma", "rec"]), printed(&["man", "record"]));
    assert_eq!(stallspy(&["re"]).status.code(), Some(2));
    assert_eq!(stallspy(&["man", "re"]).status.code(), Some(2));
}
