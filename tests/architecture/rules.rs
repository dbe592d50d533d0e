//! What may be done only in one place, and what every file must have.

use std::fs;
use std::path::Path;

use crate::source::Source;

/// What is looked for, where it may be, and what to say elsewhere.
const ONLY_IN: &[(&[&str], &[&str], &str)] = &[
    (&["clap::", "clap("], &["cli/", "export/mod.rs"], "clap is for cli/ only"),
    (
        &["std::fs", "{fs,", " fs,", "fs::", "File::", "OpenOptions"],
        &["target/", "recording/", "cli/"],
        "files are touched only in target/, recording/ and cli/",
    ),
    (
        &["Instant::", "SystemTime", "clock_gettime(", ".elapsed()"],
        &["sampler/pace.rs"],
        "clocks are read only in sampler/pace.rs",
    ),
    (&["println!", "print!("], &["cli/"], "only cli/ prints"),
];

/// What in this file is against the rules.
pub fn breaches(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    if !file.text.starts_with("//!") {
        found.push(format!("{}:1: say at the top what the file is for", file.path));
    }
    for (number, line) in file.code() {
        let place = format!("{}:{number}", file.path);
        for (signs, homes, complaint) in ONLY_IN {
            let at_home = homes.iter().any(|home| file.path.starts_with(home));
            if !at_home && signs.iter().any(|sign| line.contains(sign)) {
                found.push(format!("{place}: {complaint}"));
            }
        }
        // A recording has a version too: its own format's.
        let may_compare = ["layout", "recording"].contains(&file.module());
        if !may_compare && compares_versions(line) {
            found.push(format!("{place}: compare CPython versions only in layout/"));
        }
        if line.trim_start().starts_with("pub const ") && !is_documented(file, number) {
            found.push(format!("{place}: a public constant says what it is and why"));
        }
    }
    found
}

/// Whether a line compares something called a version, or names one as CPython's tables do.
fn compares_versions(line: &str) -> bool {
    let operators = ["==", "!=", "<=", ">=", "< ", "> "];
    let compared = ["version", "minor", "major"].iter().any(|name| {
        line.match_indices(name).any(|(at, _)| {
            let (before, after) = (line[..at].trim_end(), line[at + name.len()..].trim_start());
            // `self.layout.` and the like before the name.
            let owner = |c: char| c.is_alphanumeric() || "._()".contains(c);
            let before = before.trim_end_matches(owner).trim_end();
            [".0", ".1"].iter().any(|field| after.starts_with(field))
                || operators.iter().any(|operator| after.starts_with(operator))
                || ["==", "!=", "<=", ">="].iter().any(|operator| before.ends_with(operator))
        })
    });
    let named = line.match_indices("(3, ").any(|(at, start)| {
        let rest = &line[at + start.len()..];
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        digits.len() < rest.len() && digits.starts_with(')')
    });
    compared || named
}

/// Whether the lines before this one, attributes aside, end in a documenting comment.
fn is_documented(file: &Source, number: usize) -> bool {
    let before: Vec<&str> = file.text.lines().take(number - 1).collect();
    let above = before.iter().rev().find(|line| !line.trim_start().starts_with("#["));
    above.is_some_and(|line| line.trim_start().starts_with("///"))
}

/// Rules of `diagnosis/` that have no page for those who read the finding.
pub fn rules_without_page(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join("src/diagnosis/rules")) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let page = format!("docs/findings/{}", name.replace('_', "-").replace(".rs", ".md"));
        if name != "mod.rs" && !root.join(&page).is_file() {
            found.push(format!("diagnosis/rules/{name}: has no {page}"));
        }
    }
    found
}
