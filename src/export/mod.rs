//! Reports as text, JSON, flamegraphs and files for other tools: one file a format.
//!
//! Takes a finished [`Report`] and a [`View`], writes bytes. Concludes nothing and measures
//! nothing; reads no clock and no environment, so the same report always gives the same bytes.

use std::borrow::Cow;
use std::fmt::Debug;
use std::io;
use std::path::Path;

use clap::ValueEnum;

use crate::model::{CpuState, FrameId, FrameKind, GilState, Report, Sample, StackId, Tables};

mod flamegraph;
mod folded;
mod json;
mod names;
mod raw;
mod recording;
mod speedscope;
mod text;

/// A way to write a report.
pub trait Exporter: Debug + Sync {
    /// Writes the whole report. `out` should be buffered.
    ///
    /// # Errors
    /// Those of `out`.
    fn write(&self, report: &Report, view: &View, out: &mut dyn io::Write) -> io::Result<()>;
}

/// The output formats. The command line's names are these in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Format {
    /// The summary for people
    Text,
    /// The report for programs, schema stallspy/1
    Json,
    /// Everything observed, for `stallspy report`
    Recording,
    /// A flame graph (SVG) of the background samples
    Flamegraph,
    /// Folded stacks: `root;…;leaf COUNT`
    Raw,
    /// For speedscope.app
    Speedscope,
}

impl Format {
    /// The format a file's name asks for, if it does.
    #[must_use]
    pub fn from_path(path: &Path) -> Option<Format> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        // The longer ending first: a speedscope file is JSON too.
        [
            (".speedscope.json", Format::Speedscope),
            (".speedscope", Format::Speedscope),
            (".json", Format::Json),
            (".svg", Format::Flamegraph),
            (".txt", Format::Text),
            (".stallspy", Format::Recording),
            (".folded", Format::Raw),
            (".raw", Format::Raw),
        ]
        .iter()
        .find(|(ending, _)| name.ends_with(ending) && name.len() > ending.len())
        .map(|(_, format)| *format)
    }

    /// Who writes it.
    #[must_use]
    pub fn exporter(self) -> &'static dyn Exporter {
        match self {
            Format::Text => &text::Text,
            Format::Json => &json::Json,
            Format::Recording => &recording::RecordingFile,
            Format::Flamegraph => &flamegraph::Flamegraph,
            Format::Raw => &raw::Raw,
            Format::Speedscope => &speedscope::Speedscope,
        }
    }
}

/// Writes what to do, for people: the verdict and all recommendations.
///
/// # Errors
/// Those of `out`.
pub fn write_advice(report: &Report, view: &View, out: &mut dyn io::Write) -> io::Result<()> {
    text::advice_only(report, view, out)
}

/// Writes the same for programs: the keys `summary`, `servers` and `findings` of the JSON report.
///
/// # Errors
/// Those of `out`.
pub fn write_advice_json(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    json::advice_only(report, out)
}

/// How the user wants to see it. The flags are py-spy's and shape the sample formats only
/// (flamegraph, raw, speedscope); colour and width shape the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // one flag of the command line each
pub struct View {
    /// `-i`: include threads that sleep.
    pub idle: bool,
    /// `-g`: only threads that hold the interpreter lock.
    pub gil: bool,
    /// `-t`: a root frame for each thread.
    pub threads: bool,
    /// `-F`: one frame for a function, not one for each of its lines.
    pub functions: bool,
    /// `--nolineno`: no line numbers.
    pub nolineno: bool,
    /// `--full-filenames`: files as the target sees them, not shortened.
    pub full_filenames: bool,
    /// `--no-native`: without C frames.
    pub no_native: bool,
    /// Colours, by ANSI escapes.
    pub color: bool,
    /// Columns of the terminal; 0 for "not a terminal".
    pub width: usize,
}

impl View {
    /// Whether a sample is to be shown.
    fn shows(&self, sample: &Sample) -> bool {
        if self.gil {
            // One that sleeps with the lock is what is looked for.
            return sample.gil == GilState::Holding;
        }
        self.idle || !matches!(sample.cpu, CpuState::Blocked { .. })
    }

    /// The frames of a stack to be shown, leaf first.
    fn frames<'a>(&self, tables: &'a Tables, stack: StackId) -> Cow<'a, [FrameId]> {
        let frames = tables.get_stack(stack).map_or(&[][..], |stack| stack.frames.as_slice());
        if !self.no_native {
            return Cow::Borrowed(frames);
        }
        let is_native = |id: &FrameId| {
            tables.get_frame(*id).is_some_and(|frame| frame.kind == FrameKind::Native)
        };
        frames.iter().copied().filter(|id| !is_native(id)).collect()
    }

    /// Whether frames carry line numbers. With `-F` a function is one frame, so it has none.
    fn lines(&self) -> bool {
        !self.nolineno && !self.functions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_tell_the_format() {
        for (path, format) in [
            ("out.json", Some(Format::Json)),
            ("a/b.speedscope.json", Some(Format::Speedscope)),
            ("flame.SVG", Some(Format::Flamegraph)),
            ("x.txt", Some(Format::Text)),
            ("today.stallspy", Some(Format::Recording)),
            ("x.folded", Some(Format::Raw)),
            ("x.raw", Some(Format::Raw)),
            ("x.html", None),
            ("json", None),
            (".json", None),
            ("dir.json/x", None),
            ("..", None),
        ] {
            assert_eq!(Format::from_path(Path::new(path)), format, "{path}");
        }
    }
}
