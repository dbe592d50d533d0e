//! One file per CPython minor version. A new one adds its file, a `mod` line, and a line below.

use super::debug_offsets::SlotTable;
use super::shape::Layout;

mod v3_10;
mod v3_11;
mod v3_12;
mod v3_13;
mod v3_14;
mod v3_15;
mod v3_8;
mod v3_9;

/// Versions that publish nothing about themselves: their layouts are known beforehand.
pub(super) static LAYOUTS: [&Layout; 5] =
    [&v3_8::LAYOUT, &v3_9::LAYOUT, &v3_10::LAYOUT, &v3_11::LAYOUT, &v3_12::LAYOUT];

/// Versions that publish their offsets: only the order is known beforehand.
pub(super) static SLOT_TABLES: [&SlotTable; 3] = [&v3_13::TABLE, &v3_14::TABLE, &v3_15::TABLE];
