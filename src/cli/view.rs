//! Flags that shape what is shown, shared by `record` and `report`.

use clap::Args;

use super::Color;
use crate::export::View;
use crate::model::NativeStacks;

/// Columns of text where the terminal does not say.
const DEFAULT_WIDTH: usize = 100;

/// How to show samples and text.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // one flag each
pub(super) struct ViewArgs {
    /// Include threads that sleep, in the flamegraph
    #[arg(short, long, help_heading = "Flamegraph")]
    idle: bool,
    /// Only threads that hold the GIL, also while they sleep
    #[arg(short, long, help_heading = "Flamegraph")]
    gil: bool,
    /// A root frame for each thread
    #[arg(short, long, help_heading = "Flamegraph")]
    threads: bool,
    /// One frame for a function, not one for each of its lines
    #[arg(short = 'F', long, help_heading = "Flamegraph")]
    function: bool,
    /// No line numbers
    #[arg(long, help_heading = "Flamegraph")]
    nolineno: bool,
    /// File names in full
    #[arg(long, help_heading = "Flamegraph")]
    full_filenames: bool,
    /// C frames in the flamegraph: of threads in one call of C code (needs perf events), and of
    /// threads that sleep (-i)
    #[arg(short, long, overrides_with = "no_native", help_heading = "Flamegraph")]
    native: bool,
    /// No C frames, not of stalls either
    #[arg(long, overrides_with = "native", help_heading = "Flamegraph")]
    no_native: bool,
    /// Colour the text report
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: Color,
}

impl ViewArgs {
    /// Which C stacks to read.
    pub(super) fn native_stacks(&self) -> NativeStacks {
        match (self.native, self.no_native) {
            (true, _) => NativeStacks::All,
            (false, true) => NativeStacks::Off,
            (false, false) => NativeStacks::Stalls,
        }
    }

    /// Whether only threads that hold the GIL are asked for.
    pub(super) fn only_gil(&self) -> bool {
        self.gil
    }

    /// The view asked for.
    pub(super) fn view(&self) -> View {
        View {
            idle: self.idle,
            gil: self.gil,
            threads: self.threads,
            functions: self.function,
            nolineno: self.nolineno,
            full_filenames: self.full_filenames,
            no_native: self.no_native,
            color: self.color.on_stdout(),
            width: terminal_width(),
        }
    }
}

/// The view of a command that has no flags for it but the colour.
pub(super) fn plain(color: Color) -> View {
    View { color: color.on_stdout(), width: terminal_width(), ..View::default() }
}

/// The width asked for by `COLUMNS`, as a shell sets it.
pub(super) fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    columns.filter(|width| (40..=400).contains(width)).unwrap_or(DEFAULT_WIDTH)
}
