//! The help texts, as people see them: a changed flag is a changed contract.

use crate::profiler::{Ended, stallspy};

fn help(args: &[&str]) -> String {
    let Ended { out, err, .. } = stallspy(args);
    assert_eq!(err, "");
    out
}

#[test]
fn of_the_program() {
    insta::assert_snapshot!(help(&["--help"]));
}

#[test]
fn of_record() {
    insta::assert_snapshot!(help(&["record", "--help"]));
}

#[test]
fn of_report() {
    insta::assert_snapshot!(help(&["report", "--help"]));
}

#[test]
fn of_dump() {
    insta::assert_snapshot!(help(&["dump", "--help"]));
}

#[test]
fn of_advise() {
    insta::assert_snapshot!(help(&["advise", "--help"]));
}

#[test]
fn of_doctor() {
    insta::assert_snapshot!(help(&["doctor", "--help"]));
}

#[test]
fn of_demo() {
    insta::assert_snapshot!(help(&["demo", "--help"]));
}

#[test]
fn of_completions() {
    insta::assert_snapshot!(help(&["completions", "--help"]));
}

#[test]
fn of_man() {
    insta::assert_snapshot!(help(&["man", "--help"]));
}

#[test]
fn every_subcommand_is_here() {
    let text = help(&["--help"]);
    let commands = text.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    let names: Vec<&str> = commands
        .expect("it lists commands")
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(
        names,
        ["record", "report", "advise", "dump", "doctor", "demo", "completions", "man", "help"],
        "a new one needs a test above"
    );
}

#[test]
fn asked_for_it_is_no_error_and_unasked_it_is_one() {
    for args in [&["--help"][..], &["help"], &["record", "--help"], &["--version"]] {
        assert_eq!(stallspy(args).code(), Some(0), "{args:?}");
    }
    let nothing = stallspy(&[]);
    assert_eq!((nothing.code(), nothing.out.as_str()), (Some(2), ""));
    assert!(nothing.err.contains("Usage: stallspy <COMMAND>"), "{}", nothing.err);
    let version = format!("stallspy {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(help(&["--version"]), version);
}

#[test]
fn commands_may_be_cut_short_while_they_are_unambiguous() {
    assert_eq!(help(&["rec", "--help"]), help(&["record", "--help"]));
    let ambiguous = stallspy(&["re", "--help"]);
    assert_eq!(ambiguous.code(), Some(2), "record or report");
}
