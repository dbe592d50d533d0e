//! twisted's reactor: `ReactorBase.mainLoop` in `twisted/internet/base.py`, polling with epoll, poll or
//! select. (`asyncioreactor` runs asyncio's loop, and is found as such.)
//!
//! It keeps no time of its polls. The variable `t2` is how long the next poll may sleep until the
//! earliest timed call, a float from the wall clock that no two iterations have alike; `None` without
//! such a call, and 0 where one is due. `runUntilCurrent` keeps the time at which it begins.
//! (<https://github.com/twisted/twisted/blob/twisted-24.3.0/src/twisted/internet/base.py#L690>)

use super::framed::Family;
use super::{Clock, Probe, Sight};
use crate::model::LoopKind;
use crate::target::ReadError;

const BASE: &str = "twisted/internet/base.py";
const EPOLL: &str = "twisted/internet/epollreactor.py";
const POLL: &str = "twisted/internet/pollreactor.py";
const SELECT: &str = "twisted/internet/selectreactor.py";

const FAMILY: Family = Family {
    run: ("mainLoop", BASE),
    pause: "t2",
    endless: None,
    polls: &[("doPoll", EPOLL), ("doPoll", POLL), ("doSelect", SELECT)],
    naps: &[],
    timers: ("runUntilCurrent", BASE),
    turned: "now",
    // `reactor.seconds` is `time.time`.
    is_monotonic: false,
    subjects: &["call", "fd"],
    own: &[BASE, EPOLL, POLL, SELECT],
    puts_aside: false,
};

/// The probe for twisted's reactor.
#[derive(Debug, Clone, Copy)]
pub struct Twisted;

impl Probe for Twisted {
    fn kind(&self) -> LoopKind {
        LoopKind::Twisted
    }

    fn find(&self, sight: &mut Sight<'_>) -> Result<Option<Box<dyn Clock>>, ReadError> {
        FAMILY.find(sight)
    }
}
