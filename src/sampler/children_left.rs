//! What serves requests below a process that does not, and was not watched.
//!
//! A program that starts its workers by itself, or by a server that no probe knows, is a parent that
//! waits: whoever records it alone sees nothing, and should be told whom to watch. Takes such a
//! process, gives the pids below it that run event loops or serve requests. Looks once, when the
//! recording has ended.

use super::notes::Notes;
use super::process_watch::ProcessWatch;
use crate::server::facts::is_helper;
use crate::target::{ProcFs, descendants};
use crate::units::Pid;

/// Most processes that are looked into: each takes some milliseconds, and a few are enough to tell.
const MOST: usize = 32;

/// Those below `parent` that serve, in ascending order.
#[must_use]
pub(super) fn serving_children(procfs: &ProcFs, parent: Pid) -> Vec<Pid> {
    let serves = |child: &Pid| {
        // What was seen is of no use to the recording.
        let mut notes = Notes::default();
        ProcessWatch::attach(procfs, *child, false)
            .is_ok_and(|mut watch| watch.serves(&mut notes).unwrap_or(false))
    };
    let is_housekeeper = |child: &Pid| procfs.cmdline(*child).is_ok_and(|words| is_helper(&words));
    let below = descendants(procfs, parent).into_iter().take(MOST);
    below.filter(|child| !is_housekeeper(child)).filter(serves).collect()
}
