//! Frame chains that no thread runs: of a greenlet that was switched away from.
//!
//! Takes its innermost frame, gives what [`Walker`](super::frames::Walker) gives of a thread. Nothing
//! says that it holds still: the caller reads it again and compares.

use super::Interpreter;
use super::frame_headers::{Link, read_header};
use super::frames::{MAX_DEPTH, RawFrame, RawStack};
use crate::layout::shape::FrameLink;
use crate::model::Truncation;
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// `f_frame` of a `PyFrameObject`, from 3.11 on (Include/internal/pycore_frame.h; `f_back` is before it).
const FRAME_IN_OBJECT: u64 = 24;

/// The chain that begins at the frame object `object`. Frames in `forbidden`, where the C stack was, are
/// another's by now: the chain ends there.
///
/// # Errors
/// When there is no frame object.
pub fn chain_of(
    python: &Interpreter<'_>,
    object: Addr,
    forbidden: std::ops::Range<Addr>,
) -> Result<RawStack, ReadError> {
    if python.objects().type_name(object)? != "frame" {
        return Err(ReadError::Invalid("frame object"));
    }
    let mut next = match python.layout.shape.frame_link {
        FrameLink::FrameObject => object,
        FrameLink::CFrame | FrameLink::Direct => {
            python.memory.read_pointer(object.at(FRAME_IN_OBJECT))?
        }
    };
    let mut stack = RawStack::default();
    let mut links = 0_usize;
    // As in a thread's chain (Brent 1980).
    let mut milestone = Addr(0);
    while !next.is_null() {
        if links >= MAX_DEPTH {
            stack.truncated = Some(Truncation::DepthLimit);
            break;
        }
        if forbidden.contains(&next) {
            stack.truncated = Some(Truncation::Unreadable);
            break;
        }
        let header = match read_header(python, next) {
            Ok(header) => header,
            Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
            Err(_) => {
                stack.truncated = Some(Truncation::Unreadable);
                break;
            }
        };
        let link = Link::decode(python, &header)?;
        if links.is_power_of_two() {
            milestone = next;
        }
        if !link.is_frame() || (next == milestone && !links.is_power_of_two()) {
            stack.truncated = Some(Truncation::Torn);
            break;
        }
        if !link.is_shim {
            let Link { code, instruction, is_entry, .. } = link;
            stack.frames.push(RawFrame { addr: next, code, instruction, is_entry });
        }
        links = links.saturating_add(1);
        next = link.previous;
    }
    Ok(stack)
}
