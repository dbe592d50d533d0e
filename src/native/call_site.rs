//! Whether code calls: a true return address lies right behind a call instruction.
//!
//! Takes the bytes before an address. Other bytes may look like a call by chance; no call looks
//! like anything else.

/// Longest call instruction that compilers write, in bytes.
pub const CALL: usize = 7;

/// Whether these bytes end in a call: to an address (`E8`), or through a register or memory
/// (`FF /2`, of 2 to 7 bytes; Intel SDM volume 2, "CALL").
#[cfg(target_arch = "x86_64")]
#[must_use]
pub fn ends_in_call([a, b, c, d, e, f, g]: [u8; CALL]) -> bool {
    let through = |opcode: u8, modrm: u8| opcode == 0xff && (modrm >> 3) & 7 == 2;
    c == 0xe8 || through(f, g) || through(e, f) || through(d, e) || through(b, c) || through(a, b)
}

/// Whether these bytes end in `BL` or `BLR` (Arm Architecture Reference Manual, C6.2).
#[cfg(not(target_arch = "x86_64"))]
#[must_use]
pub fn ends_in_call([_, _, _, d, e, f, g]: [u8; CALL]) -> bool {
    let word = u32::from_le_bytes([d, e, f, g]);
    word >> 26 == 0x25 || word & 0xffff_fc1f == 0xd63f_0000
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_their_bytes() {
        assert!(ends_in_call([0, 0, 0xe8, 1, 2, 3, 4]), "call rel32");
        assert!(ends_in_call([0, 0, 0, 0, 0, 0xff, 0xd0]), "call *%rax");
        assert!(ends_in_call([0, 0, 0, 0, 0x41, 0xff, 0xd4]), "call *%r12");
        assert!(ends_in_call([0, 0xff, 0x15, 1, 2, 3, 4]), "call *x(%rip)");
        assert!(ends_in_call([0, 0, 0, 0, 0xff, 0x50, 8]), "call *8(%rax)");
        assert!(!ends_in_call([0; CALL]));
        assert!(!ends_in_call([0, 0, 0xe9, 1, 2, 3, 4]), "jmp");
    }
}
