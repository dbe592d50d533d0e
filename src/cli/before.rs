//! Recordings that are read, and the report on one with what an earlier one adds.

use std::path::Path;

use super::complain;
use crate::error::Error;
use crate::gate::Pattern;
use crate::model::{Recording, Report};
use crate::recording;
use crate::session;

/// A recording from a file.
pub(super) fn read(path: &Path) -> Result<Recording, Error> {
    let loaded = recording::read_file(path).map_err(|error| Error::File(error.to_string()))?;
    loaded.notes.iter().for_each(|note| complain(note));
    Ok(loaded.recording)
}

/// What follows from a recording, and from both where there is an earlier one.
pub(super) fn conclude(
    recording: Recording,
    before: Option<Recording>,
    allow: &[Pattern],
) -> Result<Report, Error> {
    match before {
        Some(before) => session::conclude_after(recording, before, allow),
        None => Ok(session::conclude(recording, allow)),
    }
}
