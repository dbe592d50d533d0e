//! The offsets CPython publishes about itself at the start of `_PyRuntime` since 3.13.
//!
//! Takes the bytes found there, gives a [`Layout`]. The bytes are another process's, so untrusted:
//! they are checked once, here, and everything after relies on it. Does no I/O, and never guesses:
//! what does not add up is an error.
//!
//! The slots are `uint64_t`s in an order that differs between minor versions (3.14 and 3.15 insert
//! some), never within one. Values do differ within one: the size of `PyThreadState` is 304 in
//! 3.13.0 and 312 in 3.13.18. See `_Py_DebugOffsets` in
//! <https://github.com/python/cpython/blob/v3.14.0/Include/internal/pycore_debug_offsets.h>.

use super::LayoutError;
use super::cpython::SLOT_TABLES;
use super::shape::{
    AsyncioOffsets, CodeOffsets, FrameOffsets, Generations, GilHome, GilOffsets,
    InterpreterOffsets, Layout, ObjectOffsets, Offsets, RuntimeOffsets, Shape, ThreadOffsets,
};

/// The first bytes of `_PyRuntime` in versions that publish their offsets.
pub const DEBUG_COOKIE: &[u8; 8] = b"xdebugpy";

/// Bytes to read from `_PyRuntime` for [`from_debug_offsets`]: enough for every known version, and
/// well inside `_PyRuntime` (280 kB and more) in all of them.
pub const DEBUG_OFFSETS_LEN: usize = 1024;

/// The most a section's size can be, in bytes. The largest real ones are 347 kB (`_PyRuntime`) and
/// 226 kB (`PyInterpreterState`), both in 3.15.
const MAX_SIZE: u64 = 8 << 20;

/// The most an offset can be in a section that states no size of its own, in bytes. The largest
/// real one is `debugger_script_path_size`, 512.
const MAX_UNSIZED: u64 = 64 << 10;

/// The most an offset can be in `struct _gil_runtime_state`, in bytes: the struct takes 208 on x86_64
/// with glibc 2.36, most of them for its locks.
const MAX_IN_GIL: u64 = 512;
/// The 3.14 release in which the generational collector came back
/// (<https://github.com/python/cpython/issues/148726>).
const FIRST_3_14_WITH_GENERATIONS: u8 = 5;

/// What must be known beforehand to read one minor version's debug offsets.
#[derive(Debug)]
pub(super) struct SlotTable {
    /// Minor version: the `y` of 3.y.
    pub minor: u8,
    /// `section.field` of each slot after `cookie`, `version` and `free_threaded`.
    pub slots: &'static [&'static str],
    /// What means something different.
    pub shape: Shape,
    /// Offsets in objects as in the headers; the target's own go before them.
    pub object: ObjectOffsets,
    /// Offsets in asyncio's objects, of which nothing is published here.
    pub asyncio: AsyncioOffsets,
}

/// Slots before the first of [`SlotTable::slots`].
const HEADER_WORDS: usize = 3;

/// One target's values, each with its name.
struct Slots(Vec<(&'static str, u64)>);

impl Slots {
    fn find(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(slot, _)| *slot == name).map(|(_, value)| *value)
    }

    /// The names of all slots whose value cannot be: the sign of a wrong table.
    fn inconsistent(&self) -> Vec<&'static str> {
        let bad = |&(name, value): &(&'static str, u64)| !self.is_consistent(name, value);
        self.0.iter().filter(|slot| bad(slot)).map(|(name, _)| *name).collect()
    }

    fn is_consistent(&self, name: &str, value: u64) -> bool {
        let (section, field) = name.split_once('.').unwrap_or((name, ""));
        match (section, field) {
            (_, "size") => (1..=MAX_SIZE).contains(&value),
            // A size inside a section, so it may be all of it.
            ("unicode_object", "asciiobject_size" | "compactunicodeobject_size") => {
                self.size(section).is_some_and(|size| value > 0 && value <= size)
            }
            (_, "generation_stats_size") => value <= MAX_SIZE,
            // These lie in other sections' structs.
            ("debugger_support", "eval_breaker" | "remote_debugger_support") => {
                self.size("thread_state").is_some_and(|size| value < size)
            }
            ("debugger_support", "remote_debugging_enabled") => {
                self.size("interpreter_state").is_some_and(|size| value < size)
            }
            _ => value < self.size(section).unwrap_or(MAX_UNSIZED),
        }
    }

    fn size(&self, section: &str) -> Option<u64> {
        let named = |name: &str| name.split_once('.') == Some((section, "size"));
        self.0.iter().find(|(name, _)| named(name)).map(|(_, size)| *size)
    }
}

/// Reads the debug offsets at the start of `_PyRuntime` (pass [`DEBUG_OFFSETS_LEN`] bytes of it).
/// Gives the layout and the full version, as `3.14.0` or `3.15.0rc1`.
///
/// # Errors
/// Any [`LayoutError`]: [`NoCookie`](LayoutError::NoCookie) for older versions,
/// [`UnknownVersion`](LayoutError::UnknownVersion) for newer ones.
pub fn from_debug_offsets(bytes: &[u8]) -> Result<(Layout, String), LayoutError> {
    if !bytes.starts_with(DEBUG_COOKIE) {
        return Err(LayoutError::NoCookie);
    }
    let (words, _) = bytes.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let [_, hexversion, free_threaded, ..] = words.as_slice() else {
        return Err(short("?", bytes, HEADER_WORDS));
    };
    let Ok(hexversion) = u32::try_from(*hexversion) else {
        return Err(LayoutError::UnknownVersion { version: format!("{hexversion:#x}") });
    };
    let version = version_name(hexversion);
    let [major, minor, ..] = hexversion.to_be_bytes();
    let Some(table) = SLOT_TABLES.iter().find(|table| (major, minor) == (3, table.minor)) else {
        return Err(LayoutError::UnknownVersion { version });
    };
    // The seam for free-threaded builds: their tables would be chosen here.
    if *free_threaded != 0 {
        return Err(LayoutError::FreeThreaded { version });
    }
    let mut layout = read(table, &words).map_err(|fault| match fault {
        Fault::Short => short(&version, bytes, table.slots.len().saturating_add(HEADER_WORDS)),
        Fault::Inconsistent(slots) => LayoutError::Inconsistent { version: version.clone(), slots },
    })?;
    let [_, _, micro, _] = hexversion.to_be_bytes();
    if minor == 14 && micro < FIRST_3_14_WITH_GENERATIONS {
        layout.shape.generations = Generations::Unknown;
    }
    Ok((layout, version))
}

fn short(version: &str, bytes: &[u8], words: usize) -> LayoutError {
    LayoutError::Short {
        version: version.to_owned(),
        got: bytes.len(),
        need: words.saturating_mul(8),
    }
}

/// Why a table's slots cannot be read from some words.
enum Fault {
    Short,
    Inconsistent(Vec<&'static str>),
}

/// Reads words that should be as `table` says.
fn read(table: &SlotTable, words: &[u64]) -> Result<Layout, Fault> {
    let values = words.get(HEADER_WORDS..).unwrap_or_default();
    if values.len() < table.slots.len() {
        return Err(Fault::Short);
    }
    let slots = Slots(table.slots.iter().copied().zip(values.iter().copied()).collect());
    let inconsistent = slots.inconsistent();
    if !inconsistent.is_empty() {
        return Err(Fault::Inconsistent(inconsistent));
    }
    let offsets = offsets(table, &slots).map_err(|slot| Fault::Inconsistent(vec![slot]))?;
    Ok(Layout { version: (3, table.minor), shape: table.shape, offsets })
}

/// Puts the slots where stallspy looks for them. Errs with the name of a slot that is not there,
/// which a table makes impossible (see the tests).
fn offsets(table: &SlotTable, slots: &Slots) -> Result<Offsets, &'static str> {
    let at = |name: &'static str| slots.find(name).ok_or(name);
    let or = |name, header| slots.find(name).unwrap_or(header);
    let header = &table.object;
    let gil = at("interpreter_state.gil_runtime_state")?;
    let in_gil = |name| at(name)?.checked_sub(gil).filter(|at| *at <= MAX_IN_GIL).ok_or(name);
    Ok(Offsets {
        runtime: RuntimeOffsets {
            size: at("runtime_state.size")?,
            interpreters_head: at("runtime_state.interpreters_head")?,
            gc_collecting: None,
        },
        interpreter: InterpreterOffsets {
            next: at("interpreter_state.next")?,
            threads_head: at("interpreter_state.threads_head")?,
            modules: at("interpreter_state.imports_modules")?,
            sysdict: at("interpreter_state.sysdict")?,
            gc_collecting: at("interpreter_state.gc")?.checked_add(at("gc.collecting")?),
        },
        gil: GilOffsets {
            // Its members are published as if it lay in the interpreter; that it does not have to,
            // as an interpreter may share another's (`_PyEval_InitGIL`, Python/ceval_gil.c).
            home: GilHome::Interpreter(at("interpreter_state.ceval_gil")?),
            last_holder: in_gil("interpreter_state.gil_runtime_state_holder")?,
            locked: in_gil("interpreter_state.gil_runtime_state_locked")?,
        },
        thread: ThreadOffsets {
            size: at("thread_state.size")?,
            next: at("thread_state.next")?,
            interp: at("thread_state.interp")?,
            thread_id: at("thread_state.thread_id")?,
            native_thread_id: Some(at("thread_state.native_thread_id")?),
            frame: at("thread_state.current_frame")?,
            cframe_current_frame: 0,
            dict: None,
        },
        frame: FrameOffsets {
            code: at("interpreter_frame.executable")?,
            previous: at("interpreter_frame.previous")?,
            instruction: at("interpreter_frame.instr_ptr")?,
            localsplus: at("interpreter_frame.localsplus")?,
            // 3.13 does not publish `stacktop`: an `int`, followed by `return_offset` and `owner`, which
            // fill the word before `localsplus` (Include/internal/pycore_frame.h, v3.13.0).
            stack_top: match slots.find("interpreter_frame.stackpointer") {
                Some(pointer) => pointer,
                None => at("interpreter_frame.localsplus")?.saturating_sub(8),
            },
            owner: Some(at("interpreter_frame.owner")?),
            is_entry: None,
        },
        code: CodeOffsets {
            name: at("code_object.name")?,
            filename: at("code_object.filename")?,
            qualname: Some(at("code_object.qualname")?),
            firstlineno: at("code_object.firstlineno")?,
            linetable: at("code_object.linetable")?,
            localnames: at("code_object.localsplusnames")?,
            localkinds: Some(at("code_object.localspluskinds")?),
            cellvars: None,
            freevars: None,
            code_adaptive: Some(at("code_object.co_code_adaptive")?),
        },
        object: ObjectOffsets {
            ob_type: at("pyobject.ob_type")?,
            tp_name: at("type_object.tp_name")?,
            tp_flags: at("type_object.tp_flags")?,
            tp_basicsize: or("type_object.tp_basicsize", header.tp_basicsize),
            tp_dictoffset: or("type_object.tp_dictoffset", header.tp_dictoffset),
            ht_cached_keys: slots.find("heap_type_object.ht_cached_keys").or(header.ht_cached_keys),
            ascii_size: at("unicode_object.asciiobject_size")?,
            compact_size: or("unicode_object.compactunicodeobject_size", header.compact_size),
            unicode_length: at("unicode_object.length")?,
            unicode_state: at("unicode_object.state")?,
            bytes_size: at("bytes_object.ob_size")?,
            bytes_value: at("bytes_object.ob_sval")?,
            tuple_size: at("tuple_object.ob_size")?,
            tuple_items: at("tuple_object.ob_item")?,
            list_size: at("list_object.ob_size")?,
            list_items: at("list_object.ob_item")?,
            dict_keys: at("dict_object.ma_keys")?,
            dict_values: at("dict_object.ma_values")?,
            set_used: or("set_object.used", header.set_used),
            set_mask: or("set_object.mask", header.set_mask),
            set_table: or("set_object.table", header.set_table),
            float_value: at("float_object.ob_fval")?,
            int_tag: at("long_object.lv_tag")?,
            int_digits: at("long_object.ob_digit")?,
            ..*header
        },
        asyncio: table.asyncio,
    })
}

/// `PY_VERSION_HEX` (`sys.hexversion`) as text: `3.13.0`, `3.15.0a1`, `3.15.0rc2`.
#[must_use]
pub fn version_name(hexversion: u32) -> String {
    let [major, minor, micro, level_serial] = hexversion.to_be_bytes();
    let serial = level_serial & 0xf;
    match level_serial >> 4 {
        0xa => format!("{major}.{minor}.{micro}a{serial}"),
        0xb => format!("{major}.{minor}.{micro}b{serial}"),
        0xc => format!("{major}.{minor}.{micro}rc{serial}"),
        _ => format!("{major}.{minor}.{micro}"),
    }
}

#[cfg(test)]
mod tests;
