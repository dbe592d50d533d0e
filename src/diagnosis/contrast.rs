//! What two recordings of a server tell of the peer that its requests wait for: whether it answers more when more ask.
//!
//! One recording cannot tell: when 4 ask at once and each waits 80 ms, the figures are those of a database of any width.
//! Where more ask in one of two recordings and each of them waits longer, the rest of them wait their turn. Takes the
//! loads of both, gives a [`Contrast`], and what limits as the model of sizes takes it.

use super::size::{enough, error};
use super::thread_size::CPUS_BUSY;
use super::waits::Waits;
use super::{often, wording};
use crate::model::{Asked, Contrast, Load, PeerLimit, SharedKind, SharedPool};
use crate::sizing::whatif::SATURATED;
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
const NEED_SAME_CLASS: &str = "two recordings of workers of the same class";
const NEED_LOOP: &str = "two recordings in which the event loop has time to spare";
const NEED_PEER: &str = "two recordings in which requests mostly wait for a peer";
const NEED_SAME_WORK: &str =
    "two recordings under the same load: the CPU time of a request is another one";
const NEED_CPUS: &str = "two recordings with CPUs to spare: a peer without any answers late, too";
const NEED_OTHER_SIZE: &str =
    "two recordings at sizes further apart: in these about as many requests wait at once";

/// Gives each server its contrast with what it was before, and by that what limits it.
pub fn place(loads: &mut [Load], before: &[Load]) {
    for load in loads {
        let Some(earlier) = the_same(load, before) else { continue };
        load.contrast = contrast(earlier, load);
        let Some(limit) = load.peer_limit() else { continue };
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

/// What both tell; `None` where requests neither have threads of their own nor wait in a pool of a loop's or beside a hub.
fn contrast(before: &Load, now: &Load) -> Option<Contrast> {
    let has_place = |load: &Load| {
        load.slots.is_some() || load.pool.is_some() || load.hub_connections().is_some()
    };
    (has_place(before) && has_place(now)).then_some(())?;
    let Some((was, is)) = enough(before).zip(enough(now)) else {
        return Some(Contrast::Untold(NEED_MORE));
    };
    let (earlier, later) = Waits::of(before).zip(Waits::of(now))?;
    if !earlier.place.is_like(&later.place) {
        return Some(Contrast::Untold(NEED_SAME_CLASS));
    }
    if is_full(before) || is_full(now) {
        return Some(Contrast::Untold(NEED_LOOP));
    }
    let Some((first, peer)) = earlier.most().zip(later.most()) else {
        return Some(Contrast::Untold(NEED_PEER));
    };
    // That it was asked less then does not matter.
    let peer = (first == peer || earlier.ask(peer)).then_some(peer);
    let work = is.cpu / was.cpu.max(f64::MIN_POSITIVE);
    if !(1.0 / OTHER_WORK..=OTHER_WORK).contains(&work) {
        return Some(Contrast::Untold(NEED_SAME_WORK));
    }
    if has_no_cpu(before) || has_no_cpu(now) {
        return Some(Contrast::Untold(NEED_CPUS));
    }
    let (before, now) = (earlier.asked(peer)?, later.asked(peer)?);
    let limit = PeerLimit { peer: peer.map(str::to_owned), before, now };
    // As long as the server's threads did a peer on the same machine may have waited for a CPU.
    let delay = was.run_delay.max(is.run_delay);
    Some(judge(limit, delay, error(was).max(error(is))))
}

/// What the waits of both show, each of which may be off by `error`, relative, and of which `delay` seconds may have been
/// spent without a CPU.
///
/// Of a peer that answers all as fast the waits are the same, of one that was used up in both recordings they grow as what
/// asks at once does: what is nearer to the first for certain, on a scale of factors, answered them.
fn judge(limit: PeerLimit, delay: f64, error: f64) -> Contrast {
    let (few, many) = limit.ordered();
    let more = many.at_once() / few.at_once();
    let longer = many.each / few.each;
    let surely = (1.0 + error) / (1.0 - error).max(f64::MIN_POSITIVE);
    if longer * surely < more.sqrt() && longer < LONGER {
        return Contrast::All;
    }
    if more < MORE {
        return Contrast::Untold(NEED_OTHER_SIZE);
    }
    if longer < LONGER {
        return Contrast::Untold(NEED_MORE);
    }
    if many.each - delay < few.each * LONGER {
        return Contrast::Untold(NEED_CPUS);
    }
    if longer < surely {
        return Contrast::Untold(NEED_MORE);
    }
    Contrast::Limited(limit)
}

/// Whether its loops have no time left: what is in a pool or beside a hub then waits for them as well.
fn is_full(load: &Load) -> bool {
    load.slots.is_none() && load.utilization.is_some_and(|(_, most)| most >= SATURATED)
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
        "{} works on {} {:.0} at once: of {:.0} that ask each waits {}, of {:.0} each waits {}, and no more than {:.0} a \
         second get done",
        limit.name(),
        if limit.enough().is_some() { "no more than" } else { "about" },
        limit.servers(),
        few.at_once(),
        wait(few),
        many.at_once(),
        wait(many),
        limit.rate()
    )
}

/// What a size rests on whose requests mostly wait for a peer, in words: what to do to find out. `place` is what they would
/// wait for else.
pub(super) fn condition(peer: &str, place: &str) -> String {
    format!(
        "; predicted as if {peer} answered that many at once as fast as it does now: if it does not, they wait \
         for it instead of for a {place}, and no more gets done; to find out, keep a recording of now (`stallspy \
         record -p PID -d 30 -f recording -o before.stallspy`), and once it is typed `stallspy advise -p PID \
         --before before.stallspy` tells"
    )
}

/// The peer that a server's size rests on, as no other recording tells how fast it answers when more ask at once; `None`
/// where requests do not mostly wait for one.
pub(super) fn rests_on(load: &Load) -> Option<&str> {
    if load.peer_limit().is_some() {
        return None;
    }
    let waits = Waits::of(load)?;
    let computes = enough(load)?.cpu;
    waits.most().filter(|_| waits.each >= computes)
}
