//! Reads a recording from a file that may be damaged, foreign, newer, or made to harm.
//!
//! A file that was cut off (a crash, a full disk) is read up to the cut, with a note. Everything
//! else that is wrong with a line is an error that names it. Never panics; memory is bounded by
//! the file's size and the limits in [`super::check`].

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::{AnyHeader, End, FORMAT, FORMAT_VERSION, Header, LineIn, MAX_LINE, check};
use crate::model::recording::MAX_TABLE;
use crate::model::{Losses, Machine, Recording, Tables};
use crate::printable::shortened;
use crate::units::{Nanos, Timestamp};

/// Most characters of a file's own words in an error.
const LONGEST_QUOTE: usize = 200;

/// A recording as read from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The recording.
    pub recording: Recording,
    /// What the reader has to say about the file, sentences for the user; none for a sound one.
    pub notes: Vec<String>,
}

/// Why a file could not be read as a recording. Each text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The system could not read the file.
    #[error("cannot read {file}: {source}")]
    Io {
        /// The file's name.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is of another kind.
    #[error(
        "{file} is not a stallspy recording ({what}); `stallspy record -f recording -o FILE` \
         makes one"
    )]
    Foreign {
        /// The file's name.
        file: String,
        /// What it has instead of a header.
        what: String,
    },
    /// The file needs a newer stallspy.
    #[error(
        "{file} was recorded by stallspy {version} in recording format {found}; this stallspy \
         reads formats up to {FORMAT_VERSION}: use that version or a later one"
    )]
    TooNew {
        /// The file's name.
        file: String,
        /// Its format version.
        found: u64,
        /// The stallspy that wrote it.
        version: String,
    },
    /// A line that no stallspy writes.
    #[error(
        "{file} line {line}: {what}; is it a recording? \
         `stallspy record -f recording -o FILE` makes one"
    )]
    Damaged {
        /// The file's name.
        file: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// Reads the recording in the file `path`.
///
/// # Errors
/// See [`ReadError`].
pub fn read_file(path: &Path) -> Result<Loaded, ReadError> {
    let file = path.display().to_string();
    match File::open(path) {
        Ok(opened) => read(&mut BufReader::new(opened), &file),
        Err(source) => Err(ReadError::Io { file, source }),
    }
}

/// Reads a recording; `file` is its name for messages.
///
/// # Errors
/// See [`ReadError`].
pub fn read(input: &mut dyn BufRead, file: &str) -> Result<Loaded, ReadError> {
    let mut lines = Lines { input, file, number: 0, buffer: Vec::new() };
    let header = header(&mut lines)?;
    let mut recording = Recording {
        version: header.version,
        settings: header.settings,
        attached: header.attached_ns,
        detached: header.attached_ns,
        tables: Tables::default(),
        processes: Vec::new(),
        loops: Vec::new(),
        loop_states: Vec::new(),
        gaps: Vec::new(),
        throttles: Vec::new(),
        samples: Vec::new(),
        machine: Machine::default(),
        neighbours: Vec::new(),
        losses: Losses::default(),
        own_cpu: Nanos::ZERO,
    };
    let mut end: Option<End> = None;
    while let Some(whole) = lines.next()? {
        let parsed: LineIn = match serde_json::from_slice(&lines.buffer) {
            Ok(parsed) => parsed,
            Err(_) if !whole => break,
            Err(error) => return Err(lines.damaged(json_problem(&error))),
        };
        if end.is_some() {
            return Err(lines.damaged("something follows the line that ends a recording".into()));
        }
        if let LineIn::End(last) = parsed {
            end = Some(last);
        } else {
            take(&mut recording, parsed).map_err(|what| lines.damaged(what))?;
        }
    }
    let mut notes = Vec::new();
    if let Some(end) = end {
        recording.detached = end.detached_ns;
        recording.own_cpu = end.own_cpu_ns;
        recording.machine = end.machine;
        recording.neighbours = end.neighbours;
    } else {
        recording.detached = last_seen(&recording);
        notes.push(format!(
            "{file} is cut off in or after line {}: what followed is lost, what came before is \
             used",
            lines.number
        ));
    }
    Ok(Loaded { recording, notes })
}

fn header(lines: &mut Lines<'_>) -> Result<Header, ReadError> {
    let foreign = |lines: &Lines<'_>, what: &str| ReadError::Foreign {
        file: lines.file.to_owned(),
        what: what.to_owned(),
    };
    if lines.next()?.is_none() {
        return Err(foreign(lines, "it is empty"));
    }
    let any: AnyHeader = serde_json::from_slice(&lines.buffer)
        .map_err(|_| foreign(lines, "its first line is not a recording's header"))?;
    if any.format != FORMAT {
        return Err(foreign(lines, "its first line names another format"));
    }
    if any.format_version > u64::from(FORMAT_VERSION) {
        return Err(ReadError::TooNew {
            file: lines.file.to_owned(),
            found: any.format_version,
            version: shortened(any.version.as_deref().unwrap_or("(unknown)"), LONGEST_QUOTE),
        });
    }
    serde_json::from_slice(&lines.buffer).map_err(|error| lines.damaged(json_problem(&error)))
}

/// Takes one line's thing into the recording, if it can be.
fn take(recording: &mut Recording, line: LineIn) -> Result<(), String> {
    let tables = &mut recording.tables;
    match line {
        LineIn::Names(names) => names
            .into_iter()
            .try_for_each(|name| add(tables, name, |t| &mut t.names, |t, name| _ = t.name(&name))),
        LineIn::Frames(frames) => frames.into_iter().try_for_each(|frame| {
            check::frame(tables, &frame)?;
            add(tables, frame, |t| &mut t.frames, |t, frame| _ = t.frame(frame))
        }),
        LineIn::Stacks(stacks) => stacks.into_iter().try_for_each(|stack| {
            check::stack(tables, &stack)?;
            add(tables, stack, |t| &mut t.stacks, |t, stack| _ = t.stack(stack))
        }),
        LineIn::Waits(waits) => waits.into_iter().try_for_each(|wait| {
            check::wait(tables, &wait)?;
            add(tables, wait, |t| &mut t.waits, |t, wait| _ = t.wait(wait))
        }),
        LineIn::Process(process) => {
            check::process(recording, &process)?;
            recording.processes.push(*process);
            Ok(())
        }
        LineIn::Loop(info) => {
            check::loop_info(recording, &info)?;
            recording.loops.push(info);
            Ok(())
        }
        LineIn::State(state) => {
            check::state(recording, &state)?;
            recording.loop_states.push(state);
            Ok(())
        }
        LineIn::Gap(gap) => {
            check::gap(recording, &gap)?;
            recording.gaps.push(gap);
            Ok(())
        }
        LineIn::Throttle(throttle) => {
            check::throttle(recording, &throttle)?;
            recording.throttles.push(throttle);
            Ok(())
        }
        LineIn::Sample(sample) => {
            check::sample(recording, &sample)?;
            recording.samples.push(sample);
            Ok(())
        }
        LineIn::Losses(losses) => {
            recording.losses = losses;
            Ok(())
        }
        LineIn::End(_) => Ok(()),
    }
}

/// Adds one entry to a table. Interning it rebuilds the table's index on the way; an entry that
/// occurs twice must still get a place of its own, because ids are places.
fn add<T: Clone>(
    tables: &mut Tables,
    entry: T,
    table: fn(&mut Tables) -> &mut Vec<T>,
    intern: fn(&mut Tables, T),
) -> Result<(), String> {
    let place = table(tables).len();
    if place > MAX_TABLE {
        return Err(format!("a table of more than {MAX_TABLE} entries"));
    }
    intern(tables, entry.clone());
    if table(tables).len() == place {
        table(tables).push(entry);
    }
    Ok(())
}

/// The last moment a cut-off recording says anything about.
fn last_seen(recording: &Recording) -> Timestamp {
    let states = recording.loop_states.iter().map(|state| state.at);
    let samples = recording.samples.iter().map(|sample| sample.at + sample.weight);
    let loops = recording.loops.iter().map(|info| info.last_seen);
    states.chain(samples).chain(loops).max().unwrap_or_default().max(recording.attached)
}

/// What the parser says, without its own line number, which is always 1.
fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    shortened(text.split(" at line ").next().unwrap_or(&text), LONGEST_QUOTE)
}

/// The lines of a file, one at a time, each of bounded length.
struct Lines<'a> {
    input: &'a mut dyn BufRead,
    file: &'a str,
    number: u64,
    buffer: Vec<u8>,
}

impl Lines<'_> {
    /// Reads the next line into the buffer, and says whether it came with its newline; `None` at
    /// the end.
    fn next(&mut self) -> Result<Option<bool>, ReadError> {
        self.buffer.clear();
        let read = (&mut *self.input).take(MAX_LINE).read_until(b'\n', &mut self.buffer);
        match read {
            Err(source) => Err(ReadError::Io { file: self.file.to_owned(), source }),
            Ok(0) => Ok(None),
            Ok(_) => {
                self.number += 1;
                let whole = self.buffer.last() == Some(&b'\n');
                if !whole && self.buffer.len() as u64 >= MAX_LINE {
                    return Err(self.damaged(format!("a line of more than {MAX_LINE} bytes")));
                }
                Ok(Some(whole))
            }
        }
    }

    fn damaged(&self, what: String) -> ReadError {
        ReadError::Damaged { file: self.file.to_owned(), line: self.number, what }
    }
}
