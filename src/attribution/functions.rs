//! Which functions of the application were met: what tells whether two recordings are of the same one.
//!
//! Takes the background samples and what was looked into, gives names. Files are told by their own name alone: the next
//! release may lie in another folder.

use std::collections::BTreeSet;

use super::Attribution;
use crate::model::Recording;

/// The functions that stacks ended in as far as they are the application's: `(views.py, orders)`.
#[must_use]
pub fn functions(recording: &Recording) -> BTreeSet<(String, String)> {
    let mut sites = Attribution::new(recording);
    let tables = &recording.tables;
    let sampled = recording.samples.iter().map(|sample| (sample.pid, sample.stack));
    let looked = recording.loop_states.iter().filter_map(|state| {
        Some((recording.get_loop(state.loop_id)?.pid, state.look.as_ref()?.stack))
    });
    let all: BTreeSet<_> = sampled.chain(looked).collect();
    let mut own = BTreeSet::new();
    for (pid, stack) in all {
        let site = sites.site(pid, stack).filter(|site| site.is_application);
        let Some(frame) = site.and_then(|site| tables.get_frame(site.culprit)) else { continue };
        let file = frame.file.map_or("", |file| tables.text(file));
        let name = file.rsplit('/').next().unwrap_or(file);
        own.insert((name.to_owned(), tables.text(frame.function).to_owned()));
    }
    own
}
