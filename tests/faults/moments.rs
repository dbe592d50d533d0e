//! Memory that changes once while it is read, as a running process's does: what is told must be of
//! one moment or the other, or refused. A mixture of both never was.

use std::cell::Cell;

use stallspy::event_loop::{Clock, PROBES, Reading, Running};
use stallspy::model::CallbackRun;
use stallspy::python::Interpreter;
use stallspy::python::code_objects::CodeCache;
use stallspy::python::frames::{RawStack, Walker, local};
use stallspy::python::threads::{Thread, threads};
use stallspy::target::{ImageMemory, ReadError, RemoteMemory, RemoteMemoryExt};
use stallspy::units::{Addr, Timestamp};

use crate::images::Image;
use crate::{located, one_of_each};

/// Reads as one memory, and after so many reads as another.
#[derive(Debug)]
struct Changing<'a> {
    before: &'a ImageMemory,
    after: &'a ImageMemory,
    change: u64,
    reads: Cell<u64>,
}

impl<'a> Changing<'a> {
    fn new(before: &'a ImageMemory, after: &'a ImageMemory, change: u64) -> Changing<'a> {
        Changing { before, after, change, reads: Cell::new(0) }
    }

    /// Whether there was anything left to read after the change.
    fn has_changed(&self) -> bool {
        self.reads.get() > self.change
    }
}

impl RemoteMemory for Changing<'_> {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        let now = if self.reads.get() < self.change { self.before } else { self.after };
        self.reads.set(self.reads.get() + 1);
        now.read(addr, buf)
    }
}

fn with(image: &ImageMemory, words: &[(Addr, u64)]) -> ImageMemory {
    let mut changed = image.clone();
    for (addr, word) in words {
        changed.insert(*addr, &word.to_le_bytes());
    }
    changed
}

/// The thread that runs the loop: the first there was, which CPython lists last.
fn main_thread(python: &Interpreter<'_>) -> Thread {
    *threads(python).unwrap().last().unwrap()
}

fn functions(stack: &RawStack) -> Vec<(Addr, Addr)> {
    stack.frames.iter().map(|frame| (frame.addr, frame.code)).collect()
}

/// What a moment before may have looked like: frames of the same chain, linked or running something
/// else.
fn other_moments(python: &Interpreter<'_>, stack: &RawStack) -> Vec<Vec<(Addr, u64)>> {
    let offsets = &python.layout.offsets.frame;
    let frames = &stack.frames;
    let word = |addr| python.memory.read_u64(addr).unwrap();
    let code = |index: usize| frames[index].addr.at(offsets.code);
    let link = |index: usize| frames[index].addr.at(offsets.previous);
    let mut moments = Vec::new();
    for index in 0..frames.len() - 3 {
        // A generator, suspended: it has no caller then.
        moments.push(vec![(link(index), 0)]);
        // Another function's frame in the same place, and two such.
        let other = (code(index), word(code(index + 1)));
        moments.push(vec![other]);
        moments.push(vec![other, (code(index + 2), word(code(index)))]);
        // Called by the caller's caller.
        moments.push(vec![(link(index), word(link(index + 1)))]);
    }
    moments
}

#[test]
fn a_stack_is_of_one_moment() {
    for image in one_of_each("request") {
        let located = located(&image);
        let python = located.view(&image.memory);
        let thread = main_thread(&python);
        let now = Walker::default().walk(&python, &thread).unwrap();
        let mut seen = 0;
        for words in other_moments(&python, &now) {
            let other = with(&image.memory, &words);
            let then = Walker::default().walk(&located.view(&other), &thread).unwrap();
            for (before, after) in [(&other, &image.memory), (&image.memory, &other)] {
                for change in 0.. {
                    let memory = Changing::new(before, after, change);
                    let python = located.view(&memory);
                    let mut walker = Walker::default();
                    for _ in 0..2 {
                        let Ok(told) = walker.walk(&python, &thread) else { continue };
                        let told = functions(&told);
                        let known = told == functions(&now) || told == functions(&then);
                        assert!(known, "{}: {words:?} changed at read {change}", image.name);
                        seen += 1;
                    }
                    if !memory.has_changed() {
                        break;
                    }
                }
            }
        }
        assert!(seen > 1000, "{}: {seen} stacks were seen at all", image.name);
    }
}

/// What a closer look tells, as `sampler` takes it: believed only if the clock shows the same
/// before and after.
fn closer_look(
    python: &Interpreter<'_>,
    clock: &mut dyn Clock,
    thread: &Thread,
    now: Timestamp,
) -> Option<Told> {
    let Ok(Reading::Running(running)) = clock.look(python, now) else { return None };
    let stack = Walker::default().walk(python, thread).ok()?;
    let callback = clock.callback(python, &running);
    let task = clock.task(python, &running).task;
    let again = clock.look(python, now);
    (again == Ok(Reading::Running(running)) && clock.is_on(&stack)).then_some(Told {
        running,
        callback,
        task,
        functions: functions(&stack),
    })
}

#[derive(Debug, PartialEq)]
struct Told {
    running: Running,
    callback: Option<CallbackRun>,
    task: Option<String>,
    functions: Vec<(Addr, Addr)>,
}

/// Slots of the loop's own variables, by name, and its frame.
fn loop_slot(image: &Image, python: &Interpreter<'_>, stack: &RawStack, name: &str) -> Addr {
    let mut codes = CodeCache::default();
    for frame in &stack.frames {
        let code = codes.get(python, frame.code, image.known.now).unwrap();
        if code.name == "_run_once" {
            let slot = code.local_index(name).unwrap() as u64;
            return frame.addr.at(python.layout.offsets.frame.localsplus).at(slot * 8);
        }
    }
    panic!("{}: no loop", image.name)
}

/// What the loop's variables may have been a moment earlier: each is another iteration or callback.
fn earlier(image: &Image, python: &Interpreter<'_>, stack: &RawStack) -> Vec<Vec<(Addr, u64)>> {
    /// Where nothing is recorded: a float of an earlier iteration goes here.
    const ELSEWHERE: Addr = Addr(0x10_0000);
    let slot = |name: &str| loop_slot(image, python, stack, name);
    let word = |addr| python.memory.read_u64(addr).unwrap();
    let (end_time, index, handle) = (slot("end_time"), slot("i"), slot("handle"));
    let float = python.untag(Addr(word(end_time)));
    let objects = &python.layout.offsets.object;
    let (kind, value) = (objects.ob_type, objects.float_value);
    let seconds = f64::from_bits(word(float.at(value)));
    let before = (seconds - 0.05).to_bits();
    let moved = [(ELSEWHERE.at(kind), word(float.at(kind))), (ELSEWHERE.at(value), before)];
    let other_index = word(slot("ntodo"));
    vec![
        vec![(end_time, 0)],
        vec![(float.at(value), before)],
        vec![(end_time, ELSEWHERE.0), moved[0], moved[1]],
        vec![(index, other_index)],
        vec![(handle, word(slot("self")))],
        vec![(end_time, ELSEWHERE.0), moved[0], moved[1], (index, other_index)],
        vec![(float.at(kind), word(float.at(kind)) + 8)],
    ]
}

#[test]
fn no_look_at_a_clock_that_went_on_is_believed() {
    for image in one_of_each("request") {
        let (located, now) = (located(&image), image.known.now);
        let python = located.view(&image.memory);
        let thread = main_thread(&python);
        let stack = Walker::default().walk(&python, &thread).unwrap();
        let clock = || {
            let mut codes = CodeCache::default();
            PROBES[0].find(&python, &mut codes, &stack, now).unwrap().unwrap()
        };
        let after = closer_look(&python, clock().as_mut(), &thread, now).unwrap();
        assert_eq!(after.task.as_deref(), Some("request-17"));
        for words in earlier(&image, &python, &stack) {
            let other = with(&image.memory, &words);
            let before = closer_look(&located.view(&other), clock().as_mut(), &thread, now);
            assert_ne!(before.as_ref(), Some(&after), "{}: {words:?} is no change", image.name);
            let mut refused = 0;
            for change in 1.. {
                let memory = Changing::new(&other, &image.memory, change);
                let told = closer_look(&located.view(&memory), clock().as_mut(), &thread, now);
                if !memory.has_changed() {
                    break;
                }
                let Some(told) = told else {
                    refused += 1;
                    continue;
                };
                // All that differs was read before the change, or all after it.
                let known = told == after || before.as_ref() == Some(&told);
                assert!(known, "{}: {words:?} at read {change}: {told:?}", image.name);
            }
            // It is read before the stack and after it, so wherever between it changes.
            assert!(refused > 10 || before.is_none(), "{}: {words:?}: {refused}", image.name);
        }
    }
}

#[test]
fn the_loops_own_frame_is_the_one_on_the_stack() {
    for image in one_of_each("idle") {
        let located = located(&image);
        let python = located.view(&image.memory);
        let mut stack = Walker::default().walk(&python, &main_thread(&python)).unwrap();
        let mut codes = CodeCache::default();
        let clock = PROBES[0].find(&python, &mut codes, &stack, image.known.now).unwrap().unwrap();
        assert!(clock.is_on(&stack));
        let loops_self = loop_slot(&image, &python, &stack, "self");
        assert_eq!(
            python.memory.read_pointer(loops_self).map(|r| python.untag(r)),
            Ok(clock.loop_object())
        );
        assert!(
            stack
                .frames
                .iter()
                .any(|frame| local(&python, frame.addr, 0) == Ok(clock.loop_object()))
        );
        // What an ended loop leaves behind is in memory, but not on the stack.
        stack.frames.drain(..3);
        assert!(!clock.is_on(&stack));
    }
}
