//! Source files as the rules see them: lines of code, without comments and without unit tests.

use std::fs;
use std::path::Path;

/// One file below `src/`.
pub struct Source {
    /// Its path from `src/` on.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl Source {
    /// The top-level module it belongs to.
    pub fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.trim_end_matches(".rs")
    }

    /// How many modules deep its own module lies: 1 for `src/units.rs` and `src/model/mod.rs`.
    pub fn depth(&self) -> usize {
        self.path.split('/').filter(|part| *part != "mod.rs").count()
    }

    /// Lines of code with their numbers: no comments, and nothing from the unit tests on.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines
            .take_while(|(_, line)| *line != "#[cfg(test)]")
            .filter(|_| !self.path.ends_with("/tests.rs"))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(index, line)| (index + 1, line.split(" // ").next().unwrap_or_default()))
    }
}

/// Every Rust file below `src`, but the program's own `main.rs`, which is one call.
pub fn files(src: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    visit(src, src, &mut found);
    found.retain(|file| !["lib.rs", "main.rs"].contains(&file.path.as_str()));
    found
}

fn visit(src: &Path, dir: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(src, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(src).unwrap().to_str().unwrap().to_owned();
            found.push(Source { path, text });
        }
    }
}
