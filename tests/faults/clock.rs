//! A loop's clock that goes on while it is looked at: a look is believed only if the clock shows
//! the same before and after, and then all of it is of one moment.

use stallspy::event_loop::asyncio::Asyncio;
use stallspy::event_loop::{Clock, Reading, Running};
use stallspy::model::CallbackRun;
use stallspy::python::Interpreter;
use stallspy::python::code_objects::CodeCache;
use stallspy::python::frames::{RawStack, Walker, local};
use stallspy::python::threads::Thread;
use stallspy::target::RemoteMemoryExt;
use stallspy::units::{Addr, Timestamp};

use crate::images::Image;
use crate::moments::{Changing, functions, main_thread, with};
use crate::survey::Nowhere;
use crate::{located, one_of_each};

/// What a closer look tells, as `sampler` takes it: believed only if the clock shows the same
/// before and after.
fn closer_look(
    python: &Interpreter<'_>,
    clock: &mut dyn Clock,
    thread: &Thread,
    now: Timestamp,
) -> Option<Told> {
    let nowhere = Nowhere::default();
    let view = nowhere.view(python, thread, now);
    let Ok(Reading::Running(running)) = clock.look(&view) else { return None };
    let stack = Walker::default().walk(python, thread).ok()?;
    let callback = clock.callback(&view, &running);
    let task = clock.task(&view, &running).task;
    let again = clock.look(&view);
    (again == Ok(Reading::Running(running)) && clock.is_on(&stack)).then_some(Told {
        running,
        callback,
        task,
        functions: functions(&stack),
    })
}

/// The loop of the standard library on this stack.
fn find(
    python: &Interpreter<'_>,
    thread: &Thread,
    stack: &RawStack,
    now: Timestamp,
) -> Box<dyn Clock> {
    let mut codes = CodeCache::default();
    let found = Nowhere::default().find(&Asyncio, python, &mut codes, thread, stack, now);
    found.unwrap().unwrap()
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
        let clock = || find(&python, &thread, &stack, now);
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

/// A float that was freed and used again holds any number: another time of day, a timeout.
#[test]
fn a_clock_never_goes_back_nor_ahead() {
    for image in one_of_each("request") {
        let (located, now) = (located(&image), image.known.now);
        let python = located.view(&image.memory);
        let thread = main_thread(&python);
        let stack = Walker::default().walk(&python, &thread).unwrap();
        let find = || find(&python, &thread, &stack, now);
        let float = loop_slot(&image, &python, &stack, "end_time");
        let float = python.untag(python.memory.read_pointer(float).unwrap());
        let value = float.at(python.layout.offsets.object.float_value);
        let seconds = f64::from_bits(python.memory.read_u64(value).unwrap());
        let reading = |clock: &mut dyn Clock, seconds: f64| {
            let memory = with(&image.memory, &[(value, seconds.to_bits())]);
            let nowhere = Nowhere::default();
            clock.look(&nowhere.view(&located.view(&memory), &thread, now)).unwrap()
        };
        let is_running = |reading| matches!(reading, Reading::Running(_));
        // The first one seen may be up to an hour old, ...
        assert!(is_running(reading(find().as_mut(), seconds - 60.0)), "{}", image.name);
        for garbage in [seconds - 4000.0, seconds + 3600.0, 0.0099, -1.0, 1.7e9, f64::NAN] {
            assert_eq!(reading(find().as_mut(), garbage), Reading::Torn, "{garbage}");
        }
        // ... and none is older than one already seen.
        let mut clock = find();
        assert!(is_running(reading(clock.as_mut(), seconds)), "{}", image.name);
        assert_eq!(reading(clock.as_mut(), seconds - 0.001), Reading::Torn, "{}", image.name);
        assert!(is_running(reading(clock.as_mut(), seconds)), "{}", image.name);
    }
}

#[test]
fn the_loops_own_frame_is_the_one_on_the_stack() {
    for image in one_of_each("idle") {
        let located = located(&image);
        let python = located.view(&image.memory);
        let thread = main_thread(&python);
        let mut stack = Walker::default().walk(&python, &thread).unwrap();
        let clock = find(&python, &thread, &stack, image.known.now);
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
