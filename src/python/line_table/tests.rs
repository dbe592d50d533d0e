//! Against tables of real interpreters and what these say they mean (`scripts/make-line-tables`),
//! and against bytes that are no table at all.

#![allow(clippy::disallowed_methods)] // the tables are files

use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Fixture {
    version: String,
    kind: String,
    codes: Vec<Code>,
}

#[derive(Deserialize)]
struct Code {
    name: String,
    firstlineno: u32,
    bytes: u64,
    table: String,
    /// From this offset on it is this line.
    runs: Vec<(u64, Option<u32>)>,
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |c: u8| u8::try_from((c as char).to_digit(16).unwrap()).unwrap();
    text.as_bytes().as_chunks().0.iter().map(|[a, b]| digit(*a) << 4 | digit(*b)).collect()
}

/// Checks every instruction; gives how many there were.
fn check(fixture: &Fixture) -> usize {
    let kind = match fixture.kind.as_str() {
        "lnotab" => LineTable::Lnotab,
        "pep626" => LineTable::Pep626,
        "locations" => LineTable::Locations,
        other => panic!("{other}"),
    };
    let mut checked = 0;
    for code in &fixture.codes {
        let table = unhex(&code.table);
        for offset in (0..code.bytes).step_by(2) {
            // A module's first instruction is on "line 0" (3.11 on): there is no such line to show.
            let known = code.runs.iter().rev().find(|(start, _)| *start <= offset);
            let line = line_at(kind, &table, code.firstlineno, offset);
            assert_eq!(
                line,
                known.and_then(|(_, line)| *line).filter(|line| *line > 0),
                "{} {}+{offset}",
                fixture.version,
                code.name
            );
            checked += 1;
        }
    }
    checked
}

#[test]
fn every_instruction_has_the_line_its_interpreter_says() {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/line_tables");
    let folder = std::env::var("LINE_TABLES_DIR").unwrap_or_else(|_| kept.into());
    let mut versions = 0;
    for file in Path::new(&folder).read_dir().unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(check(&serde_json::from_str(&text).unwrap()) > 1000);
        versions += 1;
    }
    assert_eq!(versions, 8, "3.8 to 3.15");
}

#[test]
fn code_without_a_line_has_none() {
    // 3.10: two bytes on the first line, two on none, two on the next.
    let table = [2, 0, 2, 0x80, 2, 1];
    let lines: Vec<_> = [0, 2, 4, 6].map(|o| line_at(LineTable::Pep626, &table, 7, o)).into();
    assert_eq!(lines, [Some(7), None, Some(8), None]);
    // 3.11: the same (13: no columns, 15: no line).
    let table = [0x80 | 13 << 3, 0, 0x80 | 15 << 3, 0x80 | 13 << 3, 2];
    let lines: Vec<_> = [0, 2, 4, 6].map(|o| line_at(LineTable::Locations, &table, 7, o)).into();
    assert_eq!(lines, [Some(7), None, Some(8), None]);
}

#[test]
fn lines_below_one_are_no_lines() {
    assert_eq!(line_at(LineTable::Lnotab, &[0, 0x80], 5, 0), None);
    assert_eq!(line_at(LineTable::Lnotab, &[], 0, 0), None);
}

proptest! {
    #[test]
    fn any_bytes_do(
        table in prop::collection::vec(any::<u8>(), 0..512),
        firstlineno in any::<u32>(),
        offset in prop_oneof![0..4096_u64, any::<u64>()],
    ) {
        for kind in [LineTable::Lnotab, LineTable::Pep626, LineTable::Locations] {
            let line = line_at(kind, &table, firstlineno, offset);
            prop_assert_ne!(line, Some(0));
        }
    }
}
