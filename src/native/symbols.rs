//! Addresses to function names, by the symbols of one file.
//!
//! Takes the file and, where there is one, the file of its debug information; gives the function
//! that an address lies in. An address outside every symbol's own length has no name: the symbol
//! before it is another function, whose neighbour was stripped.

use crate::target::{ElfFile, Function};

use super::demangle::demangled;

/// Functions that may lie around one address: parts of one inside another are rare.
const NESTED: usize = 8;
/// Names of one function that are compared for the best.
const ALIASES: usize = 16;

/// The named functions of one file.
#[derive(Debug, Default)]
pub struct Symbols {
    /// By address, then by length, the longest last.
    functions: Vec<(Function, Origin)>,
}

/// Which file holds the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    File,
    Debug,
}

impl Symbols {
    /// Reads the symbols of a file and of its debug information. What cannot be read is left out.
    #[must_use]
    pub fn load(elf: &ElfFile, debug: Option<&ElfFile>) -> Symbols {
        let of = |elf: &ElfFile, origin| {
            let functions = elf.functions().unwrap_or_default();
            functions.into_iter().filter(|f| f.size > 0).map(move |f| (f, origin))
        };
        let mut functions: Vec<_> = of(elf, Origin::File).collect();
        functions.extend(debug.into_iter().flat_map(|debug| of(debug, Origin::Debug)));
        functions.sort_unstable_by_key(|(function, _)| (function.address, function.size));
        functions.shrink_to_fit();
        Symbols { functions }
    }

    /// The name, for people, of the function that `address`, without bias, lies in.
    #[must_use]
    pub fn find(&self, address: u64, elf: &ElfFile, debug: Option<&ElfFile>) -> Option<String> {
        let end = self.functions.partition_point(|(function, _)| function.address <= address);
        let before = self.functions.get(..end)?;
        let covers = |function: &Function| {
            address.checked_sub(function.address).is_some_and(|offset| offset < function.size)
        };
        let (found, _) = before.iter().rev().take(NESTED).find(|(f, _)| covers(f))?;
        let aliases = before.iter().rev().skip_while(|(f, _)| f.address > found.address);
        let aliases = aliases.take_while(|(f, _)| f.address == found.address);
        let names = aliases.take(ALIASES).filter(|(f, _)| covers(f)).filter_map(|(f, origin)| {
            let name = match origin {
                Origin::File => elf.function_name(f),
                Origin::Debug => debug?.function_name(f),
            };
            name.map(|name| (f.exported, name))
        });
        let (_, name) = names.min_by(|a, b| rank(a).cmp(&rank(b)))?;
        Some(demangled(&name))
    }
}

/// The best of several names is the one to call it by: exported, without the underscores that mark
/// a library's own, and short.
fn rank((exported, name): &(bool, String)) -> (bool, bool, usize, &str) {
    (!exported, name.starts_with('_') && !name.starts_with("_Z"), name.len(), name)
}
