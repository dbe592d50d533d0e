//! Who held the interpreter lock while the loop waited for it.
//!
//! Takes weighed looks, gives the line and thread of the holder that took the largest share of them,
//! by the rule that finds any culprit ([`Winner::among`]). Where no line of the application held the
//! lock, a library's line still names the thread, which nobody would find otherwise.

use super::application::Site;
use super::culprit::{Winner, heaviest};
use super::weight::Weighed;
use crate::model::{GilHolder, StackId, Tables, ThreadLook};
use crate::units::{Nanos, Tid};

/// The holder with the largest share of a stall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its line, and all that its looks tell.
    pub line: Winner,
    /// The thread that held the lock there the longest.
    pub tid: Tid,
}

impl Holder {
    /// The holder with the most weight; `None` if no look tells of one.
    pub fn among(
        tables: &Tables,
        looks: &[Weighed<'_>],
        threshold: Nanos,
        mut blame: impl FnMut(StackId) -> Option<Site>,
    ) -> Option<Holder> {
        let held: Vec<(GilHolder, ThreadLook, Nanos)> = looks
            .iter()
            .filter_map(|seen| {
                let holder = seen.look.holder?;
                Some((holder, as_look(holder), seen.weight))
            })
            .collect();
        let weighed: Vec<Weighed<'_>> =
            held.iter().map(|(_, look, weight)| Weighed { look, weight: *weight }).collect();
        let line = Winner::among(tables, &weighed, threshold, &mut blame)?;
        let own = held.iter().filter(|(holder, _, _)| {
            blame(holder.stack).is_some_and(|site| site.culprit == line.site.culprit)
        });
        let tid = heaviest(own.map(|(holder, _, weight)| (holder.tid, *weight)))?;
        Some(Holder { line, tid })
    }
}

/// What would have been seen had the holder's thread been looked at.
fn as_look(holder: GilHolder) -> ThreadLook {
    ThreadLook { native: holder.native, ..ThreadLook::bare(holder.stack, holder.cpu) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CpuState, Frame, FrameKind, Stack};

    const STDLIB: &str = "/usr/lib/python3.12";

    /// The stacks of three threads' code: two lines of the application, and a library's thread.
    fn tables() -> Tables {
        let mut tables = Tables::default();
        let mut stack = |places: &[(&str, u32)]| {
            let frames = places.iter().map(|(file, line)| {
                let (function, file) = (tables.name("f"), Some(tables.name(file)));
                let kind = FrameKind::Python;
                tables.frame(Frame { kind, function, file, line: Some(*line), module: None })
            });
            let frames = frames.collect();
            tables.stack(Stack { frames, truncated: None });
        };
        stack(&[("/srv/app/report.py", 31), ("/usr/lib/python3.12/threading.py", 1)]);
        stack(&[("/usr/lib/python3.12/json/encoder.py", 5), ("/srv/app/report.py", 40)]);
        stack(&[("/usr/lib/python3.12/site-packages/prometheus_client/send.py", 8)]);
        tables
    }

    fn look(holder: Option<(i32, u32)>) -> ThreadLook {
        let cpu = CpuState::Running;
        let holder = holder.map(|(tid, stack)| GilHolder {
            tid: Tid(tid),
            stack: StackId(stack),
            native: None,
            cpu,
        });
        let none = GilHolder { tid: Tid(0), stack: StackId(9), native: None, cpu };
        ThreadLook { holder, ..as_look(none) }
    }

    /// Who holds the lock in looks at `(thread, stack)` for so many milliseconds each: the line, the
    /// thread, and for how long.
    fn blamed(looks: &[(Option<(i32, u32)>, u64)]) -> Option<(u32, i32, u64)> {
        let tables = tables();
        let looks: Vec<(ThreadLook, u64)> =
            looks.iter().map(|(one, ms)| (look(*one), *ms)).collect();
        let looks: Vec<Weighed<'_>> = looks
            .iter()
            .map(|(look, ms)| Weighed { look, weight: Nanos::from_millis(*ms) })
            .collect();
        let site = |stack| super::super::application::site(&tables, Some(STDLIB), stack);
        let found = Holder::among(&tables, &looks, Nanos::from_millis(10), site)?;
        let line = tables.get_frame(found.line.site.culprit)?.line?;
        Some((line, found.tid.0, found.line.weight.0 / 1_000_000))
    }

    #[test]
    fn the_line_that_held_it_longest() {
        let looks = [(Some((7, 0)), 20), (None, 50), (Some((7, 1)), 15), (Some((7, 0)), 5)];
        assert_eq!(blamed(&looks), Some((31, 7, 25)));
        assert_eq!(blamed(&[(None, 50)]), None);
        assert_eq!(blamed(&[]), None);
    }

    #[test]
    fn threads_that_take_turns_at_one_line_are_one_culprit() {
        let looks = [(Some((7, 0)), 10), (Some((8, 0)), 12), (Some((9, 1)), 15)];
        assert_eq!(blamed(&looks), Some((31, 8, 22)));
    }

    #[test]
    fn a_library_that_holds_it_alone_is_named() {
        assert_eq!(blamed(&[(Some((9, 2)), 30)]), Some((8, 9, 30)));
        // The application's line goes first if it held the lock long enough for a stall of its own.
        assert_eq!(blamed(&[(Some((9, 2)), 30), (Some((7, 1)), 12)]), Some((40, 7, 12)));
        assert_eq!(blamed(&[(Some((9, 2)), 30), (Some((7, 1)), 8)]), Some((8, 9, 30)));
    }

    #[test]
    fn a_stack_that_is_not_there_blames_nobody() {
        assert_eq!(blamed(&[(Some((9, 77)), 30)]), None);
    }
}
