//! `--before`: an earlier recording beside another one, and files that are none.

use std::path::Path;

use stallspy::recording::write;
use tempfile::TempDir;

use crate::profiler::{Ended, stallspy};
use crate::story::{Story, at};

/// A folder with recordings of a server of 60 threads, of which 44 ask, and before that of 4; and what is none of these.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let save = |name: &str, mut story: Story, earlier: bool| {
        if earlier {
            // Of another time, so that it is not the same recording.
            story.recording.detached = at(10_001.0);
        }
        let mut bytes = Vec::new();
        write(&story.recording, &mut bytes).expect("memory can be written");
        std::fs::write(folder.path().join(name), bytes).expect("it can be written");
    };
    save("after", Story::asking(60, 44, 1000, 0), false);
    save("before", Story::asking(4, 4, 490, 40), true);
    let mut other = Story::asking(4, 4, 490, 40);
    *other.recording.tables.names.iter_mut().find(|name| *name == "orders").unwrap() =
        "invoices".to_owned();
    save("application", other, true);
    let mut other = Story::asking(4, 4, 490, 40);
    other.recording.processes[0].topology.server = "waitress".to_owned();
    save("server", other, true);
    std::fs::write(folder.path().join("text"), "nothing\n").expect("it can be written");
    folder
}

/// The command on `after`, with `before`; paths in what is said are names alone.
fn ask(folder: &Path, command: &str, before: &str, flags: &[&str]) -> Ended {
    let path = |name: &str| folder.join(name).display().to_string();
    let (after, before) = (path("after"), path(before));
    let mut args = vec![command, &after, "--before", &before];
    args.extend(flags);
    let mut ended = stallspy(&args);
    ended.err = ended.err.replace(&format!("{}/", folder.display()), "");
    ended
}

#[test]
fn both_together_say_what_one_cannot() {
    let folder = folder();
    for (command, flags) in [("advise", &[][..]), ("report", &["-q"])] {
        let ended = ask(folder.path(), command, "before", flags);
        assert_eq!((ended.code(), ended.err.as_str()), (Some(0), ""));
        let text = ended.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("10.0.0.7:5432 works on about 8 at once"), "{text}");
        assert!(text.contains("threads 60 → 11: `--threads 11`"), "{text}");
    }
    let json = ask(folder.path(), "advise", "before", &["--json"]).report();
    assert_eq!(json["findings"][0]["id"], "peer-saturated");
}

#[test]
fn what_is_no_earlier_recording_of_it_is_refused() {
    let folder = folder();
    let none =
        "--before takes an earlier recording of the same server at another size, and this is none";
    for (before, code, said) in [
        ("after", 2, format!("{none}: it is the recording itself")),
        (
            "application",
            2,
            format!("{none}: no function of its application is met in the other one"),
        ),
        ("server", 2, format!("{none}: no server of the other one is in it")),
        ("text", 1, "text is not a stallspy recording".to_owned()),
        ("nowhere", 1, "nowhere".to_owned()),
    ] {
        for command in ["advise", "report"] {
            let ended = ask(folder.path(), command, before, &[]);
            assert_eq!((ended.code(), ended.out.as_str()), (Some(code), ""), "{}", ended.err);
            assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
            assert!(ended.err.contains(&said), "{}", ended.err);
        }
    }
}
