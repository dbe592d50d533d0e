//! `stallspy man [COMMAND]`: the manual pages, made from the texts of `--help`.

use clap::Command;
use clap_mangen::Man;

use super::{command, write_out, written_to_stdout};
use crate::error::{Error, exit};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    stallspy man | man -l -\n  \
    stallspy man record | man -l -\n  \
    stallspy man record > ~/.local/share/man/man1/stallspy-record.1")]
pub(super) struct Args {
    /// The command to describe; stallspy as a whole without it
    command: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<u8, Error> {
    let mut all = command();
    // Gives each command its full name, `stallspy-record`.
    all.build();
    let described = match &args.command {
        None => all,
        Some(name) => find(&all, name).cloned().ok_or_else(|| {
            Error::Usage(format!("there is no command {name}: `stallspy --help` lists them"))
        })?,
    };
    let mut page = Vec::new();
    let man = Man::new(described).source(concat!("stallspy ", env!("CARGO_PKG_VERSION")));
    // Writing to memory does not fail.
    written_to_stdout(man.render(&mut page))?;
    write_out(&page)?;
    Ok(exit::DONE)
}

/// A command by its name, or by a beginning that no other has: as clap itself takes them.
fn find<'a>(all: &'a Command, name: &str) -> Option<&'a Command> {
    all.find_subcommand(name).or_else(|| {
        let mut fitting = all.get_subcommands().filter(|sub| sub.get_name().starts_with(name));
        fitting.next().filter(|_| fitting.next().is_none())
    })
}
