//! Folded stacks, one line each: `root;…;leaf COUNT`, where the count is of samples.
//!
//! What py-spy's `--format raw` writes, and flamegraph.pl, inferno and speedscope read.

use std::io;

use super::folded::Folded;
use super::{Exporter, View};
use crate::model::Report;

/// Writes folded stacks.
#[derive(Debug)]
pub(super) struct Raw;

impl Exporter for Raw {
    fn write(&self, report: &Report, view: &View, out: &mut dyn io::Write) -> io::Result<()> {
        Folded::new(report, view).write(1, out)
    }
}
