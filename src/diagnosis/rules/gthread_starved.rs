//! The rule `gthread-starved`: requests wait for a thread of gunicorn's gthread, as those that
//! could serve them are held.
//!
//! Takes looks that saw both at the same moment; how they are judged is in
//! `diagnosis/starved.rs`.

use crate::diagnosis::{Case, Rule, starved};
use crate::model::{Verdict, WorkerClass};

/// See `docs/findings/gthread-starved.md`.
#[derive(Debug)]
pub struct GthreadStarved;

impl Rule for GthreadStarved {
    fn id(&self) -> &'static str {
        "gthread-starved"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/gthread-starved.md")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        starved::check(self, WorkerClass::Gthread, case)
    }
}
