//! DWARF expressions: the small programs by which some unwind rules compute an address.
//!
//! Takes a program and the frame's registers, gives its result. A program is hostile input: it may
//! loop or ask for any address, so its steps are counted and only the copied stack can be read.

use gimli::{
    Encoding, EndianSlice, Evaluation, EvaluationResult, Expression, LittleEndian, Location, Value,
};

use super::registers::Registers;
use super::unwind::StackBytes;

/// Longest program kept. That of `__restore_rt` in glibc has 4 bytes, that of a PLT 11.
pub const LONGEST: usize = 256;
/// Most steps of one program.
const STEPS: u32 = 256;
/// Most questions one program may ask us.
const QUESTIONS: usize = 64;

/// The result of `program`; `first` is put on its stack before it begins.
#[must_use]
pub fn evaluate(
    program: &[u8],
    encoding: Encoding,
    first: Option<u64>,
    registers: &Registers,
    stack: &StackBytes<'_>,
) -> Option<u64> {
    let mut evaluation =
        Evaluation::new(Expression(EndianSlice::new(program, LittleEndian)).0, encoding);
    evaluation.set_max_iterations(STEPS);
    if let Some(value) = first {
        evaluation.set_initial_value(value);
    }
    let mut result = evaluation.evaluate().ok()?;
    for _ in 0..QUESTIONS {
        result = match result {
            EvaluationResult::Complete => {
                return match evaluation.as_result().last()?.location {
                    Location::Address { address } => Some(address),
                    _ => None,
                };
            }
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = registers.get(register.0)?;
                evaluation.resume_with_register(Value::Generic(value)).ok()?
            }
            EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                let value = stack.word(address)?;
                evaluation.resume_with_memory(Value::Generic(value)).ok()?
            }
            _ => return None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::Addr;

    const ENCODING: Encoding =
        Encoding { format: gimli::Format::Dwarf32, version: 4, address_size: 8 };

    fn run(program: &[u8], first: Option<u64>) -> Option<u64> {
        let registers = Registers::at_rest(Addr(0x1000), Addr(0x8000));
        let bytes = 77_u64.to_le_bytes();
        let stack = StackBytes { base: 0x8000, bytes: &bytes };
        evaluate(program, ENCODING, first, &registers, &stack)
    }

    #[test]
    fn what_unwind_tables_use() {
        let lit = |n: u8| 0x30 + n;
        let (deref, plus_uconst, plus) = (0x06, 0x23, 0x22);
        assert_eq!(run(&[plus_uconst, 8], Some(0x100)), Some(0x108));
        assert_eq!(run(&[lit(2), lit(3), plus], None), Some(5));
        let breg_stack = 0x70 + u8::try_from(Registers::STACK).unwrap();
        assert_eq!(run(&[breg_stack, 0, deref], None), Some(77));
        assert_eq!(run(&[lit(1), deref], None), None, "not on the stack");
        assert_eq!(run(&[], None), None);
    }

    #[test]
    fn a_loop_ends() {
        // `skip -3`, and `dup; skip -4`, which also grows its stack
        assert_eq!(run(&[0x2f, 0xfd, 0xff], Some(1)), None);
        assert_eq!(run(&[0x12, 0x2f, 0xfc, 0xff], Some(1)), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(program in prop::collection::vec(any::<u8>(), 0..LONGEST)) {
            let _ = run(&program, Some(0x8000));
        }
    }
}
