//! The `stallspy` command. All of it is in the library; see [`stallspy`].

use std::process::ExitCode;

fn main() -> ExitCode {
    stallspy::cli::main()
}
