//! How the JSON is laid out: the top level one key a line, each item of a top-level list on a line
//! of its own, so that `grep`, `head` and `diff` work on a report too.

use std::io::{self, Write};

use serde_json::ser::Formatter;

/// The depth of a report's keys, and of the items of its lists.
const KEYS: usize = 1;
const ITEMS: usize = 2;

/// A [`Formatter`] for reports.
#[derive(Debug, Default)]
pub(super) struct ItemPerLine {
    depth: usize,
    /// Whether the list at depth [`ITEMS`] has an item yet.
    has_items: bool,
}

impl Formatter for ItemPerLine {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.depth == ITEMS {
            self.has_items = false;
        }
        out.write_all(b"[")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        if self.depth == ITEMS {
            self.has_items = true;
            out.write_all(b"\n    ")
        } else if first {
            Ok(())
        } else {
            out.write_all(b" ")
        }
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        if self.depth == ITEMS && self.has_items {
            out.write_all(b"\n  ")?;
        }
        self.depth = self.depth.saturating_sub(1);
        out.write_all(b"]")
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        out.write_all(b"{")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        if self.depth == KEYS {
            out.write_all(b"\n  ")
        } else if first {
            Ok(())
        } else {
            out.write_all(b" ")
        }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        if self.depth == KEYS {
            out.write_all(b"\n")?;
        }
        self.depth = self.depth.saturating_sub(1);
        out.write_all(b"}")
    }
}
