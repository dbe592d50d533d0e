//! Recorded memory of every CPython version, read as a running process is: stacks, names, the
//! loop's clock. The golden files in `tests/snapshots` hold what each image must tell; that it is
//! also true is seen in `fixtures/images/server.py`, which every image is of.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

#[path = "common/images.rs"]
mod images;
#[path = "images/refusals.rs"]
mod refusals;
#[path = "common/survey.rs"]
mod survey;
#[path = "common/survey_text.rs"]
mod survey_text;

use std::collections::BTreeSet;

use images::{DIRECTORY, images};
use stallspy::event_loop::Reading;
use stallspy::python::gil::Gil;
use stallspy::python::locate::{locate_at, scan};
use stallspy::python::threads::threads;
use stallspy::units::{Addr, Nanos};
use survey::{SeenLoop, Survey, survey};
use survey_text::written;

#[test]
fn every_image_tells_what_was_seen() {
    for image in images() {
        let seen = survey(&image.memory, &image.known).expect(&image.name);
        insta::assert_snapshot!(image.name.as_str(), written(&seen, &image.known));
    }
}

#[test]
fn every_version_is_there_in_every_case() {
    let found: BTreeSet<(String, String)> =
        images().iter().map(|image| (image.minor().to_owned(), image.case().to_owned())).collect();
    for minor in 8..=15 {
        for case in ["request", "task", "callback", "idle"] {
            let wanted = (format!("3.{minor}"), case.to_owned());
            assert!(found.contains(&wanted), "no image of {wanted:?}");
        }
    }
}

/// The loop that a survey saw.
fn event_loop(seen: &Survey) -> &SeenLoop {
    let loops: Vec<_> =
        seen.threads.iter().filter_map(|t| t.runs.as_ref().unwrap().as_ref()).collect();
    let [one] = loops[..] else { panic!("{} loops", loops.len()) };
    one
}

/// What is the same in every version, said once more where it can be read at a glance.
#[test]
fn every_version_tells_the_same_of_the_same_case() {
    for image in images() {
        let (name, seen) = (&image.name, survey(&image.memory, &image.known).unwrap());
        assert_eq!(format!("{}-asyncio-{}", seen.version, image.case()), *name);
        let main = seen.threads.last().unwrap();
        assert_eq!(main.name.as_deref(), Some("MainThread"), "{name}");
        assert!(seen.threads.iter().all(|thread| thread.tid.is_some()), "{name}");
        let runs = event_loop(&seen);
        let run = runs.callback.map(|run| (run.index, run.batch));
        let (task, coroutine) = (runs.task.task.as_deref(), runs.task.coroutine.as_deref());
        let endpoint = runs.endpoint.as_deref();
        match image.case() {
            "request" => {
                assert_eq!(run, Some((0, 6)), "{name}");
                assert_eq!((task, coroutine), (Some("request-17"), Some("serve")), "{name}");
                assert_eq!((endpoint, runs.waiting), (Some("GET /orders"), Some(5)), "{name}");
                assert_eq!(seen.threads.len(), 3, "{name}");
            }
            "task" => {
                assert_eq!(run, Some((0, 1)), "{name}");
                assert_eq!((task, coroutine), (Some("Task-2"), Some("step")), "{name}");
                assert_eq!((endpoint, runs.waiting), (None, Some(0)), "{name}");
            }
            "callback" => {
                assert_eq!(run, Some((2, 4)), "{name}");
                assert_eq!((task, coroutine), (None, None), "{name}");
                assert_eq!((endpoint, runs.waiting), (None, Some(1)), "{name}");
            }
            _ => {
                assert_eq!(runs.reading, Ok(Reading::Polling), "{name}");
                assert_eq!(run, None, "{name}");
            }
        }
        if let Ok(Reading::Running(running)) = runs.reading {
            // It settles for 300 ms before the image is taken; a machine may be slow, not fast.
            let age = image.known.now.since(running.began.lo);
            assert!(age > Nanos::from_millis(250) && age < Nanos::from_secs(20), "{name}: {age:?}");
        }
    }
}

#[test]
fn the_scan_finds_what_the_symbol_named() {
    for image in images() {
        // Only what was read is recorded, and of `_PyRuntime` that is its first kilobyte.
        let start = Addr(image.known.runtime.0 & !7);
        let located = scan(&image.memory, start, 1024).unwrap().expect(&image.name);
        assert_eq!(located.runtime, image.known.runtime);
        assert!(image.name.starts_with(&format!("{}-", located.version)));
    }
}

/// The images are of programs whose loop computes or polls, and may lack the lock's bytes.
#[test]
fn who_holds_the_lock_is_a_thread_or_unknown() {
    for image in images() {
        let located = locate_at(&image.memory, image.known.runtime).unwrap();
        let python = located.view(&image.memory);
        let known = threads(&python).unwrap();
        for thread in &known {
            let Some(gil) = Gil::of(&python, thread.interpreter) else { continue };
            let Ok(Some(holder)) = gil.holder(&python) else { continue };
            assert!(known.iter().any(|thread| thread.state == holder), "{}", image.name);
        }
    }
}

#[test]
fn images_are_small_and_hold_nothing_of_the_machine() {
    let mut total = 0;
    for image in images() {
        let mut bytes = Vec::new();
        image.memory.write_to(&mut bytes).unwrap();
        assert!(bytes.len() < 300 << 10, "{}: {} bytes", image.name, bytes.len());
        total += bytes.len();
        let text = String::from_utf8_lossy(&bytes);
        for foreign in
            ["/home/", "http://", "https://", "PROXY", "proxy=", env!("CARGO_MANIFEST_DIR")]
        {
            assert!(!text.contains(foreign), "{}: {foreign}", image.name);
        }
        assert!(text.contains("/srv/app/server.py"), "{}", image.name);
    }
    assert!(total < 4 << 20, "{total} bytes in {DIRECTORY}");
}
