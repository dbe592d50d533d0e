//! eventlet's hub: `BaseHub.run` in `eventlet/hubs/hub.py`, in a greenlet of its own.
//!
//! While another greenlet runs the hub's frame is put aside, but stays where it is. The hub keeps no
//! time of its polls. Its variable `sleep_time` is how long the next poll may sleep until the earliest
//! timer, a float from the monotonic clock that no two iterations have alike; without a timer it is 60.
//! `fire_timers` is called with the time at which it begins.
//! (<https://github.com/eventlet/eventlet/blob/v0.36.1/eventlet/hubs/hub.py#L333>)

use super::framed::Family;
use super::{Clock, Probe, Sight};
use crate::model::LoopKind;
use crate::target::ReadError;

const HUB: &str = "eventlet/hubs/hub.py";
const POLL: &str = "eventlet/hubs/poll.py";

const FAMILY: Family = Family {
    run: ("run", HUB),
    pause: "sleep_time",
    // `BaseHub.default_sleep`
    endless: Some(60.0),
    polls: &[
        ("do_poll", "eventlet/hubs/epolls.py"),
        ("do_poll", POLL),
        ("wait", "eventlet/hubs/selects.py"),
    ],
    naps: &[("wait", POLL)],
    timers: ("fire_timers", HUB),
    turned: "when",
    is_monotonic: true,
    subjects: &["timer", "fileno"],
    own: &["eventlet/hubs/"],
    puts_aside: true,
};

/// The probe for eventlet's hub.
#[derive(Debug, Clone, Copy)]
pub struct Eventlet;

impl Probe for Eventlet {
    fn kind(&self) -> LoopKind {
        LoopKind::Eventlet
    }

    fn find(&self, sight: &mut Sight<'_>) -> Result<Option<Box<dyn Clock>>, ReadError> {
        FAMILY.find(sight)
    }
}
