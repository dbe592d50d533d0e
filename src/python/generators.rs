//! Generators and coroutines: the frame that each keeps while it is suspended, and what it waits for.
//!
//! Takes the address of an object that is known to be one, gives what `gi_frame` and `gi_yieldfrom` (or
//! `cr_await`) would. Every pointer is checked by whoever reads what it leads to.

use super::Interpreter;
use super::frames::RawFrame;
use crate::layout::shape::{Delegates, GeneratorFrame, GeneratorState, LastInstruction, StackTop};
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// Most words of one frame's variables and evaluation stack: what is more is garbage.
const MAX_STACK: u64 = 1 << 20;
/// The least argument of the `RESUME` after a `yield from`, 2, or `await`, 3
/// (<https://github.com/python/cpython/blob/v3.12.1/Objects/genobject.c#L363>).
const RESUMES_DELEGATE: u8 = 2;

/// What a generator or coroutine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generator {
    /// It has not begun.
    Created(RawFrame),
    /// It waits.
    Suspended {
        /// Where.
        frame: RawFrame,
        /// In `await` or `yield from`: for this object.
        delegate: Option<Addr>,
    },
    /// A thread runs it, or what it called.
    Running(RawFrame),
    /// It has ended.
    Finished,
}

/// The frame of the generator or coroutine at `object`; `None` for one that has ended. The caller has
/// seen that it is one.
///
/// # Errors
/// When it cannot be read.
pub fn frame_of(python: &Interpreter<'_>, object: Addr) -> Result<Option<Addr>, ReadError> {
    match python.layout.generator_frame() {
        GeneratorFrame::Pointer(at) => {
            let frame = python.memory.read_pointer(object.at(at))?;
            Ok(frame.is_plausible().then_some(frame))
        }
        GeneratorFrame::Inside(at) => Ok(Some(object.at(at))),
    }
}

/// What the generator, coroutine or asynchronous generator at `object` does. The caller has seen that
/// it is one.
///
/// # Errors
/// When it cannot be read, or says what cannot be.
pub fn state_of(python: &Interpreter<'_>, object: Addr) -> Result<Generator, ReadError> {
    let Some(at) = frame_of(python, object)? else { return Ok(Generator::Finished) };
    match python.layout.shape.generator_state {
        GeneratorState::Frame { delegates, code } => {
            let frame = frame_at(python, at)?;
            let last = u32::try_from(frame.instruction).map_or(-1, u32::cast_signed);
            let top = stack_top(python, at)?;
            Ok(match top {
                _ if last < 0 => Generator::Created(frame),
                None => Generator::Running(frame),
                Some(top) => {
                    let waits = opcode_after(python, &frame, code)? == delegates;
                    let delegate = waits.then(|| value_below(python, at, top, 1)).transpose()?;
                    Generator::Suspended { frame, delegate }
                }
            })
        }
        GeneratorState::Number { created, executing, delegates } => {
            let state = object.at(python.layout.generator_state_at());
            let state = python.memory.read_u8(state)?.cast_signed();
            if state > executing {
                return Ok(Generator::Finished);
            }
            let frame = frame_at(python, at)?;
            if state == executing {
                return Ok(Generator::Running(frame));
            }
            if state == created {
                return Ok(Generator::Created(frame));
            }
            let below = match delegates {
                Delegates::Resume(opcodes) => {
                    // `prev_instr` is the unit before the one it goes on with.
                    let next = Addr(frame.instruction).at(2);
                    let [opcode, argument, ..] = python.memory.read_u32(next)?.to_le_bytes();
                    let waits = opcodes.contains(&opcode) && argument >= RESUMES_DELEGATE;
                    waits.then_some(1)
                }
                Delegates::State { number, below_top } => (state == number).then_some(below_top),
            };
            let delegate = match below {
                Some(below) => {
                    let top = stack_top(python, at)?.ok_or(ReadError::Invalid("stack top"))?;
                    Some(value_below(python, at, top, below)?)
                }
                None => None,
            };
            Ok(Generator::Suspended { frame, delegate })
        }
    }
}

/// The frame at `addr`, which no thread needs to run.
///
/// # Errors
/// When none can be there.
pub fn frame_at(python: &Interpreter<'_>, addr: Addr) -> Result<RawFrame, ReadError> {
    let offsets = &python.layout.offsets.frame;
    let places = [addr.at(offsets.code), addr.at(offsets.instruction)];
    let [code, instruction] = python.memory.read_words(places)?;
    let code = python.untag(Addr(code));
    if !code.is_plausible() {
        return Err(ReadError::Invalid("frame"));
    }
    let instruction = match python.layout.shape.last_instruction {
        LastInstruction::Bytes | LastInstruction::Units => instruction & u64::from(u32::MAX),
        LastInstruction::Pointer => instruction,
    };
    Ok(RawFrame { addr, code, instruction, is_entry: true })
}

/// The address behind the last value of a suspended frame's stack; `None` while it runs.
fn stack_top(python: &Interpreter<'_>, frame: Addr) -> Result<Option<Addr>, ReadError> {
    let place = frame.at(python.layout.offsets.frame.stack_top);
    let behind = |base: Addr, words: u32| {
        let words = u64::try_from(words.cast_signed()).ok().filter(|words| *words <= MAX_STACK);
        words.map(|words| base.at(words.saturating_mul(8)))
    };
    Ok(match python.layout.shape.stack_top {
        StackTop::Pointer => Some(python.memory.read_pointer(place)?).filter(|top| !top.is_null()),
        StackTop::DepthFrom(values) => {
            let base = python.memory.read_pointer(frame.at(values))?;
            behind(base, python.memory.read_u32(place)?)
        }
        StackTop::Words => {
            let base = frame.at(python.layout.offsets.frame.localsplus);
            behind(base, python.memory.read_u32(place)?)
        }
    })
}

/// The value so many words below the top, which must be the frame's own.
fn value_below(
    python: &Interpreter<'_>,
    frame: Addr,
    top: Addr,
    words: u64,
) -> Result<Addr, ReadError> {
    let first = frame.at(python.layout.offsets.frame.localsplus);
    let last = first.at(MAX_STACK.saturating_mul(8));
    let place = Addr(top.0.saturating_sub(words.saturating_mul(8)));
    if place < first || place >= last {
        return Err(ReadError::Invalid("stack top"));
    }
    let value = python.untag(python.memory.read_pointer(place)?);
    if value.is_plausible() { Ok(value) } else { Err(ReadError::Invalid("awaited object")) }
}

/// The opcode that a suspended frame goes on with (3.8 to 3.10), out of the `bytes` at `code` in its code object.
fn opcode_after(python: &Interpreter<'_>, frame: &RawFrame, code: u64) -> Result<u8, ReadError> {
    let unit = match python.layout.shape.last_instruction {
        LastInstruction::Units => 2,
        LastInstruction::Bytes | LastInstruction::Pointer => 1,
    };
    let next = frame.instruction.saturating_mul(unit).saturating_add(2);
    let code = python.memory.read_pointer(frame.code.at(code))?;
    let offsets = &python.layout.offsets.object;
    if next >= python.memory.read_u64(code.at(offsets.bytes_size))? {
        return Err(ReadError::Invalid("instruction"));
    }
    python.memory.read_u8(code.at(offsets.bytes_value).at(next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Layout, from_debug_offsets, tables};
    use crate::target::image::ImageMemory;

    const GENERATOR: Addr = Addr(0x5000_0000_0000);
    const FRAME: Addr = Addr(0x5000_0000_1000);
    const CODE: Addr = Addr(0x5000_0000_2000);
    const BYTES: Addr = Addr(0x5000_0000_3000);
    const AWAITED: Addr = Addr(0x5000_0000_4000);

    fn layouts() -> Vec<Layout> {
        let published = [
            include_str!("../../fixtures/debug_offsets/3.13.18.txt"),
            include_str!("../../fixtures/debug_offsets/3.14.10.txt"),
            include_str!("../../fixtures/debug_offsets/3.15.2.txt"),
        ];
        let parse = |text: &str| {
            let words = text.lines().flat_map(|line| line.parse::<u64>().unwrap().to_le_bytes());
            from_debug_offsets(&words.collect::<Vec<_>>()).unwrap().0
        };
        tables().iter().map(|layout| **layout).chain(published.map(parse)).collect()
    }

    /// What a generator is made to do.
    #[derive(Clone, Copy, PartialEq)]
    enum Does {
        Nothing,
        Yields,
        Awaits,
        Runs,
    }

    /// A generator with two variables and two values on its stack, in every layout's way.
    fn build(layout: &Layout, does: Does) -> ImageMemory {
        let mut memory = ImageMemory::new();
        let mut word = |at: Addr, value: u64| memory.insert(at, &value.to_le_bytes());
        let offsets = &layout.offsets;
        let frame = match layout.generator_frame() {
            GeneratorFrame::Pointer(at) => {
                word(GENERATOR.at(at), FRAME.0);
                FRAME
            }
            GeneratorFrame::Inside(at) => GENERATOR.at(at),
        };
        word(frame.at(offsets.frame.code), CODE.0);
        let first = frame.at(offsets.frame.localsplus);
        let tag = layout.shape.stack_references == crate::layout::shape::StackReferences::Tagged;
        let below = match layout.shape.generator_state {
            GeneratorState::Number { delegates: Delegates::State { below_top, .. }, .. } => {
                below_top
            }
            _ => 1,
        };
        let top = first.at(32);
        word(Addr(top.0 - 8 * below), AWAITED.0 | u64::from(tag));
        if layout.offsets.frame.stack_top != 0 {
            let place = frame.at(offsets.frame.stack_top);
            let running = does == Does::Runs;
            match layout.shape.stack_top {
                StackTop::Pointer => word(place, if running { 0 } else { top.0 }),
                StackTop::DepthFrom(values) => {
                    word(frame.at(values), first.at(16).0);
                    word(place, if running { u64::MAX } else { 2 });
                }
                StackTop::Words => word(place, 4),
            }
        }
        let awaits = does == Does::Awaits;
        match layout.shape.generator_state {
            GeneratorState::Frame { delegates, code } => {
                let last = if does == Does::Nothing { u64::from(u32::MAX) } else { 4 };
                word(frame.at(offsets.frame.instruction), last);
                word(CODE.at(code), BYTES.0);
                word(BYTES.at(offsets.object.bytes_size), 64);
                let unit =
                    if layout.shape.last_instruction == LastInstruction::Units { 2 } else { 1 };
                let next = BYTES.at(offsets.object.bytes_value).at(last * unit + 2);
                if last == 4 {
                    word(next, u64::from(if awaits { delegates } else { 1 }));
                }
            }
            GeneratorState::Number { created, executing, delegates } => {
                word(frame.at(offsets.frame.instruction), BYTES.0);
                let mut state = match does {
                    Does::Nothing => created,
                    Does::Yields | Does::Awaits => created + 1,
                    Does::Runs => executing,
                };
                match delegates {
                    Delegates::Resume(opcodes) => {
                        let opcode = opcodes[0];
                        let argument = if awaits { 3 } else { 1 };
                        memory.insert(BYTES.at(2), &[opcode, argument, 0, 0]);
                    }
                    Delegates::State { number, .. } if awaits => state = number,
                    Delegates::State { .. } => {}
                }
                memory.insert(GENERATOR.at(layout.generator_state_at()), &state.to_le_bytes());
            }
        }
        memory
    }

    fn ask(layout: &Layout, memory: &ImageMemory) -> Result<Generator, ReadError> {
        let python = Interpreter::new(memory, layout, Addr(0));
        state_of(&python, GENERATOR)
    }

    #[test]
    fn every_version_says_what_a_generator_does_and_waits_for() {
        for layout in layouts() {
            let version = layout.version;
            let ask = |does| ask(&layout, &build(&layout, does)).unwrap();
            assert!(matches!(ask(Does::Nothing), Generator::Created(_)), "{version:?}");
            assert!(matches!(ask(Does::Runs), Generator::Running(_)), "{version:?}");
            let Generator::Suspended { delegate: None, .. } = ask(Does::Yields) else {
                panic!("{version:?}: {:?}", ask(Does::Yields))
            };
            let Generator::Suspended { frame, delegate } = ask(Does::Awaits) else {
                panic!("{version:?}")
            };
            assert_eq!((frame.code, delegate), (CODE, Some(AWAITED)), "{version:?}");
        }
    }

    #[test]
    fn a_stack_that_ends_outside_of_its_frame_is_none() {
        for layout in layouts() {
            let mut memory = build(&layout, Does::Awaits);
            let frame = match layout.generator_frame() {
                GeneratorFrame::Pointer(_) => FRAME,
                GeneratorFrame::Inside(at) => GENERATOR.at(at),
            };
            let top: u64 = match layout.shape.stack_top {
                StackTop::Pointer => 0x6000_0000_0000,
                StackTop::DepthFrom(_) | StackTop::Words => 0x7fff_ffff,
            };
            memory.insert(frame.at(layout.offsets.frame.stack_top), &top.to_le_bytes());
            match ask(&layout, &memory) {
                Err(_) | Ok(Generator::Running(_)) => {}
                read => panic!("{:?}: {read:?}", layout.version),
            }
        }
    }
}
