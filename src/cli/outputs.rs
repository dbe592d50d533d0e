//! `-f FORMAT -o FILE` pairs: what is written where, checked before anything is recorded.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args};

use super::written_to_stdout;
use crate::error::Error;
use crate::export::{Format, View};
use crate::model::Report;

/// Where reports go.
#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// Write to FILE (`-` is standard output); may be given several times, each with its -f
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Vec<PathBuf>,
    /// The format of the -o beside it; may be left out where the file name tells it
    #[arg(short, long, value_name = "FORMAT", help_heading = "Output")]
    format: Vec<Format>,
}

/// One report to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    format: Format,
    /// Standard output if `None`.
    path: Option<PathBuf>,
}

impl Output {
    /// A report in a file.
    pub(super) fn file(format: Format, path: PathBuf) -> Output {
        Output { format, path: Some(path) }
    }

    /// A report on standard output.
    pub(super) fn stdout(format: Format) -> Output {
        Output { format, path: None }
    }
}

impl OutputArgs {
    /// The outputs asked for, proven writable. Without any for standard output, the text summary
    /// goes there.
    ///
    /// # Errors
    /// A format that cannot be told, or a path that cannot be written.
    pub(super) fn outputs(&self, given: Option<&ArgMatches>) -> Result<Vec<Output>, Error> {
        let mut outputs = self.paired(given)?;
        if !outputs.iter().any(|output| output.path.is_none()) {
            outputs.insert(0, Output { format: Format::Text, path: None });
        }
        for (index, output) in outputs.iter().enumerate() {
            let twin = outputs.iter().take(index).any(|other| other.path == output.path);
            if twin {
                let name =
                    output.path.as_deref().map_or("standard output".into(), Path::to_string_lossy);
                return Err(Error::Usage(format!(
                    "{name} is asked for twice: give each output its own -o FILE"
                )));
            }
            if let Some(path) = &output.path {
                prove_writable(path)?;
            }
        }
        Ok(outputs)
    }

    /// As many -f as -o: they belong together in order. Otherwise each -f belongs to the next -o,
    /// and one without an -o to standard output.
    fn paired(&self, given: Option<&ArgMatches>) -> Result<Vec<Output>, Error> {
        let place = |path: &PathBuf| (path.as_os_str() != "-").then(|| path.clone());
        if self.format.len() == self.output.len() {
            let pairs = self.format.iter().zip(&self.output);
            return Ok(pairs
                .map(|(format, path)| Output { format: *format, path: place(path) })
                .collect());
        }
        let indices = |name: &str| -> Vec<usize> {
            given
                .and_then(|given| given.indices_of(name))
                .map(Iterator::collect)
                .unwrap_or_default()
        };
        enum Word<'a> {
            Format(Format),
            Path(&'a PathBuf),
        }
        let formats =
            indices("format").into_iter().zip(self.format.iter().map(|f| Word::Format(*f)));
        let paths = indices("output").into_iter().zip(self.output.iter().map(Word::Path));
        let mut words: Vec<(usize, Word<'_>)> = formats.chain(paths).collect();
        words.sort_by_key(|(index, _)| *index);
        let mut pending = None;
        let mut outputs = Vec::new();
        for (_, word) in words {
            match word {
                Word::Format(format) => {
                    if let Some(format) = pending.replace(format) {
                        outputs.push(Output { format, path: None });
                    }
                }
                Word::Path(path) => {
                    let format = match pending.take() {
                        Some(format) => format,
                        None => told_by_name(path)?,
                    };
                    outputs.push(Output { format, path: place(path) });
                }
            }
        }
        outputs.extend(pending.map(|format| Output { format, path: None }));
        Ok(outputs)
    }
}

fn told_by_name(path: &Path) -> Result<Format, Error> {
    Format::from_path(path).ok_or_else(|| {
        Error::Usage(format!(
            "the name {} does not tell a format: add -f FORMAT before it, or use .txt, .json, .svg, .stallspy, .folded or .speedscope.json",
            path.display()
        ))
    })
}

/// Opens the file without touching what is in it; one that was not there is taken away again, so
/// that a recording that fails leaves nothing behind.
fn prove_writable(path: &Path) -> Result<(), Error> {
    let existed = path.exists();
    if path.is_dir() {
        return Err(Error::File(format!(
            "cannot write {}: it is a directory; name a file in it",
            path.display()
        )));
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|error| cannot_write(path, &error))?;
    if !existed {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Error {
    Error::File(format!(
        "cannot write {}: {error}; nothing was recorded to it, choose another -o FILE",
        path.display()
    ))
}

/// Writes every output. One that fails does not keep the others from being written.
///
/// # Errors
/// The first failure.
pub(super) fn write_all(outputs: &[Output], report: &Report, view: &View) -> Result<(), Error> {
    let mut failure = None;
    for output in outputs {
        if let Err(error) = write(output, report, view) {
            failure = failure.or(Some(error));
        }
    }
    failure.map_or(Ok(()), Err)
}

fn write(output: &Output, report: &Report, view: &View) -> Result<(), Error> {
    let exporter = output.format.exporter();
    let Some(path) = &output.path else {
        let mut out = BufWriter::new(std::io::stdout().lock());
        return written_to_stdout(
            exporter.write(report, view, &mut out).and_then(|()| out.flush()),
        );
    };
    // Colour is for the terminal that standard output may be.
    let plain = View { color: false, ..view.clone() };
    let file = File::create(path).map_err(|error| cannot_write(path, &error))?;
    let mut out = BufWriter::new(file);
    exporter
        .write(report, &plain, &mut out)
        .and_then(|()| out.flush())
        .map_err(|error| cannot_write(path, &error))
}

/// The files that were written, for a closing line.
pub(super) fn files(outputs: &[Output]) -> Vec<String> {
    let paths = outputs.iter().filter_map(|output| output.path.as_ref());
    paths.map(|path| path.display().to_string()).collect()
}
