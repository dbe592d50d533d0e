//! Memory that changes once while it is read, as a running process's does: what is told must be of
//! one moment or the other, or refused. A mixture of both never was.

use std::cell::Cell;

use stallspy::model::Truncation;
use stallspy::python::Interpreter;
use stallspy::python::frames::{RawStack, Walker};
use stallspy::python::threads::{Thread, threads};
use stallspy::target::{ImageMemory, ReadError, RemoteMemory, RemoteMemoryExt};
use stallspy::units::Addr;

use crate::{located, one_of_each};

/// Reads as one memory, and after so many reads as another.
#[derive(Debug)]
pub struct Changing<'a> {
    before: &'a ImageMemory,
    after: &'a ImageMemory,
    change: u64,
    reads: Cell<u64>,
}

impl<'a> Changing<'a> {
    pub fn new(before: &'a ImageMemory, after: &'a ImageMemory, change: u64) -> Changing<'a> {
        Changing { before, after, change, reads: Cell::new(0) }
    }

    /// Whether there was anything left to read after the change.
    pub fn has_changed(&self) -> bool {
        self.reads.get() > self.change
    }
}

impl RemoteMemory for Changing<'_> {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        let now = if self.reads.get() < self.change { self.before } else { self.after };
        self.reads.set(self.reads.get() + 1);
        now.read(addr, buf)
    }
}

/// The memory with other words in some places.
pub fn with(image: &ImageMemory, words: &[(Addr, u64)]) -> ImageMemory {
    let mut changed = image.clone();
    for (addr, word) in words {
        changed.insert(*addr, &word.to_le_bytes());
    }
    changed
}

/// The thread that runs the loop: the first there was, which CPython lists last.
pub fn main_thread(python: &Interpreter<'_>) -> Thread {
    *threads(python).unwrap().last().unwrap()
}

/// Frames and what they run.
pub fn functions(stack: &RawStack) -> Vec<(Addr, Addr)> {
    stack.frames.iter().map(|frame| (frame.addr, frame.code)).collect()
}

/// What a moment before may have looked like: frames of the same chain, linked or running something
/// else.
fn other_moments(python: &Interpreter<'_>, stack: &RawStack) -> Vec<Vec<(Addr, u64)>> {
    let offsets = &python.layout.offsets.frame;
    let frames = &stack.frames;
    let word = |addr| python.memory.read_u64(addr).unwrap();
    let code = |index: usize| frames[index].addr.at(offsets.code);
    let link = |index: usize| frames[index].addr.at(offsets.previous);
    let mut moments = Vec::new();
    for index in 0..frames.len() - 3 {
        // A generator, suspended: it has no caller then.
        moments.push(vec![(link(index), 0)]);
        // Another function's frame in the same place, and two such.
        let other = (code(index), word(code(index + 1)));
        moments.push(vec![other]);
        moments.push(vec![other, (code(index + 2), word(code(index)))]);
        // Called by the caller's caller.
        moments.push(vec![(link(index), word(link(index + 1)))]);
    }
    moments
}

#[test]
fn a_stack_is_of_one_moment() {
    for image in one_of_each("request") {
        let located = located(&image);
        let python = located.view(&image.memory);
        let thread = main_thread(&python);
        let now = Walker::default().walk(&python, &thread).unwrap();
        let mut seen = 0;
        for words in other_moments(&python, &now) {
            let other = with(&image.memory, &words);
            let then = Walker::default().walk(&located.view(&other), &thread).unwrap();
            for (before, after) in [(&other, &image.memory), (&image.memory, &other)] {
                for change in 0.. {
                    let memory = Changing::new(before, after, change);
                    let python = located.view(&memory);
                    let mut walker = Walker::default();
                    for _ in 0..2 {
                        let Ok(told) = walker.walk(&python, &thread) else { continue };
                        let told = functions(&told);
                        let known = told == functions(&now) || told == functions(&then);
                        assert!(known, "{}: {words:?} changed at read {change}", image.name);
                        seen += 1;
                    }
                    if !memory.has_changed() {
                        break;
                    }
                }
            }
        }
        assert!(seen > 1000, "{}: {seen} stacks were seen at all", image.name);
    }
}

/// As [`Changing`], but only one read is of the other moment: before and after all is the same.
#[derive(Debug)]
struct Between<'a> {
    always: &'a ImageMemory,
    between: &'a ImageMemory,
    when: u64,
    reads: Cell<u64>,
}

impl RemoteMemory for Between<'_> {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        let now = if self.when == self.reads.get() { self.between } else { self.always };
        self.reads.set(self.reads.get() + 1);
        now.read(addr, buf)
    }
}

/// A generator that is suspended has no caller, and is resumed in the same place: the pointer to
/// the innermost frame is the same before and after, and tells nothing.
#[test]
fn a_generator_suspended_between_two_reads_cuts_no_stack() {
    for image in one_of_each("request") {
        let located = located(&image);
        let thread = main_thread(&located.view(&image.memory));
        let whole = Walker::default().walk(&located.view(&image.memory), &thread).unwrap();
        for frame in &whole.frames {
            let link = frame.addr.at(located.layout.offsets.frame.previous);
            let suspended = with(&image.memory, &[(link, 0)]);
            for read in 0..60 {
                let memory = Between {
                    always: &image.memory,
                    between: &suspended,
                    when: read,
                    reads: Cell::new(0),
                };
                let python = located.view(&memory);
                let mut walker = Walker::default();
                for told in [walker.walk(&python, &thread), walker.walk(&python, &thread)] {
                    let Ok(told) = told else { continue };
                    assert_eq!(functions(&told), functions(&whole), "{}: {read}", image.name);
                }
            }
        }
    }
}

#[test]
fn a_frame_without_code_cuts_the_stack_with_a_mark() {
    for image in one_of_each("request") {
        let located = located(&image);
        let thread = main_thread(&located.view(&image.memory));
        let whole = Walker::default().walk(&located.view(&image.memory), &thread).unwrap();
        for (index, frame) in whole.frames.iter().enumerate() {
            for word in [0, 3, 0xdddd_dddd_dddd_dddd] {
                let code = frame.addr.at(located.layout.offsets.frame.code);
                let memory = with(&image.memory, &[(code, word)]);
                let told = Walker::default().walk(&located.view(&memory), &thread).unwrap();
                assert_eq!(told.truncated, Some(Truncation::Torn), "{}", image.name);
                assert_eq!(functions(&told), functions(&whole)[..index], "{}", image.name);
            }
        }
    }
}
