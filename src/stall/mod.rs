//! From looks at event loops to stalls: which iterations lasted too long, and when.
//!
//! Knows only [`crate::model`] and [`crate::units`]. Takes the loop states of a recording, gives
//! [`Episode`]s. Never asks why a loop stood still (that is [`crate::attribution`]'s), never reads
//! a clock or a process.

pub mod detector;
pub mod episode;
pub mod gaps;

pub use detector::Detector;
pub use episode::Episode;

use crate::model::Recording;

/// Every episode of a recording that lasted at least its threshold, in order of beginning.
#[must_use]
pub fn episodes(recording: &Recording) -> Vec<Episode<'_>> {
    episodes_and_disagreements(recording).0
}

/// The same, and how many stalls the loops' own clocks and the kernel's record tell differently.
#[must_use]
pub fn episodes_and_disagreements(recording: &Recording) -> (Vec<Episode<'_>>, u64) {
    let mut detector =
        Detector::new(recording.settings.threshold).with_gaps(gaps::Gaps::of(recording));
    for info in &recording.loops {
        if let Some(process) = recording.get_process(info.pid) {
            detector.watch_from(info.id, process.attached);
        }
        if !info.kind.keeps_time() {
            detector.doubt(info.id);
        }
    }
    let mut found: Vec<Episode<'_>> =
        recording.loop_states.iter().filter_map(|state| detector.feed(state)).collect();
    let (last, disagreements) = detector.finish_and_count(recording.detached);
    found.extend(last);
    found.sort_by_key(|episode| (episode.began.lo, episode.loop_id));
    (found, disagreements)
}
