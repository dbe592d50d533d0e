//! Frames that lie near one another, read as one.
//!
//! From 3.11 on an interpreter puts the frames of a thread one behind the other into pieces of memory of
//! 16 KiB (`_PyStackChunk`,
//! <https://github.com/python/cpython/blob/v3.12.1/Include/cpython/pystate.h#L83>). For each stretch that
//! is read the kernel looks its pages up, which costs more than the bytes between two frames do. Takes
//! where frames are, gives stretches to read, and finds frames in what was read. Bounded.

use crate::target::Span;
use crate::units::Addr;

/// Frames so near one another are read together: most of them, for this is how far apart the frames of
/// functions with a hundred variables lie.
const GAP: u64 = 1024;
/// So much is read beyond the last frame of a stretch, as far as its page goes: what it calls has its
/// frame there.
const BEYOND: u64 = 1024;
/// The smallest page of any supported kernel: what shares one with a frame can be read.
const PAGE: u64 = 4096;
/// Most bytes of all stretches: eight pieces of a thread's stack. Past it frames are read alone.
pub const MAX_BYTES: usize = 128 * 1024;

/// Stretches of memory, and what was read of them.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    /// In the order in which they are read.
    parts: Vec<Part>,
    bytes: Vec<u8>,
    /// How many of them were read.
    good: usize,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    from: Addr,
    end: Addr,
    /// The first of its frames, in the order they were given.
    first: usize,
    /// Where its bytes begin.
    place: usize,
}

impl Part {
    fn len(&self) -> usize {
        usize::try_from(self.end.0.saturating_sub(self.from.0)).unwrap_or(usize::MAX)
    }
}

impl Stretches {
    /// Stretches that hold the first `len` bytes of each of `frames`, with what lies between them; those
    /// of the first frames are read first. Forgets what was read.
    pub(super) fn cover(&mut self, frames: impl Iterator<Item = Addr> + Clone, len: usize) {
        if self.lay_out(frames.clone(), len, GAP, BEYOND) > MAX_BYTES {
            self.cover_alone(frames, len);
        }
    }

    /// The same, and nothing else: where what lies between them cannot be read.
    pub(super) fn cover_alone(&mut self, frames: impl Iterator<Item = Addr>, len: usize) {
        self.lay_out(frames, len, 0, 0);
    }

    /// Returns how many bytes they have.
    fn lay_out(
        &mut self,
        frames: impl Iterator<Item = Addr>,
        len: usize,
        gap: u64,
        beyond: u64,
    ) -> usize {
        let mut sorted: Vec<(Addr, usize)> =
            frames.enumerate().map(|(index, at)| (at, index)).collect();
        sorted.sort_unstable();
        self.good = 0;
        self.parts.clear();
        for (at, index) in sorted {
            let end = at.at(len as u64);
            match self.parts.last_mut() {
                Some(last) if at <= last.end.at(gap) => {
                    last.end = last.end.max(end);
                    last.first = last.first.min(index);
                }
                _ => self.parts.push(Part { from: at, end, first: index, place: 0 }),
            }
        }
        for part in &mut self.parts {
            let page_end = part.end.0.checked_next_multiple_of(PAGE).unwrap_or(part.end.0);
            part.end = Addr(part.end.0.saturating_add(beyond).min(page_end).max(part.end.0));
        }
        self.parts.sort_unstable_by_key(|part| part.first);
        let mut total = 0_usize;
        for part in &mut self.parts {
            part.place = total;
            total = total.saturating_add(part.len());
        }
        total
    }

    /// The stretches, to be read.
    pub(super) fn spans(&mut self) -> Vec<Span<'_>> {
        let total = self.parts.iter().map(Part::len).fold(0, usize::saturating_add);
        self.bytes.resize(total, 0);
        let mut rest = self.bytes.as_mut_slice();
        let mut spans: Vec<Span<'_>> = Vec::with_capacity(self.parts.len().saturating_add(2));
        for part in &self.parts {
            let Some((own, behind)) = rest.split_at_mut_checked(part.len()) else { break };
            spans.push((part.from, own));
            rest = behind;
        }
        spans
    }

    /// So many of them were read, from the first on.
    pub(super) fn were_read(&mut self, good: usize) {
        self.good = good.min(self.parts.len());
    }

    /// The bytes at `addr`, if all of them were read.
    pub(super) fn get(&self, addr: Addr, len: usize) -> Option<&[u8]> {
        let read = self.parts.get(..self.good)?;
        read.iter().find_map(|part| {
            let start = usize::try_from(addr.0.checked_sub(part.from.0)?).ok()?;
            let end = start.checked_add(len).filter(|end| *end <= part.len())?;
            self.bytes.get(part.place.checked_add(start)?..part.place.checked_add(end)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 72;

    fn laid_out(frames: &[u64]) -> Vec<(u64, usize)> {
        let mut stretches = Stretches::default();
        stretches.cover(frames.iter().map(|at| Addr(*at)), LEN);
        stretches.spans().iter().map(|(at, bytes)| (at.0, bytes.len())).collect()
    }

    #[test]
    fn frames_near_one_another_are_one_stretch() {
        // Leaf first, and one of a generator, which lies elsewhere.
        assert_eq!(
            laid_out(&[0x1_1400, 0x5_0fb0, 0x1_1000, 0x1_10c0]),
            [(0x1_1000, 0x400 + LEN + 1024), (0x5_0fb0, LEN + 8)]
        );
        assert_eq!(
            laid_out(&[0x5_0000, 0x1_0000]),
            [(0x5_0000, LEN + 1024), (0x1_0000, LEN + 1024)]
        );
        assert_eq!(laid_out(&[]), []);
    }

    #[test]
    fn no_page_is_read_that_has_no_frame() {
        let ends = |at: u64| laid_out(&[at]).iter().map(|(at, len)| at + *len as u64).next();
        assert_eq!(ends(0x1_0f00), Some(0x1_1000));
        assert_eq!(ends(0x1_0000 - LEN as u64), Some(0x1_0000));
        // Its end is on the next.
        assert_eq!(ends(0x1_0ff8), Some(0x1_0ff8 + LEN as u64 + 1024));
    }

    #[test]
    fn what_was_read_is_found_and_nothing_else() {
        let mut stretches = Stretches::default();
        stretches.cover([Addr(0x2_0000), Addr(0x1_0000)].into_iter(), LEN);
        for (number, (_, bytes)) in (1..).zip(stretches.spans()) {
            bytes.fill(number);
        }
        assert_eq!(stretches.get(Addr(0x2_0000), LEN), None);
        stretches.were_read(1);
        assert_eq!(stretches.get(Addr(0x2_0000), LEN), Some(&[1; LEN][..]));
        assert_eq!(stretches.get(Addr(0x2_0000 + 1024), LEN), Some(&[1; LEN][..]));
        assert_eq!(stretches.get(Addr(0x2_0000 + 1025), LEN), None);
        assert_eq!(stretches.get(Addr(0x1_fff8), LEN), None);
        assert_eq!(stretches.get(Addr(0x1_0000), LEN), None);
        stretches.were_read(5);
        assert_eq!(stretches.get(Addr(0x1_0000), LEN), Some(&[2; LEN][..]));
        // What is covered anew has not been read.
        stretches.cover([Addr(0x1_0000)].into_iter(), LEN);
        assert_eq!(stretches.get(Addr(0x1_0000), LEN), None);
    }

    #[test]
    fn made_up_frames_do_not_fill_our_memory() {
        let apart: Vec<u64> = (1..2049).map(|index| index * 1000).collect();
        let bytes: usize = laid_out(&apart).iter().map(|(_, len)| len).sum();
        assert_eq!(bytes, 2048 * LEN);
    }
}
