//! Suspended greenlets at one moment: where each of them is parked.
//!
//! Takes a process that is looked at once, gives [`SnapshotGreenlet`]s. One that is switched to while it is
//! read is read again, and left out if it never holds still.

use super::pace::now;
use super::snapshot::frame;
use super::thread_watch::Scene;
use crate::model::SnapshotGreenlet;
use crate::python::Interpreter;
use crate::python::gc_objects::Walked;
use crate::python::greenlets::{greenlets, parked_at};
use crate::python::loaded::module_value;
use crate::target::ReadError;

/// A greenlet that changes is read so often before it is left out.
const TRIES: usize = 5;

/// All suspended greenlets of a process.
#[derive(Debug, Default)]
pub(super) struct ParkedGreenlets {
    pub(super) greenlets: Vec<SnapshotGreenlet>,
    /// Why there may be more; `None` if these are all.
    pub(super) note: Option<&'static str>,
}

/// Looks at every greenlet once.
///
/// # Errors
/// Only [`ReadError::Gone`] and [`ReadError::Denied`].
pub(super) fn parked_greenlets(
    scene: &mut Scene<'_>,
    locals: bool,
) -> Result<ParkedGreenlets, ReadError> {
    let python = scene.python;
    let list = match greenlets(&python) {
        Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
        Err(_) | Ok(None) => return Ok(ParkedGreenlets::default()),
        Ok(Some(list)) => list,
    };
    let innermost_only = keeps_innermost_only(&python);
    let mut found = Vec::new();
    let mut unread = false;
    for greenlet in list.greenlets {
        let mut read = Err(ReadError::Invalid("greenlet"));
        for _ in 0..TRIES {
            read = parked_at(&python, greenlet);
            if read.is_ok() {
                break;
            }
        }
        let stack = match read {
            Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
            Err(_) => {
                unread = true;
                continue;
            }
            Ok(None) => continue,
            Ok(Some(stack)) => stack,
        };
        scene.awaited.meet(&python, scene.codes, &stack.frames, None, now());
        let frames: Vec<_> =
            stack.frames.iter().filter_map(|raw| frame(scene, raw, locals)).collect();
        found.push(SnapshotGreenlet {
            id: format!("{:#x}", greenlet.0),
            class: python.objects().type_name(greenlet).unwrap_or_default(),
            truncated: innermost_only
                || stack.truncated.is_some()
                || frames.len() < stack.frames.len(),
            frames,
        });
    }
    let note = match list.walked {
        Walked::Unknown => Some("how this CPython release lists its objects is not known"),
        Walked::Partly => Some("the list of all objects changed while it was read; look again"),
        Walked::All if innermost_only => Some(
            "before greenlet 3.0.3 only the innermost frame of each can be told on this CPython",
        ),
        Walked::All if unread => Some("some of them could not be read; look again"),
        Walked::All => None,
    };
    Ok(ParkedGreenlets { greenlets: found, note })
}

/// Whether this `greenlet` cuts the links behind the innermost frame, as C frames lie between: from 3.12 on
/// until 3.0.3 (<https://github.com/python-greenlet/greenlet/pull/393>).
fn keeps_innermost_only(python: &Interpreter<'_>) -> bool {
    let version = module_value(python, "greenlet", "__version__").ok().flatten();
    let version = version.and_then(|text| python.objects().str(text).ok());
    python.layout.shape.first_shim_owner.is_some()
        && version.is_some_and(|version| ["3.0.0", "3.0.1", "3.0.2"].contains(&version.as_str()))
}
