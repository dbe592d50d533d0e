//! Standard output and standard error: who reads them, in colour or not, or has gone away.

use std::process::{Command, Stdio};

use crate::profiler::{STALLSPY, stallspy};
use crate::recordings::{file, recording};

/// `report` of a recording with these variables set, to a file: no terminal.
fn colours(flags: &[&str], variables: &[(&str, &str)]) -> bool {
    let (_folder, path) = file(&recording());
    let mut command = Command::new(STALLSPY);
    command.arg("report").arg(path).args(flags);
    command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    let output = command.envs(variables.iter().copied()).output().expect("stallspy runs");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("it is text");
    assert!(text.contains("views.py:41"), "{text}");
    text.contains('\x1b')
}

#[test]
fn colour_is_for_terminals_unless_asked_for() {
    assert!(!colours(&[], &[]));
    assert!(colours(&[], &[("CLICOLOR_FORCE", "1")]));
    assert!(colours(&["--color", "always"], &[]));
}

#[test]
fn a_wish_for_no_colour_comes_first() {
    assert!(!colours(&[], &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]));
    assert!(!colours(&["--color", "never"], &[("CLICOLOR_FORCE", "1")]));
    // A flag is nearer than a variable; and an empty variable is none (no-color.org).
    assert!(colours(&["--color", "always"], &[("NO_COLOR", "1")]));
    assert!(colours(&[], &[("NO_COLOR", ""), ("CLICOLOR_FORCE", "1")]));
}

#[test]
fn a_file_is_never_coloured() {
    let (folder, path) = file(&recording());
    let text = folder.path().join("a.txt");
    let mut command = Command::new(STALLSPY);
    command.arg("report").arg(path).arg("--color=always").arg("-o").arg(&text);
    assert!(command.output().expect("stallspy runs").status.success());
    let text = std::fs::read_to_string(text).expect("it is written");
    assert!(text.contains("VERDICT") && !text.contains('\x1b'), "{text}");
}

/// A command whose standard output, and perhaps standard error, nobody reads any more.
fn unread(args: &[&str], stderr_too: bool) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    drop(reader);
    let mut command = Command::new(STALLSPY);
    command.args(args).stdin(Stdio::null());
    if stderr_too {
        command.stderr(writer.try_clone().expect("a pipe can be shared"));
    } else {
        command.stderr(Stdio::piped());
    }
    let child = command.stdout(writer).spawn().expect("stallspy runs");
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let (_folder, path) = file(&recording());
    let path = path.display().to_string();
    for format in ["text", "json", "recording", "flamegraph", "raw", "speedscope"] {
        let (code, err) = unread(&["report", &path, "-f", format], false);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{format}");
    }
    for args in [&["--help"][..], &["record", "--help"], &["--version"]] {
        assert_eq!(unread(args, false), (Some(0), String::new()), "{args:?}");
    }
}

#[test]
fn a_reader_that_has_gone_costs_neither_files_nor_gates() {
    let (folder, path) = file(&recording());
    let (path, json) = (path.display().to_string(), folder.path().join("a.json"));
    let json_path = json.display().to_string();
    let args = ["report", &path, "-o", &json_path, "--fail-on", "stalls>0"];
    for stderr_too in [false, true] {
        let (code, _) = unread(&args, stderr_too);
        assert_eq!(code, Some(3), "the gate still tells");
        let text = std::fs::read_to_string(&json).expect("it is written");
        serde_json::from_str::<serde_json::Value>(&text).expect("it is whole");
        std::fs::remove_file(&json).expect("it is ours");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let (_folder, path) = file(&recording());
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut command = Command::new(STALLSPY);
    let output = command.arg("report").arg(path).stdout(full).output().expect("stallspy runs");
    assert_eq!(output.status.code(), Some(1));
    let said = "stallspy: cannot write to standard output: No space left on device (os error 28)\n";
    assert_eq!(String::from_utf8_lossy(&output.stderr), said);
}

#[test]
fn advice_is_what_the_whole_report_concludes() {
    let (_folder, path) = file(&recording());
    let path = path.display().to_string();
    let json = |args: &[&str]| {
        let ended = stallspy(args);
        assert_eq!(ended.code(), Some(0), "{}", ended.err);
        serde_json::from_str::<serde_json::Value>(&ended.out).expect("it is JSON")
    };
    let (advice, report) =
        (json(&["advise", &path, "--json"]), json(&["report", &path, "-f", "json"]));
    let keys = advice.as_object().expect("an object").keys();
    assert!(keys.clone().any(|key| key == "findings") && keys.clone().all(|key| key != "stalls"));
    for key in keys {
        assert_eq!(advice[key], report[key], "{key}");
    }
    let ended = stallspy(&["advise", &path]);
    assert!(ended.code() == Some(0) && ended.out.contains("VERDICT"), "{}", ended.out);
}
