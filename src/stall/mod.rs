//! From looks at event loops to stalls: which iterations lasted too long, and when.
//!
//! Knows only [`crate::model`] and [`crate::units`]. Takes the loop states of a recording, gives
//! [`Episode`]s. Never asks why a loop stood still (that is [`crate::attribution`]'s), never reads
//! a clock or a process.

pub mod detector;
pub mod episode;

pub use detector::Detector;
pub use episode::Episode;

use crate::model::Recording;

/// Every episode of a recording that lasted at least its threshold, in order of beginning.
#[must_use]
pub fn episodes(recording: &Recording) -> Vec<Episode<'_>> {
    let mut detector = Detector::new(recording.settings.threshold);
    for info in &recording.loops {
        if let Some(process) = recording.get_process(info.pid) {
            detector.watch_from(info.id, process.attached);
        }
    }
    let mut found: Vec<Episode<'_>> =
        recording.loop_states.iter().filter_map(|state| detector.feed(state)).collect();
    found.extend(detector.finish(recording.detached));
    found.sort_by_key(|episode| (episode.began.lo, episode.loop_id));
    found
}
