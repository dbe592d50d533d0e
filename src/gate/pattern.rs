//! Patterns for known stalls: what `--allow` takes.

use std::fmt;
use std::str::FromStr;

use super::place_and_function;
use crate::model::{NameId, Stall, Tables};

/// Why a pattern is none. Its text says what is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

/// A pattern of `--allow`: text in which `*` stands for any characters, and which otherwise must
/// fit the whole.
///
/// It is tried on a stall's endpoint (`GET /export*`), and on its culprit's `file:line` and file
/// (each absolute, or from any directory on: `views.py:12`, `app/views.py`), function and system
/// call (`fsync`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        if text.trim().is_empty() {
            return Err(PatternError(
                "an empty pattern fits nothing: write an endpoint (`GET /export*`), a file \
                 (views.py), a line (views.py:12), a function or a system call (fsync); * stands \
                 for any characters"
                    .to_owned(),
            ));
        }
        Ok(Pattern(text.trim().to_owned()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Pattern {
    /// Whether the whole of `text` fits. Takes time linear in its length for every `*`.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        let mut pieces = self.0.split('*');
        let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else {
            return false;
        };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            // The earliest place leaves the most for what follows, so trying it alone is enough.
            match rest.split_once(piece) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last)
    }

    /// Whether a path fits as a whole or from one of its directories on.
    fn fits_path(&self, path: &str) -> bool {
        self.fits(path)
            || path
                .match_indices('/')
                .any(|(at, _)| path.get(at + 1..).is_some_and(|tail| self.fits(tail)))
    }

    /// Whether this pattern accepts a stall.
    #[must_use]
    pub fn accepts(&self, stall: &Stall, tables: &Tables) -> bool {
        let fits_name = |id: NameId| self.fits(tables.text(id));
        if stall.endpoint.is_some_and(fits_name) {
            return true;
        }
        let Some(culprit) = &stall.culprit else { return false };
        let waits = culprit.wait.and_then(|id| tables.get_wait(id));
        if waits.is_some_and(|wait| fits_name(wait.syscall)) {
            return true;
        }
        let Some(frame) = tables.get_frame(culprit.frame) else { return false };
        let (place, function) = place_and_function(tables, culprit.frame);
        self.fits(function)
            || self.fits_path(&place)
            || frame.file.is_some_and(|file| self.fits_path(tables.text(file)))
    }
}

/// Marks the stalls that any of the patterns accepts.
pub fn allow(stalls: &mut [Stall], tables: &Tables, patterns: &[Pattern]) {
    for stall in stalls {
        stall.allowed = patterns.iter().any(|pattern| pattern.accepts(stall, tables));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_wholes() {
        let fits = |pattern: &str, text: &str| pattern.parse::<Pattern>().unwrap().fits(text);
        assert!(fits("GET /export*", "GET /exports/7"));
        assert!(fits("*", ""));
        assert!(fits("a*b*c", "a--b--c"));
        assert!(fits("*ab", "aab"));
        assert!(fits("a**a", "aa"));
        assert!(!fits("a*a", "a"));
        assert!(!fits("export", "exports"));
        assert!(!fits("ab*bc", "abc"));
        assert!(!fits("a*b*c", "a--c--b"));
        assert!(" ".parse::<Pattern>().unwrap_err().to_string().contains("views.py:12"));
    }

    #[test]
    fn paths_fit_from_any_directory_on() {
        let fits =
            |pattern: &str| pattern.parse::<Pattern>().unwrap().fits_path("/srv/app/views.py:12");
        assert!(fits("views.py:12") && fits("app/views.py:12") && fits("/srv/*"));
        assert!(fits("views.py*") && fits("views.py:*"));
        assert!(!fits("iews.py:12") && !fits("views.py:1") && !fits("srv"));
    }
}
