//! The table "Who may import whom" of `docs/ARCHITECTURE.md`, read from the page itself so that
//! page and test cannot differ.

use std::collections::BTreeMap;

use crate::source::Source;

/// Who may import whom.
pub struct Table(BTreeMap<String, Allowed>);

enum Allowed {
    These(Vec<String>),
    AllBut(String),
}

impl Table {
    /// The table in the page.
    pub fn parse(page: &str) -> Table {
        let (_, after) =
            page.split_once("| Module | may import |").expect("the page has the table");
        let rows = after.lines().skip(2).take_while(|line| line.starts_with('|'));
        let mut table = BTreeMap::new();
        for row in rows {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [modules, allowed] = cells[..] else { panic!("a row of two cells: {row}") };
            for module in words(modules) {
                let allowed = match allowed.strip_prefix("all but ") {
                    Some(one) => Allowed::AllBut(one.to_owned()),
                    None if allowed == "nothing" => Allowed::These(Vec::new()),
                    None => Allowed::These(words(allowed)),
                };
                assert!(table.insert(module, allowed).is_none(), "twice in the table: {row}");
            }
        }
        Table(table)
    }

    /// All modules that have a row.
    pub fn modules(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// Whether one may import the other.
    pub fn allows(&self, module: &str, other: &str) -> bool {
        match self.0.get(module) {
            _ if module == other => true,
            None => false,
            Some(Allowed::These(these)) => these.iter().any(|one| one == other),
            Some(Allowed::AllBut(one)) => one != other,
        }
    }

    /// What in this file is against the table.
    pub fn breaches(&self, file: &Source) -> Vec<String> {
        let module = file.module();
        if !self.0.contains_key(module) {
            return vec![format!("{}:2: {module} is not in the table", file.path)];
        }
        let mut found = Vec::new();
        for (number, line) in file.code() {
            let place = format!("{}:{number}", file.path);
            if line.contains("crate::{") {
                found.push(format!("{place}: name modules one by one, that each can be checked"));
                continue;
            }
            let named = imports(line, file.depth());
            for other in named.iter().filter(|other| !self.allows(module, other)) {
                found.push(format!("{place}: {module} may not import {other}"));
            }
        }
        found
    }
}

/// The top-level modules that a line names, by `crate::` or by so many `super::` that it is one.
fn imports(line: &str, depth: usize) -> Vec<String> {
    let root = "super::".repeat(depth);
    let starts = line.match_indices("crate::").chain(line.match_indices(&root));
    starts
        .filter(|(at, start)| {
            // `super::super::x` has a `super::` in it that is not the beginning of the path.
            !(start.starts_with("super") && line[..*at].ends_with("::"))
        })
        .map(|(at, start)| {
            let rest = &line[at + start.len()..];
            rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        })
        .filter(|name: &String| name.starts_with(char::is_lowercase) && name != "super")
        .collect()
}

fn words(cell: &str) -> Vec<String> {
    let words: Vec<String> = cell.split(',').map(|word| word.trim().to_owned()).collect();
    let is_name = |word: &String| word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    assert!(words.iter().all(is_name), "only names of modules: {cell}");
    words
}
