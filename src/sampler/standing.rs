//! Whether a running thread computes in Python or in C code that one instruction of Python called.
//!
//! Such a thread stands still in Python, and so does one that waits for a CPU. They are told apart by
//! the CPU time it was given between two looks that meet it at the same place, or by the kernel's
//! record of when it had a CPU.

use super::edge_watch::EdgeWatch;
use super::thread_watch::{Scene, ThreadWatch};
use crate::model::SchedTimes;
use crate::python::frames::Stand;
use crate::units::Nanos;

/// So much time on a CPU without a change in Python is one call: an instruction of Python takes a
/// tenth of a microsecond.
const AT_WORK: Nanos = Nanos::from_micros(200);

/// Where a thread stood at one look.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    stand: Option<Stand>,
    sched: Option<SchedTimes>,
    /// See [`ThreadLook::in_call`](crate::model::ThreadLook::in_call).
    pub(super) in_call: Option<bool>,
}

impl Standing {
    /// Looks at a thread found running, whose scheduler clock was just read. `last` is how it stood at
    /// the last look.
    pub(super) fn of(
        scene: &mut Scene<'_>,
        thread: &mut ThreadWatch,
        edges: &mut EdgeWatch,
        sched: Option<SchedTimes>,
        last: Option<Standing>,
    ) -> Standing {
        let Some((stand, is_still)) = thread.stand(scene) else { return Standing::default() };
        let last = last.unwrap_or_default();
        let same = last.stand == Some(stand);
        let in_call = if !is_still {
            Some(false)
        } else if same && computed(last.sched, sched) >= AT_WORK {
            Some(true)
        } else if edges.is_off_cpu(scene.notes) {
            // It went on since the last look, or nothing is known.
            (last.stand.is_some() && !same).then_some(false)
        } else {
            Some(true)
        };
        Standing { stand: Some(stand), sched, in_call }
    }
}

fn computed(before: Option<SchedTimes>, now: Option<SchedTimes>) -> Nanos {
    match (before, now) {
        (Some(before), Some(now)) => now.on_cpu.saturating_sub(before.on_cpu),
        _ => Nanos::ZERO,
    }
}
