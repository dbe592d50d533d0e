//! Requests that come in bursts, with nobody there in between.
//!
//! Takes looks at a server as a whole; gives how many are there while anybody is, and for which share of the time. A mean
//! over all of the time is neither.

use super::often;
use crate::model::Load;

/// Of all that was there, the part that has to have been there while no thread was free: of arrivals at random, requests
/// are also there while threads are free (of a single worker that is busy half of the time a quarter of them; M/M/1).
const NEARLY_ALL: f64 = 0.9;
/// From this share of the time on there are no pauses worth the name: a mean over all of it is as good.
const NEARLY_ALWAYS: f64 = 0.8;

/// What is there while anybody is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bursts {
    /// The share of the time, 0 to 1.
    pub share: f64,
    /// Requests that are there at once.
    pub there: f64,
}

impl Bursts {
    /// Those of a server; `None` where requests come all the time, or nobody waits.
    pub(super) fn of(load: &Load) -> Option<Bursts> {
        let (crowd, all) = (load.crowd?, load.demand()?);
        let share = crowd.starved_share()?;
        let there = crowd.threads.mean()? + crowd.waiting.mean()?;
        let are_bursts = often::is_found(share, crowd.starved)
            && share < NEARLY_ALWAYS
            && there * share >= all * NEARLY_ALL;
        are_bursts.then_some(Bursts { share, there })
    }
}
