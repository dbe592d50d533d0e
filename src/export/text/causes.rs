//! Causes and waits in words.

use super::ink::{Ink, Piece};
use crate::model::{Cause, CpuQuota, Culprit, CulpritTotal, Peer, Recording, Stall, Wait};
use crate::units::Nanos;

/// A cause in at most 18 characters.
pub(super) fn short(recording: &Recording, total: &CulpritTotal) -> &'static str {
    match total.cause {
        Cause::BlockingCall => waits(recording, total.culprit.as_ref()),
        Cause::Cpu => "computes",
        Cause::CCall => "computes in C",
        Cause::GilWait => "waits for the GIL",
        Cause::Gc => "garbage collector",
        Cause::CpuStarved => "not your code",
        Cause::PageFault => "waits for memory",
        Cause::ManyCallbacks => "many callbacks",
        Cause::Unknown => "not seen into",
    }
}

/// What is said where there is no line to blame; `seen` says that the stack is known.
pub(super) fn nobody(cause: Cause, seen: bool, stalls: &[&Stall]) -> String {
    match (cause, spent_quota(stalls)) {
        (Cause::CpuStarved, Some(quota)) => format!("your CPU quota ({}) was spent", quota.name()),
        _ if cause == Cause::Gc => collector(stalls),
        _ => nobody_of(cause, seen).to_owned(),
    }
}

/// The collector, and the generation that it collected in the longest of these stalls.
fn collector(stalls: &[&Stall]) -> String {
    let longest = stalls.iter().max_by_key(|stall| stall.duration());
    let generation = match longest.and_then(|stall| stall.particulars.generation) {
        Some(2) => "generation 2, a full collection".to_owned(),
        Some(young) => format!("generation {young}"),
        None => "unknown generation".to_owned(),
    };
    format!("the collector ran ({generation}); no line to blame")
}

/// The quota that most of the time of these stalls is owed to.
fn spent_quota(stalls: &[&Stall]) -> Option<CpuQuota> {
    let throttled = stalls.iter().filter_map(|stall| Some((stall, stall.particulars.throttled?)));
    let owed: Nanos = throttled.clone().map(|(stall, _)| stall.duration()).sum();
    let whole: Nanos = stalls.iter().map(|stall| stall.duration()).sum();
    let (_, most) = throttled.max_by_key(|(_, throttled)| throttled.time)?;
    (owed >= whole.scaled(1, 2)).then_some(most.quota)
}

fn nobody_of(cause: Cause, seen: bool) -> &'static str {
    match cause {
        Cause::BlockingCall | Cause::Cpu | Cause::CCall if seen => {
            "no line of the application: its framework or a library"
        }
        Cause::CpuStarved => "ready to run, but the machine gave it no CPU",
        Cause::ManyCallbacks => "no callback was long, there were many",
        Cause::Gc => "the collector ran; no line to blame",
        Cause::GilWait => "another thread held the GIL; not seen which",
        Cause::PageFault => "memory had to be fetched; no line to blame",
        Cause::BlockingCall | Cause::Cpu | Cause::CCall | Cause::Unknown => {
            "over before its stack could be read"
        }
    }
}

/// The wait of a culprit.
pub(super) fn wait_of<'a>(recording: &'a Recording, culprit: Option<&Culprit>) -> Option<&'a Wait> {
    recording.tables.get_wait(culprit?.wait?)
}

fn waits(recording: &Recording, culprit: Option<&Culprit>) -> &'static str {
    let Some(wait) = wait_of(recording, culprit) else { return "waits in a call" };
    let native = culprit.into_iter().flat_map(|one| [one.native, one.native_library]).flatten();
    match wait.peer {
        Some(Peer::Remote(_) | Peer::Local(_)) => return "waits on a socket",
        Some(Peer::Child(_)) => return "waits for a child",
        Some(Peer::Gil) => return "waits for the GIL",
        Some(Peer::Path(path)) if recording.tables.text(path).starts_with('/') => {
            return "waits on a file";
        }
        Some(Peer::Path(path)) if recording.tables.text(path).starts_with("pipe:") => {
            return "waits on a pipe";
        }
        Some(Peer::Path(_)) | None => {}
    }
    match recording.tables.text(wait.syscall) {
        _ if wait.is_for_sqlite(&recording.tables, native) => "waits on a lock",
        _ if wait.is_sleep(&recording.tables) => "sleeps",
        "futex" | "futex_wait" | "flock" => "waits on a lock",
        "wait4" | "waitid" => "waits for a child",
        "fsync" | "fdatasync" | "sync" | "sync_file_range" | "syncfs" => "waits on a disk",
        "connect" | "accept" | "accept4" | "recvfrom" | "recvmsg" | "recvmmsg" | "sendto"
        | "sendmsg" | "sendmmsg" => "waits on a socket",
        "poll" | "ppoll" | "select" | "pselect6" | "epoll_wait" | "epoll_pwait" => "waits for I/O",
        _ => "waits in a call",
    }
}

/// The call itself: `→ recvfrom() from 10.0.0.7:443`.
pub(super) fn call(recording: &Recording, wait: &Wait) -> Piece {
    Piece::word(Ink::Plain, format!("→ {}", wait.in_words(&recording.tables)))
}
