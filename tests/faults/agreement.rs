//! When what is told under a fault agrees with the truth: it may be less, and must not differ.

use stallspy::event_loop::Reading;
use stallspy::target::{Fault, ReadError};

use crate::survey::{SeenFrame, SeenLoop, SeenStack, SeenThread};

/// Panics where something is told that is not so.
pub fn assert_agrees(truth: &[SeenThread], told: &[SeenThread], fault: Fault, context: &str) {
    for thread in told {
        let same = truth.iter().find(|known| known.state == thread.state);
        let truth = same.unwrap_or_else(|| panic!("{context}: a thread of no one"));
        assert_less(&truth.name, &thread.name, context);
        assert_less(&truth.tid, &thread.tid, context);
        match (&truth.stack, &thread.stack) {
            (Ok(truth), Ok(told)) => assert_stack_agrees(truth, told, context),
            (_, Err(error)) => assert_cause(*error, fault, context),
            (Err(error), _) => panic!("the truth is {error}"),
        }
        match (&truth.runs, &thread.runs) {
            (Ok(Some(truth)), Ok(Some(told))) => assert_loop_agrees(truth, told, fault, context),
            (Ok(None), Ok(None)) => {}
            (Ok(Some(_)), Ok(None)) => assert!(is_cut(&thread.stack), "{context}: no loop here?"),
            (_, Err(error)) => assert_cause(*error, fault, context),
            (truth, told) => panic!("{context}: {told:?} instead of {truth:?}"),
        }
    }
}

/// A stack is whole and true, or says where it is not.
pub fn assert_stack_agrees(truth: &SeenStack, told: &SeenStack, context: &str) {
    if told.truncated.is_none() {
        assert_eq!(truth.frames.len(), told.frames.len(), "{context}: frames are missing");
    }
    assert!(told.frames.len() <= truth.frames.len(), "{context}: more frames than there are");
    for (truth, told) in truth.frames.iter().zip(&told.frames) {
        assert_frame_agrees(truth, told, context);
    }
}

fn assert_frame_agrees(truth: &SeenFrame, told: &SeenFrame, context: &str) {
    let Ok(place) = &told.place else { return };
    assert_eq!(Ok(place), truth.place.as_ref(), "{context}");
    for ((name, value), (told_name, told)) in truth.locals.iter().zip(&told.locals) {
        assert_eq!(name, told_name, "{context}");
        // Items that could not be read are marked.
        if !told.as_ref().is_some_and(|told| told.contains("<?>")) {
            assert_less(value, told, context);
        }
    }
}

fn assert_loop_agrees(truth: &SeenLoop, told: &SeenLoop, fault: Fault, context: &str) {
    match told.reading {
        Ok(Reading::Moving | Reading::Torn) => {}
        Ok(_) => assert_eq!(told.reading, truth.reading, "{context}"),
        // A clock gives up only when all is over.
        Err(error) => assert_eq!(Fault::Fails(error), fault, "{context}"),
    }
    assert_less(&truth.callback, &told.callback, context);
    assert_less(&truth.waiting, &told.waiting, context);
    assert_less(&truth.task.task, &told.task.task, context);
    assert_less(&truth.task.coroutine, &told.task.coroutine, context);
    assert_less(&truth.endpoint, &told.endpoint, context);
}

/// Nothing, or the truth.
fn assert_less<T: PartialEq + std::fmt::Debug>(truth: &Option<T>, told: &Option<T>, context: &str) {
    assert!(told.is_none() || told == truth, "{context}: {told:?} instead of {truth:?}");
}

/// An error of the fault's kind, or that something is not what it must be.
fn assert_cause(error: ReadError, fault: Fault, context: &str) {
    let is_its_own = match error {
        ReadError::Gone | ReadError::Denied => Fault::Fails(error) == fault,
        _ => true,
    };
    assert!(is_its_own, "{context}: {error}");
}

/// Whether a stack says that it is not whole.
fn is_cut(stack: &Result<SeenStack, ReadError>) -> bool {
    match stack {
        Ok(stack) => stack.truncated.is_some() || stack.frames.iter().any(|f| f.place.is_err()),
        Err(_) => true,
    }
}
