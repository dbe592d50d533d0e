//! Python and C frames of one thread put together, in the order of the calls.
//!
//! Pure: takes both stacks, leaf first, gives one. Where Python code is run, CPython has a C
//! function, `_PyEval_EvalFrameDefault`, and that is where the two meet. Up to 3.10 it runs one
//! Python frame at a time. From 3.11 on it goes on by itself when Python calls Python, so that one
//! C frame stands for all Python frames up to the one it was entered for (InternalDocs/frames.md);
//! those are told from the others by [`is_entry`](crate::python::frames::RawFrame::is_entry), which
//! is true of every frame up to 3.10. So one rule serves all versions: a C frame that runs Python
//! stands for the Python frames up to and with the next one that is an entry.
//!
//! C frames that only run or call Python are left out: the Python frames are in their place. So are
//! those of the interpreter that have no name, but for the leaf: most of them do nothing else.

use super::role::Role;

/// A frame of a merged stack: a place in one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// A C frame, by its place.
    Native(usize),
    /// A Python frame, by its place.
    Python(usize),
}

/// What the innermost Python frame is doing: how many C frames from the leaf on it has called. Where
/// the interpreter's main function has no name (stripped) this ends at the first frame in its file
/// that may be it.
#[must_use]
pub fn leaf(native: &[Role]) -> usize {
    let runs = |role: &Role| matches!(role, Role::Eval | Role::Handler);
    let inside = |role: &Role| matches!(role, Role::Nameless | Role::Plumbing);
    let end = native.iter().position(runs).or_else(|| native.iter().position(inside));
    end.unwrap_or(native.len())
}

/// The merged stack, leaf first. `entries` says of each Python frame whether C entered the
/// interpreter with it. `is_whole` says that the C stack reaches its root.
///
/// Where the two stacks do not fit together (the interpreter is stripped, or one of them is of a
/// sort we do not know), what the leaf does is put before the Python frames, and that is all.
#[must_use]
pub fn merge(native: &[Role], entries: &[bool], is_whole: bool) -> Vec<Piece> {
    let evals = runs_of_evals(native);
    let entered = entries.iter().filter(|entry| **entry).count();
    let fits = if is_whole { evals == entered } else { evals <= entered };
    let mut merged = Vec::with_capacity(native.len().saturating_add(entries.len()));
    if !fits || evals == 0 {
        let called = native.iter().take(leaf(native)).enumerate();
        merged.extend(
            called.filter(|(at, role)| is_shown(*at, **role)).map(|(at, _)| Piece::Native(at)),
        );
        merged.extend((0..entries.len()).map(Piece::Python));
        return merged;
    }
    let mut python = entries.iter().enumerate();
    for (at, role) in native.iter().enumerate() {
        if ends_eval(native, at) {
            for (place, is_entry) in python.by_ref() {
                merged.push(Piece::Python(place));
                if *is_entry {
                    break;
                }
            }
        } else if is_shown(at, *role) {
            merged.push(Piece::Native(at));
        }
    }
    merged.extend(python.map(|(place, _)| Piece::Python(place)));
    merged
}

/// Whether the frame at this place says something.
#[must_use]
pub fn is_shown(at: usize, role: Role) -> bool {
    match role {
        Role::Foreign | Role::Interpreter => true,
        Role::Nameless => at == 0,
        Role::Eval | Role::Handler | Role::Plumbing => false,
    }
}

/// How many times the interpreter was entered.
fn runs_of_evals(native: &[Role]) -> usize {
    (0..native.len()).filter(|at| ends_eval(native, *at)).count()
}

/// Whether the frame is the one that stands for Python frames: of an instruction and the function
/// that began running instructions below it, the latter.
fn ends_eval(native: &[Role], at: usize) -> bool {
    let below = at.checked_add(1).and_then(|next| native.get(next));
    match native.get(at) {
        Some(Role::Eval) => true,
        Some(Role::Handler) => !matches!(below, Some(Role::Eval | Role::Handler)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Role::{Eval, Foreign, Handler, Interpreter, Nameless, Plumbing};

    /// A merged stack as text: `c0` is a C frame, `p0` a Python frame.
    fn merged(native: &[Role], entries: &[bool], is_whole: bool) -> String {
        let pieces = merge(native, entries, is_whole);
        let text = pieces.iter().map(|piece| match piece {
            Piece::Native(at) => format!("c{at}"),
            Piece::Python(at) => format!("p{at}"),
        });
        text.collect::<Vec<_>>().join(" ")
    }

    /// `clock_nanosleep`, `time_sleep`, `cfunction_vectorcall_O`
    const SLEEP: [Role; 3] = [Foreign, Interpreter, Plumbing];

    #[test]
    fn up_to_3_10_every_python_frame_has_its_c_frame() {
        let native =
            [&SLEEP[..], &[Eval, Plumbing, Eval, Plumbing, Eval, Plumbing, Foreign]].concat();
        assert_eq!(merged(&native, &[true; 3], true), "c0 c1 p0 p1 p2 c9");
    }

    #[test]
    fn from_3_11_on_one_c_frame_runs_all_up_to_the_entry() {
        let native = [&SLEEP[..], &[Eval, Plumbing, Foreign]].concat();
        assert_eq!(merged(&native, &[false, false, true], true), "c0 c1 p0 p1 p2 c5");
    }

    #[test]
    fn c_that_calls_python_again_lies_between() {
        // sort(key=f): f runs in an interpreter of its own, entered by list_sort
        let native = [Foreign, Eval, Plumbing, Interpreter, Plumbing, Eval, Plumbing];
        assert_eq!(merged(&native, &[true, false, true], true), "c0 p0 c3 p1 p2");
        // the same on 3.10
        assert_eq!(merged(&native, &[true, true], true), "c0 p0 c3 p1");
    }

    #[test]
    fn an_interpreter_of_tail_calls_is_one_with_its_instruction() {
        let native = [&SLEEP[..], &[Handler, Eval, Plumbing]].concat();
        assert_eq!(merged(&native, &[false, true], true), "c0 c1 p0 p1");
        // where the beginning was a tail call, too
        let native = [&SLEEP[..], &[Handler, Plumbing]].concat();
        assert_eq!(merged(&native, &[false, true], true), "c0 c1 p0 p1");
    }

    #[test]
    fn a_stripped_interpreter_still_shows_what_the_leaf_does() {
        let native = [Foreign, Foreign, Interpreter, Nameless, Nameless, Foreign];
        assert_eq!(leaf(&native), 3);
        assert_eq!(merged(&native, &[false, true], true), "c0 c1 c2 p0 p1");
    }

    #[test]
    fn stacks_that_do_not_fit_are_not_forced() {
        // a Python stack that was cut: more C frames than entries
        let native = [Foreign, Eval, Eval];
        assert_eq!(merged(&native, &[true], true), "c0 p0");
        // a C stack that was cut: the rest of the Python frames follows
        assert_eq!(merged(&native, &[true, true, true, true], false), "c0 p0 p1 p2 p3");
        assert_eq!(merged(&native, &[true, true, true, true], true), "c0 p0 p1 p2 p3");
        // a thread in the midst of nothing
        assert_eq!(merged(&[Foreign, Foreign], &[], true), "c0 c1");
        assert_eq!(merged(&[], &[true], true), "p0");
    }

    proptest! {
        #[test]
        fn nothing_is_doubled_and_the_order_stays(
            native in prop::collection::vec(0..6_u8, 0..30),
            entries in prop::collection::vec(any::<bool>(), 0..30),
            is_whole: bool,
        ) {
            let roles = [Eval, Handler, Plumbing, Interpreter, Nameless, Foreign];
            let native: Vec<Role> = native.iter().map(|role| roles[usize::from(*role)]).collect();
            let pieces = merge(&native, &entries, is_whole);
            let python: Vec<usize> = pieces.iter().filter_map(|piece| match piece {
                Piece::Python(at) => Some(*at),
                Piece::Native(_) => None,
            }).collect();
            prop_assert_eq!(python, (0..entries.len()).collect::<Vec<_>>());
            let shown: Vec<usize> = pieces.iter().filter_map(|piece| match piece {
                Piece::Native(at) => Some(*at),
                Piece::Python(_) => None,
            }).collect();
            prop_assert!(shown.is_sorted_by(|a, b| a < b));
        }
    }
}
