//! Which side of a fork of `multiprocessing`'s a process is on.
//!
//! A forked child has its master's frames below its own, so that those alone say nothing of who it is: in
//! between are `multiprocessing`'s, `_launch`, which forks, and `_bootstrap`, with which a child begins
//! (<https://github.com/python/cpython/blob/v3.12.1/Lib/multiprocessing/popen_fork.py#L62>).

use super::facts::{Facts, Place};

const LAUNCH: (&str, &str) = ("/multiprocessing/popen_fork.py", "_launch");
const CHILD: (&str, &str) = ("/multiprocessing/process.py", "_bootstrap");

/// What a process is to a function of its server's that forks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Side<'a> {
    /// It runs the function, here.
    Parent(&'a Place),
    /// It forks, or is what was forked just now.
    Either(&'a Place),
    /// It was forked by it.
    Child,
}

/// The side that the process is on, by the first stack that has the function in it; `None` if none has.
pub(super) fn side<'a>(
    facts: &Facts<'a>,
    is_function: impl Fn(&Place) -> bool,
) -> Option<Side<'a>> {
    facts.stacks.iter().find_map(|stack| {
        let at = stack.iter().position(&is_function)?;
        let (above, place) = (stack.get(..at)?, stack.get(at)?);
        let met = |(file, function)| above.iter().any(|place| place.is(file, function));
        Some(if met(CHILD) {
            Side::Child
        } else if met(LAUNCH) {
            Side::Either(place)
        } else {
            Side::Parent(place)
        })
    })
}

/// Whether the process is a child of `multiprocessing`'s, forked or spawned.
pub(super) fn is_child(facts: &Facts<'_>) -> bool {
    facts.frame(CHILD.0, CHILD.1).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    #[test]
    fn by_what_is_above_the_function_that_forks() {
        let ask = |stack: &[&str]| {
            with("python x.py", "", stack, |facts| match side(facts, |at| at.function == "serve") {
                None => "none",
                Some(Side::Parent(_)) => "parent",
                Some(Side::Either(_)) => "either",
                Some(Side::Child) => "child",
            })
        };
        let (launch, child) = (
            "../multiprocessing/popen_fork.py:_launch",
            "../multiprocessing/process.py:_bootstrap",
        );
        assert_eq!(ask(&["../x.py:wait", "../x.py:serve"]), "parent");
        assert_eq!(ask(&[launch, "../x.py:serve"]), "either");
        assert_eq!(ask(&["../x.py:<module>", child, launch, "../x.py:serve"]), "child");
        // A server may itself be somebody's child.
        assert_eq!(ask(&["../x.py:serve", child, launch, "../y.py:main"]), "parent");
        assert_eq!(ask(&[child, launch, "../y.py:main"]), "none");
    }
}
