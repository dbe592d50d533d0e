//! Struct layouts as data. No I/O; the only place where CPython versions are compared.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))] // the numbers are a stranger's

mod asyncio_debug;
mod cpython;
mod debug_offsets;
pub mod libev;
mod libuv;
pub mod shape;

pub use asyncio_debug::{ASYNCIO_DEBUG_LEN, ASYNCIO_DEBUG_SECTION, AsyncioDebug};
pub use debug_offsets::{DEBUG_COOKIE, DEBUG_OFFSETS_LEN, from_debug_offsets, version_name};
pub use libuv::{LIBUV, LIBUV_SPAN, LibuvOffsets};
pub use shape::{Layout, Offsets, Shape};

/// The oldest CPython stallspy can read.
pub const OLDEST: (u8, u8) = (3, 8);

/// The newest CPython stallspy can read.
pub const NEWEST: (u8, u8) = (3, 15);

/// Why an interpreter's layout is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The bytes do not begin with [`DEBUG_COOKIE`]: CPython 3.12 or older, or no `_PyRuntime`.
    #[error("no CPython debug offsets there")]
    NoCookie,
    /// Fewer bytes than this version's debug offsets take.
    #[error("CPython {version}'s debug offsets take {need} bytes, only {got} could be read")]
    Short {
        /// As in `sys.version`.
        version: String,
        /// Bytes given.
        got: usize,
        /// Bytes needed.
        need: usize,
    },
    /// A version without a table here.
    #[error(
        "CPython {version} is not known to this stallspy, which knows {}.{} to {}.{}",
        OLDEST.0, OLDEST.1, NEWEST.0, NEWEST.1
    )]
    UnknownVersion {
        /// As in `sys.version`.
        version: String,
    },
    /// A free-threaded (`t`) build: its object headers differ and it has no GIL to reason about.
    #[error("this is a free-threaded build of CPython {version}, which stallspy cannot read")]
    FreeThreaded {
        /// As in `sys.version`.
        version: String,
    },
    /// What the interpreter says about itself cannot be.
    #[error(
        "CPython {version}'s debug offsets make no sense as stallspy reads them ({} of them, first {}): a pre-release or a patched build?",
        slots.len(), slots.first().copied().unwrap_or("none")
    )]
    Inconsistent {
        /// As in `sys.version`.
        version: String,
        /// `section.field` of every slot that is out of bounds, in the table's order.
        slots: Vec<&'static str>,
    },
}

/// The layouts of versions that do not publish their offsets (3.8 to 3.12), oldest first: the
/// candidates to try on a `_PyRuntime` without [`DEBUG_COOKIE`].
#[must_use]
pub fn tables() -> &'static [&'static Layout] {
    &cpython::LAYOUTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_from_oldest_to_newest_has_one_layout() {
        let minors: Vec<u8> = tables()
            .iter()
            .map(|layout| layout.version.1)
            .chain(cpython::SLOT_TABLES.iter().map(|table| table.minor))
            .collect();
        assert_eq!(minors, (OLDEST.1..=NEWEST.1).collect::<Vec<_>>());
    }
}
