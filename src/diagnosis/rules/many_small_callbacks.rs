//! The rule `many-small-callbacks`: iterations that are long because so much was ready at once.
//!
//! Takes stalls in which no callback was long. There is no line to change: what there is to say
//! is how many callbacks there were, and which coroutine most of them belonged to.

use std::collections::BTreeMap;

use crate::diagnosis::blocked::{Blocked, count};
use crate::diagnosis::{Case, Rule, found_in, lacks, wording};
use crate::model::{Cause, NameId, Stall, Verdict};

/// See `docs/findings/many-small-callbacks.md`.
#[derive(Debug)]
pub struct ManySmallCallbacks;

impl Rule for ManySmallCallbacks {
    fn id(&self) -> &'static str {
        "many-small-callbacks"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/many-small-callbacks.md")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let Case { recording, stalls, .. } = *case;
        if let Some(need) = lacks(recording) {
            return Verdict::NotEnoughData { need };
        }
        let many = |stall: &Stall| stall.cause == Cause::ManyCallbacks;
        let Some(blocked) = Blocked::of(recording, stalls, many) else { return Verdict::Clear };
        let picked: Vec<&Stall> =
            blocked.stalls.iter().filter_map(|index| stalls.get(*index)).collect();
        let callbacks = picked.iter().map(|stall| stall.callbacks).max().unwrap_or(1);
        let of = match common_coroutine(&picked) {
            Some(name) => format!(", mostly of {}", recording.tables.text(name)),
            None => String::new(),
        };
        let summary = format!(
            "{} held up by many short callbacks, up to {callbacks} in one iteration{of}: {}",
            wording::loops_are(&blocked),
            wording::extent(&blocked)
        );
        let waiting = picked.iter().filter_map(|stall| stall.waiting_callbacks).max();
        let mut verdict = found_in(self, blocked, summary, Vec::new());
        if let Verdict::Found(finding) = &mut verdict {
            finding.evidence.push(number("callbacks_in_one_iteration", callbacks));
            finding.evidence.extend(waiting.map(|waiting| number("ready_queue", waiting)));
        }
        verdict
    }
}

/// The coroutine that most of these stalls name.
fn common_coroutine(stalls: &[&Stall]) -> Option<NameId> {
    let mut named: BTreeMap<NameId, usize> = BTreeMap::new();
    for name in stalls.iter().filter_map(|stall| stall.coroutine) {
        *named.entry(name).or_default() += 1;
    }
    let (name, times) = named.into_iter().max_by_key(|(_, times)| *times)?;
    (times * 2 > stalls.len()).then_some(name)
}

fn number(name: &str, value: u32) -> crate::model::Measured {
    count(name, usize::try_from(value).unwrap_or(usize::MAX))
}
