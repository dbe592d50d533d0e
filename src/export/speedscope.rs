//! A file for <https://www.speedscope.app>: one profile per thread, in time order.
//!
//! The format is speedscope's own (`file-format-schema.json`): frames once, then for each thread a
//! list of stacks (root first) and a list of their weights, here in nanoseconds. Times in which a
//! thread was not looked at, or is not shown, are empty stacks, so that the axis stays wall time.

use std::collections::BTreeMap;
use std::io;

use serde::{Serialize, Serializer};

use super::names::FileNames;
use super::{Exporter, View};
use crate::model::{FrameKind, Recording, Report, Sample, StackId};
use crate::printable::printable;
use crate::units::{Pid, Tid, Timestamp};

/// Writes a speedscope file.
#[derive(Debug)]
pub(super) struct Speedscope;

impl Exporter for Speedscope {
    fn write(&self, report: &Report, view: &View, out: &mut dyn io::Write) -> io::Result<()> {
        let recording = &report.recording;
        let names = FileNames::new(recording, view.full_filenames);
        let mut threads: BTreeMap<(Pid, Tid), u64> = BTreeMap::new();
        for sample in recording.samples.iter().filter(|sample| view.shows(sample)) {
            *threads.entry((sample.pid, sample.tid)).or_default() += 1;
        }
        let file = File {
            schema: "https://www.speedscope.app/file-format-schema.json",
            exporter: format!("stallspy@{}", recording.version),
            name: title(recording),
            active_profile_index: 0,
            shared: Shared { frames: Frames { recording, names: &names, view } },
            profiles: threads
                .keys()
                .map(|(pid, tid)| Thread { recording, view, pid: *pid, tid: *tid })
                .collect(),
        };
        serde_json::to_writer(&mut *out, &file)?;
        out.write_all(b"\n")
    }
}

fn title(recording: &Recording) -> String {
    let command = recording.processes.first().map_or("", |process| process.command.as_str());
    format!("stallspy {}", printable(command)).trim_end().to_owned()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    exporter: String,
    name: String,
    active_profile_index: u32,
    shared: Shared<'a>,
    profiles: Vec<Thread<'a>>,
}

#[derive(Serialize)]
struct Shared<'a> {
    frames: Frames<'a>,
}

/// The recording's frame table; a frame's index in the file is its id.
struct Frames<'a> {
    recording: &'a Recording,
    names: &'a FileNames<'a>,
    view: &'a View,
}

#[derive(Serialize)]
struct FrameOut<'a> {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

impl Serialize for Frames<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tables = &self.recording.tables;
        serializer.collect_seq(tables.frames.iter().map(|frame| FrameOut {
            name: self.names.function(frame),
            file: match (frame.kind, frame.file) {
                (FrameKind::Native, None) => frame.module.map(|id| tables.text(id)),
                (_, file) => file.map(|id| self.names.file(id)),
            },
            line: frame.line.filter(|_| self.view.lines()),
        }))
    }
}

/// One thread's samples.
struct Thread<'a> {
    recording: &'a Recording,
    view: &'a View,
    pid: Pid,
    tid: Tid,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThreadOut<'a> {
    r#type: &'static str,
    name: String,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    samples: Column<'a>,
    weights: Column<'a>,
}

impl Serialize for Thread<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let column = |what| Column { thread: self, what };
        ThreadOut {
            r#type: "sampled",
            name: self.name(),
            unit: "nanoseconds",
            start_value: 0,
            end_value: self.pieces().map(|piece| piece.weight).fold(0, u64::saturating_add),
            samples: column(What::Stack),
            weights: column(What::Weight),
        }
        .serialize(serializer)
    }
}

/// A stretch of a thread's time; without a stack if there is nothing to show.
struct Piece {
    stack: Option<StackId>,
    weight: u64,
}

impl<'a> Thread<'a> {
    fn samples(&self) -> impl Iterator<Item = &'a Sample> + use<'a> {
        let (view, pid, tid) = (self.view, self.pid, self.tid);
        let all = self.recording.samples.iter();
        all.filter(move |sample| sample.pid == pid && sample.tid == tid && view.shows(sample))
    }

    /// The thread's time from the beginning of the recording to its last sample, without holes.
    fn pieces(&self) -> impl Iterator<Item = Piece> + use<'a> {
        let mut reached: Timestamp = self.recording.attached;
        self.samples().flat_map(move |sample| {
            let hole = sample.at.since(reached).0;
            reached = reached.max(sample.at + sample.weight);
            let hole = (hole > 0).then_some(Piece { stack: None, weight: hole });
            hole.into_iter().chain([Piece { stack: Some(sample.stack), weight: sample.weight.0 }])
        })
    }

    fn name(&self) -> String {
        let process = self.recording.get_process(self.pid);
        let thread = process.and_then(|one| one.threads.iter().find(|t| t.tid == self.tid));
        let name = thread.map_or("", |thread| thread.name.as_str());
        format!("process {} thread {} {}", self.pid, self.tid, printable(name)).trim().to_owned()
    }
}

/// Which of the two parallel lists.
#[derive(Clone, Copy)]
enum What {
    Stack,
    Weight,
}

/// One of a thread's two lists, made while it is written.
struct Column<'a> {
    thread: &'a Thread<'a>,
    what: What,
}

impl Serialize for Column<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pieces = self.thread.pieces();
        match self.what {
            What::Weight => serializer.collect_seq(pieces.map(|piece| piece.weight)),
            What::Stack => serializer.collect_seq(
                pieces.map(|piece| RootFirst { thread: self.thread, stack: piece.stack }),
            ),
        }
    }
}

struct RootFirst<'a> {
    thread: &'a Thread<'a>,
    stack: Option<StackId>,
}

impl Serialize for RootFirst<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (tables, view) = (&self.thread.recording.tables, self.thread.view);
        let frames = self.stack.map(|id| view.frames(tables, id)).unwrap_or_default();
        serializer.collect_seq(frames.iter().rev().map(|id| id.0))
    }
}
