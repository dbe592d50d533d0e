//! The registers of one stack frame, by their DWARF numbers.
//!
//! Those of a caller are mostly unknown: a function saves only what it uses. An unknown register
//! is `None`, never a guess.

use crate::units::Addr;

/// Registers kept: x86_64 has 17 with the return address (System V ABI, AMD64 supplement, figure
/// 3.36), aarch64 has 32 (DWARF for the Arm 64-bit Architecture, §4.1).
const COUNT: usize = 33;

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const STACK: u16 = 7;
    pub(super) const FRAME: u16 = 6;
    pub(super) const RETURN: u16 = 16;
    /// `rbx`, `rbp`, `r12` to `r15` (AMD64 supplement, figure 3.4).
    pub(super) fn is_preserved(register: u16) -> bool {
        matches!(register, 3 | 6 | 12..=15)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod number {
    pub(super) const STACK: u16 = 31;
    pub(super) const FRAME: u16 = 29;
    pub(super) const RETURN: u16 = 30;
    /// `x19` to `x29` (Procedure Call Standard for the Arm 64-bit Architecture, §6.1.1).
    pub(super) fn is_preserved(register: u16) -> bool {
        matches!(register, 19..=29)
    }
}

/// The registers of a frame, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// The instruction it runs, or will return to.
    pub pc: u64,
    values: [Option<u64>; COUNT],
}

impl Registers {
    /// The stack pointer's number.
    pub const STACK: u16 = number::STACK;
    /// The frame pointer's number, where code keeps one.
    pub const FRAME: u16 = number::FRAME;
    /// The number that stands for the return address.
    pub const RETURN: u16 = number::RETURN;
    /// On x86_64 a call puts the return address on the stack, elsewhere into a register.
    pub const RETURNS_ON_STACK: bool = cfg!(target_arch = "x86_64");

    /// All that `/proc/PID/task/TID/syscall` tells of a thread that sleeps.
    #[must_use]
    pub fn at_rest(pc: Addr, sp: Addr) -> Registers {
        let mut registers = Registers { pc: pc.0, values: [None; COUNT] };
        registers.set(Registers::STACK, Some(sp.0));
        registers
    }

    /// What a sample of a running thread holds; the link register only where there is one.
    #[must_use]
    pub fn running(pc: Addr, sp: Addr, frame: u64, link: Option<u64>) -> Registers {
        let mut registers = Registers::at_rest(pc, sp);
        registers.set(Registers::FRAME, Some(frame));
        if !Registers::RETURNS_ON_STACK {
            registers.set(Registers::RETURN, link);
        }
        registers
    }

    /// A register's value, if it is known.
    #[must_use]
    pub fn get(&self, register: u16) -> Option<u64> {
        if register == Registers::RETURN && Registers::RETURNS_ON_STACK {
            // x86_64 has no such register; expressions mean the instruction pointer by it.
            return Some(self.pc);
        }
        self.values.get(usize::from(register)).copied().flatten()
    }

    /// Sets a register; one that is not kept is ignored.
    pub fn set(&mut self, register: u16, value: Option<u64>) {
        if let Some(slot) = self.values.get_mut(usize::from(register)) {
            *slot = value;
        }
    }

    /// The stack pointer; 0 if it is not known.
    #[must_use]
    pub fn sp(&self) -> u64 {
        self.get(Registers::STACK).unwrap_or(0)
    }

    /// What a caller still has in its registers when no rule says otherwise: what every function
    /// must preserve.
    #[must_use]
    pub fn preserved(&self) -> Registers {
        let mut registers = *self;
        for (register, slot) in (0..).zip(registers.values.iter_mut()) {
            if !number::is_preserved(register) {
                *slot = None;
            }
        }
        registers
    }
}
