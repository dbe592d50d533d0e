//! Memory built to mislead: lists without end, chains in a circle, and data that looks like an
//! interpreter wherever one looks.

use stallspy::layout::shape::FrameLink;
use stallspy::layout::{Layout, tables};
use stallspy::model::Truncation;
use stallspy::python::Interpreter;
use stallspy::python::frames::{MAX_AT_ONCE, MAX_DEPTH, Walker};
use stallspy::python::interpreters::interpreters;
use stallspy::python::locate::scan;
use stallspy::python::threads::{MAX_THREADS, Thread, threads};
use stallspy::target::{ReadError, RemoteMemory};
use stallspy::units::Addr;

use crate::{Counting, SUBJECTS};

/// Where it begins.
const BASE: u64 = 0x10_0000_0000;
/// Bytes between two of anything.
const STEP: u64 = 4096;

/// At every place the same fields, as a function of the place.
struct Field(u64, fn(u64) -> u64);

struct Repeating(Vec<Field>);

impl std::fmt::Debug for Repeating {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Repeating")
    }
}

impl RemoteMemory for Repeating {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        for (index, byte) in buf.iter_mut().enumerate() {
            let at = addr.0.wrapping_add(index as u64);
            let (place, offset) = (at - at % STEP, at % STEP);
            let field = self.0.iter().find(|field| (field.0..field.0 + 8).contains(&offset));
            *byte = field.map_or(0, |Field(start, value)| {
                value(place).to_le_bytes()[usize::try_from(offset - start).unwrap()]
            });
        }
        Ok(())
    }
}

fn next(place: u64) -> u64 {
    place + STEP
}

fn itself(place: u64) -> u64 {
    place
}

fn base(_: u64) -> u64 {
    BASE
}

/// The newest layouts, too, whose offsets are published.
fn layouts() -> Vec<Layout> {
    let published = SUBJECTS.iter().map(|subject| subject.located.layout);
    tables().iter().map(|layout| **layout).chain(published).collect()
}

fn view<'a>(memory: &'a dyn RemoteMemory, layout: &'a Layout) -> Interpreter<'a> {
    Interpreter::new(memory, layout, Addr(BASE))
}

#[test]
fn interpreters_without_end() {
    for layout in layouts() {
        let offsets = &layout.offsets;
        for link in [next as fn(u64) -> u64, itself] {
            let fields = vec![
                Field(offsets.runtime.interpreters_head, next),
                Field(offsets.interpreter.next % STEP, link),
            ];
            let memory = Counting::new(Repeating(fields));
            let found = interpreters(&view(&memory, &layout)).unwrap();
            assert!(found.len() <= 64, "{}", found.len());
            memory.assert_within(65, 8);
        }
    }
}

/// A list of threads that goes on for ever, and one that leads back to itself.
#[test]
fn threads_without_end() {
    for layout in layouts() {
        let offsets = &layout.offsets;
        for link in [next as fn(u64) -> u64, itself] {
            // Interpreters lie at BASE only: the list of them leads back.
            let fields = vec![
                Field(offsets.runtime.interpreters_head, base),
                Field(offsets.interpreter.threads_head % STEP, next),
                Field(offsets.thread.next, link),
                Field(offsets.thread.interp, base),
            ];
            let memory = Counting::new(Repeating(fields));
            let found = threads(&view(&memory, &layout)).unwrap();
            assert!(found.len() <= MAX_THREADS);
            memory.assert_within(64 * 3 + MAX_THREADS as u64, 4096);
        }
    }
}

#[test]
fn frames_without_end() {
    for layout in layouts() {
        let offsets = &layout.offsets;
        for link in [next as fn(u64) -> u64, itself, base] {
            let mut fields =
                vec![Field(offsets.frame.previous, link), Field(offsets.frame.code, base)];
            if layout.shape.frame_link == FrameLink::CFrame {
                fields.insert(0, Field(offsets.thread.cframe_current_frame, link));
            }
            let memory = Counting::new(Repeating(fields));
            let python = view(&memory, &layout);
            // So that the thread's pointer is where frames have theirs to the previous one.
            let pointer = offsets.thread.frame % STEP;
            let shift = offsets.frame.previous.wrapping_sub(pointer);
            let thread = Thread {
                state: Addr(BASE + STEP).at(shift),
                interpreter: Addr(BASE),
                ident: 0,
                native: None,
            };
            match Walker::default().walk(&python, &thread) {
                Ok(stack) => {
                    assert!(stack.frames.len() <= MAX_DEPTH);
                    let cut = Some(Truncation::DepthLimit);
                    assert_eq!(stack.truncated, cut, "{:?}", layout.version);
                }
                // A circle is no stack; an endless straight line could be one.
                Err(error) => {
                    let straight = std::ptr::fn_addr_eq(link, next as fn(u64) -> u64);
                    assert!(matches!(error, ReadError::Invalid(_)) && !straight, "{error:?}");
                }
            }
            memory.assert_within(2 * MAX_DEPTH as u64 + 8, MAX_AT_ONCE);
        }
    }
}

/// Every word of 8 MiB points to what may be an interpreter, which has a `sys.__dict__` of the most
/// entries that are looked at, none of them `hexversion`.
#[derive(Debug)]
struct Decoys<'a>(&'a Decoy);

#[derive(Debug)]
struct Decoy {
    image: &'static crate::Subject,
    interpreter: u64,
    cookie: bool,
}

impl RemoteMemory for Decoys<'_> {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        if addr.0 < BASE || addr.0 >= BASE + (16 << 20) {
            let offsets = &self.0.image.located.layout.offsets.interpreter;
            self.0.image.image.memory.read(addr, buf)?;
            // Its `sys.__dict__` is the modules' instead: strings, and no version among them.
            if addr == Addr(self.0.interpreter).at(offsets.sysdict) && buf.len() == 8 {
                let modules = Addr(self.0.interpreter).at(offsets.modules);
                self.0.image.image.memory.read(modules, buf)?;
            }
            return Ok(());
        }
        if self.0.cookie && buf.len() >= 1024 {
            // A published runtime at every 1024 bytes.
            let mut runtime = vec![0; 1024];
            let known = self.0.image.image.known.runtime;
            self.0.image.image.memory.read(known, &mut runtime)?;
            for chunk in buf.chunks_mut(1024) {
                chunk.copy_from_slice(&runtime[..chunk.len()]);
            }
            return Ok(());
        }
        for (index, byte) in buf.iter_mut().enumerate() {
            let at = addr.0.wrapping_add(index as u64);
            *byte = self.0.interpreter.to_le_bytes()[(at % 8) as usize];
        }
        Ok(())
    }
}

#[test]
fn a_scan_among_decoys_ends() {
    for image in SUBJECTS.iter() {
        let python = image.located.view(&image.image.memory);
        let interpreter = interpreters(&python).unwrap()[0].0;
        let cookie = image.located.layout.version >= (3, 13);
        let decoy = Decoy { image, interpreter, cookie };
        let memory = Counting::new(Decoys(&decoy));
        let found = scan(&memory, Addr(BASE), 8 << 20);
        assert!(!matches!(found, Ok(Some(_))), "{}", image.image.name);
        // Two reads for each of 2^18 candidates; 33 proofs of five layouts each.
        memory.assert_within((1 << 19) + 33 * 5 * 1024 * 4, 8 << 20);
    }
}
