//! Writes a recording, table by table and line by line, without a second copy in memory.

use std::io::{self, Write};

use serde::Serialize;

use super::{CHUNK, End, FORMAT, FORMAT_VERSION, Header, LineOut};
use crate::model::Recording;

/// Writes `recording` as JSON lines. What later lines refer to by id comes first, so that a file
/// cut off anywhere still makes sense up to the cut.
///
/// # Errors
/// Those of `out`.
pub fn write(recording: &Recording, out: &mut dyn Write) -> io::Result<()> {
    let header = Header {
        format: FORMAT.to_owned(),
        format_version: FORMAT_VERSION,
        version: recording.version.clone(),
        attached_ns: recording.attached,
        settings: recording.settings.clone(),
    };
    line(out, &header)?;
    let tables = &recording.tables;
    for chunk in tables.names.chunks(CHUNK) {
        line(out, &LineOut::Names(chunk))?;
    }
    for chunk in tables.frames.chunks(CHUNK) {
        line(out, &LineOut::Frames(chunk))?;
    }
    for chunk in tables.stacks.chunks(CHUNK) {
        line(out, &LineOut::Stacks(chunk))?;
    }
    for chunk in tables.waits.chunks(CHUNK) {
        line(out, &LineOut::Waits(chunk))?;
    }
    for process in &recording.processes {
        line(out, &LineOut::Process(process))?;
    }
    for info in &recording.loops {
        line(out, &LineOut::Loop(info))?;
    }
    for state in &recording.loop_states {
        line(out, &LineOut::State(state))?;
    }
    for gap in &recording.gaps {
        line(out, &LineOut::Gap(gap))?;
    }
    for throttle in &recording.throttles {
        line(out, &LineOut::Throttle(throttle))?;
    }
    for sample in &recording.samples {
        line(out, &LineOut::Sample(sample))?;
    }
    line(out, &LineOut::Losses(&recording.losses))?;
    let (detached_ns, own_cpu_ns) = (recording.detached, recording.own_cpu);
    let (machine, neighbours) = (recording.machine, recording.neighbours.clone());
    line(out, &LineOut::End(End { detached_ns, own_cpu_ns, machine, neighbours }))
}

fn line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
