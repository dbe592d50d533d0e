//! Coroutines that wait: where their frame lies, and what they are called.

use super::Interpreter;
use crate::layout::shape::FrameLink;
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// `gi_frame`, right after the object's header (3.8 to 3.10: Include/genobject.h).
const FRAME_POINTER: u64 = 16;
/// From `gi_qualname` to the frame inside the object, `gi_iframe` (3.11 on): two words of exception
/// state, the finalizer or origin, and four flags
/// (<https://github.com/python/cpython/blob/v3.12.1/Include/cpython/genobject.h#L15>; 3.14 and 3.15 say
/// so themselves, `gen_object.gi_iframe`).
const QUALNAME_TO_FRAME: u64 = 40;

/// The frame of the coroutine at `addr`, which has one until it has ended.
///
/// # Errors
/// [`ReadError`] when no coroutine is there.
pub fn frame_of(python: &Interpreter<'_>, addr: Addr) -> Result<Addr, ReadError> {
    if python.objects().type_name(addr)? != "coroutine" {
        return Err(ReadError::Invalid("coroutine"));
    }
    match python.layout.shape.frame_link {
        FrameLink::FrameObject => python.memory.read_pointer(addr.at(FRAME_POINTER)),
        FrameLink::CFrame | FrameLink::Direct => {
            Ok(addr.at(python.layout.offsets.asyncio.coroutine_qualname).at(QUALNAME_TO_FRAME))
        }
    }
}

/// The qualified name of the coroutine at `addr`. The caller has seen that it is one.
///
/// # Errors
/// When it cannot be read.
pub fn qualname(python: &Interpreter<'_>, addr: Addr) -> Result<String, ReadError> {
    let name = addr.at(python.layout.offsets.asyncio.coroutine_qualname);
    python.objects().str(python.memory.read_pointer(name)?)
}
