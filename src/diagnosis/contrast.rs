//! What two recordings of a server tell of the peer that its requests wait for: whether it answers more when more ask.
//!
//! One recording cannot tell: when 4 ask at once and each waits 80 ms, the figures are those of a database of any width.
//! Where more ask in one of two recordings and each of them waits longer, the rest of them wait their turn. Takes the
//! loads of both, gives a [`Contrast`], and what limits as the model of sizes takes it.

use std::net::SocketAddr;

use super::size::{enough, error};
use super::thread_size::{CPUS_BUSY, MOST_OF_WAITING};
use super::{often, wording};
use crate::model::{Asked, Contrast, Load, PeerLimit, SharedKind, SharedPool};
use crate::units::{Nanos, whole};

/// So many times as many have to wait at once in one recording as in the other: of fewer the waits differ by little more
/// than what varies anyhow, even where all the others wait their turn.
const MORE: f64 = 1.5;
/// From so many times the wait on a third of it is for others. Below that the size that follows, with its quarter of
/// room, is no smaller than the one that is there.
const LONGER: f64 = 1.5;
/// Requests of which one takes so many times the CPU time of another are not of the same kind. That of the same grows by
/// a tenth from 12 threads to 48 (`scripts/bench --only handing`).
const OTHER_WORK: f64 = 2.0;
/// From this part of what a peer was seen to let through on it is what limits: throughput varies by less from one recording
/// to the next.
pub(super) const USED_UP: f64 = 0.9;

const NEED_MORE: &str =
    "two recordings of at least 20 requests and 10 s, and more where waits vary";
const NEED_PEER: &str = "two recordings in which requests mostly wait for a peer";
const NEED_SAME_WORK: &str =
    "two recordings under the same load: the CPU time of a request is another one";
const NEED_CPUS: &str = "two recordings with CPUs to spare: a peer without any answers late, too";
const NEED_OTHER_SIZE: &str =
    "two recordings at different sizes: in these about as many requests wait at once";

/// Gives each server its contrast with what it was before, and by that what limits it.
pub fn place(loads: &mut [Load], before: &[Load]) {
    for load in loads {
        let Some(earlier) = the_same(load, before) else { continue };
        load.contrast = contrast(earlier, load);
        let Some(limit) = load.contrast.as_ref().and_then(Contrast::limit) else { continue };
        let station = station(limit);
        // A pool that is waited for limits before its peer does, unless that has no more to give.
        let others = load.shared.as_ref().filter(|one| one.share >= often::SELDOM);
        if others.is_none() || station.share >= USED_UP {
            let waited = station.waited + others.map_or(0.0, |one| one.waited);
            load.shared = Some(SharedPool { waited, ..station });
        }
    }
}

/// The same server in the other recording, if there is but one of that name.
fn the_same<'a>(load: &Load, before: &'a [Load]) -> Option<&'a Load> {
    let mut those = before.iter().filter(|one| one.server == load.server);
    those.next().filter(|_| those.next().is_none())
}

/// The peer as the model takes it: each request keeps one of what it works on at once.
fn station(limit: &PeerLimit) -> SharedPool {
    let (few, _) = limit.ordered();
    SharedPool {
        kind: SharedKind::Peer,
        name: limit.name().to_owned(),
        limit: None,
        servers: limit.servers(),
        kept: few.each,
        waited: limit.now.each - few.each,
        share: limit.used(),
    }
}

/// What both tell; `None` where requests have no threads of their own.
fn contrast(before: &Load, now: &Load) -> Option<Contrast> {
    now.slots.and(before.slots)?;
    let Some((was, is)) = enough(before).zip(enough(now)) else {
        return Some(Contrast::Untold(NEED_MORE));
    };
    let Some((earlier, peer)) = most(before).zip(most(now)) else {
        return Some(Contrast::Untold(NEED_PEER));
    };
    // That it was asked less then does not matter.
    let peer = if earlier == peer || time_of(before, Some(peer)) > Nanos::ZERO {
        Some(peer)
    } else {
        None
    };
    let work = is.cpu / was.cpu.max(f64::MIN_POSITIVE);
    if !(1.0 / OTHER_WORK..=OTHER_WORK).contains(&work) {
        return Some(Contrast::Untold(NEED_SAME_WORK));
    }
    if has_no_cpu(before) || has_no_cpu(now) {
        return Some(Contrast::Untold(NEED_CPUS));
    }
    let (before, now) = (asked(before, peer)?, asked(now, peer)?);
    let limit = PeerLimit { peer: peer.map(str::to_owned), before, now };
    // As long as the server's threads did a peer on the same machine may have waited for a CPU.
    let delay = was.run_delay.max(is.run_delay);
    Some(judge(limit, delay, error(was).max(error(is))))
}

/// What the waits of both show, each of which may be off by `error`, relative, and of which `delay` seconds may have been
/// spent without a CPU.
fn judge(limit: PeerLimit, delay: f64, error: f64) -> Contrast {
    let (few, many) = limit.ordered();
    if many.at_once() < few.at_once() * MORE {
        return Contrast::Untold(NEED_OTHER_SIZE);
    }
    if many.each < few.each * LONGER {
        return Contrast::All;
    }
    if many.each - delay < few.each * LONGER {
        return Contrast::Untold(NEED_CPUS);
    }
    if many.each * (1.0 - error) < few.each * (1.0 + error) {
        return Contrast::Untold(NEED_MORE);
    }
    Contrast::Limited(limit)
}

/// The peer that requests mostly wait for.
fn most(load: &Load) -> Option<&str> {
    let one = load.blocked_on.first()?;
    one.peer.parse::<SocketAddr>().ok()?;
    let all = time_of(load, None);
    (one.time.share_of(all) >= MOST_OF_WAITING).then_some(&one.peer)
}

/// The time that all threads waited for a peer, or for anything.
fn time_of(load: &Load, peer: Option<&str>) -> Nanos {
    let those = load.blocked_on.iter().filter(|one| peer.is_none_or(|peer| one.peer == peer));
    those.map(|one| one.time).sum()
}

/// How requests waited for it. Looks show the parts of a wait, and the threads' own time all of it.
fn asked(load: &Load, peer: Option<&str>) -> Option<Asked> {
    let part = time_of(load, peer).share_of(time_of(load, None));
    let each = load.costs.as_ref()?.blocked()? * part;
    let rate = load.rate()?;
    (each > 0.0 && rate > 0.0).then_some(Asked { rate, each })
}

/// Whether its threads keep the CPUs busy. That the machine has nothing idle is no sign of it: what else runs may give way.
fn has_no_cpu(load: &Load) -> bool {
    load.cores_used() >= load.cores.usable() * CPUS_BUSY
}

/// What was seen of such a peer, to follow "because" or a semicolon.
pub(super) fn sentence(limit: &PeerLimit) -> String {
    let (few, many) = limit.ordered();
    let wait = |one: Asked| wording::length(Nanos::from_micros(u64::from(whole(one.each * 1e6))));
    format!(
        "{} works on about {:.0} at once: of {:.0} that ask each waits {}, of {:.0} each waits {}, and no more than {:.0} a \
         second get done",
        limit.name(),
        limit.servers(),
        few.at_once(),
        wait(few),
        many.at_once(),
        wait(many),
        limit.rate()
    )
}
