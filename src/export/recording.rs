//! The recording itself, as `stallspy report` reads it.

use std::io;

use super::{Exporter, View};
use crate::model::Report;

/// Writes what was observed, without what was concluded.
#[derive(Debug)]
pub(super) struct RecordingFile;

impl Exporter for RecordingFile {
    fn write(&self, report: &Report, _: &View, out: &mut dyn io::Write) -> io::Result<()> {
        crate::recording::write(&report.recording, out)
    }
}
