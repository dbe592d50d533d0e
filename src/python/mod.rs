//! The interpreter view: what the bytes of a process mean to CPython.
//!
//! Takes memory and a layout, gives threads, frames, code objects and objects. Every chase is
//! fallible and bounded: the target may be mid-change, or hostile. Never writes, never waits.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))] // the numbers are a stranger's

pub mod awaits;
pub mod callees;
pub mod code_objects;
pub mod coroutines;
mod frame_headers;
pub mod frames;
pub mod functions;
pub mod gc;
pub mod gc_objects;
pub mod generators;
pub mod gil;
pub mod glimpse;
pub mod greenlets;
pub mod innermost;
pub mod interpreters;
pub mod line_table;
pub mod loaded;
pub mod locate;
pub mod locks;
pub mod objects;
pub mod running_loop;
mod stretches;
pub mod suspended;
pub mod task_lists;
pub mod tasks;
pub mod thread_names;
pub mod threads;
pub mod trio_tasks;

use objects::{Objects, TypeCache};

use crate::layout::Layout;
use crate::layout::shape::StackReferences;
use crate::target::RemoteMemory;
use crate::units::Addr;

/// One interpreter process, ready to be read. Cheap to copy: it borrows everything.
#[derive(Debug, Clone, Copy)]
pub struct Interpreter<'a> {
    /// The process's memory.
    pub memory: &'a dyn RemoteMemory,
    /// How its CPython is laid out.
    pub layout: &'a Layout,
    /// Where its `_PyRuntime` lies.
    pub runtime: Addr,
    /// Its `CLOCK_MONOTONIC` minus the host's, in nanoseconds: 0 outside time namespaces.
    pub clock_offset: i64,
    /// Types that readers of the process have met; `None` where each is to read for itself.
    pub types: Option<&'a TypeCache>,
}

impl<'a> Interpreter<'a> {
    /// One outside time namespaces, each of whose readers reads types for itself.
    #[must_use]
    pub fn new(memory: &'a dyn RemoteMemory, layout: &'a Layout, runtime: Addr) -> Interpreter<'a> {
        Interpreter { memory, layout, runtime, clock_offset: 0, types: None }
    }

    /// A reader of this interpreter's objects.
    #[must_use]
    pub fn objects(&self) -> Objects<'a> {
        let objects = Objects::new(self.memory, self.layout);
        match self.types {
            Some(types) => objects.sharing(types),
            None => objects,
        }
    }

    /// A reference as found in a frame, without its tag bits.
    #[must_use]
    pub fn untag(&self, reference: Addr) -> Addr {
        match self.layout.shape.stack_references {
            StackReferences::Plain => reference,
            // `Py_TAG_BITS` is 3 on 64-bit builds (Include/internal/pycore_stackref.h, v3.14.0).
            StackReferences::Tagged => Addr(reference.0 & !3),
        }
    }
}
