//! Unwinding: from a frame's registers to its caller's, again and again.
//!
//! Takes registers, a copy of stack bytes and whoever knows the [`Rule`] of an address; gives the
//! code addresses from the leaf to the root. A pure function of these: the same for a thread that
//! sleeps and for a sample of one that runs. Never leaves the stack bytes, never goes towards the
//! leaf again, and ends after [`MAX_DEPTH`] frames whatever the tables say.

use std::rc::Rc;

use super::expression::evaluate;
use super::registers::Registers;
use super::rules::{FrameEnd, Rule, Saved};
use crate::units::Addr;

/// Most frames of one stack. 128 KiB of stack rarely hold more than 600.
pub const MAX_DEPTH: usize = 1024;
/// How far a frame's end is searched for when its frame pointer is not known. The functions that
/// make system calls have small frames: glibc's largest is that of `sem_clockwait`, 160 bytes.
const SEARCH: u64 = 1024;
/// A word on the stack.
const WORD: u64 = 8;

/// A copy of part of a stack: bytes from `base` up.
#[derive(Debug, Clone, Copy)]
pub struct StackBytes<'a> {
    /// The address of the first byte: the stack pointer.
    pub base: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl StackBytes<'_> {
    /// The word at `addr`, if it was copied.
    #[must_use]
    pub fn word(&self, addr: u64) -> Option<u64> {
        let start = usize::try_from(addr.checked_sub(self.base)?).ok()?;
        let bytes = self.bytes.get(start..start.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    fn contains(&self, addr: u64) -> bool {
        self.word(addr).is_some()
    }
}

/// A place in code that a frame is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodeAddr {
    /// The next instruction to run.
    pub pc: Addr,
    /// Whether a call will return there: then the call is the instruction before it, which may be
    /// the last of its function.
    pub is_return: bool,
}

impl CodeAddr {
    /// An address inside the instruction that the frame is at.
    #[must_use]
    pub fn lookup(self) -> Addr {
        Addr(self.pc.0.saturating_sub(u64::from(self.is_return)))
    }
}

/// Why a trace ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing called the last frame: it is the thread's first function.
    Root,
    /// The last frame's caller could not be found: no table, or not what it says.
    Lost,
    /// The stack goes on behind the bytes that were copied.
    Cut,
    /// More than [`MAX_DEPTH`] frames.
    TooDeep,
}

/// A C stack, leaf first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Where each frame is.
    pub frames: Vec<CodeAddr>,
    /// Why there are no more.
    pub end: End,
}

/// Who knows the code of a process.
pub trait Code {
    /// The rule for the instruction that `addr` lies in; `None` where no table tells.
    fn rule(&mut self, addr: Addr) -> Option<Rc<Rule>>;

    /// Whether the instruction before `addr` is a call.
    fn follows_call(&mut self, addr: Addr) -> bool;
}

/// Walks from the frame with these registers to the root.
pub fn unwind(registers: Registers, stack: &StackBytes<'_>, code: &mut dyn Code) -> Trace {
    let mut frames = vec![CodeAddr { pc: Addr(registers.pc), is_return: false }];
    let mut registers = registers;
    let mut at = frames.first().copied();
    while let Some(frame) = at {
        let rule = code.rule(frame.lookup());
        let caller = match &rule {
            Some(rule) => by_rule(rule, &registers, stack, code),
            None => by_frame_pointer(&registers, stack),
        };
        let caller = match caller {
            Ok(caller) => caller,
            Err(end) => return Trace { frames, end },
        };
        if caller.pc == 0 {
            return Trace { frames, end: End::Root };
        }
        if frames.len() >= MAX_DEPTH {
            return Trace { frames, end: End::TooDeep };
        }
        let is_signal = rule.is_some_and(|rule| rule.is_signal);
        let next = CodeAddr { pc: Addr(caller.pc), is_return: !is_signal };
        frames.push(next);
        registers = caller;
        at = Some(next);
    }
    Trace { frames, end: End::Lost }
}

/// The caller's registers, as the table tells.
fn by_rule(
    rule: &Rule,
    registers: &Registers,
    stack: &StackBytes<'_>,
    code: &mut dyn Code,
) -> Result<Registers, End> {
    let returns = rule.saved(Registers::RETURN);
    if returns == Some(&Saved::Lost) || (returns.is_none() && Registers::RETURNS_ON_STACK) {
        return Err(End::Root);
    }
    let end = match &rule.frame_end {
        FrameEnd::Register(register, offset) => match registers.get(*register) {
            Some(value) => value.checked_add_signed(*offset),
            None => search(rule, registers, stack, code),
        },
        FrameEnd::Expression(program) => evaluate(program, rule.encoding, None, registers, stack),
    };
    let end = end.ok_or(End::Lost)?;
    let value = |saved: &Saved, register: u16| match saved {
        Saved::Lost => None,
        Saved::Same => registers.get(register),
        Saved::At(offset) => stack.word(end.checked_add_signed(*offset)?),
        Saved::Value(offset) => end.checked_add_signed(*offset),
        Saved::In(other) => registers.get(*other),
        Saved::AtExpression(program) => {
            let place = evaluate(program, rule.encoding, Some(end), registers, stack)?;
            stack.word(place)
        }
        Saved::ValueExpression(program) => {
            evaluate(program, rule.encoding, Some(end), registers, stack)
        }
    };
    let mut caller = registers.preserved();
    caller.set(Registers::STACK, Some(end));
    for (register, saved) in &rule.registers {
        caller.set(*register, value(saved, *register));
    }
    let pc = match returns {
        Some(saved) => value(saved, Registers::RETURN),
        None => registers.get(Registers::RETURN),
    };
    let Some(pc) = pc else {
        // A frame that ends behind the copy may be sound: the copy is too short.
        let is_behind = end.checked_sub(stack.base).is_some_and(|far| far >= stack_len(stack));
        return Err(if is_behind { End::Cut } else { End::Lost });
    };
    caller.pc = stripped(pc);
    // On machines that keep the return address in a register a leaf function may have no frame.
    let same = end == registers.sp();
    let stays = same && (Registers::RETURNS_ON_STACK || caller.pc == registers.pc);
    if end < registers.sp() || stays {
        return Err(End::Lost);
    }
    Ok(caller)
}

/// Code without tables: it may keep a chain of frame pointers, as code made at run time does.
fn by_frame_pointer(registers: &Registers, stack: &StackBytes<'_>) -> Result<Registers, End> {
    let frame = registers.get(Registers::FRAME).ok_or(End::Lost)?;
    let end = frame.checked_add(2 * WORD).ok_or(End::Lost)?;
    if end <= registers.sp() {
        return Err(End::Lost);
    }
    let next = stack.word(frame).ok_or(End::Lost)?;
    let pc = stack.word(frame.saturating_add(WORD)).ok_or(End::Lost)?;
    let mut caller = registers.preserved();
    caller.set(Registers::STACK, Some(end));
    caller.set(Registers::FRAME, Some(next));
    caller.pc = stripped(pc);
    Ok(caller)
}

/// The end of a frame whose frame pointer is not known, as of a sleeping thread's leaf function:
/// the first place from the stack pointer up where the words that the rule tells of are a return
/// address, right behind a call, and a frame pointer that leads further up. Where code is built
/// without frame pointers the second cannot be asked for.
fn search(
    rule: &Rule,
    registers: &Registers,
    stack: &StackBytes<'_>,
    code: &mut dyn Code,
) -> Option<u64> {
    let Some(Saved::At(returns)) = rule.saved(Registers::RETURN) else { return None };
    let frame = match rule.saved(Registers::FRAME) {
        Some(Saved::At(offset)) => Some(*offset),
        _ => None,
    };
    let from = registers.sp();
    let lowest = rule.registers.iter().filter_map(|(_, saved)| match saved {
        Saved::At(offset) => Some(offset.unsigned_abs()),
        _ => None,
    });
    // All that was saved lies above the stack pointer.
    let first = from.checked_add(lowest.max().unwrap_or(WORD).min(SEARCH))?;
    let ends = || (0..SEARCH / WORD).map(|step| first.saturating_add(step.saturating_mul(WORD)));
    for must_lead_on in [true, false] {
        for end in ends() {
            let leads_on = frame.is_some_and(|offset| {
                let at = end.checked_add_signed(offset);
                let next = at.and_then(|at| stack.word(at));
                next.is_some_and(|next| next >= end && stack.contains(next))
            });
            if must_lead_on && !leads_on {
                continue;
            }
            let place = end.checked_add_signed(*returns)?;
            let Some(pc) = stack.word(place) else { break };
            if code.follows_call(Addr(stripped(pc))) {
                return Some(end);
            }
        }
    }
    None
}

fn stack_len(stack: &StackBytes<'_>) -> u64 {
    u64::try_from(stack.bytes.len()).unwrap_or(u64::MAX)
}

/// A return address without the signature that aarch64 can put into its upper bits (Learn the
/// architecture: Providing protection for complex software, "Pointer authentication").
fn stripped(pc: u64) -> u64 {
    if Registers::RETURNS_ON_STACK { pc } else { pc & Addr::BEYOND.saturating_sub(1) }
}
