//! Background samples folded: equal stacks counted together, in the order of their names.
//!
//! What [`super::raw`] and [`super::flamegraph`] write. Keeps one small entry for each distinct
//! stack and each distinct frame's text once; the lines themselves are made one at a time.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::io;

use super::View;
use super::names::FileNames;
use crate::model::{FrameId, Recording, Report, StackId};
use crate::printable::printable;
use crate::units::{Pid, Tid};

/// Marks a stack whose root end could not be read: it must not look like a thread's first frame.
const INCOMPLETE: &str = "[stack incomplete]";

/// Stands for stacks so many and so different that none of their roots is worth a line.
const REST: &str = "[many small stacks]";

/// Most parents shown above a process; a cycle in a damaged recording ends here.
const MAX_PARENTS: usize = 8;

/// An interned frame text. Texts are numbered in their alphabetical order.
type Label = u32;

/// One distinct stack.
#[derive(Debug, Clone, Copy)]
struct Entry {
    root: u32,
    stack: StackId,
    count: u64,
}

/// All samples that a view shows, folded.
#[derive(Debug)]
pub(super) struct Folded<'a> {
    recording: &'a Recording,
    labels: Vec<String>,
    /// The text of each frame of the tables.
    of_frame: Vec<Label>,
    incomplete: Label,
    /// Process and thread frames put above stacks.
    roots: Vec<Vec<Label>>,
    entries: Vec<Entry>,
    /// The frames of each stack, leaf first.
    frames: HashMap<StackId, Cow<'a, [FrameId]>>,
}

impl<'a> Folded<'a> {
    /// Folds the samples of a report.
    pub(super) fn new(report: &'a Report, view: &View) -> Folded<'a> {
        let recording = &report.recording;
        let mut root_ids: HashMap<(Pid, Option<Tid>), u32> = HashMap::new();
        let mut root_texts: Vec<Vec<String>> = Vec::new();
        let mut counts: HashMap<(u32, StackId), u64> = HashMap::new();
        for sample in recording.samples.iter().filter(|sample| view.shows(sample)) {
            let key = (sample.pid, view.threads.then_some(sample.tid));
            let root = *root_ids.entry(key).or_insert_with(|| {
                root_texts.push(root_texts_of(recording, key.0, key.1));
                u32::try_from(root_texts.len() - 1).unwrap_or(u32::MAX)
            });
            *counts.entry((root, sample.stack)).or_default() += u64::from(sample.count);
        }

        let names = FileNames::new(recording, view.full_filenames);
        let frame_texts: Vec<String> = recording
            .tables
            .frames
            .iter()
            .map(|frame| one_field(&names.label(frame, view.lines())))
            .collect();
        let mut labels: Vec<String> =
            frame_texts.iter().chain(root_texts.iter().flatten()).cloned().collect();
        labels.push(INCOMPLETE.to_owned());
        labels.sort_unstable();
        labels.dedup();
        let label = |text: &str| {
            let place = labels.binary_search_by(|label| label.as_str().cmp(text));
            u32::try_from(place.unwrap_or_default()).unwrap_or(u32::MAX)
        };

        let of_frame = frame_texts.iter().map(|text| label(text)).collect();
        let roots = root_texts.iter().map(|one| one.iter().map(|text| label(text)).collect());
        let roots = roots.collect();
        let incomplete = label(INCOMPLETE);
        let entries = counts.into_iter().map(|((root, stack), count)| Entry { root, stack, count });
        let entries = entries.collect();
        let entries: Vec<Entry> = entries;
        let shown = |entry: &Entry| (entry.stack, view.frames(&recording.tables, entry.stack));
        let frames = entries.iter().map(shown).collect();
        let mut folded = Folded { recording, labels, of_frame, incomplete, roots, entries, frames };
        folded.sort();
        folded
    }

    /// Samples in all.
    pub(super) fn total(&self) -> u64 {
        weight_of(&self.entries)
    }

    /// Writes the lines, `root;…;leaf COUNT`. Subtrees of fewer than `least` samples are cut off
    /// and counted where they hang; with 0 or 1 nothing is.
    pub(super) fn write(&self, least: u64, out: &mut dyn io::Write) -> io::Result<()> {
        // Neighbours that share their first labels: a node of the tree that the lines describe.
        // The work is a list, not a recursion: how deep stacks are is the target's choice.
        let mut nodes = vec![(&self.entries[..], 0)];
        let mut children = Vec::new();
        while let Some((node, depth)) = nodes.pop() {
            let at_depth = |entry: &Entry| self.label_at(entry, depth);
            let mut here = 0;
            for child in node.chunk_by(|a, b| at_depth(a) == at_depth(b)) {
                let weight = weight_of(child);
                if weight >= least && child.first().and_then(at_depth).is_some() {
                    children.push((child, depth + 1));
                } else {
                    here += weight;
                }
            }
            if let Some(entry) = node.first().filter(|_| here > 0) {
                self.line(entry, depth, here, out)?;
            }
            nodes.extend(children.drain(..).rev());
        }
        Ok(())
    }

    /// Writes the first `depth` labels of an entry's path, with a count.
    fn line(
        &self,
        entry: &Entry,
        depth: usize,
        count: u64,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        if depth == 0 {
            return writeln!(out, "{REST} {count}");
        }
        for (index, label) in self.labels_of(entry).take(depth).enumerate() {
            if index > 0 {
                out.write_all(b";")?;
            }
            let text = self.labels.get(label as usize).map_or("?", String::as_str);
            out.write_all(text.as_bytes())?;
        }
        writeln!(out, " {count}")
    }

    /// The label at one depth of an entry's path, from the root.
    fn label_at(&self, entry: &Entry, depth: usize) -> Option<Label> {
        let (root, cut, frames) = self.parts(entry);
        let Some(depth) = depth.checked_sub(root.len()) else { return root.get(depth).copied() };
        let depth = match cut {
            Some(label) if depth == 0 => return Some(label),
            Some(_) => depth - 1,
            None => depth,
        };
        let from_leaf = frames.len().checked_sub(depth + 1)?;
        frames.get(from_leaf).and_then(|id| self.of_frame.get(id.0 as usize).copied())
    }

    /// The texts of a stack, root first.
    fn labels_of(&self, entry: &Entry) -> impl Iterator<Item = Label> {
        let (root, cut, frames) = self.parts(entry);
        let frames = frames.iter().rev();
        root.iter()
            .copied()
            .chain(cut)
            .chain(frames.map_while(|id| self.of_frame.get(id.0 as usize).copied()))
    }

    /// An entry's root labels, the note that frames are missing, and its frames, leaf first.
    fn parts(&self, entry: &Entry) -> (&[Label], Option<Label>, &[FrameId]) {
        let root = self.roots.get(entry.root as usize).map_or(&[][..], Vec::as_slice);
        let stack = self.recording.tables.get_stack(entry.stack);
        let frames = self.frames.get(&entry.stack).map_or(&[][..], |frames| frames);
        let cut = frames.is_empty() || stack.is_some_and(|stack| stack.truncated.is_some());
        (root, cut.then_some(self.incomplete), frames)
    }

    fn sort(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable_by(|a, b| {
            match self.labels_of(a).cmp(self.labels_of(b)) {
                // Equal texts are written as one line; the ids only make the order certain.
                Ordering::Equal => (a.root, a.stack).cmp(&(b.root, b.stack)),
                unequal => unequal,
            }
        });
        self.entries = entries;
    }
}

fn weight_of(entries: &[Entry]) -> u64 {
    entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.count))
}

/// The frames above a thread's own: its processes, if there are several, and itself, if asked.
fn root_texts_of(recording: &Recording, pid: Pid, tid: Option<Tid>) -> Vec<String> {
    let mut texts = Vec::new();
    if recording.processes.len() > 1 {
        let mut next = recording.get_process(pid);
        while let Some(process) = next.filter(|_| texts.len() < MAX_PARENTS) {
            texts.push(one_field(&format!("process {}:\"{}\"", process.pid, process.command)));
            next = recording.get_process(process.ppid).filter(|parent| parent.pid != process.pid);
        }
        texts.reverse();
    }
    if let Some(tid) = tid {
        let thread = recording
            .get_process(pid)
            .and_then(|process| process.threads.iter().find(|thread| thread.tid == tid));
        texts.push(one_field(&match thread {
            Some(thread) if !thread.name.is_empty() => format!("thread ({tid}): {}", thread.name),
            _ => format!("thread ({tid})"),
        }));
    }
    texts
}

/// `text` as one field of a folded line: no `;`, which would end it, and no number as its last
/// word, which would be taken for a count.
fn one_field(text: &str) -> String {
    let mut field = printable(text.trim()).replace(';', ":");
    if let Some((head, last)) = field.rsplit_once(' ')
        && last.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        field = format!("{head}\u{a0}{last}");
    }
    if field.is_empty() { "?".to_owned() } else { field }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_cannot_break_its_line() {
        assert_eq!(one_field("a;b\nc"), "a:b�c");
        assert_eq!(one_field("thread (7): worker 3"), "thread (7): worker\u{a0}3");
        assert_eq!(one_field("f (x.py:12)"), "f (x.py:12)");
        assert_eq!(one_field("  "), "?");
    }
}
