//! The rule `sync-starved`: every sync worker is held by a request while others wait to be accepted.
//!
//! Takes looks that saw both at the same moment; how they are judged is in
//! `diagnosis/starved.rs`.

use crate::diagnosis::{Case, Rule, starved};
use crate::model::{Verdict, WorkerClass};

/// See `docs/findings/sync-starved.md`.
#[derive(Debug)]
pub struct SyncStarved;

impl Rule for SyncStarved {
    fn id(&self) -> &'static str {
        "sync-starved"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/sync-starved.md")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        starved::check(self, WorkerClass::Sync, case)
    }
}
