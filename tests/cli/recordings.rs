//! `stallspy report`: recordings that can be read, those that cannot, and gates on them.

use std::path::PathBuf;

use stallspy::recording::{FORMAT_VERSION, write};
use tempfile::TempDir;

use crate::profiler::{Ended, stallspy};
use crate::story::Story;

/// A server that slept three times in a handler.
pub fn recording() -> Vec<u8> {
    let mut story = Story::new(300);
    let stack = story.stack(&[("/srv/app/views.py", 41, "render")]);
    for began in [1000.0, 2000.0, 3000.0] {
        let part = story.asleep(40.0, stack, "clock_nanosleep", None);
        story.stall(began, part);
    }
    let mut bytes = Vec::new();
    write(&story.recording, &mut bytes).expect("memory can be written");
    bytes
}

/// A file with these bytes.
pub fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("a.stallspy");
    std::fs::write(&path, bytes).expect("it can be written");
    (folder, path)
}

/// `report` of a file with these bytes; its path in what is said becomes `FILE`.
fn report(bytes: &[u8], flags: &[&str]) -> Ended {
    let (_folder, path) = file(bytes);
    let path = path.display().to_string();
    let mut args = vec!["report", path.as_str()];
    args.extend(flags);
    let mut ended = stallspy(&args);
    ended.err = ended.err.replace(&path, "FILE");
    ended
}

#[test]
fn a_recording_is_reported() {
    let ended = report(&recording(), &[]);
    assert_eq!((ended.code(), ended.err.as_str()), (Some(0), ""));
    assert!(ended.out.contains("VERDICT  the event loop is blocked"), "{}", ended.out);
    assert!(ended.out.contains("views.py:41 render"), "{}", ended.out);
    let json = report(&recording(), &["-f", "json"]).report();
    assert_eq!(json["stalls"].as_array().map(Vec::len), Some(3));
}

#[test]
fn gates_and_allowances() {
    let code = |flags: &[&str]| report(&recording(), flags).code();
    assert_eq!(code(&["--fail-on", "stalls>2"]), Some(3));
    assert_eq!(code(&["--fail-on", "stalls>3"]), Some(0));
    assert_eq!(code(&["--fail-on", "stall>30ms"]), Some(3));
    assert_eq!(code(&["--fail-on", "stall>50ms"]), Some(0));
    assert_eq!(code(&["--fail-on", "loop-utilization>0.2"]), Some(3));
    assert_eq!(code(&["--fail-on", "loop-utilization>0.9"]), Some(0));
    assert_eq!(code(&["--fail-on", "finding:loop-blocked-by-call"]), Some(3));
    assert_eq!(code(&["--fail-on", "finding:loop-hung"]), Some(0));
    assert_eq!(code(&["--fail-on", "stalls>0", "--allow", "views.py:41"]), Some(0));
    assert_eq!(code(&["--fail-on", "stalls>0", "--allow", "views.py:42"]), Some(3));
    let failed = report(&recording(), &["--fail-on", "stalls>2", "--fail-on", "stall>30ms"]);
    assert_eq!(failed.err.lines().count(), 2, "each gate that fails says so: {}", failed.err);
    assert!(failed.out.contains("VERDICT"), "and the report is written all the same");
}

#[test]
fn a_recording_that_was_cut_off_is_read_up_to_there() {
    let whole = recording();
    for part in [1, 2, 3] {
        // Through the middle of a line, as a full disk cuts it.
        let cut = whole.get(..whole.len() - part * whole.len() / 8 - 1).expect("it is longer");
        let ended = report(cut, &[]);
        assert_eq!(ended.code(), Some(0), "{}", ended.err);
        assert!(ended.err.contains("FILE"), "a note names the file: {}", ended.err);
        assert!(ended.out.contains("VERDICT"), "{}", ended.out);
    }
}

#[test]
fn a_file_that_is_no_recording_is_refused() {
    let no_recording = "stallspy: FILE is not a stallspy recording (its first line is not a recording's header); \
         `stallspy record -f recording -o FILE` makes one\n";
    for bytes in [&b"{\"schema\": \"stallspy/1\"}\n"[..], b"\0\xff\xfe", b"hello\n"] {
        let ended = report(bytes, &[]);
        assert_eq!((ended.code(), ended.err.as_str()), (Some(1), no_recording));
        assert_eq!(ended.out, "");
    }
    let empty = report(b"", &[]);
    assert_eq!(empty.code(), Some(1));
    assert!(empty.err.starts_with("stallspy: FILE "), "{}", empty.err);
    let missing = stallspy(&["report", "/no/such/file"]);
    let said = "stallspy: cannot read /no/such/file: No such file or directory (os error 2)\n";
    assert_eq!((missing.code(), missing.err.as_str()), (Some(1), said));
    let directory = stallspy(&["report", "/"]);
    assert_eq!(directory.code(), Some(1));
    assert!(directory.err.starts_with("stallspy: cannot read /: "), "{}", directory.err);
}

#[test]
fn a_damaged_line_is_named() {
    let mut lines: Vec<Vec<u8>> =
        recording().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.insert(3, b"{\"frames\": 17}\n".to_vec());
    let ended = report(&lines.concat(), &[]);
    assert_eq!(ended.code(), Some(1));
    assert!(ended.err.contains("line 4"), "{}", ended.err);
    assert_eq!(ended.out, "");
}

#[test]
fn a_recording_of_a_newer_version_is_refused_by_name() {
    let newer = FORMAT_VERSION + 1;
    let text = String::from_utf8(recording()).expect("it is text").replacen(
        &format!("\"format_version\":{FORMAT_VERSION},\"version\":\"0\""),
        &format!("\"format_version\":{newer},\"version\":\"9.8.7\""),
        1,
    );
    let ended = report(text.as_bytes(), &[]);
    assert_eq!(ended.code(), Some(1), "{}", text.lines().next().unwrap_or_default());
    let said = format!(
        "stallspy: FILE was recorded by stallspy 9.8.7 in recording format {newer}; this stallspy \
         reads formats up to {FORMAT_VERSION}: use that version or a later one\n"
    );
    assert_eq!(ended.err, said);
}
