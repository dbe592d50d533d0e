//! `stallspy completions SHELL`: what a shell needs to complete our commands and flags.

use super::{command, write_out};
use crate::error::{Error, exit};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    stallspy completions bash > ~/.local/share/bash-completion/completions/stallspy\n  \
    stallspy completions zsh > ~/.zfunc/_stallspy        with ~/.zfunc in fpath\n  \
    stallspy completions fish > ~/.config/fish/completions/stallspy.fish")]
pub(super) struct Args {
    /// The shell to complete in
    shell: Shell,
}

/// The shells we write for.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(args: &Args) -> Result<u8, Error> {
    let mut command = command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    clap_complete::generate(shell, &mut command, name, &mut script);
    write_out(&script)?;
    Ok(exit::DONE)
}
