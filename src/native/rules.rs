//! Unwind tables: how a function's caller is found, from any instruction of it.
//!
//! Takes the sections of one file, gives the [`Rule`] for an address (Linux Standard Base Core,
//! §10.6, "Exception Frames"; DWARF 5, §6.4). A rule is a copy: it outlives the table. The tables
//! are hostile input: entries that are longer than any compiler writes are refused.

use std::ops::Range;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EhFrameHdr, Encoding, EndianSlice,
    FrameDescriptionEntry, LittleEndian, RegisterRule, UnwindContext, UnwindExpression,
    UnwindSection, UnwindTableRow,
};

use super::expression::LONGEST;
use crate::target::{ElfFile, Section};

/// Most bytes of one file's table; that of a library of 500 MB has some 30 MB.
const MOST: u64 = 32 << 20;
/// Longest entry of a table: 64 KiB, far above what a function of a million lines needs.
const LONGEST_ENTRY: usize = 64 << 10;
/// A table without an index is searched from its beginning only if it is small.
const SEARCHED: usize = 1 << 20;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// How to find the caller of one instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where the frame ends: the caller's stack pointer, "canonical frame address".
    pub frame_end: FrameEnd,
    /// What became of the caller's registers, by number.
    pub registers: Vec<(u16, Saved)>,
    /// Whether the frame was pushed by the kernel, for a signal: its caller did not call.
    pub is_signal: bool,
    /// How expressions are written.
    pub encoding: Encoding,
}

/// How to compute the end of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameEnd {
    /// A register and a distance.
    Register(u16, i64),
    /// The result of a program.
    Expression(Vec<u8>),
}

/// Where the caller's value of a register is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// Nowhere. For the return address: there is no caller.
    Lost,
    /// In the register still.
    Same,
    /// In memory, so far from the end of the frame.
    At(i64),
    /// It is the end of the frame and a distance.
    Value(i64),
    /// In another register.
    In(u16),
    /// In memory, where a program says.
    AtExpression(Vec<u8>),
    /// It is the result of a program.
    ValueExpression(Vec<u8>),
}

impl Rule {
    /// What became of a register; `None` if the table does not say.
    #[must_use]
    pub fn saved(&self, register: u16) -> Option<&Saved> {
        self.registers.iter().find(|(number, _)| *number == register).map(|(_, saved)| saved)
    }
}

/// The unwind tables of one file.
#[derive(Debug)]
pub struct UnwindTable {
    table: Section,
    index: Option<Section>,
    bases: BaseAddresses,
}

impl UnwindTable {
    /// Reads the tables of a file; `None` where it has none.
    #[must_use]
    pub fn load(elf: &ElfFile) -> Option<UnwindTable> {
        let table = elf.section_bytes(".eh_frame", MOST).ok()??;
        let index = elf.section_bytes(".eh_frame_hdr", MOST).ok().flatten();
        let place = |name| elf.section(name).ok().flatten().map_or(0, |(address, _)| address);
        Some(UnwindTable::new(table, index, place(".text"), place(".got")))
    }

    /// Tables that were read already; `text` and `got` are where those sections lie.
    #[must_use]
    pub fn new(table: Section, index: Option<Section>, text: u64, got: u64) -> UnwindTable {
        let bases = BaseAddresses::default()
            .set_eh_frame(table.address)
            .set_eh_frame_hdr(index.as_ref().map_or(0, |index| index.address))
            .set_text(text)
            .set_got(got);
        UnwindTable { table, index, bases }
    }

    /// Bytes it keeps.
    #[must_use]
    pub fn size(&self) -> usize {
        self.table.bytes.len().saturating_add(self.index.as_ref().map_or(0, |i| i.bytes.len()))
    }

    /// The rule for the instruction at `address`, without bias; `None` where the table has none.
    #[must_use]
    pub fn rule(&self, address: u64) -> Option<Rule> {
        let section = self.section();
        let entry = self.entry(&section, address)?;
        let mut context = UnwindContext::new();
        let row =
            entry.unwind_info_for_address(&section, &self.bases, &mut context, address).ok()?;
        rule(&section, row, entry.is_signal_trampoline(), entry.cie().encoding())
    }

    /// The code that the entry for `address` is about: a function, or a part of one.
    #[must_use]
    pub fn range(&self, address: u64) -> Option<Range<u64>> {
        let entry = self.entry(&self.section(), address)?;
        Some(entry.initial_address()..entry.end_address())
    }

    fn section(&self) -> EhFrame<Bytes<'_>> {
        let mut section = EhFrame::new(&self.table.bytes, LittleEndian);
        section.set_address_size(8);
        section
    }

    /// The entry for `address`, if it is not too long to be one.
    fn entry<'a>(
        &self,
        section: &EhFrame<Bytes<'a>>,
        address: u64,
    ) -> Option<FrameDescriptionEntry<Bytes<'a>>> {
        self.find(section, address).filter(|entry| {
            entry.contains(address)
                && entry.entry_len() <= LONGEST_ENTRY
                && entry.cie().entry_len() <= LONGEST_ENTRY
        })
    }

    fn find<'a>(
        &self,
        section: &EhFrame<Bytes<'a>>,
        address: u64,
    ) -> Option<FrameDescriptionEntry<Bytes<'a>>> {
        if let Some(index) = &self.index {
            let index = EhFrameHdr::new(&index.bytes, LittleEndian).parse(&self.bases, 8).ok()?;
            let table = index.table()?;
            let found = table.lookup(address, &self.bases).ok()?;
            let offset = table.pointer_to_offset(found).ok()?;
            return section.fde_from_offset(&self.bases, offset, EhFrame::cie_from_offset).ok();
        }
        if self.table.bytes.len() > SEARCHED {
            return None;
        }
        let mut entries = section.entries(&self.bases);
        while let Some(entry) = entries.next().ok()? {
            let CieOrFde::Fde(entry) = entry else { continue };
            let entry = entry.parse(EhFrame::cie_from_offset).ok()?;
            if entry.contains(address) {
                return Some(entry);
            }
        }
        None
    }
}

fn rule(
    section: &EhFrame<Bytes<'_>>,
    row: &UnwindTableRow<usize>,
    is_signal: bool,
    encoding: Encoding,
) -> Option<Rule> {
    let program = |expression: &UnwindExpression<usize>| {
        let bytes = expression.get(section).ok()?.0.slice();
        (bytes.len() <= LONGEST).then(|| bytes.to_vec())
    };
    let frame_end = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => FrameEnd::Register(register.0, *offset),
        CfaRule::Expression(expression) => FrameEnd::Expression(program(expression)?),
    };
    let mut registers = Vec::new();
    for (register, rule) in row.registers() {
        let saved = match rule {
            RegisterRule::Undefined => Saved::Lost,
            RegisterRule::SameValue => Saved::Same,
            RegisterRule::Offset(offset) => Saved::At(*offset),
            RegisterRule::ValOffset(offset) => Saved::Value(*offset),
            RegisterRule::Register(register) => Saved::In(register.0),
            RegisterRule::Expression(expression) => Saved::AtExpression(program(expression)?),
            RegisterRule::ValExpression(expression) => Saved::ValueExpression(program(expression)?),
            // Not used on these machines.
            RegisterRule::Architectural | RegisterRule::Constant(_) => Saved::Lost,
        };
        registers.push((register.0, saved));
    }
    Some(Rule { frame_end, registers, is_signal, encoding })
}
