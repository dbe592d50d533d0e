//! The rule `peer-saturated`: what requests wait for answers no more when more ask, so that no size of the server gets
//! more done.
//!
//! Takes what two recordings of a server at different sizes tell ([`contrast`](crate::diagnosis::contrast)); from one it
//! cannot be told.

use super::pool_saturated;
use crate::diagnosis::contrast::{USED_UP, sentence};
use crate::diagnosis::peer_size::PeerSize;
use crate::diagnosis::thread_size::ThreadSize;
use crate::diagnosis::{Case, Rule, often};
use crate::model::{Contrast, Finding, Load, Measured, PeerLimit, Recommendation, Remedy, Verdict};

/// What would tell where a size was advised that rests on a peer.
const NEED_ANOTHER: &str = "a recording at another size: once the size advised is in force, `stallspy advise -p PID \
                            --before FILE`, FILE being a recording of now";

/// See `docs/findings/peer-saturated.md`.
#[derive(Debug)]
pub struct PeerSaturated;

impl Rule for PeerSaturated {
    fn id(&self) -> &'static str {
        "peer-saturated"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/peer-saturated.md")
    }

    fn explains(&self, finding: &Finding) -> Option<f64> {
        // While it has no more to give all that waits, waits for it.
        finding.figure("used_of_most").map(|_| 1.0)
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let mut limited = case.loads.iter().filter_map(|load| Some((load, limit_of(load)?)));
        if let Some((load, limit)) = limited.next() {
            return Verdict::Found(self.finding(case, load, limit));
        }
        let untold = case.loads.iter().find_map(|load| match load.contrast {
            Some(Contrast::Untold(need)) => Some(need),
            _ => None,
        });
        let rests = case.sizes.iter().any(|size| {
            size.load.contrast.is_none() && size.change().is_some() && size.rests_on().is_some()
        });
        let rests = rests || pool_saturated::rests_on_a_peer(case);
        match untold.or(rests.then_some(NEED_ANOTHER)) {
            Some(need) => Verdict::NotEnoughData { need },
            None => Verdict::Clear,
        }
    }
}

/// The peer that limits a server as it is.
pub(super) fn limit_of(load: &Load) -> Option<&PeerLimit> {
    load.peer_limit().filter(|limit| limit.used() >= USED_UP)
}

impl PeerSaturated {
    fn finding(&self, case: &Case<'_>, load: &Load, limit: &PeerLimit) -> Finding {
        let (size, of_place) = (case.size_of(load), PeerSize::of(load));
        let smaller = size.and_then(ThreadSize::smaller);
        let smaller = smaller.or_else(|| of_place.and_then(|size| size.smaller()));
        let kept = size.filter(|_| smaller.is_none()).and_then(ThreadSize::to_keep);
        let kept = kept.or_else(|| of_place.and_then(|size| size.kept()));
        Finding {
            id: self.id().to_owned(),
            severity: often::severity(limit.used()),
            summary: format!(
                "no number of {} gets more requests done: {}",
                places(load),
                sentence(limit)
            ),
            evidence: evidence(limit),
            stalls: Vec::new(),
            recommendations: smaller.into_iter().chain([help(load, limit)]).chain(kept).collect(),
        }
    }
}

/// What a server has a number of, in words.
fn places(load: &Load) -> &'static str {
    if load.slots.is_none() && load.hub_connections().is_some() {
        "workers or connections"
    } else {
        "workers or threads"
    }
}

/// What gets more done.
fn help(load: &Load, limit: &PeerLimit) -> Recommendation {
    let name = limit.name();
    Recommendation {
        remedy: Remedy::Config,
        command: format!(
            "ask {name} for less (a faster query or an index, fewer questions for each request, a cache), or let it work \
             on more at once: more CPUs or instances of it, or a higher limit of its own where it has one (a pool, its \
             workers)"
        ),
        reason: format!("it is what limits: no number of {} gets more out of it", places(load)),
        inputs: evidence(limit),
        predicted: Vec::new(),
    }
}

fn evidence(limit: &PeerLimit) -> Vec<Measured> {
    let PeerLimit { before, now, .. } = limit;
    vec![
        Measured::new("used_of_most", limit.used(), "ratio"),
        Measured::new("works_on_at_once", limit.servers(), "count"),
        Measured::new("asked_at_once_before", before.at_once(), "count"),
        Measured::new("asked_at_once", now.at_once(), "count"),
        Measured::new("waited_before", before.each, "s"),
        Measured::new("waited", now.each, "s"),
        Measured::new("rate_before", before.rate, "1/s"),
        Measured::new("rate", now.rate, "1/s"),
    ]
}
