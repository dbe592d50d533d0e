//! Words from a target or a file made safe to print.
//!
//! Function names, URLs and command lines are chosen by whoever wrote the program or sent the
//! request. Printed as they are they could move a terminal's cursor, break a line-based format or
//! make a file that is not XML. Knows only characters.

use std::borrow::Cow;

/// Stands for what may not be printed.
const SUBSTITUTE: char = '\u{fffd}';

/// `text` with every character that controls instead of shows replaced by `�`.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(is_unprintable) {
        Cow::Owned(text.replace(is_unprintable, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// As [`printable`], at most `most` characters, the last one `…` where more were cut.
#[must_use]
pub fn shortened(text: &str, most: usize) -> String {
    let safe = |c: char| if is_unprintable(c) { SUBSTITUTE } else { c };
    if text.chars().count() <= most {
        return text.chars().map(safe).collect();
    }
    text.chars().take(most.saturating_sub(1)).map(safe).chain(['…']).collect()
}

/// Control characters, line and paragraph separators, marks that reorder the text around them
/// (Unicode Standard Annex #9, table 2), and the two code points XML 1.0 excludes.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controls_a_terminal_is_replaced() {
        assert_eq!(printable("plain ünïcode 表"), "plain ünïcode 表");
        assert_eq!(printable("a\x1b[31mb\n\u{9b}c\u{202e}"), "a�[31mb��c�");
    }

    #[test]
    fn shortening_counts_characters() {
        assert_eq!(shortened("ünï", 3), "ünï");
        assert_eq!(shortened("ünïc", 3), "ün…");
        assert_eq!(shortened("ab\x07d", 4), "ab�d");
        assert_eq!(shortened("ab", 0), "…");
    }
}
