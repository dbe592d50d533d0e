//! A glimpse of a thread: its innermost frames, in as few reads as possible.
//!
//! Where a loop goes round thousands of times a second, the functions it calls are over before a whole
//! stack can be read twice. Takes a thread, gives what lay at its innermost frame a moment after it was
//! found: right of most glimpses, and never to be taken for a stack. Bounded.

use super::Interpreter;
use super::frame_headers::{Link, read_header};
use super::frames::{RawFrame, RawStack};
use super::innermost::innermost;
use super::threads::Thread;
use crate::model::Truncation;
use crate::target::ReadError;

/// Most frames of a glimpse: the function that runs, and those that led to it.
const DEPTH: usize = 4;

/// The innermost frames of `thread`; none where it runs no Python.
///
/// # Errors
/// [`ReadError::Gone`] and [`ReadError::Denied`], or that the innermost frame could not be read.
pub fn glimpse(python: &Interpreter<'_>, thread: &Thread) -> Result<RawStack, ReadError> {
    let mut next = innermost(python, &[thread.state])?.first().copied().unwrap_or_default();
    let mut frames = Vec::with_capacity(DEPTH);
    // The interpreter's own frames are in between.
    for _ in 0..DEPTH.saturating_mul(2) {
        if next.is_null() || frames.len() >= DEPTH {
            break;
        }
        let read = read_header(python, next).and_then(|header| Link::decode(python, &header));
        match read {
            Ok(link) if link.is_frame() => {
                if !link.is_shim {
                    let Link { code, instruction, is_entry, .. } = link;
                    frames.push(RawFrame { addr: next, code, instruction, is_entry });
                }
                next = link.previous;
            }
            Err(error) if frames.is_empty() => return Err(error),
            _ => break,
        }
    }
    let truncated = (!next.is_null()).then_some(Truncation::DepthLimit);
    Ok(RawStack { frames, truncated })
}
