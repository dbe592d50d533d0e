//! Function names as people write them, from the names that linkers use.
//!
//! C++ (Itanium ABI) and Rust names are written out, the marks that compilers put on copies of a
//! function and linkers on its versions are taken off. Names are hostile input: a short one may
//! stand for an endless one, so writing stops after 256 bytes.

use std::fmt::{self, Write};

use cpp_demangle::{BorrowedSymbol, DemangleOptions, ParseOptions};

/// Longest name written, in bytes. Longer ones are cut, and end in `…`.
const LONGEST: usize = 256;
/// How deep a C++ name may nest; cpp_demangle's own limit.
const NESTING: u32 = 96;

/// Marks of GCC's and Clang's on parts and copies of one function.
const COPIES: [&str; 7] = ["cold", "part", "constprop", "isra", "lto_priv", "localalias", "llvm"];

/// The name for people of the symbol `name`.
#[must_use]
pub fn demangled(name: &str) -> String {
    let name = name.split('@').next().unwrap_or(name);
    let whole = rust(name).or_else(|| cpp(unmarked(name)));
    let mut out = whole.unwrap_or_else(|| Bounded::of(unmarked(name)));
    if out.cut {
        out.text.push('…');
    }
    out.text
}

/// `name` without the marks of copies: `f.constprop.0`, `f.cold`.
fn unmarked(name: &str) -> &str {
    let mark = name.match_indices('.').find(|(at, _)| {
        let rest = name.get(at.saturating_add(1)..).unwrap_or_default();
        COPIES.contains(&rest.split('.').next().unwrap_or_default())
    });
    mark.and_then(|(at, _)| name.get(..at)).filter(|name| !name.is_empty()).unwrap_or(name)
}

fn rust(name: &str) -> Option<Bounded> {
    let found = rustc_demangle::try_demangle(name).ok()?;
    let mut out = Bounded::default();
    // Fails only where it was cut.
    let _ = write!(out, "{found:#}");
    Some(out)
}

fn cpp(name: &str) -> Option<Bounded> {
    if !name.starts_with("_Z") {
        return None;
    }
    let parse = ParseOptions::default().recursion_limit(NESTING);
    let (symbol, _) = BorrowedSymbol::with_tail_and_options(name.as_bytes(), &parse).ok()?;
    let options = DemangleOptions::new().no_params().no_return_type().recursion_limit(NESTING);
    let mut out = Bounded::default();
    let written = symbol.structured_demangle(&mut out, &options);
    (written.is_ok() || out.cut).then_some(out).filter(|out| !out.text.is_empty())
}

/// Text that takes no more than [`LONGEST`] bytes.
#[derive(Default)]
struct Bounded {
    text: String,
    cut: bool,
}

impl Bounded {
    fn of(text: &str) -> Bounded {
        let mut out = Bounded::default();
        let _ = out.write_str(text);
        out
    }
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = LONGEST.saturating_sub(self.text.len());
        let fits = prefix(more, room);
        self.text.push_str(fits);
        self.cut = self.cut || fits.len() < more.len();
        if self.cut { Err(fmt::Error) } else { Ok(()) }
    }
}

/// As much of `text` as `most` bytes hold, by whole characters.
fn prefix(text: &str, most: usize) -> &str {
    (0..=most.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_every_kind() {
        for (symbol, name) in [
            ("poll", "poll"),
            ("clock_nanosleep@@GLIBC_2.17", "clock_nanosleep"),
            ("_PyEval_EvalFrameDefault.cold", "_PyEval_EvalFrameDefault"),
            ("take_gil.constprop.0", "take_gil"),
            ("_ZNSt6thread4joinEv", "std::thread::join"),
            (
                "_ZN4grpc15CompletionQueue17AsyncNextInternalEPPvPb12gpr_timespec",
                "grpc::CompletionQueue::AsyncNextInternal",
            ),
            ("_ZN3std2io5stdio6_print17h0123456789abcdefE", "std::io::stdio::_print"),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            ("a.b", "a.b"),
            (".cold", ".cold"),
            ("_Z", "_Z"),
        ] {
            assert_eq!(demangled(symbol), name, "{symbol}");
        }
    }

    #[test]
    fn an_endless_name_is_cut() {
        let long = "é".repeat(5000);
        let name = demangled(&long);
        assert!(name.len() <= LONGEST + 3 && name.ends_with('…'), "{name}");
        // each substitution doubles what it stands for
        let doubling = format!("_Z1fI{}E", "1AS_S0_S1_S2_S3_".repeat(50));
        assert!(demangled(&doubling).len() <= LONGEST + 3);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(name in "(_ZN?|_R|_ZN3)?[0-9A-Za-z_.@$é]{0,80}E?") {
            prop_assert!(demangled(&name).len() <= LONGEST + 3);
        }
    }
}
