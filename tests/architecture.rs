//! The architecture, enforced: the import table of `docs/ARCHITECTURE.md`, and what else may be
//! done only in one place. A tripwire rather than a proof: it reads source as text.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/source.rs"]
mod source;
#[path = "architecture/table.rs"]
mod table;

use std::fs;
use std::path::Path;

use source::files;
use table::Table;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn table() -> Table {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/ARCHITECTURE.md")).unwrap();
    Table::parse(&page)
}

/// Every breach of every rule in the tree below `root`.
fn violations(root: &Path) -> Vec<String> {
    let (table, files) = (table(), files(&root.join("src")));
    let mut found: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let imports = table.breaches(file);
            imports.into_iter().chain(rules::breaches(file))
        })
        .collect();
    found.extend(rules::rules_without_page(root));
    found.sort();
    found
}

#[test]
fn the_source_keeps_to_the_architecture() {
    let found = violations(Path::new(ROOT));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_table_names_every_module_and_none_that_is_not_there() {
    let source = fs::read_to_string(Path::new(ROOT).join("src/lib.rs")).unwrap();
    let mut modules: Vec<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    modules.sort_unstable();
    assert_eq!(table().modules(), modules);
}

#[test]
fn the_wall_in_the_middle_stands() {
    // The table itself might be weakened; this much of it may not be.
    let table = table();
    let left = ["target", "layout", "python", "event_loop", "server", "sampler"];
    let right = ["stall", "attribution", "diagnosis", "conclusion", "export", "gate", "recording"];
    for (from, to) in left.iter().flat_map(|l| right.iter().map(move |r| (l, r))) {
        assert!(!table.allows(from, to), "{from} observes, it may not know of {to}");
        assert!(!table.allows(to, from), "{to} concludes, it may not know of {from}");
    }
}

/// Each planted breach, where it goes, and how the complaint about it begins.
const PLANTED: &[(&str, &str, &str)] = &[
    ("python/a.rs", "use crate::sampler::Pace;", "python/a.rs:2: python may not import sampler"),
    ("model/b.rs", "let x = crate::target::now();", "model/b.rs:2: model may not import target"),
    ("model/c.rs", "use super::super::cli::main;", "model/c.rs:2: model may not import cli"),
    ("stall/mod.rs", "use super::python::locate;", "stall/mod.rs:2: stall may not import python"),
    ("units.rs", "use super::model::Frame;", "units.rs:2: units may not import model"),
    ("model/d.rs", "use crate::{cli, units};", "model/d.rs:2: name modules one by one"),
    ("new/e.rs", "use crate::units::Addr;", "new/e.rs:2: new is not in the table"),
    ("python/f.rs", "if version.minor >= 12 {}", "python/f.rs:2: compare CPython versions"),
    ("python/g.rs", "if layout.version == known {}", "python/g.rs:2: compare CPython versions"),
    ("python/h.rs", "matches!(v, (3, 13))", "python/h.rs:2: compare CPython versions"),
    ("gate/i.rs", "use clap::ValueEnum;", "gate/i.rs:2: clap"),
    ("server/j.rs", "std::fs::read_dir(p)", "server/j.rs:2: files"),
    ("export/k.rs", "use std::{fs, io};", "export/k.rs:2: files"),
    ("stall/l.rs", "let t = Instant::now();", "stall/l.rs:2: clocks"),
    ("sampler/m.rs", "clock_gettime(id)", "sampler/m.rs:2: clocks"),
    ("python/n.rs", "eprintln!(\"torn\");", "python/n.rs:2: only cli/ prints"),
    ("stall/o.rs", "pub const LONG: u32 = 7;", "stall/o.rs:2: a public constant"),
    (
        "diagnosis/rules/no_page.rs",
        "",
        "diagnosis/rules/no_page.rs: has no docs/findings/no-page.md",
    ),
];

#[test]
fn every_planted_breach_is_found() {
    for (file, text, complaint) in PLANTED {
        let dir = tempfile::tempdir().unwrap();
        plant(dir.path(), file, &format!("//! Planted.\n{text}\n"));
        let found = violations(dir.path());
        assert_eq!(found.len(), 1, "{file}: {found:?}");
        assert!(found[0].starts_with(complaint), "{file}: {found:?}");
    }
}

#[test]
fn a_file_without_a_header_is_found() {
    let dir = tempfile::tempdir().unwrap();
    plant(dir.path(), "model/p.rs", "use crate::units::Addr;\n");
    assert_eq!(violations(dir.path()), ["model/p.rs:1: say at the top what the file is for"]);
}

#[test]
fn what_is_allowed_is_not_complained_about() {
    let dir = tempfile::tempdir().unwrap();
    let text = "//! See [`crate::cli`].\n\
                use crate::target::RemoteMemory;\n\
                use super::frames; // and not crate::cli\n\
                /// The rows.\n#[allow(dead_code)]\npub const ROWS: u32 = 3;\n\
                #[cfg(test)]\nmod tests {\n    use crate::cli::main;\n}\n";
    plant(dir.path(), "python/threads.rs", text);
    plant(dir.path(), "python/line_table/tests.rs", "//! Tests.\nuse std::fs;\n");
    plant(dir.path(), "layout/mod.rs", "//! Tables.\nif layout.version == (3, 13) {}\n");
    plant(dir.path(), "sampler/pace.rs", "//! The clock.\nclock_gettime(id);\n");
    plant(dir.path(), "cli/mod.rs", "//! Words.\nuse clap::Parser;\nuse std::fs;\n");
    assert_eq!(violations(dir.path()), [""; 0]);
}

fn plant(root: &Path, file: &str, text: &str) {
    let path = root.join("src").join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}
