//! A story of `scripts/story`, told on the way: what stallspy says of a server, and what it says once that was
//! done. The others take packages that are not installed here.

use std::process::Command;

use crate::interpreters::{Python, interpreters};
use crate::{in_ci, say};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/story");

#[test]
fn threads_for_what_waits_are_advised_and_enough() {
    let fits = |python: &Python| {
        python.minor() == 12
            && python.words().len() == 1
            && ["flask", "gunicorn"].iter().all(|package| python.has(package))
    };
    let Some(python) = interpreters().into_iter().find(fits) else {
        assert!(!in_ci(), "STALLSPY_INTERPRETERS lists no CPython 3.12 with Flask and gunicorn");
        return say(
            "story: did not run, STALLSPY_INTERPRETERS lists no CPython 3.12 with Flask and gunicorn",
        );
    };
    let mut story = Command::new("python3");
    story.arg(SCRIPT).args([
        "threads",
        "--only-words",
        "--stallspy",
        env!("CARGO_BIN_EXE_stallspy"),
    ]);
    let cache = tempfile::tempdir().expect("a temporary folder can be made");
    story.arg("--cache").arg(cache.path()).arg("--venv-python").arg(&python.words()[0]);
    let told = story.output().expect("scripts/story can be run");
    let (out, err) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{out}\n{err}");
}
