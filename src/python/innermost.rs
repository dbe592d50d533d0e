//! The innermost frames of many threads at once: which of them have come back to a frame that is known.
//!
//! Takes thread states, gives the addresses of frames, in one system call or two for all of them.

use super::Interpreter;
use crate::layout::shape::FrameLink;
use crate::target::{ReadError, Span};
use crate::units::Addr;

/// The innermost frame of each thread, null of one that runs no Python. Where a thread has ended it
/// and those after it are missing.
///
/// # Errors
/// [`ReadError::Gone`] or [`ReadError::Denied`] only.
pub fn innermost(python: &Interpreter<'_>, states: &[Addr]) -> Result<Vec<Addr>, ReadError> {
    let offsets = &python.layout.offsets.thread;
    let words = words_at(python, states, offsets.frame)?;
    match python.layout.shape.frame_link {
        FrameLink::FrameObject | FrameLink::Direct => Ok(words),
        FrameLink::CFrame => words_at(python, &words, offsets.cframe_current_frame),
    }
}

/// The word at `offset` behind each address, as far as they can be read.
fn words_at(
    python: &Interpreter<'_>,
    addresses: &[Addr],
    offset: u64,
) -> Result<Vec<Addr>, ReadError> {
    let mut words = vec![[0_u8; 8]; addresses.len()];
    let places = addresses.iter().map(|addr| addr.at(offset));
    let mut spans: Vec<Span<'_>> =
        places.zip(words.iter_mut()).map(|(place, word)| (place, &mut word[..])).collect();
    let filled = python.memory.read_batch(&mut spans)?;
    Ok(words.into_iter().take(filled).map(|word| Addr(u64::from_le_bytes(word))).collect())
}
