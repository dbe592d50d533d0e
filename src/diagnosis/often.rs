//! How often is too often: what rules share that judge by a share of looks at a server as a whole, two
//! of them and more (`sync-starved`, `gthread-starved`, `pool-saturated`, `threads-occupied`).

use super::HIGH_SHARE;
use crate::model::Severity;

/// A share of the time from which it is found: below it hardly a request meets it, and chance alone
/// makes two requests come at once.
pub(super) const SELDOM: f64 = 0.05;
/// For most of the time: what comes in waits.
const MOSTLY: f64 = 0.5;
/// Fewer looks than this show no share: two seconds of them (`sampler/pace.rs`, `POOL_LOOK`).
pub(super) const LEAST_LOOKS: u64 = 10;
/// As often it must have been seen: two requests that come at once are met now and then by chance, and
/// of few looks one is a twentieth already.
const LEAST_SEEN: u64 = 3;

/// Whether what was seen `times` times, a share `share` of all looks, is more than chance.
pub(super) fn is_found(share: f64, times: u64) -> bool {
    share >= SELDOM && times >= LEAST_SEEN
}

/// How much it matters that something is so for such a share of the time.
pub(super) fn severity(share: f64) -> Severity {
    if share >= MOSTLY {
        Severity::High
    } else if share >= HIGH_SHARE {
        Severity::Medium
    } else if share >= SELDOM {
        Severity::Low
    } else {
        Severity::Info
    }
}
