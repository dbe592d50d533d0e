//! How the time of one stall is shared among the lines of the application that took part in it.
//!
//! Takes the states of a stall and a way to blame one stack, gives for each line the time its looks stand
//! for and how many calls that was: one iteration of a loop may make the same slow call for several
//! requests in a row. Only the line with the largest share is blamed; the others count where it is asked
//! what would be left without one of them.

use super::application::Site;
use super::culprit::heaviest;
use super::weight::{Span, weigh};
use crate::model::{CpuState, FrameId, LineTime, LoopState, NameId, StackId, Tables};
use crate::units::Nanos;

/// What a look met: looks in a row at the same one are looks at one call.
#[derive(Clone, Copy)]
struct Met {
    line: FrameId,
    callback: Option<u32>,
    task: Option<NameId>,
    is_running: bool,
}

impl Met {
    /// Whether a look right after shows the same call. What computes goes from line to line of its
    /// function; two lines that wait are two things to change.
    fn goes_on(&self, next: &Met, tables: &Tables) -> bool {
        let is_there = self.line == next.line
            || self.is_running && next.is_running && tables.is_same_function(self.line, next.line);
        is_there && self.callback == next.callback && self.task == next.task
    }
}

/// The lines of a stall, in the order in which they were met. What no line of the application took is
/// left out.
pub fn lines(
    tables: &Tables,
    span: Span,
    during: &[&LoopState],
    mut blame: impl FnMut(StackId) -> Option<Site>,
) -> Vec<LineTime> {
    let looked = during.iter().filter(|state| state.look.is_some());
    let mut calls: Vec<Vec<(FrameId, Nanos)>> = Vec::new();
    let mut before: Option<Met> = None;
    for (state, seen) in looked.zip(weigh(span, during)) {
        let site = blame(seen.look.stack).filter(|site| site.is_application);
        let met = site.map(|site| Met {
            line: site.culprit,
            callback: state.callback.map(|callback| callback.index),
            task: seen.look.task,
            is_running: seen.look.cpu == CpuState::Running,
        });
        if let Some(met) = met {
            let goes_on = before.is_some_and(|before| before.goes_on(&met, tables));
            match calls.last_mut().filter(|_| goes_on) {
                Some(call) => call.push((met.line, seen.weight)),
                None => calls.push(vec![(met.line, seen.weight)]),
            }
        }
        before = met;
    }
    let mut lines: Vec<LineTime> = Vec::new();
    for call in calls {
        let Some(frame) = heaviest(call.iter().copied()) else { continue };
        let time = call.iter().map(|(_, weight)| *weight).sum();
        match lines.iter_mut().find(|one| one.frame == frame) {
            Some(one) => {
                one.time += time;
                one.calls = one.calls.saturating_add(1);
            }
            None => lines.push(LineTime { frame, calls: 1, time }),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CallbackRun, CpuState, LoopId, LoopPhase, ThreadLook};
    use crate::units::{Nanos, Timestamp};

    fn state(at: u64, callback: Option<u32>, stack: u32) -> LoopState {
        LoopState {
            major_faults: None,
            loop_id: LoopId(0),
            at: Timestamp(at),
            window: Nanos(0),
            phase: LoopPhase::Running,
            began: None,
            callback: callback.map(|index| CallbackRun { index, batch: 9 }),
            waiting: None,
            sched: None,
            look: Some(ThreadLook::bare(StackId(stack), CpuState::Running)),
        }
    }

    /// Stacks below 10 are lines of the application of the same number.
    fn blame(StackId(stack): StackId) -> Option<Site> {
        let is_application = stack < 10;
        Some(Site { culprit: FrameId(stack), library: None, is_application })
    }

    fn of(states: &[LoopState]) -> Vec<(u32, u32, u64)> {
        let span = Span { start: Timestamp(100), end: Timestamp(200) };
        let states: Vec<&LoopState> = states.iter().collect();
        let found = lines(&Tables::default(), span, &states, blame);
        found.iter().map(|one| (one.frame.0, one.calls, one.time.0)).collect()
    }

    #[test]
    fn a_line_called_by_two_callbacks_was_called_twice() {
        let states = [
            state(120, Some(0), 1),
            state(140, Some(0), 1),
            state(160, Some(1), 1),
            state(180, Some(2), 2),
        ];
        assert_eq!(of(&states), [(1, 2, 70), (2, 1, 30)]);
    }

    #[test]
    fn looks_in_a_row_are_one_call_where_nothing_tells_callbacks_apart() {
        let states = [state(120, None, 1), state(160, None, 2), state(180, None, 1)];
        assert_eq!(of(&states), [(1, 2, 70), (2, 1, 30)]);
    }

    #[test]
    fn the_frameworks_own_time_is_nobodys() {
        assert_eq!(of(&[state(120, None, 11), state(160, None, 3)]), [(3, 1, 60)]);
        assert_eq!(of(&[]), []);
    }
}
