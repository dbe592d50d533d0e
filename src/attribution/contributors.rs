//! What an iteration of many short callbacks was made of.
//!
//! Takes weighed looks and a way to blame one stack, gives the coroutines, or functions, that were
//! met in them, each with its share. Shares are estimates: a few looks stand for hundreds of
//! callbacks. Never decides whether there were many.

use std::collections::HashMap;

use super::application::{self, Site};
use super::weight::Weighed;
use crate::model::{Contributor, FrameId, NameId, StackId, Tables};
use crate::units::Nanos;

/// Most contributors named: more is noise, as a stall has a few dozen looks at most.
const MOST: usize = 5;

/// The contributors with the largest shares, the largest first.
pub fn contributors(
    tables: &Tables,
    stdlib: Option<&str>,
    looks: &[Weighed<'_>],
    mut blame: impl FnMut(StackId) -> Option<Site>,
) -> Vec<Contributor> {
    let mut sums: HashMap<NameId, (Nanos, Option<FrameId>, usize)> = HashMap::new();
    let mut total = Nanos::ZERO;
    for (order, seen) in looks.iter().enumerate() {
        let frame = blame(seen.look.stack).map(|site| site.culprit);
        let called = application::callback(tables, stdlib, seen.look.stack).or(frame);
        let function = called.and_then(|id| tables.get_frame(id)).map(|frame| frame.function);
        total += seen.weight;
        // A task is known by its coroutine, whatever that called; a bare callback by its function.
        let Some(name) = seen.look.coroutine.or(function) else { continue };
        sums.entry(name).or_insert((Nanos::ZERO, frame, order)).0 += seen.weight;
    }
    let mut all: Vec<_> = sums.into_iter().collect();
    all.sort_by_key(|(_, (weight, _, order))| (std::cmp::Reverse(*weight), *order));
    let named = all.into_iter().take(MOST);
    let of = |(name, (weight, frame, _)): (NameId, (Nanos, Option<FrameId>, usize))| Contributor {
        name,
        frame,
        share: weight.share_of(total),
    };
    named.map(of).collect()
}
