//! The recording as a file: versioned JSON lines, one thing a line.
//!
//! Knows the file's shape and its limits; [`write()`] and [`read()`] are each other's inverse. A
//! reader takes what it is given to be hostile: every line and every table is bounded, every id is
//! checked, nothing panics. Never concludes anything. The format is described in
//! `docs/FORMATS.md`.

#![allow(clippy::disallowed_methods)] // one of the parts that read files

use serde::{Deserialize, Serialize};

use crate::model::{
    Frame, Gap, LoopInfo, LoopState, Losses, Machine, Neighbour, ProcessInfo, Sample, Settings,
    Stack, Throttle, Wait,
};
use crate::units::{Nanos, Timestamp};

mod check;
mod reader;
mod writer;

pub use reader::{Loaded, ReadError, read, read_file};
pub use writer::write;

/// What the `format` key of the first line says.
pub const FORMAT: &str = "stallspy-recording";

/// The newest `format_version` this program reads, and the one it writes. It grows whenever an
/// older reader would misunderstand a newer file; a field that may be missing does not need it.
pub const FORMAT_VERSION: u32 = 1;

/// Longest line read, in bytes. The longest honest one is a chunk of very deep stacks, some
/// 2 MiB.
pub const MAX_LINE: u64 = 16 << 20;

/// Table entries on one line: few enough to keep a line's memory small, many enough to make the
/// tags cheap.
const CHUNK: usize = 256;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: String,
    format_version: u32,
    /// Version of stallspy that recorded.
    version: String,
    attached_ns: Timestamp,
    settings: Settings,
}

/// What of a header every version has; enough to tell a newer file from a foreign one.
#[derive(Debug, Deserialize)]
struct AnyHeader {
    format: String,
    format_version: u64,
    #[serde(default)]
    version: Option<String>,
}

/// The last line: it says that nothing is missing.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct End {
    detached_ns: Timestamp,
    own_cpu_ns: Nanos,
    #[serde(default, skip_serializing_if = "Machine::is_empty")]
    machine: Machine,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    neighbours: Vec<Neighbour>,
}

/// Every other line while writing: a tag and one thing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum LineOut<'a> {
    Names(&'a [String]),
    Frames(&'a [Frame]),
    Stacks(&'a [Stack]),
    Waits(&'a [Wait]),
    Process(&'a ProcessInfo),
    Loop(&'a LoopInfo),
    State(&'a LoopState),
    Gap(&'a Gap),
    Throttle(&'a Throttle),
    Sample(&'a Sample),
    Losses(&'a Losses),
    End(End),
}

/// The same while reading.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LineIn {
    Names(Vec<String>),
    Frames(Vec<Frame>),
    Stacks(Vec<Stack>),
    Waits(Vec<Wait>),
    Process(Box<ProcessInfo>),
    Loop(LoopInfo),
    State(LoopState),
    Gap(Gap),
    Throttle(Throttle),
    Sample(Sample),
    Losses(Losses),
    End(End),
}
