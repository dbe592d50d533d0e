//! The interpreter view: what the target's bytes mean to Python. Reads only, concludes nothing.

pub mod line_table;
pub mod objects;
