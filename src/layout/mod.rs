//! Struct layouts as data. No I/O; the only place where CPython versions are compared.

pub mod shape;

pub use shape::{Layout, Offsets, Shape};
