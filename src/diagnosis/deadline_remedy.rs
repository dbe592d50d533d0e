//! What to change at a line that keeps its worker from a sign of life.
//!
//! Takes a blamed line and the longest that it did, gives a recommendation with its figures; `None` where no change of
//! that line would help. Never decides whether to recommend.

use super::blocked::Blame;
use super::deadline::{Deadline, Silence};
use super::remedy::{self, WaitKind, recommendation};
use super::{Case, thread_remedy, wording};
use crate::model::{Cause, LoopKind, Recommendation};
use crate::units::Nanos;

/// The longest that a line did of one silence.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// What it did.
    pub cause: Cause,
    /// For how long.
    pub length: Nanos,
    /// How long the whole silence was.
    pub of: Nanos,
    /// Its end was not seen.
    pub is_cut: bool,
}

/// What to do about it; the silence is to be less than a `share` of what may cost a worker its life.
#[must_use]
pub fn for_line(
    case: &Case<'_>,
    blame: &Blame,
    part: Part,
    deadline: &Deadline,
    share: f64,
) -> Option<Recommendation> {
    let recording = case.recording;
    let advice = match (deadline.silence, part.cause) {
        (Silence::Request, Cause::BlockingCall) if thread_remedy::has_cure(case, blame) => {
            thread_remedy::for_thread(case, blame)
        }
        (Silence::Request, Cause::BlockingCall) => {
            let most = deadline.call_timeout(part.length, part.of, share);
            let (command, reason) = match remedy::wait_kind(&recording.tables, blame) {
                Some(WaitKind::Sleep) => (
                    format!("sleep for at most {most} s, or do it after the answer"),
                    "its worker gives no sign of life before it is done",
                ),
                _ => (
                    format!("give the call a timeout of at most {most} s, or do it after the answer"),
                    "it then fails before its worker is killed, and its client gets an answer",
                ),
            };
            recommendation(recording, blame, command, reason)
        }
        (Silence::Request, Cause::Cpu | Cause::CCall | Cause::GilWait) => recommendation(
            recording,
            blame,
            "make it shorter, or do it after the answer, in another process".to_owned(),
            "its worker gives no sign of life before it is done",
        ),
        (Silence::LockHeld, Cause::Cpu | Cause::CCall | Cause::GilWait)
            if blame.kind == Some(LoopKind::NoLoop) =>
        {
            recommendation(
                recording,
                blame,
                "run it in another process: a `ProcessPoolExecutor`, or after the answer in a queue of jobs"
                    .to_owned(),
                "it holds the interpreter lock, and the thread that gives the sign of life cannot run",
            )
        }
        (Silence::Iteration | Silence::LockHeld, Cause::BlockingCall) => {
            remedy::for_call(recording, blame)
        }
        (Silence::Iteration | Silence::LockHeld, Cause::CCall) => {
            remedy::for_native(recording, blame)
        }
        (Silence::Iteration | Silence::LockHeld, Cause::GilWait) => {
            remedy::for_gil(recording, blame)
        }
        (Silence::Iteration | Silence::LockHeld, Cause::Cpu) => remedy::for_cpu(recording, blame),
        // The collector, memory and the CPUs are no matter of the line that met with them.
        _ => return None,
    };
    Some(with_distance(advice, part, deadline))
}

/// With how near it came.
fn with_distance(mut advice: Recommendation, part: Part, deadline: &Deadline) -> Recommendation {
    let at_least = if part.is_cut { "at least " } else { "" };
    advice.reason.push_str(&format!(
        "; it took {at_least}{}, {} of what {} may kill its worker for",
        wording::length(part.length),
        wording::percent(part.length.share_of(deadline.least())),
        deadline.supervisor.name
    ));
    advice
}
