//! Recorded memory in which reads fail, one after the other, in every way they can: what stallspy
//! then says must be an error, less, or the truth. Never a panic, and never something else.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

#[path = "faults/agreement.rs"]
mod agreement;
#[path = "faults/clock.rs"]
mod clock;
#[path = "common/images.rs"]
mod images;
#[path = "faults/moments.rs"]
mod moments;
#[path = "common/survey.rs"]
mod survey;

use std::cell::RefCell;
use std::collections::BTreeSet;

use agreement::{assert_agrees, assert_stack_agrees};
use images::{Image, images};
use stallspy::python::code_objects::CodeCache;
use stallspy::python::frames::Walker;
use stallspy::python::locate::{Located, locate_at, scan};
use stallspy::python::thread_names::thread_names;
use stallspy::python::threads::threads;
use stallspy::target::{Fault, FaultyMemory, ReadError, RemoteMemory};
use stallspy::units::Addr;
use survey::{look_around, look_at};

const GONE: Fault = Fault::Fails(ReadError::Gone);
const DENIED: Fault = Fault::Fails(ReadError::Denied);
const UNMAPPED: Fault = Fault::Fails(ReadError::Unmapped(Addr(1)));

/// One image of each minor version, in this case.
fn one_of_each(case: &str) -> Vec<Image> {
    let mut minors = BTreeSet::new();
    let mut found = images();
    found.retain(|image| image.case() == case && minors.insert(image.minor().to_owned()));
    assert_eq!(found.len(), 8);
    found
}

fn located(image: &Image) -> Located {
    locate_at(&image.memory, image.known.runtime).unwrap()
}

/// Lets each read of `tell` in turn fail in each of these ways, and hands on what is told then.
fn each_read_fails<T>(
    image: &Image,
    faults: &[Fault],
    tell: impl Fn(&dyn RemoteMemory) -> T,
    check: impl Fn(T, Fault, &str),
) {
    let counting = FaultyMemory::new(&image.memory, []);
    tell(&counting);
    assert!(counting.reads() > 4, "{}: {} reads", image.name, counting.reads());
    for (read, fault) in (0..counting.reads()).flat_map(|n| faults.iter().map(move |f| (n, *f))) {
        let memory = FaultyMemory::new(&image.memory, []).failing_after(read, fault);
        let told = tell(&memory);
        assert_eq!(memory.unreached(), 0, "{}: read {read} was not reached", image.name);
        check(told, fault, &format!("{}, read {read} {fault:?}", image.name));
    }
}

/// Looks at each thread while its reads fail, and holds all that is then told against the truth.
fn looks_agree(case: &str, faults: &[Fault]) {
    for image in one_of_each(case) {
        let located = located(&image);
        let python = located.view(&image.memory);
        let names = thread_names(&python).unwrap();
        for thread in threads(&python).unwrap() {
            let look = |memory: &dyn RemoteMemory| {
                let mut codes = CodeCache::default();
                look_at(&located.view(memory), &mut codes, &thread, &image.known, &names)
            };
            let truth = [look(&image.memory)];
            each_read_fails(&image, faults, look, |told, fault, context| {
                assert_agrees(&truth, &[told], fault, context);
            });
        }
    }
}

#[test]
fn every_read_of_a_look_fails() {
    looks_agree("request", &[UNMAPPED, Fault::Short, GONE]);
    looks_agree("callback", &[UNMAPPED, Fault::Short, DENIED]);
    looks_agree("idle", &[UNMAPPED, Fault::Short, DENIED]);
}

#[test]
fn every_read_of_the_threads_and_their_names_fails() {
    for image in one_of_each("request") {
        let located = located(&image);
        let list = |memory: &dyn RemoteMemory| threads(&located.view(memory));
        let truth = list(&image.memory).unwrap();
        each_read_fails(
            &image,
            &[UNMAPPED, Fault::Short, GONE, DENIED],
            list,
            |told, _, context| {
                // The list is cut where it cannot be read; nobody is made up, and nobody changed.
                let told = told.unwrap_or_default();
                assert!(truth.starts_with(&told), "{context}: {told:?}");
            },
        );
        let names = |memory: &dyn RemoteMemory| thread_names(&located.view(memory));
        let truth = names(&image.memory).unwrap();
        each_read_fails(
            &image,
            &[UNMAPPED, Fault::Short, GONE, DENIED],
            names,
            |told, _, context| {
                for (ident, name) in told.unwrap_or_default() {
                    assert_eq!(truth.get(&ident), Some(&name), "{context}");
                }
            },
        );
    }
}

/// Notes where reads begin.
#[derive(Debug)]
struct Noting<'a>(&'a dyn RemoteMemory, RefCell<BTreeSet<Addr>>);

impl RemoteMemory for Noting<'_> {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.1.borrow_mut().insert(addr);
        self.0.read(addr, buf)
    }
}

#[test]
fn every_place_that_is_read_is_missing() {
    for image in one_of_each("callback") {
        let located = located(&image);
        let noting = Noting(&image.memory, RefCell::default());
        let truth = look_around(&noting, &located, &image.known).unwrap();
        let places = noting.1.into_inner();
        assert!(places.len() > 100);
        for place in places {
            let memory = FaultyMemory::new(&image.memory, [place]);
            let told = look_around(&memory, &located, &image.known);
            assert!(memory.hits(place) > 0, "{}: {place} was not reached", image.name);
            let Ok(told) = told else { continue };
            assert_agrees(&truth, &told, UNMAPPED, &format!("{}, {place} missing", image.name));
        }
    }
}

#[test]
fn an_interpreter_is_found_whole_or_not_at_all() {
    for image in one_of_each("idle") {
        let counting = FaultyMemory::new(&image.memory, []);
        let truth = locate_at(&counting, image.known.runtime).unwrap();
        for read in 0..counting.reads() {
            for fault in [UNMAPPED, Fault::Short, GONE, DENIED, Fault::Torn(0), Fault::Torn(0xdd)] {
                let memory = FaultyMemory::new(&image.memory, []).failing_after(read, fault);
                let found = locate_at(&memory, image.known.runtime);
                assert_eq!(memory.unreached(), 0);
                let Ok(found) = found else { continue };
                let context = format!("{}, read {read} {fault:?}", image.name);
                assert_eq!(
                    (found.layout, &found.version),
                    (truth.layout, &truth.version),
                    "{context}"
                );
            }
        }
        let gone = FaultyMemory::new(&image.memory, []).failing_after(0, GONE);
        assert!(scan(&gone, image.known.runtime, 1024).is_err(), "an ended process is no Python?");
    }
}

/// A frame chain of which one read fails or is of another moment: refused, cut with a mark, or the
/// truth.
#[test]
fn no_spoilt_read_makes_a_stack() {
    for image in one_of_each("request") {
        let located = located(&image);
        let python = located.view(&image.memory);
        let truth = look_around(&image.memory, &located, &image.known).unwrap();
        for (thread, truth) in threads(&python).unwrap().iter().zip(&truth) {
            let mut read = 0;
            loop {
                let mut reached = false;
                let torn = [0, 0xdd, 0xff, 1].map(Fault::Torn);
                for fault in torn.into_iter().chain([UNMAPPED, Fault::Short]) {
                    let memory = FaultyMemory::new(&image.memory, []).failing_after(read, fault);
                    let mut walker = Walker::default();
                    let python = located.view(&memory);
                    let walks = [walker.walk(&python, thread), walker.walk(&python, thread)];
                    reached |= memory.unreached() == 0;
                    let context = format!("{}, read {read} {fault:?}", image.name);
                    for raw in walks.into_iter().flatten() {
                        let python = located.view(&image.memory);
                        let mut codes = CodeCache::default();
                        let told = survey::stack(&python, &mut codes, &raw, image.known.now);
                        assert_stack_agrees(truth.stack.as_ref().unwrap(), &told, &context);
                    }
                }
                if !reached {
                    break;
                }
                read += 1;
            }
            assert!(read > 10, "{}: {read} reads", image.name);
        }
    }
}
