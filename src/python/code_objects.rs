//! Code objects: names, files, line tables and local variables' names, cached by address.

use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::Interpreter;
use super::frames::RawFrame;
use super::line_table::line_at;
use crate::layout::shape::{LastInstruction, LocalNames};
use crate::model::FrameId;
use crate::target::{Fields, ReadError, Span};
use crate::units::{Addr, Nanos, Timestamp};

/// Most code objects kept; past it the cache starts anew. A large application has about 20,000
/// functions; one that makes code without end must not grow our memory.
const MAX_CODES: usize = 16_384;
/// Largest line table read. The standard library's largest is 20 KiB.
const MAX_LINE_TABLE: usize = 256 * 1024;
/// Most local variables of a function whose names are read.
const MAX_LOCALS: usize = 512;
/// A cached code object is compared with memory again after this long: its address may have been
/// freed and used for another one.
const RECHECK: Nanos = Nanos::from_secs(1);
/// Most code objects compared in one read: a deep stack's.
const MAX_RECHECKED: usize = 128;
/// Bytes of a code object that hold every field we use (`co_qualname` at 128 is the furthest).
const SPAN: usize = 144;

/// A function's code, as far as a profiler needs it.
#[derive(Debug)]
pub struct CodeObject {
    /// `co_name`.
    pub name: String,
    /// `co_filename`, as compiled: may be relative.
    pub filename: String,
    /// `co_firstlineno`.
    pub first_line: u32,
    /// Names of the slots of `localsplus`, in order.
    pub locals: Vec<String>,
    table: Vec<u8>,
    start: Addr,
    lines: RefCell<HashMap<u64, Option<u32>>>,
    /// Ids under which frames of this code were written down, by line.
    ids: RefCell<HashMap<Option<u32>, FrameId>>,
    known_as: OnceCell<Box<dyn Any>>,
}

impl CodeObject {
    /// The line `frame` runs; `None` where the code has no line for it.
    #[must_use]
    pub fn line(&self, python: &Interpreter<'_>, frame: &RawFrame) -> Option<u32> {
        let shape = &python.layout.shape;
        let offset = match shape.last_instruction {
            // -1: not started; the function's first line then.
            LastInstruction::Bytes if frame.instruction > 0x7fff_ffff => 0,
            LastInstruction::Units if frame.instruction > 0x7fff_ffff => 0,
            LastInstruction::Bytes => frame.instruction,
            LastInstruction::Units => frame.instruction.saturating_mul(2),
            // Before its first instruction `prev_instr` points one unit below the code.
            LastInstruction::Pointer => frame.instruction.saturating_sub(self.start.0),
        };
        *self
            .lines
            .borrow_mut()
            .entry(offset)
            .or_insert_with(|| line_at(shape.line_table, &self.table, self.first_line, offset))
    }

    /// The id of a frame of this code at `line`, made once.
    pub fn interned(&self, line: Option<u32>, make: impl FnOnce() -> FrameId) -> FrameId {
        *self.ids.borrow_mut().entry(line).or_insert_with(make)
    }

    /// What the layer above makes of it, found out once. There is one such thing: `None` if it is of
    /// another type.
    pub fn known_as<T: Any>(&self, find_out: impl FnOnce(&CodeObject) -> T) -> Option<&T> {
        self.known_as.get_or_init(|| Box::new(find_out(self))).downcast_ref()
    }

    /// Which slot of `localsplus` holds the variable `name`.
    #[must_use]
    pub fn local_index(&self, name: &str) -> Option<usize> {
        self.locals.iter().position(|local| local == name)
    }
}

/// The pointers that make a code object the one we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    name: Addr,
    filename: Addr,
    table: Addr,
    first_line: u32,
}

#[derive(Debug)]
struct Entry {
    code: Rc<CodeObject>,
    identity: Identity,
    checked: Timestamp,
}

/// Code objects read so far.
#[derive(Debug, Default)]
pub struct CodeCache {
    entries: HashMap<Addr, Entry>,
    /// `PyCode_Type`, once an object's type was found to be named `code`.
    code_type: Option<Addr>,
}

impl CodeCache {
    /// The code object at `addr`.
    ///
    /// # Errors
    /// [`ReadError::Invalid`] when no code object lies there (a frame being pushed or popped).
    pub fn get(
        &mut self,
        python: &Interpreter<'_>,
        addr: Addr,
        now: Timestamp,
    ) -> Result<Rc<CodeObject>, ReadError> {
        if let Some(entry) = self.entries.get_mut(&addr) {
            if now.since(entry.checked) < RECHECK {
                return Ok(Rc::clone(&entry.code));
            }
            if identity(python, &read_span(python, addr)?)? == entry.identity {
                entry.checked = now;
                return Ok(Rc::clone(&entry.code));
            }
            self.entries.remove(&addr);
        }
        let bytes = read_span(python, addr)?;
        self.check_type(python, &bytes)?;
        let identity = identity(python, &bytes)?;
        let code = Rc::new(read(python, addr, &bytes, identity)?);
        if self.entries.len() >= MAX_CODES {
            self.entries.clear();
        }
        self.entries.insert(addr, Entry { code: Rc::clone(&code), identity, checked: now });
        Ok(code)
    }

    /// The code object at `addr` as it was last read, if it was.
    #[must_use]
    pub fn known(&self, addr: Addr) -> Option<Rc<CodeObject>> {
        self.entries.get(&addr).map(|entry| Rc::clone(&entry.code))
    }

    /// Compares the code objects of a stack with memory, those that it is time for, in one read: a
    /// read for each of them would cost more than the stack.
    pub fn recheck(&mut self, python: &Interpreter<'_>, stack: &[RawFrame], now: Timestamp) {
        let mut stale: Vec<Addr> = Vec::new();
        for frame in stack {
            let is_stale = |entry: &Entry| now.since(entry.checked) >= RECHECK;
            if stale.len() < MAX_RECHECKED
                && self.entries.get(&frame.code).is_some_and(is_stale)
                && !stale.contains(&frame.code)
            {
                stale.push(frame.code);
            }
        }
        if stale.len() < 2 {
            return;
        }
        let mut bytes = vec![[0; SPAN]; stale.len()];
        let spans = stale.iter().zip(&mut bytes).map(|(addr, bytes)| (*addr, &mut bytes[..]));
        let mut spans: Vec<Span<'_>> = spans.collect();
        // What could not be read is left to whoever asks for it.
        let filled = python.memory.read_batch(&mut spans).unwrap_or(0);
        for (addr, bytes) in stale.iter().zip(&bytes).take(filled) {
            let Some(entry) = self.entries.get_mut(addr) else { continue };
            if identity(python, bytes).is_ok_and(|identity| identity == entry.identity) {
                entry.checked = now;
            } else {
                self.entries.remove(addr);
            }
        }
    }

    fn check_type(&mut self, python: &Interpreter<'_>, bytes: &[u8]) -> Result<(), ReadError> {
        let kind = Fields(bytes).pointer(python.layout.offsets.object.ob_type)?;
        if self.code_type == Some(kind) {
            return Ok(());
        }
        if self.code_type.is_some() || python.objects().name_of_type(kind)? != "code" {
            return Err(ReadError::Invalid("code object"));
        }
        self.code_type = Some(kind);
        Ok(())
    }
}

fn read_span(python: &Interpreter<'_>, addr: Addr) -> Result<[u8; SPAN], ReadError> {
    let mut bytes = [0; SPAN];
    python.memory.read(addr, &mut bytes)?;
    Ok(bytes)
}

fn identity(python: &Interpreter<'_>, bytes: &[u8]) -> Result<Identity, ReadError> {
    let offsets = &python.layout.offsets.code;
    let fields = Fields(bytes);
    Ok(Identity {
        name: fields.pointer(offsets.name)?,
        filename: fields.pointer(offsets.filename)?,
        table: fields.pointer(offsets.linetable)?,
        first_line: fields.u32(offsets.firstlineno)?,
    })
}

fn read(
    python: &Interpreter<'_>,
    addr: Addr,
    bytes: &[u8],
    identity: Identity,
) -> Result<CodeObject, ReadError> {
    let offsets = &python.layout.offsets.code;
    let objects = python.objects();
    let fields = Fields(bytes);
    let names = match python.layout.shape.local_names {
        LocalNames::Joined => vec![Some(offsets.localnames)],
        LocalNames::Separate => {
            vec![Some(offsets.localnames), offsets.cellvars, offsets.freevars]
        }
    };
    let mut locals = Vec::new();
    for offset in names.into_iter().flatten() {
        for item in objects.tuple_items(fields.pointer(offset)?, MAX_LOCALS)? {
            locals.push(objects.str(item)?);
        }
    }
    Ok(CodeObject {
        name: objects.str(identity.name)?,
        filename: objects.str(identity.filename)?,
        first_line: identity.first_line,
        locals,
        table: objects.bytes(identity.table, MAX_LINE_TABLE)?,
        start: addr.at(offsets.code_adaptive.unwrap_or(0)),
        lines: RefCell::default(),
        ids: RefCell::default(),
        known_as: OnceCell::new(),
    })
}
