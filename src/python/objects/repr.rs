//! Objects as text, to show local variables. No code runs in the target, so this is not its
//! `repr()`: an object of an unknown kind is shown by its type and address.

use std::fmt::Write;

use super::numbers::TOO_LARGE;
use super::types::{BYTES, DICT, INT, LIST, STR, TUPLE, TYPE, Type};
use super::{Objects, is_final};
use crate::target::ReadError;
use crate::units::Addr;

/// How much of an object is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReprLimits {
    /// Containers inside containers are followed so deep; 0 shows none of their items.
    pub depth: u8,
    /// Items shown of one container.
    pub items: usize,
    /// Characters in all, about: what is begun may add a few.
    pub length: usize,
}

impl Default for ReprLimits {
    /// A few lines of a terminal.
    fn default() -> ReprLimits {
        ReprLimits { depth: 3, items: 10, length: 240 }
    }
}

/// Stands for what is left out.
const MORE: &str = "...";
/// Stands for an item that could not be read.
const UNREADABLE: &str = "<?>";

impl Objects<'_> {
    /// The object at `addr` as text.
    ///
    /// # Errors
    /// [`ReadError`] when no object is there. Items that cannot be read show as `<?>`.
    pub fn repr(&self, addr: Addr, limits: ReprLimits) -> Result<String, ReadError> {
        let mut text = String::new();
        self.write_repr(&mut text, addr, limits)?;
        Ok(text)
    }

    fn write_repr(
        &self,
        out: &mut String,
        addr: Addr,
        limits: ReprLimits,
    ) -> Result<(), ReadError> {
        let kind = self.type_at(self.type_of(addr)?)?;
        let room = limits.length.saturating_sub(out.len());
        if kind.is(STR) {
            let (text, chars) = self.str_prefix(addr, room)?;
            write_str(out, &text, chars);
        } else if kind.is(BYTES) {
            let (bytes, len) = self.bytes_prefix(addr, room)?;
            write_bytes(out, &bytes, len);
        } else if kind.is(INT) {
            self.write_int(out, addr, &kind)?;
        } else if kind.is(TUPLE) {
            let (items, len) = self.sized_tuple(addr, limits.items)?;
            let close = if len == 1 { ",)" } else { ")" };
            self.write_items(out, ("(", close), &items, len, limits)?;
        } else if kind.is(LIST) {
            let (items, len) = self.sized_list(addr, limits.items)?;
            self.write_items(out, ("[", "]"), &items, len, limits)?;
        } else if kind.is(DICT) || kind.name == "frozendict" {
            self.write_dict(out, addr, limits)?;
        } else if kind.is(TYPE) {
            let _ = write!(out, "<class '{}'>", self.name_of_type(addr)?);
        } else {
            self.write_by_name(out, addr, &kind, limits)?;
        }
        Ok(())
    }

    fn write_by_name(
        &self,
        out: &mut String,
        addr: Addr,
        kind: &Type,
        limits: ReprLimits,
    ) -> Result<(), ReadError> {
        match kind.name.as_str() {
            "NoneType" => out.push_str("None"),
            "ellipsis" => out.push_str("Ellipsis"),
            "float" => write_float(out, self.float(addr)?),
            "set" => {
                let (items, len) = self.sized_set(addr, limits.items)?;
                let around = if len == 0 { ("set(", ")") } else { ("{", "}") };
                self.write_items(out, around, &items, len, limits)?;
            }
            "frozenset" => {
                let (items, len) = self.sized_set(addr, limits.items)?;
                let around = if len == 0 { ("frozenset(", ")") } else { ("frozenset({", "})") };
                self.write_items(out, around, &items, len, limits)?;
            }
            "collections.deque" => {
                let (items, len) = self.sized_deque(addr, limits.items)?;
                self.write_items(out, ("deque([", "])"), &items, len, limits)?;
            }
            name => {
                let _ = write!(out, "<{name} at {addr}>");
            }
        }
        Ok(())
    }

    fn write_int(&self, out: &mut String, addr: Addr, kind: &Type) -> Result<(), ReadError> {
        match self.int(addr) {
            Ok(value) if kind.name == "bool" => {
                out.push_str(if value == 0 { "False" } else { "True" });
            }
            Ok(value) => {
                let _ = write!(out, "{value}");
            }
            Err(TOO_LARGE) => out.push_str("<large int>"),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn write_dict(
        &self,
        out: &mut String,
        addr: Addr,
        limits: ReprLimits,
    ) -> Result<(), ReadError> {
        // Some of the first entries may be empty, so a few more are read than shown.
        let (entries, len) = self.sized_dict(addr, limits.items.saturating_mul(2))?;
        out.push('{');
        let mut shown = 0_usize;
        for (key, value) in entries.iter().take(limits.items) {
            if limits.depth == 0 || out.len() >= limits.length {
                break;
            }
            separate(out, shown);
            self.write_item(out, *key, limits)?;
            out.push_str(": ");
            self.write_item(out, *value, limits)?;
            shown = shown.saturating_add(1);
        }
        if shown < len {
            separate(out, shown);
            out.push_str(MORE);
        }
        out.push('}');
        Ok(())
    }

    fn write_items(
        &self,
        out: &mut String,
        (open, close): (&str, &str),
        items: &[Addr],
        len: usize,
        limits: ReprLimits,
    ) -> Result<(), ReadError> {
        out.push_str(open);
        let mut shown = 0_usize;
        for item in items {
            if limits.depth == 0 || out.len() >= limits.length {
                break;
            }
            separate(out, shown);
            self.write_item(out, *item, limits)?;
            shown = shown.saturating_add(1);
        }
        if shown < len {
            separate(out, shown);
            out.push_str(MORE);
        }
        out.push_str(close);
        Ok(())
    }

    /// One level down. Only a process that is gone ends the whole.
    fn write_item(
        &self,
        out: &mut String,
        addr: Addr,
        limits: ReprLimits,
    ) -> Result<(), ReadError> {
        let limits = ReprLimits { depth: limits.depth.saturating_sub(1), ..limits };
        let begun = out.len();
        match self.write_repr(out, addr, limits) {
            Err(error) if is_final(error) => Err(error),
            Err(_) => {
                out.truncate(begun);
                out.push_str(UNREADABLE);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

fn separate(out: &mut String, shown: usize) {
    if shown > 0 {
        out.push_str(", ");
    }
}

/// As Python's `repr` of a `float`, which differs from Rust's in the exponent only.
fn write_float(out: &mut String, value: f64) {
    let text = format!("{value:?}").to_lowercase();
    let _ = match text.split_once('e') {
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => write!(out, "{digits}e-{exponent:0>2}"),
            None => write!(out, "{digits}e+{exponent:0>2}"),
        },
        None => write!(out, "{text}"),
    };
}

/// As Python's `repr` of a `str`, with `...` after the closing quote when some is missing.
fn write_str(out: &mut String, text: &str, chars: usize) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    let mut shown = 0_usize;
    for character in text.chars() {
        write_char(out, character, quote);
        shown = shown.saturating_add(1);
    }
    out.push(quote);
    if shown < chars {
        out.push_str(MORE);
    }
}

fn write_bytes(out: &mut String, bytes: &[u8], len: usize) {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    out.push('b');
    out.push(quote);
    for byte in bytes {
        if byte.is_ascii() {
            write_char(out, char::from(*byte), quote);
        } else {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push(quote);
    if bytes.len() < len {
        out.push_str(MORE);
    }
}

fn write_char(out: &mut String, character: char, quote: char) {
    match character {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\\' => out.push_str("\\\\"),
        _ if character == quote => {
            out.push('\\');
            out.push(character);
        }
        // Control characters must not reach a terminal; all of them are below U+00A0.
        _ if character.is_control() => {
            let _ = write!(out, "\\x{:02x}", u32::from(character));
        }
        _ => out.push(character),
    }
}
