//! How `stallspy dump` shows suspended greenlets: each with where it is parked, those that are parked at
//! the same place together.

use std::io::Write;

use super::dump::frame_line;
use super::dump_tasks::{grouped, lines};
use crate::model::SnapshotGreenlet;
use crate::printable::printable;

/// Writes a section for the greenlets, if there are any.
pub(super) fn greenlets(
    out: &mut dyn Write,
    greenlets: &[SnapshotGreenlet],
    note: Option<&str>,
) -> std::io::Result<()> {
    if greenlets.is_empty() && note.is_none() {
        return Ok(());
    }
    let note = note.map(|note| format!(" ({note})")).unwrap_or_default();
    writeln!(out, "\nGreenlets: {} suspended{note}", greenlets.len())?;
    let alike = grouped(greenlets, |one| format!("{} {}", one.class, lines(&one.frames)));
    for alike in alike {
        let Some(first) = alike.first() else { continue };
        let class = printable(first.class.rsplit('.').next().unwrap_or(&first.class));
        match alike.len() {
            1 => writeln!(out, "\n{class}, parked at")?,
            count => writeln!(out, "\n{count} of {class}, parked at")?,
        }
        for frame in &first.frames {
            frame_line(out, frame)?;
        }
        if first.truncated {
            writeln!(out, "    (deeper frames could not be read)")?;
        }
    }
    Ok(())
}
