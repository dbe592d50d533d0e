//! A survey as text, for golden files: times as "since", and no addresses.

use std::fmt::Write;

use stallspy::event_loop::Reading;
use stallspy::units::Timestamp;

use crate::survey::{Known, SeenLoop, SeenStack, Survey};

/// The whole survey.
pub fn written(survey: &Survey, known: &Known) -> String {
    let mut out = format!("CPython {}\n", survey.version);
    for (index, thread) in survey.threads.iter().enumerate() {
        let name = thread.name.as_deref().unwrap_or("(no name)");
        let tid = if thread.tid.is_some() { "a kernel thread" } else { "no kernel thread" };
        let _ = writeln!(out, "\nthread {index}: {name}, {tid}");
        match &thread.stack {
            Ok(stack) => write_stack(&mut out, stack),
            Err(error) => out.push_str(&format!("  {error}\n")),
        }
        match &thread.runs {
            Ok(None) => {}
            Ok(Some(seen)) => write_loop(&mut out, seen, known.now),
            Err(error) => out.push_str(&format!("  a loop, but {error}\n")),
        }
    }
    out
}

fn write_stack(out: &mut String, stack: &SeenStack) {
    for frame in &stack.frames {
        let _ = match &frame.place {
            Ok((function, file, line)) => {
                let line = line.map_or("?".to_owned(), |line| line.to_string());
                writeln!(out, "  {function}  {}:{line}", shortened(file))
            }
            Err(error) => writeln!(out, "  ({error})"),
        };
        for (name, value) in &frame.locals {
            let value = value.as_deref().unwrap_or("(nothing)");
            let _ = writeln!(out, "      {name} = {}", without_addresses(value));
        }
    }
    if let Some(truncated) = stack.truncated {
        let _ = writeln!(out, "  cut: {truncated:?}");
    }
}

fn write_loop(out: &mut String, seen: &SeenLoop, now: Timestamp) {
    let _ = match seen.reading {
        Ok(Reading::Running(running)) => {
            let whole_ms = now.since(running.began.lo).0 / 1_000_000;
            writeln!(out, "  loop: runs a callback, {whole_ms} ms since the poll")
        }
        Ok(other) => writeln!(out, "  loop: {other:?}"),
        Err(error) => writeln!(out, "  loop: {error}"),
    };
    if let Some(run) = seen.callback {
        let _ = writeln!(out, "  callback: {} of {}", run.index + 1, run.batch);
    }
    for (what, value) in [
        ("waiting", seen.waiting.map(|waiting| waiting.to_string())),
        ("task", seen.task.task.clone()),
        ("coroutine", seen.task.coroutine.clone()),
        ("endpoint", seen.endpoint.clone()),
    ] {
        let _ = writeln!(out, "  {what}: {}", value.as_deref().unwrap_or("none"));
    }
}

/// A path of the standard library from the version's folder on: the same on every machine.
fn shortened(file: &str) -> &str {
    file.split_once("/lib/python3").and_then(|(_, rest)| rest.split_once('/')).map_or(file, |x| x.1)
}

fn without_addresses(text: &str) -> String {
    let mut parts = text.split("0x");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("0x…");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    }
    out
}
