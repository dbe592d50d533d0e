//! Whether the garbage collector runs right now, and at which generation.
//!
//! `gc.collecting` is set for the length of a collection, by whichever thread runs it, under the
//! interpreter lock (`collect_main` and its like, Modules/gcmodule.c; Python/gc.c from 3.13 on).

use super::Interpreter;
use crate::layout::shape::Generations;
use crate::target::{Fields, RemoteMemoryExt};
use crate::units::Addr;

/// `struct gc_generation`: a list head of two pointers, the threshold and the count, both `int`
/// (Include/internal/pycore_gc.h, 3.8 to 3.15).
const GENERATION: usize = 24;
const COUNT: u64 = 20;
/// How much further ahead the generations may lie.
const ALIGNMENTS: [u64; 2] = [0, 4];
/// The oldest generation.
const OLDEST: u8 = 2;

/// Whether a collection is known to go on in `interpreter`.
#[must_use]
pub fn is_collecting(python: &Interpreter<'_>, interpreter: Addr) -> bool {
    // Any other value is no flag.
    flag(python, interpreter).is_some_and(|flag| python.memory.read_u32(flag) == Ok(1))
}

/// Which generation a collection that goes on is at: 0 to 2, where 2 is a full one. `None` where
/// that cannot be told.
///
/// A collection begins by setting the counts up to its generation to 0 and adding 1 to the next
/// one's (`gc_collect_main`). The few moments before that, when callbacks of `gc.callbacks` run, show
/// what the last collection left.
#[must_use]
pub fn generation(python: &Interpreter<'_>, interpreter: Addr) -> Option<u8> {
    let (_, counts) = place(python, interpreter)?;
    let next = (1..=OLDEST).zip(counts.iter().skip(1)).find(|(_, count)| **count != 0);
    Some(next.map_or(OLDEST, |(next, _)| next.saturating_sub(1)))
}

/// The heads of the lists of all objects that the collector keeps track of, the youngest first. `None`
/// where they cannot be told.
#[must_use]
pub fn generations(python: &Interpreter<'_>, interpreter: Addr) -> Option<Vec<Addr>> {
    let (first, counts) = place(python, interpreter)?;
    let stride = u64::try_from(GENERATION).unwrap_or_default();
    let places =
        (0..u64::try_from(counts.len()).unwrap_or_default()).map(|n| n.checked_mul(stride));
    places.map(|offset| Some(first.at(offset?))).collect()
}

/// Where the generations lie, and their counts.
fn place(python: &Interpreter<'_>, interpreter: Addr) -> Option<(Addr, Vec<u32>)> {
    let Generations::Counted { before } = python.layout.shape.generations else { return None };
    let flag = flag(python, interpreter)?;
    let mut found = ALIGNMENTS.iter().filter_map(|more| {
        let first = Addr(flag.0.checked_sub(before.checked_add(*more)?)?);
        Some((first, counts(python, first)?))
    });
    let (place, other) = (found.next()?, found.next());
    // Else either could be it.
    other.is_none().then_some(place)
}

/// The counts of the generations at `first`, if generations are there: lists have no null in them.
fn counts(python: &Interpreter<'_>, first: Addr) -> Option<Vec<u32>> {
    let length = GENERATION.saturating_mul(usize::from(OLDEST).saturating_add(1));
    let bytes = python.memory.read_vec(first, length).ok()?;
    let one = |bytes: &[u8]| {
        let fields = Fields(bytes);
        let is_link = |offset| {
            fields.u64(offset).is_ok_and(|link| {
                // A head's own links carry no flags (`gc_list_init`, `gc_list_merge`); those of an
                // empty list lead to itself.
                Addr(link).is_plausible() && link.trailing_zeros() >= 2
            })
        };
        (is_link(0) && is_link(8)).then(|| fields.u32(COUNT).ok()).flatten()
    };
    bytes.chunks_exact(GENERATION).map(one).collect()
}

fn flag(python: &Interpreter<'_>, interpreter: Addr) -> Option<Addr> {
    let offsets = &python.layout.offsets;
    match (offsets.interpreter.gc_collecting, offsets.runtime.gc_collecting) {
        (Some(offset), _) => Some(interpreter.at(offset)),
        (None, Some(offset)) => Some(python.runtime.at(offset)),
        (None, None) => None,
    }
}
