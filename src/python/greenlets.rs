//! Greenlets that are suspended: which there are, and where each was switched away from.
//!
//! A greenlet keeps its innermost frame object while it does not run; `greenlet` 2 and later in a C++
//! object behind it, earlier ones in itself. At which place depends on versions of both; as nothing else
//! in there is a frame object, the place is found by looking for one. C frames of the interpreter lie on
//! the part of the C stack that was moved away; the links between Python frames that are left lead past
//! them from `greenlet` 3.0.3 on.
//! <https://github.com/python-greenlet/greenlet/blob/3.1.1/src/greenlet/TGreenlet.hpp> and
//! <https://github.com/python-greenlet/greenlet/blob/1.1.3/src/greenlet/greenlet.h>

use std::collections::HashMap;

use super::Interpreter;
use super::frames::RawStack;
use super::gc_objects::{MAX_OBJECTS, Walked, each_object};
use super::interpreters::interpreters;
use super::loaded::module_dict;
use super::suspended::chain_of;
use crate::target::{Fields, ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// The class that they are, or are derived from.
const CLASS: &str = "greenlet.greenlet";
/// `tp_basicsize` of a greenlet that keeps a pointer to its state, `pimpl`, and where that lies: behind
/// the header, `weakreflist` and `dict`.
const WITH_POINTER: u64 = 40;
const POINTER: u64 = 32;
/// Most words of its state: 24 of `UserGreenlet` (3.5.6 on 3.12), 20 of greenlet 1.1.
const MAX_WORDS: u64 = 32;
const FEWEST_WORDS: u64 = 17;
/// `stack_state` begins so many words before `_top_frame`: five of its own, and the context. Its first
/// two are the ends of the greenlet's part of the C stack.
const STACK_BEFORE: usize = 6;
/// Most greenlets that are read: a server of ten thousand connections has as many.
pub const MAX_GREENLETS: usize = 1 << 14;

/// The greenlets of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GreenletList {
    /// Their objects.
    pub greenlets: Vec<Addr>,
    /// Whether these are all.
    pub walked: Walked,
}

/// All greenlets; `None` in a process that has not imported `greenlet`. Looks at every object that the
/// collector knows: some microseconds each.
///
/// # Errors
/// [`ReadError::Gone`] or [`ReadError::Denied`], or when the interpreters' tables cannot be read.
pub fn greenlets(python: &Interpreter<'_>) -> Result<Option<GreenletList>, ReadError> {
    greenlets_among(python, MAX_OBJECTS)
}

/// The same of the first `most` objects.
///
/// # Errors
/// As [`greenlets`].
pub fn greenlets_among(
    python: &Interpreter<'_>,
    most: usize,
) -> Result<Option<GreenletList>, ReadError> {
    let mut list = None;
    for interpreter in interpreters(python)? {
        if module_dict(python, interpreter, "greenlet")?.is_none() {
            continue;
        }
        let found =
            list.get_or_insert_with(|| GreenletList { greenlets: Vec::new(), walked: Walked::All });
        let mut kinds: HashMap<Addr, bool> = HashMap::new();
        let walked = each_object(python, interpreter, most, |object, kind| {
            // Types that are no more may be met many times: they are not asked for again.
            let is_one = *kinds.entry(kind).or_insert_with(|| is_class(python, kind));
            if is_one && found.greenlets.len() < MAX_GREENLETS {
                found.greenlets.push(object);
            }
        })?;
        if walked != Walked::All {
            found.walked = walked;
        }
    }
    Ok(list)
}

fn is_class(python: &Interpreter<'_>, kind: Addr) -> bool {
    let names = python.objects().names_of_bases(kind);
    names.is_ok_and(|names| names.iter().any(|name| name == CLASS))
}

/// Whether a greenlet is at `addr`.
#[must_use]
pub fn is_greenlet(python: &Interpreter<'_>, addr: Addr) -> bool {
    python.objects().type_of(addr).is_ok_and(|kind| is_class(python, kind))
}

/// Where the greenlet at `addr` is parked; `None` for one that runs, has not begun or is over. The caller
/// has seen that it is one.
///
/// # Errors
/// When it cannot be read, or changes meanwhile.
pub fn parked_at(python: &Interpreter<'_>, addr: Addr) -> Result<Option<RawStack>, ReadError> {
    let words = state_of(python, addr)?;
    let Some(place) = frame_place(python, &words) else { return Ok(None) };
    let Some(frame) = words.get(place).copied() else { return Ok(None) };
    let stack = place.checked_sub(STACK_BEFORE).and_then(|at| words.get(at..)).unwrap_or_default();
    let range = match stack {
        [start, stop, ..] if start < stop => *start..*stop,
        _ => Addr(0)..Addr(0),
    };
    let stack = chain_of(python, frame, range.clone())?;
    if state_of(python, addr)? != words || chain_of(python, frame, range)? != stack {
        return Err(ReadError::Invalid("greenlet that holds still"));
    }
    Ok(Some(stack))
}

/// The main greenlet of the thread that the greenlet at `addr` belongs to, and its parent, as far as they
/// are parked. The main one's stack goes down to where the thread began.
///
/// # Errors
/// When it cannot be read.
pub fn kin_of(python: &Interpreter<'_>, addr: Addr) -> Result<Vec<(Addr, RawStack)>, ReadError> {
    let objects = python.objects();
    let mut kin: Vec<(Addr, RawStack)> = Vec::new();
    for word in state_of(python, addr)? {
        // A main greenlet, and eventlet's hub, are of the class itself; gevent's hub is of one of its own.
        let is_known = word == addr || kin.iter().any(|(one, _)| *one == word);
        if is_known || !objects.type_of(word).is_ok_and(|kind| is_class(python, kind)) {
            continue;
        }
        if let Ok(Some(stack)) = parked_at(python, word) {
            kin.push((word, stack));
        }
    }
    Ok(kin)
}

/// The words of a greenlet's state.
fn state_of(python: &Interpreter<'_>, addr: Addr) -> Result<Vec<Addr>, ReadError> {
    let offsets = &python.layout.offsets.object;
    let kind = base(python, addr)?;
    let size = python.memory.read_u64(kind.at(offsets.tp_basicsize))?;
    let (at, most) = if size == WITH_POINTER {
        (python.memory.read_pointer(addr.at(POINTER))?, MAX_WORDS)
    } else {
        (addr, (size / 8).min(MAX_WORDS))
    };
    if !at.is_plausible() {
        return Err(ReadError::Invalid("greenlet"));
    }
    let read = |words: u64| {
        let len = usize::try_from(words.saturating_mul(8));
        python.memory.read_vec(at, len.map_err(|_| ReadError::Invalid("greenlet"))?)
    };
    // At the very end of mapped memory there may be no more.
    let bytes = read(most).or_else(|_| read(most.min(FEWEST_WORDS)))?;
    let count = u64::try_from(bytes.len() / 8).unwrap_or_default();
    let fields = Fields(&bytes);
    (0..count).map(|word| fields.pointer(word.saturating_mul(8))).collect()
}

/// The class [`CLASS`] of a greenlet.
fn base(python: &Interpreter<'_>, addr: Addr) -> Result<Addr, ReadError> {
    let objects = python.objects();
    let bases = objects.bases(objects.type_of(addr)?)?;
    let found =
        bases.into_iter().find(|kind| objects.name_of_type(*kind).is_ok_and(|name| name == CLASS));
    found.ok_or(ReadError::Invalid("greenlet"))
}

/// Which of the words is the frame object.
fn frame_place(python: &Interpreter<'_>, words: &[Addr]) -> Option<usize> {
    let objects = python.objects();
    words.iter().position(|word| objects.type_name(*word).is_ok_and(|name| name == "frame"))
}
