//! Every object that the garbage collector keeps track of: a walk along its lists.
//!
//! Takes an interpreter, gives the addresses of objects and their types, one read each. The lists change
//! while the process runs: a link that does not lead back ends its list, and that is told. Never walks
//! more than it is allowed.

use super::Interpreter;
use super::gc::generations;
use crate::target::{Fields, ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// `PyGC_Head`: next and previous, of which the lowest two bits are flags
/// (Include/internal/pycore_gc.h, 3.8 to 3.15). The object follows.
const HEADER: u64 = 16;
const FLAGS: u64 = 3;
/// Header, reference count and type.
const NODE: usize = 32;
/// Most objects that are looked at: some 2 s of reads.
pub const MAX_OBJECTS: usize = 2_000_000;

/// How far a walk came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walked {
    /// Along every list to its end.
    All,
    /// A list changed meanwhile, or there are too many objects.
    Partly,
    /// How this CPython keeps its lists is not known.
    Unknown,
}

/// Calls `visit` with each object's address and its type's, of at most `most` objects.
///
/// # Errors
/// Only [`ReadError::Gone`] and [`ReadError::Denied`].
pub fn each_object(
    python: &Interpreter<'_>,
    interpreter: Addr,
    most: usize,
    mut visit: impl FnMut(Addr, Addr),
) -> Result<Walked, ReadError> {
    let Some(heads) = generations(python, interpreter) else { return Ok(Walked::Unknown) };
    let mut walked = Walked::All;
    let mut left = most.min(MAX_OBJECTS);
    for head in heads {
        if !along(python, head, &mut left, &mut visit)? {
            walked = Walked::Partly;
        }
    }
    Ok(walked)
}

/// Whether the list was walked to its end.
fn along(
    python: &Interpreter<'_>,
    head: Addr,
    left: &mut usize,
    visit: &mut impl FnMut(Addr, Addr),
) -> Result<bool, ReadError> {
    let unless_over = |error| match error {
        ReadError::Gone | ReadError::Denied => Err(error),
        _ => Ok(false),
    };
    let mut before = head;
    let mut next = match python.memory.read_pointer(head) {
        Ok(next) => next,
        Err(error) => return unless_over(error),
    };
    let mut node = [0; NODE];
    let offset = HEADER.saturating_add(python.layout.offsets.object.ob_type);
    while next != head {
        let Some(fewer) = left.checked_sub(1) else { return Ok(false) };
        *left = fewer;
        if !next.is_plausible() {
            return Ok(false);
        }
        if let Err(error) = python.memory.read(next, &mut node) {
            return unless_over(error);
        }
        let fields = Fields(&node);
        let (Ok(following), Ok(back), Ok(kind)) =
            (fields.pointer(0), fields.u64(8), fields.pointer(offset))
        else {
            return Ok(false);
        };
        // While a collection runs this word counts references instead, and lists are apart.
        if Addr(back & !FLAGS) != before {
            return Ok(false);
        }
        visit(next.at(HEADER), kind);
        before = next;
        next = Addr(following.0 & !FLAGS);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::shape::Generations;
    use crate::layout::{Layout, tables};
    use crate::target::image::ImageMemory;

    const INTERPRETER: Addr = Addr(0x5000_0000_0000);
    const RUNTIME: Addr = Addr(0x5100_0000_0000);
    const NODES: Addr = Addr(0x5200_0000_0000);
    const TYPE: Addr = Addr(0x5300_0000_0000);

    /// The place of a node's header.
    fn node(number: u64) -> Addr {
        NODES.at(number * 64)
    }

    /// Three empty generations but for the first, which has `count` objects.
    fn build(layout: &Layout, count: u64) -> (ImageMemory, Addr) {
        let Generations::Counted { before } = layout.shape.generations else {
            panic!("{:?}", layout.version)
        };
        let flag = match layout.offsets.interpreter.gc_collecting {
            Some(offset) => INTERPRETER.at(offset),
            None => RUNTIME.at(layout.offsets.runtime.gc_collecting.unwrap()),
        };
        let first = Addr(flag.0 - before);
        let mut memory = ImageMemory::new();
        let mut words = |at: Addr, words: [Addr; 2]| {
            memory.insert(at, &words.map(|word| word.0.to_le_bytes()).concat());
        };
        words(Addr(first.0 - 64), [Addr(0), Addr(0)]);
        for generation in 0..3 {
            let head = first.at(24 * generation);
            words(head, [head, head]);
            words(head.at(16), [Addr(700), Addr(0)]);
        }
        for number in 0..count {
            let next = if number + 1 == count { first } else { node(number + 1) };
            let back = if number == 0 { first } else { node(number - 1) };
            // The flags of an object with a finalizer.
            words(node(number), [next, Addr(back.0 | 1)]);
            words(node(number).at(16), [Addr(1), TYPE]);
        }
        if count > 0 {
            words(first, [node(0), node(count - 1)]);
            words(first.at(16), [Addr(700), Addr(0)]);
            let second = first.at(24);
            words(second, [second, second]);
        }
        (memory, first)
    }

    fn walk(layout: &Layout, memory: &ImageMemory) -> (Walked, Vec<(Addr, Addr)>) {
        let python = Interpreter::new(memory, layout, RUNTIME);
        let mut seen = Vec::new();
        let walked = each_object(&python, INTERPRETER, MAX_OBJECTS, |object, kind| {
            seen.push((object, kind))
        });
        (walked.unwrap(), seen)
    }

    #[test]
    fn every_object_is_visited_once() {
        for layout in tables() {
            let (memory, _) = build(layout, 5);
            let (walked, seen) = walk(layout, &memory);
            let wanted: Vec<_> = (0..5).map(|number| (node(number).at(HEADER), TYPE)).collect();
            assert_eq!((walked, seen), (Walked::All, wanted), "{:?}", layout.version);
        }
    }

    #[test]
    fn a_list_that_does_not_lead_back_ends_there() {
        for layout in tables() {
            let (mut memory, _) = build(layout, 5);
            // From the third back to the first: a circle without the head.
            memory.insert(node(2), &node(0).0.to_le_bytes());
            let (walked, seen) = walk(layout, &memory);
            assert_eq!((walked, seen.len()), (Walked::Partly, 3), "{:?}", layout.version);
            let (mut memory, _) = build(layout, 5);
            memory.insert(node(1), &0xdead_0000_u64.to_le_bytes());
            let (walked, seen) = walk(layout, &memory);
            assert_eq!((walked, seen.len()), (Walked::Partly, 2), "{:?}", layout.version);
        }
    }
}
