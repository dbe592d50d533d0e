//! The parts of the interpreter's main function that stripping leaves without a name.
//!
//! Compilers move code that profiles show to be rare away from its function (`f.cold`), and only
//! the debug information names it there. Distributions strip that, and the rare code of
//! `_PyEval_EvalFrameDefault` makes most of the calls that block. It is found by the jumps from the
//! part that has the name: takes a file and its unwind table, gives the ranges those lead into.

use std::ops::Range;

use super::registers::Registers;
use super::rules::{FrameEnd, UnwindTable};
use crate::target::ElfFile;

/// The function that runs Python code.
pub const EVAL: &str = "_PyEval_EvalFrameDefault";
/// Most bytes of it read; it has some 60 KiB.
const MOST: u64 = 256 << 10;
/// Most parts looked for; compilers make one.
const PARTS: usize = 4;

/// Where a frame ends before its function has done anything: behind the return address alone.
const AT_ENTRY: FrameEnd = FrameEnd::Register(Registers::STACK, 8);

/// Where the nameless parts of [`EVAL`] lie, without bias.
#[must_use]
pub fn parts(elf: &ElfFile, table: &UnwindTable) -> Vec<Range<u64>> {
    let mut parts: Vec<Range<u64>> = Vec::new();
    let Ok(Some((start, size))) = elf.symbol(EVAL) else { return parts };
    let own = start..start.saturating_add(size);
    let Ok(code) = elf.loaded_bytes(start, size.min(MOST)) else { return parts };
    for target in jumps(&code, start) {
        if own.contains(&target) || parts.iter().any(|part| part.contains(&target)) {
            continue;
        }
        // A jump to a function's beginning is a call of it.
        let is_inside = table.rule(target).is_some_and(|rule| rule.frame_end != AT_ENTRY);
        if is_inside {
            parts.extend(table.range(target));
        }
        if parts.len() >= PARTS {
            break;
        }
    }
    parts
}

/// Where jumps lead to that have their distance as a 32-bit number: `E9`, and `0F 80` to `0F 8F`
/// (Intel SDM volume 2, "JMP", "Jcc"). Any byte is taken for the beginning of one: distances that
/// are none lead to no part of a function.
#[cfg(target_arch = "x86_64")]
fn jumps(code: &[u8], start: u64) -> impl Iterator<Item = u64> {
    let end = move |at: usize, length: u64| {
        u64::try_from(at).ok().and_then(|at| start.checked_add(at)?.checked_add(length))
    };
    code.windows(6).enumerate().filter_map(move |(at, window)| {
        let &[a, b, c, d, e, f] = window else { return None };
        let (end, distance) = match (a, b) {
            (0xe9, _) => (end(at, 5)?, [b, c, d, e]),
            (0x0f, 0x80..=0x8f) => (end(at, 6)?, [c, d, e, f]),
            _ => return None,
        };
        end.checked_add_signed(i64::from(i32::from_le_bytes(distance)))
    })
}

/// Not looked for on other machines yet.
#[cfg(not(target_arch = "x86_64"))]
fn jumps(_: &[u8], _: u64) -> impl Iterator<Item = u64> {
    std::iter::empty()
}
