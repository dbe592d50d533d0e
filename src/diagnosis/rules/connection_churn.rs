//! The rule `connection-churn`: connections to one peer are used once and closed.
//!
//! Takes looks at connections, one a second: of those that are kept hardly any is new at a look, of
//! those that are made for a request nearly all are. A line is named where a stall or a sample shows one that waited for
//! that peer, or one that connects by the peer's driver.

use std::collections::BTreeMap;

use crate::diagnosis::blocked::ratio;
use crate::diagnosis::peers::{Peer, known, peers};
use crate::diagnosis::size::LEAST_REQUESTS;
use crate::diagnosis::{Case, Rule, wording};
use crate::model::{
    Connecting, Finding, FrameId, Measured, NameId, Recommendation, Remedy, Severity, Stall,
    Verdict, Wait, WaitId,
};
use crate::units::{Nanos, to_f64};

/// Of the connections met so many are new where each is used once: what is left are requests that
/// take longer than the second between two looks.
const USED_ONCE: f64 = 0.9;
/// Fewer met than this show no habit: a client that is made anew after an error, a check now and then.
const LEAST_MET: u64 = 5;

/// See `docs/findings/connection-churn.md`.
#[derive(Debug)]
pub struct ConnectionChurn;

impl Rule for ConnectionChurn {
    fn id(&self) -> &'static str {
        "connection-churn"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/connection-churn.md")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let all = peers(case.recording);
        let churned = all.iter().filter(|(_, peer)| {
            let is_busy = peer.served().is_none_or(|served| served >= LEAST_REQUESTS);
            is_busy
                && peer.met().1 >= LEAST_MET
                && peer.fresh_share().is_some_and(|share| share >= USED_ONCE)
        });
        // The one with the most of them first.
        let worst = churned.max_by(|a, b| a.1.mean().total_cmp(&b.1.mean()));
        worst.map_or(Verdict::Clear, |(address, peer)| {
            Verdict::Found(finding(self.id(), case, &all, (address, peer)))
        })
    }
}

fn finding(
    id: &str,
    case: &Case<'_>,
    all: &BTreeMap<&str, Peer<'_>>,
    (address, peer): (&str, &Peer<'_>),
) -> Finding {
    let known = known(all, case.connecting, address);
    let service = known.service;
    let (met, fresh) = peer.met();
    let share = peer.fresh_share().unwrap_or(0.0);
    let line = line(case, all, address);
    let at = match line {
        Some(frame) => format!(", in {}", wording::place(case.recording, frame)),
        None => "; the line that connects was not seen".to_owned(),
    };
    let name = match &known.driver {
        _ if service.name.is_empty() => String::new(),
        None => format!(" (a port of {})", service.name),
        Some(driver) => format!(" ({}, {})", service.name, driver),
    };
    let mut evidence = vec![
        ratio("fresh_fraction", share),
        Measured::new("opened_seen", to_f64(fresh), "count"),
        Measured::new("open_mean", peer.mean(), "count"),
    ];
    let served = peer.served().map(|served| Measured::new("requests", to_f64(served), "count"));
    evidence.extend(served);
    Finding {
        id: id.to_owned(),
        severity: Severity::Medium,
        summary: format!(
            "connections to {address}{name} are used once: {fresh} of {met} met were new since the \
             look a second before{at}"
        ),
        evidence: evidence.clone(),
        stalls: Vec::new(),
        recommendations: vec![Recommendation {
            remedy: line.map_or(Remedy::Config, |frame| Remedy::Code { frame }),
            command: service.keep.to_owned(),
            reason: "each new connection costs a round trip before the first byte, two or three with \
                     TLS, and the other end's time to set it up (PostgreSQL starts a process for each)"
                .to_owned(),
            inputs: evidence,
            predicted: Vec::new(),
        }],
    }
}

/// The line that connects to this peer: one that waited for it, in a stall or in a sample, else one that was seen
/// connecting by what can only be meant for it.
fn line(case: &Case<'_>, all: &BTreeMap<&str, Peer<'_>>, address: &str) -> Option<FrameId> {
    let tables = &case.recording.tables;
    let is_it = |name: &NameId| tables.text(*name) == address;
    let seen = || case.connecting.iter();
    let waited = seen().find(|one| one.peer.as_ref().is_some_and(is_it));
    let of = |address: &str| all.get(address).map(|peer| peer.known(address).service);
    let drivers = of(address).map_or(&[][..], |service| service.drivers);
    // Of two peers that have no driver of their own it is not known which one is meant.
    let is_alone = { all.keys() }
        .filter(|peer| of(peer).is_some_and(|service| service.drivers == drivers))
        .count()
        == 1;
    let is_driver = |peer: &str, one: &Connecting| {
        of(peer).is_some_and(|service| service.is_driver(&one.library))
    };
    let is_meant = |one: &&Connecting| match drivers {
        // Not what is meant for another peer.
        [] => !all.keys().any(|peer| is_driver(peer, one)),
        _ => is_driver(address, one),
    };
    let meant = || seen().filter(|one| one.peer.is_none() && is_alone).find(is_meant);
    let stalled = || stalled(case, address);
    waited.map(|one| one.frame).or_else(stalled).or_else(|| Some(meant()?.frame))
}

/// The line that waited longest for this peer, of those that stalled something.
fn stalled(case: &Case<'_>, address: &str) -> Option<FrameId> {
    let tables = &case.recording.tables;
    let is_to_it = |wait: WaitId| {
        let peer = tables.get_wait(wait).and_then(Wait::remote);
        peer.is_some_and(|name| tables.text(name) == address)
    };
    let culprit = |stall: &Stall| {
        let culprit = stall.culprit.as_ref()?;
        culprit.wait.is_some_and(is_to_it).then_some((stall.duration(), culprit.frame))
    };
    let mut by_line: BTreeMap<FrameId, Nanos> = BTreeMap::new();
    for (time, frame) in case.stalls.iter().filter_map(culprit) {
        *by_line.entry(frame).or_default() += time;
    }
    by_line
        .into_iter()
        .max_by_key(|(frame, time)| (*time, std::cmp::Reverse(*frame)))
        .map(|one| one.0)
}
