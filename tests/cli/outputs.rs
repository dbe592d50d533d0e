//! Where reports go is checked first: nobody records for a minute to learn that a folder is missing.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use crate::profiler::stallspy;

/// `record` of a command that leaves a mark when it runs; gives the exit code and what was said.
fn record(folder: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let mark = format!("touch {}", folder.join("ran").display());
    let mut args = vec!["record"];
    args.extend(flags);
    args.extend(["--", "sh", "-c", &mark]);
    let ended = stallspy(&args);
    (ended.code(), ended.err)
}

fn refused(flags: &[&str], code: i32, said: &str) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (got, err) = record(folder.path(), flags);
    assert_eq!(got, Some(code), "{flags:?}: {err}");
    assert!(err.contains(said), "{flags:?}: {err}");
    assert!(!folder.path().join("ran").exists(), "{flags:?}: the command was started");
}

#[test]
fn a_path_that_cannot_be_written_is_refused_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let inside = folder.path().display();
    let gone = format!("{inside}/no/such/a.json");
    refused(&["-o", &gone], 1, &format!("cannot write {gone}: No such file or directory"));
    // The second output, too.
    let fine = format!("{inside}/a.json");
    refused(&["-o", &fine, "-o", &gone], 1, "choose another -o FILE");
    assert!(!Path::new(&fine).exists(), "what was proven writable is taken away again");
    let directory = format!("{inside}/a.svg");
    std::fs::create_dir(&directory).expect("a folder can be made");
    refused(&["-o", &directory], 1, "it is a directory; name a file in it");
}

#[test]
fn a_refusal_comes_at_once() {
    let began = Instant::now();
    let ended = stallspy(&["record", "-p", "1", "-d", "600", "-o", "/no/such/a.json"]);
    assert_eq!(ended.code(), Some(1));
    assert!(began.elapsed().as_secs() < 60);
}

#[test]
fn a_file_without_rights_is_refused() {
    if nix::unistd::geteuid().is_root() {
        return; // root may write anywhere
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("a.json");
    std::fs::write(&file, "mine").expect("it can be written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o444)).expect("it is ours");
    refused(&["-o", &file.display().to_string()], 1, "Permission denied");
}

#[test]
fn what_is_in_a_file_survives_a_recording_that_fails() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("a.json");
    std::fs::write(&file, "older").expect("it can be written");
    let path = file.display().to_string();
    let ended = stallspy(&["record", "-p", "2147483647", "-o", &path]);
    assert_eq!(ended.code(), Some(4));
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "older");
}

#[test]
fn formats_and_files_belong_together() {
    refused(&["-o", "a.pdf"], 2, "the name a.pdf does not tell a format: add -f FORMAT");
    refused(&["-o", "a"], 2, "does not tell a format");
    refused(&["-f", "json", "-f", "text"], 2, "standard output is asked for twice");
    refused(&["-o", "a.json", "-o", "a.json"], 2, "a.json is asked for twice");
    refused(&["-f", "json", "-o", "-", "-f", "raw"], 2, "standard output is asked for twice");
}
