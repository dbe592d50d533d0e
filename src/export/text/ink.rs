//! Lines on a terminal: colours and wrapping. Knows nothing of stalls.
//!
//! Widths are counted in characters; text is made printable on the way out, so that nothing a
//! target names itself can move the cursor.

use std::io::{self, Write};

use crate::printable::printable;

/// How a piece of text stands out. Without colour all are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    /// As it is.
    Plain,
    /// What the eye should find.
    Bold,
    /// What it may skip.
    Dim,
    /// Bad.
    Alarm,
    /// Bad, in a sentence.
    AlarmBold,
    /// Not so bad, or not certain.
    Warning,
    /// Good.
    Good,
    /// A request.
    Request,
}

impl Ink {
    /// The same for running text.
    pub(super) fn strong(self) -> Ink {
        match self {
            Ink::Alarm => Ink::AlarmBold,
            other => other,
        }
    }

    /// The ANSI (ECMA-48 SGR) codes; the eight basic colours follow the terminal's own theme.
    fn codes(self) -> Option<&'static str> {
        match self {
            Ink::Plain => None,
            Ink::Bold => Some("1"),
            Ink::Dim => Some("2"),
            Ink::Alarm => Some("1;7;31"),
            Ink::AlarmBold => Some("1;31"),
            Ink::Warning => Some("33"),
            Ink::Good => Some("1;32"),
            Ink::Request => Some("36"),
        }
    }
}

/// A piece of a line that is never broken, and what stands before it unless it begins the line.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) glue: &'static str,
    pub(super) ink: Ink,
    pub(super) text: String,
}

impl Piece {
    /// A piece after two spaces.
    pub(super) fn new(ink: Ink, text: impl Into<String>) -> Piece {
        Piece { glue: "  ", ink, text: text.into() }
    }

    /// A piece after one space.
    pub(super) fn word(ink: Ink, text: impl Into<String>) -> Piece {
        Piece { glue: " ", ink, text: text.into() }
    }
}

/// Where lines go.
pub(super) struct Page<'a> {
    out: &'a mut dyn Write,
    color: bool,
    width: usize,
}

impl<'a> Page<'a> {
    pub(super) fn new(out: &'a mut dyn Write, color: bool, width: usize) -> Page<'a> {
        Page { out, color, width }
    }

    /// Columns.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// An empty line.
    pub(super) fn blank(&mut self) -> io::Result<()> {
        self.out.write_all(b"\n")
    }

    /// One line.
    pub(super) fn line(&mut self, pieces: &[(Ink, &str)]) -> io::Result<()> {
        for (ink, text) in pieces {
            self.put(*ink, text)?;
        }
        self.blank()
    }

    /// Pieces behind a head, broken between pieces where the line is full; further lines begin
    /// below the end of the head.
    pub(super) fn wrapped(&mut self, head: &[(Ink, &str)], pieces: &[Piece]) -> io::Result<()> {
        let indent: usize = head.iter().map(|(_, text)| columns(text)).sum();
        for (ink, text) in head {
            self.put(*ink, text)?;
        }
        let mut column = indent;
        // Neighbours of the same ink are put down together, to keep the escapes few.
        let mut run = (Ink::Plain, String::new());
        for (index, piece) in pieces.iter().enumerate() {
            let glue = if index == 0 { "" } else { piece.glue };
            let full = column + columns(glue) + columns(&piece.text) > self.width;
            if index > 0 && full {
                self.put(run.0, &run.1)?;
                write!(self.out, "\n{:indent$}", "")?;
                run = (piece.ink, piece.text.clone());
                column = indent + columns(&piece.text);
                continue;
            }
            if piece.ink != run.0 {
                self.put(run.0, &run.1)?;
                self.put(Ink::Plain, glue)?;
                run = (piece.ink, String::new());
            } else {
                run.1.push_str(glue);
            }
            run.1.push_str(&piece.text);
            column += columns(glue) + columns(&piece.text);
        }
        self.put(run.0, &run.1)?;
        self.blank()
    }

    /// Running text behind a head.
    pub(super) fn prose(&mut self, head: &[(Ink, &str)], ink: Ink, text: &str) -> io::Result<()> {
        let words: Vec<Piece> =
            text.split_whitespace().map(|word| Piece::word(ink, word)).collect();
        self.wrapped(head, &words)
    }

    fn put(&mut self, ink: Ink, text: &str) -> io::Result<()> {
        let text = printable(text);
        match ink.codes().filter(|_| self.color && !text.is_empty()) {
            Some(codes) => write!(self.out, "\x1b[{codes}m{text}\x1b[0m"),
            None => self.out.write_all(text.as_bytes()),
        }
    }
}

/// How many columns a text takes.
pub(super) fn columns(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(color: bool, width: usize, draw: impl FnOnce(&mut Page<'_>)) -> String {
        let mut out = Vec::new();
        draw(&mut Page::new(&mut out, color, width));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn pieces_wrap_below_the_head() {
        let pieces = [Piece::new(Ink::Plain, "abc"), Piece::new(Ink::Plain, "def")];
        let draw =
            |width| page(false, width, |page| page.wrapped(&[(Ink::Bold, "> ")], &pieces).unwrap());
        assert_eq!(draw(10), "> abc  def\n");
        assert_eq!(draw(9), "> abc\n  def\n");
        assert_eq!(draw(1), "> abc\n  def\n", "a piece is never broken");
    }

    #[test]
    fn escapes_are_ours_alone() {
        let drawn = page(true, 80, |page| page.line(&[(Ink::Bold, "a\x1b[2Jb")]).unwrap());
        assert_eq!(drawn, "\x1b[1ma\u{fffd}[2Jb\x1b[0m\n");
    }
}
