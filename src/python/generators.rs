//! Generators and coroutines: the frame that each keeps while it is suspended.

use super::Interpreter;
use crate::layout::shape::GeneratorFrame;
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// The frame of the generator or coroutine at `object`; `None` for one that has ended. The caller has
/// seen that it is one.
///
/// # Errors
/// When it cannot be read.
pub fn frame_of(python: &Interpreter<'_>, object: Addr) -> Result<Option<Addr>, ReadError> {
    match python.layout.generator_frame() {
        GeneratorFrame::Pointer(at) => {
            let frame = python.memory.read_pointer(object.at(at))?;
            Ok(frame.is_plausible().then_some(frame))
        }
        GeneratorFrame::Inside(at) => Ok(Some(object.at(at))),
    }
}
